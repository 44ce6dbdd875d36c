"""12-1 momentum: each month hold the n symbols with the highest return over twelve months, the last month left out."""


def strategy(ctx, params):
    """params: n, fraction of the equity to invest. features: momentum."""
    month = ctx.now.year * 12 + ctx.now.month
    if month == ctx.memory.get("month"):
        return ctx.hold()
    momentum = {symbol: ctx.feature(symbol, "momentum") for symbol in ctx.universe}
    known = [symbol for symbol in ctx.universe if momentum[symbol] == momentum[symbol]]  # a missing one is not
    best = sorted(known, key=lambda symbol: -momentum[symbol])[: params["n"]]
    # What is held of symbols without a bar (halted, delisted) cannot be sold, so only the rest is divided.
    tradable = ctx.cash + sum(ctx.position(symbol) * ctx.close(symbol) for symbol in ctx.universe)
    targets = ctx.flat()
    targets.remember({"month": month})
    for symbol in ctx.universe:
        if symbol in best:
            targets[symbol] = params["fraction"] * tradable / params["n"] / ctx.close(symbol)
        targets.because(symbol, "TOP_MOMENTUM" if symbol in best else "NOT_IN_TOP")
    return targets
