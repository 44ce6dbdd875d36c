"""Attribution: who owns which lot, and what each strategy earned.

entries        trade entries from a live book or a back-test, once per (account, broker fill id)
attribute      entries -> lots, matches, parts, income: exact, and the same however the entries arrived
exact_lots     the matching itself: which lot a sale takes from
query          trade entries by strategy, symbol, time, ...
performance    what each strategy, symbol or all of them earned
symbol_report  one symbol explained; the check that all adds up to the broker's
series         entries, lots and summaries as rows and series, for the command line, the UI and pictures
export         any of these tables as CSV, Excel or Parquet
exact          integers in columns: 1e-9 of a share, 1e-18 of the currency
"""
