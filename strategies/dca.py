"""Dollar-cost averaging by a policy: new cash goes where the weights are short, nothing is ever sold."""

from ledger_pipeline.trading.dca import targets_of


def strategy(ctx, params):
    """params: policy, the JSON of a policy file (strategies/policies/*.json)."""
    return targets_of(ctx, params["policy"])
