"""What every room stands on: amounts on one grid, hashes and canonical JSON, errors. It knows no room.

amounts      the grid of quantities, cents, exact arithmetic, and what a fill does to cash
identity     ids, hashes and canonical JSON
errors       one class an exit code
"""
