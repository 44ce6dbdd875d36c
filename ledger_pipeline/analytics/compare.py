"""Comparing runs: from stored or fresh runs to one report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import unified_diff
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from ledger_pipeline.analytics.comparison_tables import (
    ComparedRun,
    comparison_table,
    differences_sentence,
    input_differences,
)
from ledger_pipeline.core.errors import InputError


class FinishedRun(Protocol):
    """What a comparison needs of a run."""

    @property
    def provenance(self) -> dict[str, Any]: ...

    @property
    def metrics(self) -> dict[str, Any]: ...

    @property
    def equity(self) -> pd.DataFrame: ...

    @property
    def warnings(self) -> list[str]: ...


@dataclass(frozen=True)
class Comparison:
    """A comparison of runs, in the order given. `html` is one self-contained file."""

    runs: tuple[ComparedRun, ...] = field(repr=False)

    @property
    def sentence(self) -> str:
        """What differs in the inputs, in one sentence."""
        return differences_sentence([run.provenance for run in self.runs], [run.label for run in self.runs])

    @property
    def inputs(self) -> pd.DataFrame:
        """The inputs that differ: one row a field, one column a run."""
        return input_differences([run.provenance for run in self.runs], [run.label for run in self.runs])

    @property
    def source_changes(self) -> str:
        """How the sources of strategies of one name differ, as a unified diff from each run to the next; empty where
        they are the same.
        """
        return "".join(_source_change(one, other) for one, other in pairwise(self.runs))

    @property
    def table(self) -> pd.DataFrame:
        """The metrics of all runs."""
        return comparison_table(list(self.runs))

    @property
    def html(self) -> str:
        """The report as one HTML document."""
        from ledger_pipeline.analytics.report import comparison_report

        return comparison_report(
            self.runs,
            "Comparison of runs",
            {"runs": [run.provenance["run_id"] for run in self.runs]},
            self.source_changes,
        )

    def __repr__(self) -> str:
        return f"Comparison of {', '.join(run.label for run in self.runs)}. {self.sentence}"

    def _repr_html_(self) -> str:
        """What a notebook shows: the sentence and the table."""
        from html import escape

        return f"<p>{escape(self.sentence)}</p>{self.table.to_html(na_rep='')}"

    def save(self, path: str | Path) -> Path:
        """Write the report to `path` and return it."""
        target = Path(path).expanduser()
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(self.html, encoding="utf-8")
        return target


def compare(
    runs: Sequence[FinishedRun] | Mapping[str, FinishedRun], trials: Mapping[str, int] | None = None
) -> Comparison:
    """Compare runs, labelled by the keys of a mapping or by experiment name, with snapshot, seed or id added where
    names repeat. trials: by run id, how many candidates of its strategy were ever evaluated on its snapshot.

    Raises InputError when there is nothing to compare, and for anything that is no run.
    """
    if not isinstance(runs, Iterable) or isinstance(runs, str):
        raise InputError("compare takes a list of runs, or a mapping of labels to runs.")
    given = list(runs.values() if isinstance(runs, Mapping) else runs)
    if not given:
        raise InputError("there are no runs to compare; name at least one.")
    for run in given:
        if not isinstance(getattr(run, "provenance", None), Mapping):
            raise InputError(f"{str(run)[:60]!r} is not a run; open a stored one with lp.RunStore(root).open(run_id).")
    names = [str(name) for name in runs] if isinstance(runs, Mapping) else labels([run.provenance for run in given])
    labelled = dict(zip(names, given, strict=True))
    return Comparison(
        tuple(
            ComparedRun(
                label,
                _told(run.provenance),
                run.metrics,
                run.equity,
                tuple(run.warnings),
                (trials or {}).get(run.provenance["run_id"]),
                run.provenance.get("strategy_text", ""),
            )
            for label, run in labelled.items()
        )
    )


def labels(provenances: Sequence[Mapping[str, Any]]) -> list[str]:
    """A distinct label for each run: its experiment's name, then as much more as is needed."""
    ways = (
        lambda p: p["experiment"]["name"],
        lambda p: f"{p['experiment']['name']} on {p['snapshot']['id']}",
        lambda p: f"{p['experiment']['name']} on {p['snapshot']['id']}, seed {p['seed']}",
        lambda p: f"{p['experiment']['name']} {p['run_id'][:8]}",
    )
    for way in ways:
        names = [way(provenance) for provenance in provenances]
        if len(set(names)) == len(names):
            return names
    raise InputError("the same run is named more than once; name each run once.")


def _source_change(one: ComparedRun, other: ComparedRun) -> str:
    same = one.provenance["experiment"].get("strategy") == other.provenance["experiment"].get("strategy")
    if not same or one.source == other.source:
        return ""
    lines = unified_diff(one.source.splitlines(True), other.source.splitlines(True), one.label, other.label)
    return "".join(line if line.endswith("\n") else f"{line}\n" for line in lines)


def _told(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Provenance as the report shows it: without the text of the strategy."""
    return {key: value for key, value in provenance.items() if key != "strategy_text"}
