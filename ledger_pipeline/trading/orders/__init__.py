"""Legs to fills.

legs                  what is to be bought and sold, and the ids of its orders
halts pretrade funds  may it be sent now: the kill switch, the account, the clocks, the money
executor submit       legs -> intents -> orders -> fills
execution_context     clocks, limits, paces, and where the kill switch is
cancel                ending an order early, and trying again with what it did not get
"""
