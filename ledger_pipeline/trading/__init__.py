"""Orders that exist exactly once: legs become intents, intents orders, orders fills, and the broker's record and the
book's are compared before and after.

broker        the port: what trading needs from a broker, and what it may answer
alpaca        the one adapter
connect       which broker, with which keys, and what live trading needs besides
legs          what is to be bought and sold, and the ids of its orders
executor      legs -> intents -> orders -> fills
reconcile     the book's record against the broker's
halts         the kill switch
"""
