"""12-1 momentum: each month hold the n symbols with the highest return over twelve months, the last month left out."""


def strategy(ctx, params):
    """params: n, fraction of equity to invest. features: momentum."""
    month = ctx.now.year * 12 + ctx.now.month
    if month == ctx.memory.get("month"):
        return ctx.hold()
    momentum = {symbol: ctx.feature(symbol, "momentum") for symbol in ctx.universe}
    known = [symbol for symbol in ctx.universe if momentum[symbol] == momentum[symbol]]
    best = sorted(known, key=lambda symbol: (-momentum[symbol], symbol))[: params["n"]]
    targets = ctx.weights({symbol: params["fraction"] / params["n"] for symbol in best})
    for symbol in best:
        targets.because(symbol, "TOP_MOMENTUM")
    targets.remember({"month": month})
    return targets
