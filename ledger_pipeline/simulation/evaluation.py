"""What a run was measured against: the experiment's name, its benchmark and the risk-free rate.

None of it decides what a run does, so none of it is part of the run's identity: two experiments that differ in it alone
are one run, with metrics of their own. Each is kept beside the run under its own key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ledger_pipeline.core.identity import hash_json
from ledger_pipeline.strategy.experiment import Experiment, with_risk_free


@dataclass(frozen=True)
class Evaluation:
    """name: of the experiment; benchmark: a symbol or None; risk_free: an annual rate, or the series it comes from."""

    name: str
    benchmark: str | None
    risk_free: float | Mapping[str, str] = 0.0

    @property
    def key(self) -> str:
        """The first 16 hex digits of the hash of the three."""
        return hash_json(asdict(self))[:16]

    def of(self, experiment: Mapping[str, Any]) -> dict[str, Any]:
        """The part of a provenance that describes an experiment, with this evaluation in place of its own."""
        rest = {name: value for name, value in experiment.items() if name != "risk_free"}
        free = {} if self.risk_free == 0.0 else {"risk_free": self.risk_free}
        return {**rest, "name": self.name, "benchmark": self.benchmark, **free}


def evaluation(experiment: Mapping[str, Any]) -> Evaluation:
    """The evaluation that the part of a provenance that describes an experiment states."""
    return Evaluation(experiment["name"], experiment["benchmark"], experiment.get("risk_free", 0.0))


def measured_by(experiment: Experiment, risk_free: float | Mapping[str, str] | None = None) -> Evaluation:
    """The evaluation of an experiment, with another risk-free rate where one is given."""
    spec = (experiment if risk_free is None else with_risk_free(experiment, risk_free)).spec
    return Evaluation(experiment.name, spec.benchmark, spec.model_dump(mode="json")["risk_free"])
