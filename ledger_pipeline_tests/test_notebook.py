"""What a notebook shows of each object: what people look for first, with all text escaped."""

from __future__ import annotations

import re

import ledger_pipeline as lp
from ledger_pipeline.core.notebook import facts, shown
from ledger_pipeline.trading.session_context import read_book
from ledger_pipeline_tests.sweeps.markets import crossover, market


def cells(html: str) -> list[str]:
    return re.findall(r"<td>(.*?)</td>", html)


def test_text_is_escaped() -> None:
    assert shown("<b>", "a & b", [["<i>"]], ["<u>"]) == (
        "<p><strong>&lt;b&gt;</strong><br>a &amp; b</p><table><tr><th>&lt;u&gt;</th></tr><tr><td>&lt;i&gt;</td></tr></table>"
    )
    assert "<table>" not in facts("x", "y", {})


def test_snapshot_run_and_sweep(tmp_path) -> None:
    snapshot = market(tmp_path)
    assert "2: A, B" in cells(snapshot._repr_html_()) and snapshot.hash in snapshot._repr_html_()
    run = lp.run(crossover(), snapshot)
    told = dict(zip(cells(run._repr_html_())[::2], cells(run._repr_html_())[1::2], strict=True))
    assert told["Trades"] == str(run.metrics["trades"]) and told["Fees"] == f"{run.metrics['costs']:,.2f}"
    sweep = lp.sweep(crossover(), snapshot, grid={"fast": [2, 3], "slow": [5, 6]}, root=tmp_path, engine="serial")
    html = sweep._repr_html_()
    assert sweep.hash in html and html.count("<tr>") == 5 and "<th>fast</th><th>slow</th><th>status</th>" in html


def test_a_book(demo) -> None:
    book = read_book(demo[0], "demo")
    html = book._repr_html_()
    held = [key for key, quantity in book.state.positions.items() if quantity]
    assert html.count("<tr>") == len(held) + 1 and book.head.hash[:16] in html and str(book.state.cash) in html
