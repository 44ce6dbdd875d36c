"""Buy what has fallen too far and sell it when it has recovered, by the relative strength index."""


def strategy(ctx, params):
    """params: fraction of the equity a symbol, oversold, recovered. features: rsi."""
    targets = ctx.hold()
    share = params["fraction"] * ctx.equity
    free = ctx.cash
    for symbol in ctx.universe:
        rsi = ctx.feature(symbol, "rsi")
        held = ctx.position(symbol)
        if held == 0 and rsi < params["oversold"] and share < free:  # a missing rsi is below nothing
            targets.invest(symbol, share)
            targets.because(symbol, "OVERSOLD")
            free -= share
        elif held > 0 and rsi > params["recovered"]:
            targets[symbol] = 0
            targets.because(symbol, "RECOVERED")
    return targets
