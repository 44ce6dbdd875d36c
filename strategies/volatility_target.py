"""Hold so much of each symbol that its part moves by a stated volatility, and change it when it is off."""


def strategy(ctx, params):
    """params: target (annual volatility), most (of the equity a symbol), band (of the equity). features: volatility."""
    targets = ctx.hold()
    for symbol in ctx.universe:
        volatility = ctx.feature(symbol, "volatility")
        if not volatility > 0:
            continue
        weight = min(params["most"], params["target"] / volatility / len(ctx.universe))
        now = ctx.position(symbol) * ctx.close(symbol) / ctx.equity
        if abs(weight - now) > params["band"]:
            targets[symbol] = weight * ctx.equity / ctx.close(symbol)
            targets.because(symbol, "TOO_CALM" if weight > now else "TOO_WILD")
    return targets
