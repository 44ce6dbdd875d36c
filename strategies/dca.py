"""Dollar-cost averaging: each month divide the new cash by how much each symbol is short of its weight; never sell.

The weights of symbols that are not listed yet, or not trading, are shared among the others.
"""

import math


def strategy(ctx, params):
    """params: weights by symbol, buffer (cash to keep, for the fees), minimum (smallest purchase)."""
    targets = ctx.hold()
    month = ctx.now.year * 12 + ctx.now.month
    if month == ctx.memory.get("month"):
        return targets
    targets.remember({"month": month})
    weights = {s: weight for s, weight in params["weights"].items() if s in ctx.universe and weight > 0}
    cash = ctx.cash - params["buffer"]
    if not weights or cash <= 0:
        return targets
    worth = {symbol: ctx.position(symbol) * ctx.close(symbol) for symbol in weights}
    goal = (sum(worth.values()) + cash) / sum(weights.values())
    short = {symbol: max(goal * weights[symbol] - worth[symbol], 0.0) for symbol in weights}
    scale = min(cash / sum(short.values()), 1.0)
    for symbol in weights:
        amount = math.floor(short[symbol] * scale * 100) / 100  # whole cents, never more than there is
        if amount > 0 and amount >= params["minimum"]:
            targets.invest(symbol, amount)
            targets.because(symbol, "DCA", "UNDERWEIGHT")
    return targets
