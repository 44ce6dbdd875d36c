"""Choosing among candidates without fooling oneself: windows, walk-forward and combinatorial splits; and what a result
is worth after so many trials: probability of overfitting, deflated Sharpe ratio, reality checks, resampling.
"""
