"""The stitched run of a walk-forward under a name of its own, with what it was made from."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime

import numpy as np
import pandas as pd

from ledger_pipeline.analytics.metrics import period_rates
from ledger_pipeline.analytics.returns import time_weighted_returns
from ledger_pipeline.core.errors import InputError, RefusedError
from ledger_pipeline.market.bars import micros
from ledger_pipeline.selection.gates import GateOutcome, Measures, gates, judged, require_met
from ledger_pipeline.selection.reality import reality_check
from ledger_pipeline.selection.sharpe import (
    deflated_sharpe,
    min_backtest_length,
    min_track_record,
    moments,
    probabilistic_sharpe,
)
from ledger_pipeline.selection.walk_forward import WalkForward
from ledger_pipeline.selection.walk_forward_store import WalkForwardStore
from ledger_pipeline.simulation.measures import risk_free_rates
from ledger_pipeline.simulation.promotions import Promotion, checked_decision, keep_promotion
from ledger_pipeline.simulation.proof import prove
from ledger_pipeline.simulation.replay import stored_experiment
from ledger_pipeline.simulation.run import Run
from ledger_pipeline.simulation.store import RunStore
from ledger_pipeline.simulation.trials import TrialRegister
from ledger_pipeline.strategy.experiment import Experiment


def promote_walk_forward(
    walk: WalkForward,
    *,
    label: str,
    by: str,
    reason: str,
    against_gates: str | None = None,
    store: Callable[[Experiment, Run], None] | None = None,
) -> Run:
    """Give the stitched run of a walk-forward the label, and its experiment the name; with the walk-forward, the number
    of trials behind it and its gates. against_gates: why it is meant although a gate is not met; store: keeps the run
    in another way than in the store of runs. RefusedError when it cannot be reproduced or a gate is not met.
    """
    by, reason = checked_decision(label, by, reason)
    run = walk.run
    found = walk_forward_gates(walk)
    require_met(found, f"walk-forward {walk.name}", against_gates)
    experiment = replace(stored_experiment(run.provenance), name=label)
    if store is not None:
        store(experiment, run)
    else:
        proof = prove([run])[0]
        if proof.difference is not None:
            raise RefusedError(f"walk-forward {walk.name} cannot be reproduced: {proof.difference}")
    RunStore(walk.root).give_label(run.run_id, label)
    strategy = run.provenance["experiment"]["strategy"]
    register = TrialRegister(walk.root)
    keep_promotion(
        walk.root,
        Promotion(
            run_id=run.run_id,
            sweep=walk.walk_id,
            sweep_name=walk.name,
            sweep_hash=walk.hash,
            candidate=0,
            candidates=len(walk.windows),
            params={},
            ranks={},
            trials=register.count(strategy=strategy, snapshot_hash=walk.snapshot.hash),
            snapshot_trials=register.count(snapshot_hash=walk.snapshot.hash),
            label=label,
            by=by,
            reason=reason,
            at=datetime.now(UTC).isoformat(timespec="seconds"),
            gates=tuple(asdict(one) for one in found),
            against_gates=against_gates if any(not one.met for one in found) else None,
            walk_forward=True,
        ),
    )
    return run


def walk_forward_gates(walk: WalkForward) -> list[GateOutcome]:
    """What the gates of the sweep's file say to a walk-forward. Overfitting is the mean over its windows; the rest is
    measured by the returns of the stitched run, in excess of the risk-free rate. These chose nothing, so what they are
    deflated by is the number of walk-forwards of the strategy on the snapshot.
    """
    asked = gates(walk.plan["identity"]["sweep"].get("gates"))
    if not asked:
        return []
    returns, year = excess_returns(walk.run), float(walk.run.metrics["periods_per_year"])
    ratios = _ratios(walk)
    tried = max(len(ratios), 1)
    try:
        known = moments(returns)
        measures = Measures(
            {
                "pbo": _overfitting(walk) if "pbo" in asked else None,
                "deflated_sharpe": deflated_sharpe(
                    known, trials=tried, deviation=float(np.std(ratios, ddof=1)) if len(ratios) > 1 else 0.0
                ),
                "probabilistic_sharpe": probabilistic_sharpe(known),
                "reality_check": reality_check(returns).spa_consistent if "reality_check" in asked else None,
            },
            len(returns),
            min_track_record(known),
            len(returns) / year,
            min_backtest_length(tried),
        )
    except InputError:  # a run that never traded, say: nothing is met
        nothing = dict.fromkeys(("pbo", "deflated_sharpe", "probabilistic_sharpe", "reality_check"))
        measures = Measures(nothing, len(returns), None, len(returns) / year, min_backtest_length(tried))
    count = "1 walk-forward" if tried == 1 else f"{tried:,} walk-forwards"
    return [
        replace(one, asked=f"{one.asked} when deflated by {count} of the strategy")
        if one.gate == "deflated_sharpe"
        else one
        for one in judged(asked, measures)
    ]


def excess_returns(run: Run) -> pd.Series:
    """The time-weighted returns of a run in excess of the risk-free rate that it is measured by."""
    returns = time_weighted_returns(run.equity).dropna()
    free = risk_free_rates(run.snapshot, run.provenance["experiment"].get("risk_free", 0.0))
    times = pd.DatetimeIndex(run.equity["ts"])
    starts = micros(times[len(times) - len(returns) - 1 : -1])
    return returns - period_rates(free, float(run.metrics["periods_per_year"]), starts)


def _overfitting(walk: WalkForward) -> float | None:
    """The mean probability of overfitting of the windows in which something was chosen; None where one has none."""
    numbers = [one.window.number for one in walk.windows if one.choice.number is not None]
    try:
        return float(np.mean([walk.pbo(number).pbo for number in numbers])) if numbers else None
    except InputError:  # a window with one candidate that traded, say
        return None


def _ratios(walk: WalkForward) -> list[float]:
    """Sharpe ratios per period of the stitched runs of the finished walk-forwards of the strategy on the snapshot, this
    one among them.
    """
    store = WalkForwardStore(walk.root)
    ratios: dict[str, float] = {}
    for walk_id in store.ids():
        plan, result = store.plan(walk_id), store.result(walk_id)
        same = plan["experiment"]["spec"]["strategy"] == walk.plan["experiment"]["spec"]["strategy"]
        if result is None or not same or plan["snapshot"]["hash"] != walk.snapshot.hash:
            continue
        metrics = result["content"]["metrics"]
        if metrics["sharpe"] is not None:
            ratios[result["content"]["run_id"]] = metrics["sharpe"] / math.sqrt(metrics["periods_per_year"])
    return list(ratios.values())
