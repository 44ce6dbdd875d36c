"""Weights in inverse proportion to each symbol's recent volatility, restored each month."""


def strategy(ctx, params):
    """params: fraction of the equity to invest. features: volatility."""
    month = ctx.now.year * 12 + ctx.now.month
    if month == ctx.memory.get("month"):
        return ctx.hold()
    calm = {}
    for symbol in ctx.universe:
        volatility = ctx.feature(symbol, "volatility")
        if volatility > 0:  # neither missing, as during its warm-up, nor that of a price that never moves
            calm[symbol] = 1 / volatility
    if not calm:
        return ctx.hold()
    # What is held of symbols without a bar (halted, delisted) cannot be sold, so only the rest is divided.
    tradable = ctx.cash + sum(ctx.position(symbol) * ctx.close(symbol) for symbol in ctx.universe)
    total = sum(calm.values())
    targets = ctx.flat()
    targets.remember({"month": month})
    for symbol in ctx.universe:
        targets[symbol] = params["fraction"] * tradable * calm.get(symbol, 0.0) / total / ctx.close(symbol)
        targets.because(symbol, "REBALANCE")
    return targets
