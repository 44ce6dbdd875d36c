"""What a choice is worth: the numbers of a sweep together, its trials, its gates, and what is kept."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

import ledger_pipeline as lp
from ledger_pipeline.core.errors import InputError, IntegrityError, RefusedError
from ledger_pipeline.selection.gates import gates, outcomes
from ledger_pipeline.selection.integrity import selection_integrity, traded_returns
from ledger_pipeline.selection.integrity_store import keep_integrity, kept_integrity
from ledger_pipeline.selection.report import integrity_rows
from ledger_pipeline.selection.sharpe import moments
from ledger_pipeline.simulation.promotions import promotion_of
from ledger_pipeline_tests import small
from ledger_pipeline_tests.sweeps.markets import crossover

DAYS = 240


def noise(tmp_path, seed: int = 0):
    """Two shares whose returns are drawn, over 240 days."""
    rng = np.random.default_rng(seed)
    prices = {name: (50 * np.exp(np.cumsum(rng.normal(0, 0.01, DAYS)))).round(4).tolist() for name in "AB"}
    return small.seal(tmp_path, prices)


def swept(tmp_path, **options):
    given = {
        "grid": {"fast": [2, 3, 5], "slow": [8, 13, 21]}, "keep": "returns", "engine": "serial",
        "root": tmp_path / "data",
    } | options  # fmt: skip
    return lp.sweep(crossover(), given.pop("snapshot", None) or noise(tmp_path), **given)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    return swept(tmp_path_factory.mktemp("sweep"))


def test_the_numbers_are_those_of_the_parts(sweep) -> None:
    found = selection_integrity(sweep, tests=False)
    best = sweep.top("sharpe", 1).iloc[0]
    assert found.candidate == best["number"] and found.by == "sharpe" and found.trials == sweep.trials == 9
    returns, left_out = traded_returns(sweep)
    assert left_out == 0 and list(returns.columns) == list(range(9))
    ratios = returns.mean() / returns.std()
    deviation = float(ratios.std())
    own = moments(returns[found.candidate])
    assert found.sharpe == pytest.approx(best["sharpe"], rel=1e-9)  # the metric of the run, annual
    assert found.deflated == lp.deflated_sharpe(own, trials=9, deviation=deviation)
    assert found.expected == pytest.approx(
        lp.expected_maximum_sharpe(9, deviation) * math.sqrt(found.periods_per_year), rel=1e-9
    )
    assert found.overfitting.pbo == lp.pbo(returns).pbo
    assert found.track_record == DAYS - 1 and found.reality is None
    assert found.years_needed == lp.min_backtest_length(9)
    assert f"the best of 9 trials ({found.effective.onc} effective)" in found.verdict


def test_a_candidate_may_be_named_and_trials_only_raised(sweep) -> None:
    named = selection_integrity(sweep, 4, tests=False, trials=1240)
    assert named.candidate == 4 and named.by is None and named.trials == 1240
    assert named.verdict.startswith("one of 1,240 trials")
    assert named.deflated < selection_integrity(sweep, 4, tests=False).deflated
    with pytest.raises(InputError, match="trials is 3; the register counts 9"):
        selection_integrity(sweep, trials=3)


def test_the_risk_free_rate_is_taken_off(tmp_path) -> None:
    plain = swept(tmp_path)
    paid = swept(tmp_path, risk_free=0.05, root=tmp_path / "b", snapshot=plain.snapshot)
    one, other = traded_returns(plain)[0], traded_returns(paid)[0]
    year = selection_integrity(paid, tests=False).periods_per_year
    np.testing.assert_allclose(one - other, 1.05 ** (1 / year) - 1, rtol=1e-9)


def test_on_noise_the_best_is_not_believed(tmp_path) -> None:
    """Over 12 markets without any skill the deflated ratio of the best is rarely high, and picking is near a coin."""
    found = [
        selection_integrity(swept(tmp_path / str(seed), snapshot=noise(tmp_path / str(seed), seed)), tests=False)
        for seed in range(12)
    ]
    assert np.mean([one.deflated >= 0.95 for one in found]) <= 0.2
    assert 0.2 < np.mean([one.overfitting.pbo for one in found]) < 0.8
    assert any("chance alone explains it" in one.verdict or "not sure" in one.verdict for one in found)


def test_tests_and_rows(sweep, tmp_path) -> None:
    found = selection_integrity(sweep, draws=200)
    rows = {name: value for name, value, _ in integrity_rows(found, outcomes(gates({"pbo": {"max": 1.0}}), found))}
    assert rows["Gate pbo"] == "met" and rows["Trials"] == "9" and "Reality check" in rows
    kept = keep_integrity(tmp_path, sweep.sweep_id, sweep.name, found, [])
    again = kept_integrity(tmp_path, sweep.sweep_id, found.candidate)
    assert again == kept == json.loads(json.dumps(again)) and again["verdict"] == found.verdict
    assert kept_integrity(tmp_path, sweep.sweep_id, 99) is None
    path = tmp_path / "integrity" / f"{sweep.sweep_id}-{found.candidate}.json"
    path.write_text(path.read_text().replace('"trials": 9', '"trials": 1'))
    with pytest.raises(IntegrityError, match="is not as it was written"):
        kept_integrity(tmp_path, sweep.sweep_id, found.candidate)


def test_what_has_no_returns_is_told(tmp_path) -> None:
    with pytest.raises(InputError, match="kept metrics: selection integrity needs the returns"):
        selection_integrity(swept(tmp_path, keep="metrics"))
    alone = swept(tmp_path, grid={"fast": [2]}, root=tmp_path / "b")
    with pytest.raises(InputError, match="has 1 candidates that traded"):
        selection_integrity(alone)


def test_candidates_without_a_trade_are_left_out(tmp_path) -> None:
    found = swept(tmp_path, grid={"fast": [2, 3], "slow": [8, 239]})  # an average of 239 has two values
    idle = int((found.candidates["status"] == "no_trades").sum())
    returns, left_out = traded_returns(found)
    assert left_out == idle and len(returns.columns) == 4 - idle
    if idle:
        with pytest.raises(InputError, match="did not trade"):
            selection_integrity(
                found, int(found.candidates.loc[found.candidates["status"] == "no_trades", "number"].iloc[0])
            )


def test_cross_validation_of_a_sweep_purges_the_warm_up(sweep) -> None:
    found = lp.cpcv(sweep, groups=5, test_groups=2, embargo=3)
    assert (found.purge, found.embargo, found.splits, len(found.metrics)) == (21, 3, 10, 4)
    assert found.paths.notna().all().all() and len(found.paths) == DAYS - 1


GATES = {"pbo": {"max": 0.5}, "deflated_sharpe": {"min": 0.999999}, "min_track_record": True}


def test_a_gate_refuses_and_a_reason_is_recorded(tmp_path) -> None:
    found = swept(tmp_path, gates=GATES)
    best = int(found.top("sharpe", 1).iloc[0]["number"])
    with pytest.raises(
        RefusedError, match=rf"candidate {best} is not promoted: .*deflated_sharpe is .*--against-gates"
    ):
        found.promote(best, label="chosen", by="Ada Byron", reason="it looks good")
    assert promotion_of(tmp_path / "data", found.row(best)["id"]) is None
    run = found.promote(best, label="chosen", by="Ada Byron", reason="it looks good", against_gates="it is a test")
    kept = promotion_of(tmp_path / "data", run.run_id)
    assert kept.against_gates == "it is a test"
    told = {one["gate"]: one["met"] for one in kept.gates}
    assert told["deflated_sharpe"] is False and set(told) == set(GATES)


def test_a_gate_that_is_met_asks_for_no_reason(tmp_path) -> None:
    found = swept(tmp_path, gates={"pbo": {"max": 1.0}})
    run = found.promote(0, label="chosen", by="Ada Byron", reason="flat", against_gates="not needed")
    kept = promotion_of(tmp_path / "data", run.run_id)
    assert kept.against_gates is None and kept.gates[0]["met"] is True


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"luck": True}, "there is no gate 'luck'"),
        ({"pbo": 0.5}, "pbo is 0.5; write {max: a probability}"),
        ({"pbo": {"min": 0.5}}, "pbo is"),
        ({"deflated_sharpe": {"min": 2}}, "deflated_sharpe is"),
        ({"min_track_record": "yes"}, "it is true or false"),
        ("pbo", "gates are written"),
    ],
)
def test_gates_that_are_none(given, message) -> None:
    with pytest.raises(InputError, match=message):
        gates(given)


def test_gates_need_returns_and_are_part_of_the_sweep(tmp_path) -> None:
    with pytest.raises(InputError, match="write keep: returns"):
        swept(tmp_path, gates=GATES, keep="metrics")
    snapshot = noise(tmp_path)
    one = swept(tmp_path, snapshot=snapshot, gates=GATES)
    other = swept(tmp_path, snapshot=snapshot)
    assert one.sweep_id != other.sweep_id and one.gates["pbo"] == 0.5 and other.gates == {}
