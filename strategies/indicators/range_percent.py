"""A user indicator: the average height of the last bars, as a share of the close."""

BASIS = "ratio"
WARMUP = 10


def range_percent(bars):
    """bars: open, high, low, close, volume of one instrument, indexed by time; one value a bar comes back."""
    return ((bars["high"] - bars["low"]) / bars["close"]).rolling(WARMUP).mean()
