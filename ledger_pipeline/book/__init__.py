"""The live book: an append-only log of commits, and what follows from its events.

log          commits, segments and checkpoints, on a disk or on S3
events       one event, its JSON and its text
state        positions, cash, orders, breaks and halts, folded from the events
orders       an order's terms, its life and its fills
operations   the lifecycle store: recording orders, fills, rejections and trades
book         all of it over one log
"""
