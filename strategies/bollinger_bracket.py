"""Buy at the lower Bollinger band with a limit, sell at the middle one, and give up after a loss that is stated."""


def strategy(ctx, params):
    """params: fraction of the equity a symbol, loss (of the entry price). features: lower, middle."""
    targets = ctx.hold()
    for symbol in ctx.universe:
        lower, middle = ctx.feature(symbol, "lower"), ctx.feature(symbol, "middle")
        if not 0 < lower < middle:  # not known yet, or a price that does not move
            continue
        held = ctx.position(symbol) > 0
        if not held:
            targets[symbol] = params["fraction"] * ctx.equity / lower
            targets.limit(symbol, lower)
            targets.because(symbol, "LOWER_BAND")
        stop = (1 - params["loss"]) * (ctx.entry_price(symbol) if held else lower)
        if stop < middle:
            targets.bracket(symbol, stop=stop, target=middle)
        else:  # the average has fallen below the stop
            targets[symbol] = 0
            targets.because(symbol, "AVERAGE_BELOW_STOP")
    return targets
