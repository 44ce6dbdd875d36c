"""A decision made again from its record, and compared by its hash.

A policy needs the record alone: the policy and the account are in it. A strategy needs its live snapshot, which is
sealed, and its source: that of today when it is the same, else the one stored with the run that was promoted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ledger_pipeline.core.errors import InputError, LedgerPipelineError, RefusedError
from ledger_pipeline.market.snapshot import open_snapshot
from ledger_pipeline.trading.orders.legs import leg_from_json
from ledger_pipeline.trading.planning.plan import PlanAccount, legs_of
from ledger_pipeline.trading.planning.planner import plan
from ledger_pipeline.trading.planning.policy import parse_policy

if TYPE_CHECKING:
    from ledger_pipeline.project import Project
    from ledger_pipeline.strategy.experiment import Experiment


@dataclass(frozen=True)
class Replayed:
    """The hash in the record, and the one that the same inputs give now; legs: whether those are the same too, and the
    plan as it stands in the record.
    """

    decision: str
    recorded: str
    replayed: str
    legs: bool

    @property
    def same(self) -> bool:
        """Whether the decision is the same."""
        return self.recorded == self.replayed and self.legs


def replay(project: Project, document: Mapping[str, Any]) -> Replayed:
    """Decide again from a run record (`decision.record`).

    InputError when it is no record; RefusedError when nothing was planned, or the source or snapshot is not here;
    IntegrityError when either is not what it was.
    """
    try:
        evidence, recorded, name = document["evidence"], document["hash"], str(document["decision"])
        legs = tuple(leg_from_json(dict(row)) for row in document["legs"])
    except (KeyError, TypeError, ValueError):
        raise InputError("this is no run record: it has no evidence, hash, legs and decision.") from None
    if "policy" in evidence:
        plan_again = plan(parse_policy(evidence["policy"], "the record"), PlanAccount.from_json(evidence["account"]))
        expected = legs_of(plan_again, document["deployment"]) if legs or document.get("verdicts") else ()
        return Replayed(
            name,
            recorded,
            plan_again.hash,
            legs == expected and _plain(plan_again.to_json()) == _plain(evidence["plan"]),
        )
    if "inputs" not in evidence:
        raise RefusedError(
            f"decision {name} holds no plan: {'; '.join(document.get('reasons', ())) or 'it was blocked'}."
        )
    from ledger_pipeline.trading.deployment.strategy import again  # the simulator: not where only policies trade

    inputs = evidence["inputs"]
    snapshot = open_snapshot(inputs["snapshot"]["id"], root=project.live_snapshots)
    evaluation = again(inputs, document["deployment"], recorded_experiment(project, inputs), snapshot)
    return Replayed(name, recorded, evaluation.hash, legs == tuple(evaluation.legs))


def _plain(value: Mapping[str, Any]) -> Any:
    """As JSON gives it back."""
    return json.loads(json.dumps(value))


def recorded_experiment(project: Project, inputs: Mapping[str, Any]) -> Experiment:
    """The experiment of a recorded decision: the one in the catalogue, or the one of the run that was promoted."""
    from ledger_pipeline.simulation.replay import stored_experiment
    from ledger_pipeline.simulation.store import RunStore
    from ledger_pipeline.strategy.catalogue import Catalogue

    name, expected = inputs["experiment"]["name"], inputs["experiment"]["hash"]
    catalogue = Catalogue(project.strategies)
    try:
        experiment = catalogue.experiment(name)
        if experiment.hash == expected:
            return experiment
    except LedgerPipelineError:
        pass  # what is there today does not load; what was promoted may
    store = RunStore(project.data)
    for run_id in store.ids():
        if store.provenance(run_id)["experiment"]["hash"] == expected:
            return stored_experiment(store.open(run_id, project.snapshots).provenance, catalogue.indicators())
    raise RefusedError(
        f"experiment {name!r} is not here as it was ({expected[:16]}), neither in the catalogue nor among the runs."
    )
