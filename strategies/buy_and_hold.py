"""Buy and hold: divide the cash evenly among the symbols, buy each when it first appears, and never trade again."""


def strategy(ctx, params):
    """params: fraction of the cash to invest, symbols (how many there will be once all are listed)."""
    bought = [*ctx.memory.get("bought", [])]
    bought += [symbol for symbol in ctx.universe if ctx.position(symbol) > 0 and symbol not in bought]
    new = [symbol for symbol in ctx.universe if symbol not in bought]
    targets = ctx.hold()
    targets.remember({"bought": bought})
    if not new or ctx.cash <= 0:
        return targets
    # A symbol that is still to come keeps its share of the cash; a purchase that did not fill is tried again.
    share = params["fraction"] * ctx.cash / max(params["symbols"] - len(bought), len(new))
    for symbol in new:
        targets.invest(symbol, share)
        targets.because(symbol, "FIRST_PURCHASE")
    return targets
