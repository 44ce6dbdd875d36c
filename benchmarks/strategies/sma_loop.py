"""Long above the average, symbol by symbol in plain Python."""


def strategy(ctx, params):
    """params: quantity. features: sma."""
    targets = ctx.flat()
    for symbol in ctx.universe:
        if ctx.close(symbol) > ctx.feature(symbol, "sma"):
            targets[symbol] = params["quantity"]
    return targets
