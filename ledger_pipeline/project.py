"""Where things are: one directory holds what the user writes, what is sealed and what is computed.

<root>/strategies/   what the user writes        <root>/data/      runs, features, reports: can be computed again
                                               (but for data/trials, the register of what was ever evaluated)
<root>/snapshots/    sealed snapshots            <root>/.dagster/  Dagster's own records: events, partitions, schedules
<root>/books/        the live books: what was traded, which nothing can compute again

The root is the environment variable LEDGER_PIPELINE_ROOT, else the nearest directory above the current one that holds
workspace.yaml, else the current directory.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

ROOT_VARIABLE = "LEDGER_PIPELINE_ROOT"


@dataclass(frozen=True)
class Project:
    """The paths of one project."""

    root: Path

    @property
    def snapshots(self) -> Path:
        """Sealed snapshots."""
        return self.root / "snapshots"

    @property
    def live_snapshots(self) -> Path:
        """The bars that strategies decided on live, sealed: one snapshot a deployment and session."""
        return self.snapshots / "live"

    @property
    def strategies(self) -> Path:
        """Strategies, user indicators and experiments."""
        return self.root / "strategies"

    @property
    def books(self) -> Path:
        """Live books, one directory each."""
        return self.root / "books"

    @property
    def data(self) -> Path:
        """Raw tables, features, runs, sweeps and reports, and the trial register."""
        return self.root / "data"

    @property
    def dagster_home(self) -> Path:
        """Dagster's home: DAGSTER_HOME when it is set, else <root>/.dagster."""
        return Path(os.environ.get("DAGSTER_HOME") or self.root / ".dagster").absolute()


def find_project(root: str | Path | None = None) -> Project:
    """The project at `root`, or the one that the environment and the current directory lead to."""
    given = root or os.environ.get(ROOT_VARIABLE)
    if given:
        return Project(Path(given).expanduser().absolute())
    here = Path.cwd()
    return Project(next((path for path in (here, *here.parents) if (path / "workspace.yaml").is_file()), here))
