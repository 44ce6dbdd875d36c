"""Each month hold the one symbol that rose most over the last months, or cash when none rose."""


def strategy(ctx, params):
    """params: fraction of the equity to invest. features: momentum."""
    month = ctx.now.year * 12 + ctx.now.month
    if month == ctx.memory.get("month"):
        return ctx.hold()
    targets = ctx.flat()
    targets.remember({"month": month})
    best, most = None, 0.0
    for symbol in ctx.universe:
        momentum = ctx.feature(symbol, "momentum")
        if momentum > most:  # a missing one is above nothing
            best, most = symbol, momentum
    for symbol in ctx.universe:
        targets.because(symbol, "BEST" if symbol == best else "NOT_BEST" if best else "NONE_ROSE")
    if best:
        targets[best] = params["fraction"] * ctx.equity / ctx.close(best)
    return targets
