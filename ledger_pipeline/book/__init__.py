"""The live book: an append-only log of commits, and what follows from its events.

log          commits, segments and checkpoints, on a disk or on S3
state        positions, cash, orders, breaks and halts, folded from the events; checks: what must not come next
orders       an order, its life (lifecycle) and its fills; order_rows: many of them; trades: what a person names
drafts       the events about orders, whoever appends them
operations   the lifecycle store: recording orders, fills, rejections and trades; notifications: who is told of them
book         all of it over one log
"""
