"""Buy what has fallen too far and sell it when it has recovered, by the relative strength index."""


def strategy(ctx, params):
    """params: fraction of equity a symbol, oversold, recovered. features: rsi."""
    targets = ctx.hold()
    for symbol in ctx.universe:
        rsi = ctx.feature(symbol, "rsi")
        held = ctx.position(symbol)
        if held == 0 and rsi < params["oversold"]:
            targets[symbol] = params["fraction"] * ctx.equity / ctx.close(symbol)
            targets.because(symbol, "OVERSOLD")
        elif held > 0 and rsi > params["recovered"]:
            targets[symbol] = 0
            targets.because(symbol, "RECOVERED")
    return targets
