"""Weights in inverse proportion to each symbol's recent volatility, restored each month."""


def strategy(ctx, params):
    """params: fraction of equity to invest. features: volatility."""
    month = ctx.now.year * 12 + ctx.now.month
    if month == ctx.memory.get("month"):
        return ctx.hold()
    inverse = {}
    for symbol in ctx.universe:
        volatility = ctx.feature(symbol, "volatility")
        if volatility > 0:
            inverse[symbol] = 1 / volatility
    if not inverse:
        return ctx.hold()
    total = sum(inverse.values())
    targets = ctx.weights({symbol: params["fraction"] * inverse[symbol] / total for symbol in inverse})
    for symbol in inverse:
        targets.because(symbol, "REBALANCE")
    targets.remember({"month": month})
    return targets
