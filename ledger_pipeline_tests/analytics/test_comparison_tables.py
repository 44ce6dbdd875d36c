"""What differs in the inputs is said exactly, in the order of the runs, and nothing is ranked."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from ledger_pipeline.analytics.comparison_tables import (
    ComparedRun,
    comparison_table,
    differences_sentence,
    flatten,
    format_metric,
    input_differences,
    metric_title,
    monthly_returns,
    periods_sentence,
)
from ledger_pipeline.analytics.metrics import FORMULAS
from ledger_pipeline.core.errors import InputError
from ledger_pipeline_tests.analytics.frames import compared, equity_frame, equity_of_returns, provenance, random_returns


def changed(base: dict | None = None, **experiment) -> dict:
    base = base or provenance()
    return base | {"experiment": base["experiment"] | {"hash": "cc" * 32, **experiment}}


def test_only_what_differs_is_listed_with_hashes_last():
    found = input_differences([provenance(20), provenance(50)], ["a", "b"])
    assert list(found.columns) == ["a", "b"]
    assert list(found.index) == ["experiment.params.window", "experiment.hash"]
    assert found.loc["experiment.params.window"].tolist() == ["20", "50"]


def test_fields_of_an_area_stand_together_even_if_runs_have_different_ones():
    first, second = changed(params={"a": 1}, features={"sma": {"window": 5}}), changed(params={"b": 2}, features={})
    fields = [name.removeprefix("experiment.") for name in input_differences([first, second]).index]
    assert fields == ["params.a", "params.b", "features.sma.window"]


def test_equal_inputs_give_an_empty_table_whatever_the_names_and_results():
    other = provenance() | {"ledger_head": "zz", "label": "x", "tags": ["t"], "duration": 3.5}
    other["snapshot"] = other["snapshot"] | {"id": "renamed"}
    other["experiment"] = other["experiment"] | {"name": "renamed"}
    assert input_differences([provenance(), other]).empty
    assert differences_sentence([provenance(), other]).startswith("Same inputs throughout")


def test_the_id_of_a_snapshot_shows_when_the_snapshot_is_another_one():
    other = provenance() | {"snapshot": {"id": "demo2", "hash": "dd" * 32}}
    assert list(input_differences([provenance(), other]).index) == ["snapshot.id", "snapshot.hash"]
    assert differences_sentence([provenance(), other]) == "Same strategy, same params; other snapshot: demo / demo2."


def test_the_same_number_written_as_integer_and_float_is_no_difference_but_a_flag_is():
    assert input_differences([{"seed": 1}, {"seed": 1.0}]).empty
    assert input_differences([{"seed": 1}, {"seed": True}]).loc["seed"].tolist() == ["1", "true"]


def test_a_field_one_run_lacks_is_a_difference():
    found = input_differences([{"a": {"x": 1}}, {"a": {"x": 1, "y": None}}, {"a": {"x": 1}}])
    assert found.loc["a.y"].tolist() == ["—", "not set", "—"]


def test_nothing_the_word_none_and_an_empty_list_are_different_values():
    for a, b in ((None, "none"), ("none", []), ([], {}), ("", None)):
        assert list(input_differences([{"seed": a}, {"seed": b}]).index) == ["seed"]


def test_lists_are_one_value_in_words_whatever_the_order_of_their_keys():
    base = changed(costs=[{"spread_bps": 2.0}, {"fixed_fee": 1}], deposits=[{"amount": 1000, "every": "month"}])
    found = input_differences([base, changed(base, costs=[], deposits=[])])
    assert found.loc["experiment.costs"].tolist() == ["spread_bps 2, fixed_fee 1", "none"]
    assert found.loc["experiment.deposits"].tolist() == ["amount 1000, every month", "none"]
    assert input_differences([base, changed(base, deposits=({"every": "month", "amount": 1000.0},))]).empty
    found = input_differences([provenance(), changed(universe=["AAPL"])])
    assert found.loc["experiment.universe"].tolist() == ["AAPL, MSFT", "AAPL"]


def test_an_empty_object_has_no_row_beside_the_fields_it_lacks():
    found = input_differences([{"captured": {}}, {"captured": {"limit": 3}}])
    assert found.index.tolist() == ["captured.limit"]
    assert flatten({"a": {"b": [1, {"c": 2}], "d": {}, "e": []}}) == {"a.b": [1, {"c": 2}], "a.d": {}, "a.e": []}


def test_the_sentence_of_other_params():
    provenances = [provenance(20), provenance(50)]
    assert differences_sentence(provenances) == "Same snapshot, same strategy; other params: window 20 / 50."
    assert differences_sentence(provenances[::-1]) == "Same snapshot, same strategy; other params: window 50 / 20."


def test_the_sentence_names_every_area_in_a_fixed_order():
    other = changed(
        {**provenance(), "seed": 8, "versions": {"python": "3.11.10"}},
        strategy={"name": "momentum", "hash": "ee" * 32},
        cash_rule="allow_negative",
        opening=2000,
    )
    assert differences_sentence([provenance(), other]) == (
        "Same snapshot, same params; other strategy: sma_long_flat / momentum; other opening: 1000 / 2000; "
        "other cash rule: require / allow_negative; other seed: 7 / 8; other versions: python 3.11.9 / 3.11.10."
    )


def test_params_that_differ_because_the_strategies_do_are_not_spelled_out():
    other = changed(strategy={"name": "dca", "hash": "ee" * 32}, params={"a": 1}, features={}, opening=5)
    text = differences_sentence([provenance(), other])
    assert text == (
        "Same snapshot; other strategy: sma_long_flat / dca, each with its own params and features; "
        "other opening: 1000 / 5."
    )
    assert "experiment.params.a" in input_differences([provenance(), other]).index


def test_a_strategy_that_differs_only_in_its_source_is_another_strategy():
    other = changed(strategy={"name": "sma_long_flat", "hash": "ee" * 32})
    assert differences_sentence([provenance(), other]) == "Same snapshot, same params; other strategy (by its text)."


def test_what_only_follows_from_another_field_is_in_the_table_but_not_in_the_sentence():
    def feature(window):
        return {"sma": {"params": {"window": window}, "warmup": window, "fingerprint": f"{window:064x}"}}

    first, second = changed(features=feature(20)), changed(features=feature(50))
    first, second = first | {"tier_reasons": []}, second | {"tier_reasons": ["line 3: imports ta"], "tier": 2}
    assert "experiment.features.sma.warmup" in input_differences([first, second]).index
    assert differences_sentence([first, second]) == (
        "Same snapshot, same strategy, same params; other features: sma.window 20 / 50; other tier: 1 / 2."
    )


def test_the_sentence_stays_short():
    many = [changed(params={f"p{i}": i * k for i in range(9)}) for k in range(1, 8)]
    text = differences_sentence(many)
    assert "and 4 more" in text
    assert "p1 1 / 2 / 3 / 4 / ... (7 runs)" in text
    assert len(text) < 300


def test_one_run_has_nothing_to_differ_from():
    assert differences_sentence([provenance()]) == "One run, so there is nothing to compare it with."


def test_labels_are_one_a_run_and_unique():
    with pytest.raises(InputError, match="'a'"):
        input_differences([provenance(), provenance(50)], ["a", "a"])
    with pytest.raises(InputError, match="2 provenances came with 1 labels"):
        input_differences([provenance(), provenance(50)], ["a"])
    with pytest.raises(InputError, match="give each its own label"):
        comparison_table([compared("a"), compared("a")])


def test_the_table_keeps_the_order_given_and_the_values():
    runs = [compared("worse", seed=4), compared("better", seed=1), compared("middle", seed=2)]
    for order in (runs, runs[::-1]):
        table = comparison_table(order)
        assert list(table.columns) == [run.label for run in order]
        assert list(table.index) == list(FORMULAS)
        for run in order:
            assert table[run.label].to_dict() == run.metrics


def test_the_table_leaves_none_as_none_and_integers_as_integers():
    table = comparison_table([compared("a")])
    assert table.at["money_weighted_return", "a"] is None
    assert type(table.at["trades", "a"]) is int


def test_benchmark_metrics_show_if_a_run_has_them():
    plain = compared("plain")
    measured = ComparedRun(
        "measured", plain.provenance, plain.metrics | {"beta": 0.5, "alpha": None, "own": 1}, plain.equity
    )
    table = comparison_table([plain, measured])
    assert list(table.index) == [*FORMULAS, "beta", "own"]
    assert table.loc["beta"].tolist() == [None, 0.5]


def test_months_by_hand():
    equity = equity_frame([100, 110, 99, 99, 118.8], flows=[0, 0, 0, 0, 0])
    equity["ts"] = pd.to_datetime(["2020-01-31", "2020-02-03", "2020-02-28", "2020-12-31", "2021-03-01"], utc=True)
    table = monthly_returns(equity)
    assert list(table.index) == [2020, 2021]
    assert list(table.columns) == "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec Year".split()
    assert np.isnan(table.at[2020, "Jan"])  # no return ends in it
    assert table.at[2020, "Feb"] == pytest.approx(-0.01)
    assert table.at[2020, "Dec"] == pytest.approx(0.0)
    assert table.at[2020, "Year"] == pytest.approx(-0.01)
    assert table.at[2021, "Mar"] == table.at[2021, "Year"] == pytest.approx(0.2)


def test_months_compound_to_the_year_and_years_to_the_total_with_deposits_left_out():
    r = random_returns(8, 900)
    table = monthly_returns(equity_of_returns(r, np.where(np.arange(901) % 30 == 4, 99.0, 0.0)))
    months = table.drop(columns="Year")
    assert ((1 + months.fillna(0)).prod(axis=1) - 1).tolist() == pytest.approx(table["Year"].tolist())
    assert (1 + table["Year"]).prod() == pytest.approx(np.prod(1 + r))


def test_a_year_without_bars_is_an_empty_row():
    equity = equity_frame([100, 110, 121])
    equity["ts"] = pd.to_datetime(["2018-01-31", "2018-02-03", "2020-02-28"], utc=True)
    table = monthly_returns(equity)
    assert list(table.index) == [2018, 2019, 2020]
    assert table.loc[2019].isna().all()


def test_months_after_ruin_are_missing_and_an_empty_account_has_none():
    table = monthly_returns(equity_frame([100, 110, -1, 50]))
    assert table.isna().all(axis=None)
    assert monthly_returns(equity_frame([100])).empty
    assert monthly_returns(equity_frame([])).empty


def test_other_periods_are_said():
    runs = [compared("long", n=300), compared("short", n=200)]
    assert periods_sentence([runs[0], compared("twin", n=300)]) is None
    text = periods_sentence(runs)
    assert "do not cover the same period" in text
    assert "long: 2020-01-01 to 2021-02-24, 301 bars" in text
    assert "short: 2020-01-01 to 2020-10-07, 201 bars" in text


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("total_return", 0.12345, "12.35%"),
        ("total_return", -0.00001, "0.00%"),
        ("sharpe", -0.004, "0.00"),
        ("sharpe", 1.236, "1.24"),
        ("final_equity", 100059516.3, "100,059,516.30"),
        ("trades", 31163, "31,163"),
        ("sharpe", None, "—"),
        ("sharpe", float("nan"), "—"),
    ],
)
def test_numbers_for_people(name, value, text):
    assert format_metric(name, value) == text


def test_titles_for_people():
    assert [metric_title(n) for n in ("cagr", "max_drawdown", "var_95")] == ["CAGR", "Max drawdown", "VaR 95%"]
