"""Long while the fast moving average is above the slow one, in equal weights; trades only when a signal changes."""


def strategy(ctx, params):
    """params: fraction of equity to invest. features: fast, slow."""
    signals = {}
    for symbol in ctx.universe:
        fast, slow = ctx.feature(symbol, "fast"), ctx.feature(symbol, "slow")
        if fast == fast and slow == slow:  # a missing value is not equal to itself
            signals[symbol] = fast > slow
    if signals == ctx.memory.get("signals"):
        return ctx.hold()
    before = ctx.memory.get("signals", {})
    rising = [symbol for symbol in signals if signals[symbol]]
    weights = {symbol: params["fraction"] / len(ctx.universe) for symbol in rising}
    targets = ctx.weights(weights)
    for symbol in signals:
        if signals[symbol] != before.get(symbol):
            targets.because(symbol, "CROSSED_UP" if signals[symbol] else "CROSSED_DOWN")
    targets.remember({"signals": signals})
    return targets
