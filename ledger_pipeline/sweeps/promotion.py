"""A candidate that becomes a stored run, with what it was chosen from (see simulation.promotions)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from ledger_pipeline.core.errors import IntegrityError, LedgerPipelineError, RefusedError
from ledger_pipeline.core.identity import check_id
from ledger_pipeline.files import location, write_file
from ledger_pipeline.selection.gates import GateOutcome, outcomes, require_met
from ledger_pipeline.simulation.promotions import Promotion, checked_decision, keep_promotion
from ledger_pipeline.simulation.proof import prove
from ledger_pipeline.simulation.run import Run
from ledger_pipeline.simulation.store import RunStore
from ledger_pipeline.simulation.trials import TrialRegister
from ledger_pipeline.strategy.catalogue import Catalogue
from ledger_pipeline.strategy.experiment import Experiment
from ledger_pipeline.strategy.terms import plain

if TYPE_CHECKING:
    from ledger_pipeline.sweeps.sweep import Sweep


def write_experiment(strategies: Path, experiment: Experiment, description: str) -> Path:
    """Write an experiment as a file of its name, so that it is run and deployed as one of the user's, and return the
    path. RefusedError, with nothing changed, when there is another experiment of that name, or when the strategy's file
    is not what the experiment's source is.
    """
    path = strategies / "experiments" / f"{check_id('experiment', experiment.name)}.yaml"
    spec = experiment.plain["spec"]
    left_out = {"seed": 0, "risk_free": 0.0, "cash_rule": "require", "cash_rounding": "exact", "limit_fills": "touched"}
    values = {
        name: value
        for name, value in spec.items()
        if name != "description"
        and value not in (None, {}, (), [])
        and not (name in left_out and value == left_out[name])
    } | {"costs": spec["costs"]}
    values |= plain(dict(experiment.referring))
    text = yaml.safe_dump({"description": description, **values}, sort_keys=False, allow_unicode=True, width=120)
    before = path.read_bytes() if path.exists() else None
    if before is None:
        write_file(location(path), text.encode())
    try:
        same = Catalogue(strategies).experiment(experiment.name).hash == experiment.hash
    except LedgerPipelineError:
        same = False
    if not same:
        if before is None:
            path.unlink()
            raise RefusedError(
                f"the candidate is not promoted: strategy {experiment.spec.strategy!r} in {strategies} is not what the "
                "sweep ran; run the sweep again."
            )
        raise RefusedError(f"{path} is there already and says another experiment; choose another --label.")
    return path


def _through_gates(sweep: Sweep, number: int, against: str | None) -> list[GateOutcome]:
    """What the gates of a sweep say to a candidate. RefusedError naming those that are not met, unless a reason against
    them is given.
    """
    if not sweep.gates:
        return []
    from ledger_pipeline.selection.integrity import selection_integrity

    found = outcomes(sweep.gates, selection_integrity(sweep, number, tests="reality_check" in sweep.gates))
    require_met(found, f"candidate {number}", against)
    return found


def promote_candidate(
    sweep: Sweep,
    candidate: str | int,
    *,
    label: str,
    by: str,
    reason: str,
    against_gates: str | None = None,
    store: Callable[[Experiment, Run], None] | None = None,
) -> Run:
    """See Sweep.promote. store: keeps the run in another way than in the store of runs, such as through the graph; it
    is called once the run was made anew and equals what the sweep recorded.
    """
    by, reason = checked_decision(label, by, reason)
    row = sweep.row(candidate)
    number = int(row["number"])
    if row["status"] == "failed":
        raise RefusedError(f"candidate {number} failed and is not promoted: {row['error']}")
    passed = _through_gates(sweep, number, against_gates)
    run = sweep.run(number)
    named = replace(sweep.experiment(number), name=label)
    run = replace(run, provenance=run.provenance | {"experiment": run.provenance["experiment"] | {"name": label}})
    if store is not None:
        store(named, run)
    else:
        proof = prove([run])[0]
        if proof.difference is not None:
            raise RefusedError(f"candidate {number} is not promoted, since it cannot be reproduced: {proof.difference}")
        RunStore(sweep.root).write(run)
    kept = RunStore(sweep.root)
    if kept.provenance(run.run_id)["ledger_head"] != run.events.head:
        raise IntegrityError(f"run {run.run_id} is stored with another ledger than candidate {number}.")
    kept.give_label(run.run_id, label)
    promotion = Promotion(
        run_id=run.run_id,
        sweep=sweep.sweep_id,
        sweep_name=sweep.name,
        sweep_hash=sweep.hash,
        candidate=number,
        candidates=sweep.counts["candidates"],
        params={name: row[name] for name in sweep.axes},
        ranks=sweep.ranks(number),
        trials=sweep.trials,
        snapshot_trials=TrialRegister(sweep.root).count(snapshot_hash=sweep.snapshot.hash),
        label=label,
        by=by,
        reason=reason,
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        gates=tuple(asdict(one) for one in passed),
        against_gates=against_gates if any(not one.met for one in passed) else None,
    )
    keep_promotion(sweep.root, promotion)
    return run
