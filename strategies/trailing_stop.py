"""Hold what is above its average, and sell it when it falls a fraction from its highest close since the purchase."""


def strategy(ctx, params):
    """params: fraction of the equity a symbol, fall. features: average."""
    targets = ctx.hold()
    before, highest = ctx.memory, {}
    for symbol in ctx.universe:
        close = ctx.close(symbol)
        if ctx.position(symbol) > 0:
            highest[symbol] = max(close, before.get(symbol, close))
            targets.bracket(symbol, stop=(1 - params["fall"]) * highest[symbol])
        elif close > ctx.feature(symbol, "average"):
            targets[symbol] = params["fraction"] * ctx.equity / close
            targets.bracket(symbol, stop=(1 - params["fall"]) * close)
            targets.because(symbol, "ABOVE_AVERAGE")
    targets.remember(highest)
    return targets
