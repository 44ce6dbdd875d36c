"""Equal weights in what is above its average, flat in the rest."""


def strategy(ctx, params):
    """params: fraction of equity to hold. features: average."""
    above = [symbol for symbol in ctx.universe if ctx.close(symbol) > ctx.feature(symbol, "average")]
    weights = {}
    for symbol in above:
        weights[symbol] = params["fraction"] / len(above)
    targets = ctx.weights(weights)
    for symbol in above:
        targets.because(symbol, "ABOVE_AVERAGE")
    return targets
