"""Buy when the price breaks out of the range of the last weeks, and sell when it falls out of that of the last days."""


def strategy(ctx, params):
    """params: fraction of the equity a symbol. features: top, bottom (of the closes of longer and shorter ago)."""
    targets = ctx.hold()
    for symbol in ctx.universe:
        top, bottom = ctx.feature(symbol, "top"), ctx.feature(symbol, "bottom")
        if not bottom <= top:  # one of them is not known yet
            continue
        if ctx.position(symbol) == 0:
            targets[symbol] = params["fraction"] * ctx.equity / top
            targets.stop(symbol, top)
            targets.because(symbol, "BREAKOUT")
        targets.bracket(symbol, stop=bottom)
    return targets
