"""Dollar-cost averaging: each month put the new cash where it brings the holdings closest to fixed weights, and never sell.

Weights of symbols that are not listed yet are shared among the others.
"""

import math


def strategy(ctx, params):
    """params: weights by symbol, buffer (cash to keep), minimum (smallest purchase)."""
    month = ctx.now.year * 12 + ctx.now.month
    if month == ctx.memory.get("month"):
        return ctx.hold()
    targets = ctx.hold()
    targets.remember({"month": month})
    listed = {symbol: weight for symbol, weight in params["weights"].items() if symbol in ctx.universe}
    cash = ctx.cash - params["buffer"]
    if not listed or cash < params["minimum"]:
        return targets
    worth = {symbol: ctx.position(symbol) * ctx.close(symbol) for symbol in listed}
    goal = sum(worth.values()) + cash
    total = sum(listed.values())
    short = {symbol: max(goal * listed[symbol] / total - worth[symbol], 0.0) for symbol in listed}
    scale = cash / sum(short.values())
    for symbol in short:
        amount = math.floor(short[symbol] * min(scale, 1.0) * 100) / 100
        if amount >= params["minimum"]:
            targets.invest(symbol, amount)
            targets.because(symbol, "DCA", "UNDERWEIGHT")
    return targets
