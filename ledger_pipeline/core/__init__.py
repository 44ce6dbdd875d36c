"""What every room stands on: amounts on one grid, hashes and canonical JSON, errors. It knows no room.

amounts      the grid of quantities, cents, exact arithmetic, and what a fill does to cash
identity     ids, hashes and canonical JSON
events       one frozen class a kind of event, read and written by its fields
order_terms  what an order asks for, checked once, contained in whatever is like an order
times        times as text
strict_json  JSON from a file or a broker
errors       one class an exit code
"""
