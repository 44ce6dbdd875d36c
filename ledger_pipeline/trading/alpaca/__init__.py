"""The adapter of Alpaca's protocol: its paper and live accounts, and the local exchange, which speaks the same.

broker    the port, spoken through alpaca-py
parsing   the broker's rows as values of the port
http      one careful way over the wire
"""
