"""The ledger of a run, in columns: events, lots, and what else follows from them.

schema       the columns of events, one for research, paper and live
builder      a ledger as it is written, event by event
lots         FIFO lots and positions from the events
folds        fills, trades, equity and positions as frames
invariants   what every ledger keeps to
"""
