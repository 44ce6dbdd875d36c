"""Long while the close is above its moving average, flat otherwise."""


def strategy(ctx, params):
    """params: quantity a symbol. features: sma."""
    targets = ctx.flat()
    for symbol in ctx.universe:
        if ctx.close(symbol) > ctx.feature(symbol, "sma"):
            targets[symbol] = params["quantity"]
            targets.because(symbol, "ABOVE_SMA")
        else:
            targets.because(symbol, "BELOW_SMA")
    return targets
