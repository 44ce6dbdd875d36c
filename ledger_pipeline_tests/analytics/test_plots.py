"""Pictures hold the data, have fixed bytes, stay small, and survive what people write in titles."""

from __future__ import annotations

import base64
import io
import re
import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd
import pytest

from ledger_pipeline.analytics import plots
from ledger_pipeline.analytics.comparison_tables import ComparedRun, monthly_returns
from ledger_pipeline.analytics.returns import wealth_index
from ledger_pipeline.core.errors import InputError
from ledger_pipeline_tests.analytics.frames import compared, equity_frame, equity_of_returns, random_returns

LONG = equity_of_returns(random_returns(5, 4000), np.where(np.arange(4001) % 21 == 3, 50.0, 0.0), freq="B")
SHORT = equity_of_returns(random_returns(5, 60), np.where(np.arange(61) == 30, 500.0, 0.0))


def run(label: str, equity) -> ComparedRun:
    return ComparedRun(label, {}, {}, equity)


@pytest.mark.parametrize(
    "draw",
    [
        lambda e: plots.equity_and_drawdown(e, "A title"),
        lambda e: plots.compare_equity([run("a", e), run("b", e.iloc[20:])]),
        lambda e: plots.monthly_heatmap(e, "A title"),
    ],
)
@pytest.mark.parametrize(
    "equity", [SHORT, equity_frame([]), equity_frame([100]), equity_frame([0, 0]), equity_frame([100, 50, -10, 20])]
)
def test_any_account_can_be_drawn_and_gives_the_same_bytes_twice(draw, equity):
    first, second = plots.png(draw(equity), 40), plots.png(draw(equity), 40)
    assert first.startswith(b"\x89PNG") and first == second
    text = plots.svg(draw(equity))
    assert text == plots.svg(draw(equity))
    assert ET.fromstring(text).tag.endswith("svg")


def test_the_lines_are_the_data():
    figure = plots.equity_and_drawdown(SHORT, "A title")
    top, bottom = figure.axes
    assert top.lines[0].get_ydata().tolist() == SHORT["equity"].tolist()
    wealth = wealth_index(SHORT)
    assert bottom.lines[0].get_ydata() == pytest.approx((wealth / wealth.cummax() - 1).to_numpy() * 100)
    assert len(top.lines[1].get_xdata()) == 1  # the one deposit


def test_a_comparison_draws_wealth_not_equity():
    figure = plots.compare_equity([run("a", SHORT), run("b", SHORT)])
    assert figure.axes[0].lines[1].get_ydata() == pytest.approx(wealth_index(SHORT).to_numpy())


def test_the_legend_names_every_run_and_reads_in_rows():
    labels = [f"run {i}" for i in range(9)] + ["_hidden"]
    figure = plots.compare_equity([run(label, SHORT) for label in labels])
    shown = [t.get_text().strip() for t in figure.legends[0].get_texts()]
    assert sorted(shown) == sorted(labels)
    assert plots._by_row(5, 3) == [0, 3, 1, 4, 2]
    looks = {(line.get_color(), line.get_linestyle()) for line in figure.axes[0].lines[:10]}
    assert len(looks) == 10


@pytest.mark.parametrize("colours", [64, 16, 8])
def test_a_smaller_picture_has_the_colours_of_its_legend(colours):
    """With sixteen colours for all of it two runs had one colour between them, and one line had none."""
    from PIL import Image

    names = [f"run {i}" for i in range(len(plots.COLOURS))]
    figure = plots.compare_equity(
        [run(name, equity_of_returns(random_returns(i, 900))) for i, name in enumerate(names)]
    )
    picture = Image.open(io.BytesIO(plots._reduced(plots.png(figure, 90), colours))).convert("RGB")
    shown = {f"#{r:02x}{g:02x}{b:02x}": count for count, (r, g, b) in picture.getcolors(1 << 20)}
    assert all(shown.get(colour, 0) > 200 for colour in plots.COLOURS), shown
    assert len(shown) <= max(colours, 12)


def test_thinning_keeps_the_ends_the_peak_and_the_trough():
    wealth = wealth_index(LONG)
    times, values = plots.thin(wealth)
    assert len(values) <= plots.MAX_POINTS < len(wealth)
    assert {wealth.iloc[0], wealth.iloc[-1], wealth.max(), wealth.min()} <= set(values)
    assert times.is_monotonic_increasing
    assert (wealth.loc[times.tz_localize("UTC")].to_numpy() == values).all()


def test_a_heat_map_shows_each_month():
    figure = plots.monthly_heatmap(LONG, "A title")
    table = monthly_returns(LONG)
    shown = [text.get_text() for text in figure.axes[0].texts]
    assert len(shown) == int(table.notna().sum().sum())
    assert shown[0] == f"{table['Jan'].iloc[0] * 100:.1f}"


def test_the_scale_ignores_one_wild_month_but_never_vanishes():
    table = monthly_returns(LONG)
    limit = plots.heat_limit([table])
    wild = table.copy()
    wild.loc[wild.index[0], "Feb"] = 9.0
    assert plots.heat_limit([wild]) < 1.5 * limit
    assert plots.heat_limit([table * 0]) == plots.heat_limit([]) == 0.001


def test_svg_takes_the_colours_of_its_page_and_loads_nothing():
    text = plots.svg(plots.compare_equity([compared("a")]))
    assert text.startswith("<svg") and text.endswith("</svg>")
    assert "currentColor" in text and "var(--line" in text
    assert plots.INK not in text and "<metadata" not in text and "<!--" not in text
    assert set(re.findall(r'(?:href|src)="([^#"][^"]*)"', text)) == set()
    assert not re.search(r"<svg[^>]* width=", text)


def test_titles_are_text_not_markup_and_not_formulas():
    text = plots.svg(plots.equity_and_drawdown(SHORT, "DCA $1 & <b>$2</b>"))
    assert "DCA $1 &amp; &lt;b&gt;$2&lt;/b&gt;" in text


def test_a_markdown_image_is_small_and_its_alternative_text_is_safe():
    for figure in (
        plots.equity_and_drawdown(LONG, "A title"),
        plots.monthly_heatmap(LONG, "A title"),
        plots.compare_equity([run(f"run {i}", equity_of_returns(random_returns(i, 2520), freq="B")) for i in range(8)]),
    ):
        text = plots.markdown_image(figure, "equity ](javascript:x)\n`of` [a]")
        found = re.fullmatch(r"!\[([^\[\]\n]*)\]\(data:image/png;base64,([A-Za-z0-9+/=]+)\)", text)
        assert found and found[1] == "equity (javascript:x) of a"
        assert base64.b64decode(found[2]).startswith(b"\x89PNG")
        assert len(text) < plots.MAX_IMAGE_BYTES + 100


def test_the_settings_of_the_user_are_left_alone():
    import matplotlib

    before = dict(matplotlib.rcParams)
    plots.png(plots.compare_equity([compared("a")]), 40)
    assert dict(matplotlib.rcParams) == before


def test_labels_must_differ():
    with pytest.raises(InputError, match="'a'"):
        plots.compare_equity([run("a", SHORT), run("a", SHORT)])


@pytest.mark.parametrize(
    ("years", "factor", "scale"), [(10, 5.0, "log"), (10, 1.5, "linear"), (1, 5.0, "linear"), (10, -0.1, "linear")]
)
def test_years_of_growth_are_drawn_on_a_log_scale_that_its_axis_names(years: int, factor: float, scale: str):
    days = 365 * years
    frame = equity_frame(list(np.linspace(100.0, 100.0 * factor, days)))
    frame["ts"] = pd.date_range("2001-01-01", periods=days, tz="UTC")
    (top, _) = plots.equity_and_drawdown(frame, "A title", "EUR").axes
    assert top.get_yscale() == scale
    assert top.get_ylabel() == ("equity, EUR (log scale)" if scale == "log" else "equity, EUR")
