"""Orders that exist exactly once: legs become intents, intents orders, orders fills, and the broker's record and the
book's are compared before and after.

broker                the port: what trading needs from a broker, and what it may answer
alpaca http parsing   the one adapter: its SDK, what it sends, what it reads
connect desk          which broker with which keys, what live needs besides, and the book that goes with it
legs                  what is to be bought and sold, and the ids of its orders
halts gate funds      may it be sent now: the kill switch, the account, the clocks, the money
sessions schedule     when the market is open, by the broker's clock and the exchange calendar
executor submit       legs -> intents -> orders -> fills
cancel                ending an order early, and trying again with what it did not get
ingest activities     what the broker did, once in the book
reconcile readings compare breaks     the book's record against the broker's
adopt override        what a named person decides: how a book begins, and how a break is answered
policy plan planner dca               what a policy is, what it buys, and the same through ctx
guardrails facts      what is never done, whatever was decided
deployment/           what trades by itself: policies and promoted strategies, session by session
views                 books and accounts as rows
crash                 named places where tests kill the process
"""
