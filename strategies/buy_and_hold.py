"""Buy and hold: invest a fraction of equity into each symbol when it first appears, and never trade again."""


def strategy(ctx, params):
    """params: fraction of equity to invest in all, symbols (how many the fraction is divided by)."""
    targets = ctx.hold()
    bought = ctx.memory.get("bought", [])
    for symbol in ctx.universe:
        if symbol not in bought:
            cash = params["fraction"] / params["symbols"] * ctx.equity
            targets.invest(symbol, min(cash, params["fraction"] * ctx.cash))
            targets.because(symbol, "FIRST_PURCHASE")
            bought = [*bought, symbol]
    targets.remember({"bought": bought})
    return targets
