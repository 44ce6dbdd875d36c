"""Long while the fast moving average is above the slow one, in equal weights; trades only when a signal changes."""


def strategy(ctx, params):
    """params: fraction of the equity to invest in all. features: fast, slow."""
    # A missing average is above nothing. The position says what the signal was, so an order that did not fill is
    # tried again, and a symbol that misses a bar changes nothing.
    rising = [symbol for symbol in ctx.universe if ctx.feature(symbol, "fast") > ctx.feature(symbol, "slow")]
    held = [symbol for symbol in ctx.universe if ctx.position(symbol) > 0]
    if rising == held:
        return ctx.hold()
    # What is held of symbols without a bar (halted, delisted) cannot be sold, so only the rest is divided.
    tradable = ctx.cash + sum(ctx.position(symbol) * ctx.close(symbol) for symbol in ctx.universe)
    targets = ctx.flat()
    for symbol in ctx.universe:
        if symbol in rising:
            targets[symbol] = params["fraction"] * tradable / len(ctx.universe) / ctx.close(symbol)
            targets.because(symbol, "REBALANCE" if symbol in held else "CROSSED_UP")
        else:
            targets.because(symbol, "CROSSED_DOWN")
    return targets
