"""Pages of reports: one self-contained HTML file each, that anyone can open, keep, mail and print.

Styles, data and what draws the charts are inside; nothing is loaded. A page reads on paper, on a phone, light or dark,
and without its scripts it still has every table. The same values give the same bytes, and all text is escaped.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ledger_pipeline.analytics.charts import Chart

HERE = Path(__file__).parent
_SCRIPTS = ("vega.min.js", "vega-lite.min.js", "vega-embed.min.js")


def render(template: str, charts: Mapping[str, Chart], **values: Any) -> str:
    """A template of this room with its values; it places each chart with `{{ chart("name") }}`."""
    from markupsafe import Markup, escape

    def place(name: str) -> Markup:
        text = escape(charts[name].text)
        return Markup('<div class="chart" role="img" id="chart-{}" aria-label="{}"></div>').format(name, text)

    described = {name: {"description": chart.text, **chart.spec} for name, chart in charts.items()}
    specs = json.dumps(described, separators=(",", ":"), ensure_ascii=False)
    return _environment().get_template(template).render(
        chart=place,
        drawn=charts.keys(),
        charts=Markup(specs.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")),
        scripts=[Markup(text) for text in _scripts()] if charts else [],
        **values,
    )  # fmt: skip


@functools.lru_cache(maxsize=1)
def _environment() -> Any:
    import jinja2

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip


@functools.lru_cache(maxsize=1)
def _scripts() -> tuple[str, ...]:
    return tuple((HERE / "vega" / name).read_text(encoding="utf-8") for name in _SCRIPTS)
