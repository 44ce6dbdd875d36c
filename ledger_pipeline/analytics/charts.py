"""Charts of reports, as descriptions that Vega-Lite draws in the reader's browser.

A chart is data and a description, no picture: it is drawn in the width of the page, light or dark, and says the values
under the pointer. Points are those of `plots.thin`, so a long run is a light page. Colours are those of the pictures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from ledger_pipeline.analytics.plots import COLOURS, GAIN, LOSS, thin

_DASHES: list[list[int]] = [[1, 0], [6, 3], [2, 2], [8, 3, 2, 3]]
_TIME = {"field": "t", "type": "temporal", "title": None, "scale": {"type": "utc"}, "axis": {"grid": False}}
_DAY = {"field": "t", "type": "temporal", "title": "time", "format": "%Y-%m-%d", "scale": {"type": "utc"}}


@dataclass(frozen=True)
class Chart:
    """spec: a Vega-Lite description; text: what it shows, for a reader who cannot see it."""

    spec: dict[str, Any] = field(repr=False)
    text: str


def lines(
    series: Mapping[str, pd.Series], text: str, *, y: str, form: str = ".2f", log: bool = False, height: int = 260
) -> Chart:
    """Lines over time by name, in the order given; form: of the values, as d3 writes formats."""
    names = list(series)
    colour = {
        "field": "s", "type": "nominal", "title": None, "sort": names,
        "scale": {"domain": names, "range": [COLOURS[i % len(COLOURS)] for i in range(len(names))]},
        "legend": {"orient": "top", "labelLimit": 400} if len(names) > 1 else None,
    }  # fmt: skip
    dash = {
        "field": "s", "type": "nominal", "legend": None,
        "scale": {"domain": names, "range": [_DASHES[i // len(COLOURS) % len(_DASHES)] for i in range(len(names))]},
    }  # fmt: skip
    axis = {
        "field": "v", "type": "quantitative", "title": y, "axis": {"format": form},
        "scale": {"type": "log", "nice": False, "domain": _domain(series)} if log else {"zero": False},
    }  # fmt: skip
    shared = {"x": _TIME, "y": axis, "color": colour}
    tooltip = [_DAY, *([{"field": "s", "title": "run"}] if len(names) > 1 else []), _value(y, form)]
    nearest = {"type": "point", "on": "pointermove", "nearest": True, "clear": "pointerout"}
    shown = {"condition": {"param": "near", "empty": False, "value": 1}, "value": 0}
    layers = [
        {"mark": {"type": "line", "strokeWidth": 1.4, "interpolate": "linear"}, "encoding": {"strokeDash": dash}},
        {
            "mark": {"type": "point", "filled": True, "size": 50},
            "params": [{"name": "near", "select": nearest}],
            "encoding": {"opacity": shown, "tooltip": tooltip},
        },
    ]
    return Chart(_spec(_rows(series), height, layer=layers, encoding=shared), text)


def area(series: pd.Series, text: str, *, y: str, form: str = ".1%", colour: str = LOSS, height: int = 150) -> Chart:
    """One filled line over time, such as a drawdown."""
    axis = {"field": "v", "type": "quantitative", "title": y, "axis": {"format": form}}
    encoding = {"x": _TIME, "y": axis, "tooltip": [_DAY, _value(y, form)]}
    mark = {"type": "area", "color": colour, "opacity": 0.35, "line": {"color": colour, "strokeWidth": 1}}
    return Chart(_spec(_rows({"": series}), height, mark=mark, encoding=encoding), text)


def bars(values: Mapping[str, float], text: str, *, y: str, form: str = ".1%", height: int = 200) -> Chart:
    """One bar a name in the order given, blue above zero and orange below."""
    data = [{"n": name, "v": _number(value)} for name, value in values.items()]
    encoding = {
        "x": {"field": "n", "type": "nominal", "title": None, "sort": None, "axis": {"labelAngle": 0, "grid": False,
              "labelOverlap": True}},
        "y": {"field": "v", "type": "quantitative", "title": y, "axis": {"format": form}},
        "color": {"condition": {"test": "datum.v < 0", "value": LOSS}, "value": GAIN},
        "tooltip": [{"field": "n", "title": "of"}, _value(y, form)],
    }  # fmt: skip
    return Chart(_spec({"values": data}, height, mark={"type": "bar", "opacity": 0.85}, encoding=encoding), text)


def histogram(values: np.ndarray, text: str, *, x: str, form: str = ".1%", bins: int = 61, height: int = 180) -> Chart:
    """How often values occur; what is beyond the 0.1 % at either end is counted in the last bin there."""
    low, high = np.quantile(values, [0.001, 0.999]) if len(values) else (0.0, 1.0)
    widest = max(abs(float(low)), abs(float(high))) or 1.0
    counts, edges = np.histogram(np.clip(values, -widest, widest), bins=bins, range=(-widest, widest))
    data = [
        {"a": _number(a), "b": _number(b), "v": int(n)} for a, b, n in zip(edges[:-1], edges[1:], counts, strict=True)
    ]
    encoding = {
        "x": {"field": "a", "type": "quantitative", "bin": {"binned": True}, "title": x, "axis": {"format": form,
              "grid": False, "tickCount": 8}},
        "x2": {"field": "b"},
        "y": {"field": "v", "type": "quantitative", "title": "bars"},
        "color": {"condition": {"test": "datum.a + datum.b < 0", "value": LOSS}, "value": GAIN},
        "tooltip": [{"field": "a", "title": "from", "format": form}, {"field": "b", "title": "to", "format": form},
                    {"field": "v", "title": "bars"}],
    }  # fmt: skip
    return Chart(_spec({"values": data}, height, mark={"type": "bar", "opacity": 0.85}, encoding=encoding), text)


def stacked(frame: pd.DataFrame, text: str, *, y: str, form: str = ".0%", height: int = 200) -> Chart:
    """Columns over time, one on the other, such as the shares of what is held."""
    kept = frame.iloc[np.unique(np.linspace(0, len(frame) - 1, min(len(frame), 300)).astype(int))]
    names = [str(name) for name in frame.columns]
    encoding = {
        "x": _TIME,
        "y": {"field": "v", "type": "quantitative", "title": y, "axis": {"format": form}, "stack": "zero"},
        "color": {"field": "s", "type": "nominal", "title": None, "sort": names, "legend": {"orient": "top"},
                  "scale": {"domain": names, "range": list(COLOURS) + ["#999999", "#117733", "#882255"]}},
        "tooltip": [_DAY, {"field": "s", "title": "of"}, _value(y, form)],
    }  # fmt: skip
    rows = _rows({str(name): kept[name] for name in kept.columns}, thinned=False)
    return Chart(_spec(rows, height, mark={"type": "area", "opacity": 0.75}, encoding=encoding), text)


def _domain(series: Mapping[str, pd.Series]) -> list[float]:
    """A little more than the values, which are above zero, span."""
    values = np.concatenate([line.to_numpy(np.float64) for line in series.values()])
    known = values[np.isfinite(values)]
    return [_number(known.min() * 0.97), _number(known.max() * 1.03)] if len(known) else [0.9, 1.1]


def _value(title: str, form: str) -> dict[str, Any]:
    return {"field": "v", "type": "quantitative", "title": title, "format": form}


def _spec(data: dict[str, Any], height: int, **rest: Any) -> dict[str, Any]:
    return {"width": "container", "height": height, "data": data, **rest}


def _rows(series: Mapping[str, pd.Series], thinned: bool = True) -> dict[str, Any]:
    """Series as CSV: t in milliseconds UTC, s the name, v the value; missing values break a line."""
    parts = []
    for name, values in series.items():
        times, points = (
            thin(values) if thinned else (values.index.tz_convert("UTC").tz_localize(None), values.to_numpy())
        )
        at = times.as_unit("ms").asi8
        quoted = '"' + name.replace('"', '""') + '"'
        parts += [f"{t},{quoted},{v:.6g}" for t, v in zip(at.tolist(), points.tolist(), strict=True) if np.isfinite(v)]
    form = {"type": "csv", "parse": {"t": "number", "v": "number", "s": "string"}}
    return {"values": "\n".join(["t,s,v", *parts]), "format": form}


def _number(value: Any) -> float:
    return float(f"{float(value):.6g}")
