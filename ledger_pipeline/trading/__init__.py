"""Orders that exist exactly once: legs become intents, intents orders, orders fills, and the broker's record and the
book's are compared before and after.

broker            the port: what trading needs from a broker, and what it may answer
alpaca/           the adapter of Alpaca's protocol: its SDK, what it sends, what it reads
connect endpoint  which broker with which keys, and what live needs besides
session_context   a broker and the book that goes with it
session_hours     when the market is open, by the broker's clock and the exchange calendar
rows              books and accounts as rows
dca               a policy through ctx, for back-tests
crash             named places where tests kill the process

Each folder may use those below it:

deployment/       what trades by itself: policies and promoted strategies, session by session
planning/         what a policy is and when it is due, what it buys, and what is never done whatever was decided
orders/           what is to be bought and sold, may it be sent now, sending it once, following and ending it
reconciliation/   what the broker did, once in the book; the two records compared; what a person decides of a break
"""
