"""The stitched run of a walk-forward under a name of its own, with what it was made from."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime

import numpy as np

from ledger_pipeline.core.errors import InputError, RefusedError
from ledger_pipeline.core.identity import check_id, check_text
from ledger_pipeline.selection.gates import GateOutcome, gates, require_met
from ledger_pipeline.selection.sharpe import deflated_sharpe, moments, probabilistic_sharpe
from ledger_pipeline.selection.walk_forward import WalkForward
from ledger_pipeline.selection.walk_forward_store import WalkForwardStore
from ledger_pipeline.simulation.promotions import Promotion, keep_promotion
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
    check_id("label", label)
    by, reason = check_text("name", by).strip(), check_text("reason", reason).strip()
    if not by or not reason:
        raise InputError("a promotion needs the name of who decides (by) and a reason.")
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
    """What the gates of the sweep's file say to a walk-forward. Overfitting is the mean over its windows; the Sharpe
    ratios are those of the stitched run, which chose nothing by its own returns: deflated by the number of
    walk-forwards of the strategy on the snapshot.
    """
    from ledger_pipeline.analytics.returns import time_weighted_returns

    asked = gates(walk.plan.get("gates"))
    if not asked:
        return []
    returns = time_weighted_returns(walk.run.equity).dropna()
    known = moments(returns)
    found = []
    for gate, limit in asked.items():
        value: float | None
        if gate == "pbo":
            values = [walk.pbo(one.window.number).pbo for one in walk.windows if one.choice.number is not None]
            value = float(np.mean(values)) if values else None
        elif gate == "deflated_sharpe":
            ratios = _other_ratios(walk)
            deviation = float(np.std(ratios, ddof=1)) if len(ratios) > 1 else 0.0
            value = deflated_sharpe(known, trials=max(len(ratios), 1), deviation=deviation)
        elif gate == "probabilistic_sharpe":
            value = probabilistic_sharpe(known)
        else:
            continue  # these are about candidates of one sweep
        at_most = gate == "pbo"
        met = value is not None and (value <= limit if at_most else value >= limit)
        found.append(GateOutcome(gate, f"{'at most' if at_most else 'at least'} {limit:g}", value, met))
    return found


def _other_ratios(walk: WalkForward) -> list[float]:
    """Sharpe ratios per period of the finished walk-forwards of the strategy on the snapshot, this one among them."""
    store = WalkForwardStore(walk.root)
    ratios = []
    for walk_id in store.ids():
        plan, result = store.plan(walk_id), store.result(walk_id)
        same = plan["experiment"]["spec"]["strategy"] == walk.plan["experiment"]["spec"]["strategy"]
        if result is None or not same or plan["snapshot"]["hash"] != walk.snapshot.hash:
            continue
        metrics = result["content"]["metrics"]
        if metrics["sharpe"] is not None:
            ratios.append(metrics["sharpe"] / math.sqrt(metrics["periods_per_year"]))
    return ratios
