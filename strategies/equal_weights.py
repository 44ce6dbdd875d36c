"""The same weight in every symbol, restored each month."""


def strategy(ctx, params):
    """params: fraction of the equity to invest."""
    month = ctx.now.year * 12 + ctx.now.month
    if month == ctx.memory.get("month"):
        return ctx.hold()
    # What is held of symbols without a bar (halted, delisted) cannot be sold, so only the rest is divided.
    tradable = ctx.cash + sum(ctx.position(symbol) * ctx.close(symbol) for symbol in ctx.universe)
    share = params["fraction"] * tradable / len(ctx.universe)
    targets = ctx.flat()
    targets.remember({"month": month})
    for symbol in ctx.universe:
        targets[symbol] = share / ctx.close(symbol)
        targets.because(symbol, "REBALANCE")
    return targets
