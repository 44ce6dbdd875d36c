"""Sweeps: many candidates of one experiment, each exactly the run that it would be if it were stored.

axes and search say which candidates there are, evaluation makes one, engines spread them over processes or machines,
sweep_store keeps them in shards, sweep is what people call.
"""
