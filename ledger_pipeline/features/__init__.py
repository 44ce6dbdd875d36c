"""Indicators and tables of their values.

indicators     all of them by name: own, then those of TA-Lib (talib_library) and of ta (ta_library)
table          the features of an experiment over a grid, with their warm-up
causality      that no value changes when later bars are cut off
store          feature tables on disk
"""
