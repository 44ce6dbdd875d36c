"""The report: one file, in the right order, safe with any text, complete for a reader who cannot see pictures."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest

from ledger_pipeline.analytics.comparison_tables import ComparedRun
from ledger_pipeline.analytics.metrics import FORMULAS, metrics
from ledger_pipeline.analytics.page import HERE
from ledger_pipeline.analytics.report import TEMPLATE, comparison_report
from ledger_pipeline.core.errors import InputError
from ledger_pipeline_tests.analytics.frames import (
    compared,
    equity_frame,
    equity_of_returns,
    fills_frame,
    provenance,
    random_returns,
    trades_frame,
)

VOID = {"meta", "link", "wbr", "br", "img", "hr", "path", "use"}


class Page(HTMLParser):
    """Text, tags and attributes of a page; fails on tags that are not closed in order."""

    def __init__(self, html: str):
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"style", "script"} & set(self.open) and data.strip():
            self.texts.append(data.strip())

    @property
    def text(self) -> str:
        return " ".join(self.texts)


def report(*runs: ComparedRun, title: str = "Two windows", **kwargs) -> str:
    return comparison_report(list(runs), title, {"package": "ledger_pipeline 0.1.0", **kwargs})


TWO = report(compared("sma-20", seed=1, window=20), compared("sma-50", seed=2, window=50, notes=("3 orders expired.",)))
WITHOUT_SCRIPTS = re.sub(r"<script.*?</script>", "", TWO, flags=re.DOTALL)


def test_the_sections_come_in_the_order_of_the_argument():
    headings = re.findall(r"<h2[^>]*>(.*?)</h2>", WITHOUT_SCRIPTS)
    expected = "Equity and drawdown, Metrics, Monthly returns, What differs in the inputs, Provenance, Generated from"
    assert ", ".join(headings) == expected
    page = Page(TWO)
    assert "Same snapshot, same strategy; other params: window 20 / 50." in page.text
    assert page.text.index("other params") < page.text.index("Total return")


def test_every_metric_stands_with_its_formula_and_value():
    run = compared("one")
    page = Page(report(run))
    for name, formula in FORMULAS.items():
        assert formula in page.text, name
    assert f"{run.metrics['total_return'] * 100:,.2f}%" in page.text
    assert f"{run.metrics['final_equity']:,.2f}" in page.text


def test_one_file_that_loads_nothing():
    page = Page(TWO)
    assert not [tag for tag, _ in page.tags if tag in ("iframe", "object", "embed")]
    assert [attrs for tag, attrs in page.tags if tag == "script"] == [
        {"type": "application/json", "id": "charts"},
        *[{}] * 4,
    ]
    links = [
        v for _, attrs in page.tags for k, v in attrs.items() if k in ("src", "href", "xlink:href", "srcset", "action")
    ]
    assert all(link.startswith(("#", "data:")) for link in links)
    assert "@import" not in WITHOUT_SCRIPTS  # that the scripts load nothing is seen in a browser (e2e/test_reports.py)
    assert set(re.findall(r"url\((?!#)[^)]*\)", WITHOUT_SCRIPTS)) == set()


def test_what_people_write_is_text():
    nasty = "<script>alert(1)</script>\"'&{{ 7*7 }}"
    base = compared("x")
    run = ComparedRun(nasty, base.provenance | {"seed": nasty}, base.metrics, base.equity, notes=(nasty,))
    html = report(run, compared("other"), title=nasty, command=nasty)
    page = Page(html)
    assert [tag for tag, _ in page.tags].count("script") == 5  # the page's own
    data = re.search(r'id="charts">(.*?)</script>', html, flags=re.DOTALL).group(1)
    assert nasty.replace('"', '""') in json.loads(data)["growth"]["data"]["values"]
    assert page.text.count("<script>alert(1)</script>") >= 6  # heading, labels, note, seed, command
    assert "{{ 7*7 }}" in page.text
    assert not [k for _, attrs in page.tags for k in attrs if k.startswith("on")]


def test_tables_have_headers_and_pictures_have_words():
    page = Page(TWO)
    heads = [attrs for tag, attrs in page.tags if tag == "th"]
    assert heads and all(attrs.get("scope") in ("col", "row") for attrs in heads)
    pictures = [attrs for _, attrs in page.tags if attrs.get("role") == "img"]
    assert len(pictures) == 2
    assert "sma-20: total return" in pictures[0]["aria-label"] and "sma-50" in pictures[0]["aria-label"]
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    named = {attrs["href"][1:] for tag, attrs in page.tags if tag == "a"}
    assert named <= set(ids)
    html = next(attrs for tag, attrs in page.tags if tag == "html")
    assert html["lang"] == "en"


def test_light_dark_print_and_phone_are_provided_for():
    for rule in ("prefers-color-scheme: dark", "@media print", "max-width: 40rem"):
        assert rule in TWO
    assert 'name="viewport"' in TWO


def test_the_runs_stay_in_the_order_given_and_none_is_marked():
    runs = [compared("worse", seed=4), compared("better", seed=1)]
    for order in (runs, runs[::-1]):
        html = report(*order)
        rows = re.findall(r"<tr>(<th scope=\"row\">.*?)</tr>", html, flags=re.DOTALL)
        total = next(row for row in rows if "Total return" in row)
        cells = re.findall(r"<td([^>]*)>(.*?)</td>", total)
        assert [text for _, text in cells] == [f"{run.metrics['total_return'] * 100:,.2f}%" for run in order]
        assert {attributes for attributes, _ in cells} == {""}
    assert not re.search(r"\b(best|winner|recommended|outperform\w*)\b", Page(html).text, flags=re.IGNORECASE)


def test_the_same_arguments_give_the_same_bytes():
    again = report(
        compared("sma-20", seed=1, window=20), compared("sma-50", seed=2, window=50, notes=("3 orders expired.",))
    )
    assert again == TWO
    assert "ledger_pipeline 0.1.0" in TWO


def test_months_are_a_table_with_the_numbers():
    equity = equity_frame([100, 110, 99], freq="MS")
    run = ComparedRun("m", provenance(), {}, equity)
    html = report(run)
    assert 'class="gain" style="--s:0.60">10.0<' in html
    assert 'class="loss" style="--s:0.60">−10.0<' in html
    assert '<td class="total">−1.0</td>' in html


def test_provenance_is_whole_and_what_is_shared_stands_once():
    page = Page(TWO)
    assert page.texts.count("aa" * 32) == 1  # the snapshot's hash
    for window in (20, 50):
        assert f"{window * 31:064x}" in page.texts  # ledger heads
        assert f"{window:064x}" in page.texts  # experiment hashes
    for name in ("tier", "seed", "versions.python", "ledger_head"):
        assert name in page.texts
    one = Page(report(compared("only")))
    assert "aa" * 32 in one.texts and "3.11.9" in one.texts


def test_other_periods_and_undefined_returns_and_notes_are_said_before_the_numbers():
    ruined = equity_frame([100, 120, -5, 10])
    numbers = metrics(ruined, fills_frame(), trades_frame(), periods_per_year=252)
    page = Page(
        report(compared("fine", notes=("3 orders expired.",)), ComparedRun("ruined", provenance(), numbers, ruined))
    )
    start = page.text.index("Total return")
    for words in ("do not cover the same period", "3 orders expired.", "bankrupt at 2020-01-03: its equity was -5.00"):
        assert page.text.index(words) < start
    assert "do not cover" not in Page(TWO).text


def test_runs_without_rows_can_be_reported():
    for equity in (equity_frame([]), equity_frame([100])):
        numbers = metrics(equity, fills_frame(), trades_frame(), periods_per_year=252)
        assert "No returns." in Page(report(ComparedRun("empty", {}, numbers, equity))).text


def test_many_runs_stay_a_light_page():
    runs = [
        ComparedRun(f"run {i}", provenance(i), {}, equity_of_returns(random_returns(i, 2520), freq="B"))
        for i in range(8)
    ]
    assert len(report(*runs)) < 2_000_000


def test_without_runs_or_with_repeated_labels_there_is_no_report():
    with pytest.raises(InputError, match="no runs"):
        report()
    with pytest.raises(InputError, match="'a'"):
        report(compared("a"), compared("a"))


def test_the_template_lies_beside_the_module():
    assert (HERE / TEMPLATE).is_file()
