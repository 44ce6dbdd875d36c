"""Trade two symbols against each other when their ratio has gone far from its average, until it is back."""

import numpy as np


def strategy(ctx, params):
    """params: first, second, window, entry and exit (deviations of the log ratio), fraction of the equity a side."""
    targets = ctx.hold()
    first, second = params["first"], params["second"]
    if first not in ctx.universe or second not in ctx.universe:
        return targets
    one, other = ctx.history(first, params["window"]).close, ctx.history(second, params["window"]).close
    if len(one) < params["window"] or len(other) < params["window"]:
        return targets
    ratios = np.log(one / other)
    deviation = ratios.std()
    score = (ratios[-1] - ratios.mean()) / deviation if deviation > 1e-12 else 0.0
    if abs(score) < params["exit"]:
        targets[first] = targets[second] = 0
        targets.because(first, "BACK").because(second, "BACK")
    elif abs(score) > params["entry"] and ctx.position(first) == 0:
        cash = params["fraction"] * ctx.equity
        side = -1 if score > 0 else 1  # sell what has become dear, buy the other
        targets[first] = side * cash / ctx.close(first)
        targets[second] = -side * cash / ctx.close(second)
        targets.because(first, "FAR_APART").because(second, "FAR_APART")
    return targets
