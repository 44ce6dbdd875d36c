"""Long above the average, all symbols at once."""

import numpy as np


def strategy(ctx, params):
    """params: quantity. features: sma."""
    return ctx.targets(np.where(ctx.closes > ctx.feature_values("sma"), params["quantity"], 0.0))
