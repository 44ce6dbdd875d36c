"""The same weight in every symbol, restored each month."""


def strategy(ctx, params):
    """params: fraction of equity to invest."""
    month = ctx.now.year * 12 + ctx.now.month
    if month == ctx.memory.get("month"):
        return ctx.hold()
    targets = ctx.weights({symbol: params["fraction"] / len(ctx.universe) for symbol in ctx.universe})
    for symbol in ctx.universe:
        targets.because(symbol, "REBALANCE")
    targets.remember({"month": month})
    return targets
