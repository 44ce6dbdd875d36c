"""What runs amount to.

metrics, returns, benchmark   numbers, each with its formula
compare, comparison_tables    runs side by side
report, plots                 one HTML file, pictures
sql, results, shards          DuckDB over the results of all runs
"""
