"""Projects for tests: a directory with strategies, prices and the two Dagster files, as a user has it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from ledger_pipeline.defs.launch import import_snapshot, run_experiments
from ledger_pipeline.market.raw import RawSource
from ledger_pipeline.project import Project

CHECKOUT = Path(__file__).parents[1]
COMMAND = Path(sys.executable).parent / "ledger-pipeline"
EXPERIMENTS = {
    "hold": "strategy: buy_and_hold\nparams: {fraction: 0.9, symbols: 2}\nopening: {cash: 100000}\ncosts: []\n",
    "fast": "strategy: sma_long_flat\nparams: {window: 5, quantity: 10}\n"
    "features:\n  sma: {indicator: sma, window: {param: window}}\nopening: {cash: 100000}\ncosts: [{fixed_fee: 1.0}]\n"
    "benchmark: IBM\n",
    "slow": "strategy: sma_long_flat\nparams: {window: 20, quantity: 10}\n"
    "features:\n  sma: {indicator: sma, window: {param: window}}\nopening: {cash: 100000}\ncosts: []\n",
}


def make_project(root: Path, experiments: Mapping[str, str] | None = None) -> Project:
    """A project with copies of the bundled strategies and prices; with these experiments in place of the bundled."""
    root.mkdir(parents=True)
    copy_strategies(root)
    shutil.copytree(CHECKOUT / "sources" / "demo", root / "sources" / "demo")
    for name in ("dagster.yaml", "workspace.yaml"):
        shutil.copy(CHECKOUT / name, root / name)
    if experiments is not None:
        shutil.rmtree(root / "strategies" / "experiments")
        for name, text in experiments.items():
            write_experiment(root, name, text)
    return Project(root)


def copy_strategies(root: Path) -> None:
    """The bundled strategies, experiments and policies; the deployments are the user's (the demo writes some too)."""
    left = shutil.ignore_patterns("__pycache__", "deployments", "demo_*")
    shutil.copytree(CHECKOUT / "strategies", root / "strategies", ignore=left)


def write_experiment(root: Path, name: str, text: str) -> None:
    """Write strategies/experiments/<name>.yaml."""
    path = root / "strategies" / "experiments" / f"{name}.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


def write_bars(path: Path, first: str = "2010-01-01", days: int = 60, change=None) -> Path:
    """A CSV of real daily bars of AAPL and IBM: `days` sessions from `first` on, after `change` was made to the frame
    of text.
    """
    frame = pd.read_csv(CHECKOUT / "sources" / "demo" / "bars.csv", dtype=str)
    frame = frame[frame["symbol"].isin(["AAPL", "IBM"]) & (frame["ts"] >= first)]
    frame = frame.groupby("symbol").head(days).reset_index(drop=True)
    if change is not None:
        frame = change(frame)
    frame.to_csv(path, index=False)
    return path


def seal(project: Project, snapshot_id: str, **options) -> None:
    """Import a small snapshot as assets."""
    import_snapshot(project, snapshot_id, RawSource(str(write_bars(project.root / f"{snapshot_id}.csv", **options))))


def small_project(root: Path) -> Project:
    """A project with the snapshot `small` and the runs of three experiments on it."""
    project = make_project(root, EXPERIMENTS)
    seal(project, "small")
    run_experiments(project, "small", list(EXPERIMENTS))
    return project


def copied(project: Project, root: Path) -> Project:
    """A copy of a project to change at will."""
    shutil.copytree(project.root, root, symlinks=True)
    return Project(root)


def environment(project: Project) -> dict[str, str]:
    """The environment of a process that works on the project."""
    home = {"LEDGER_PIPELINE_ROOT": str(project.root), "DAGSTER_HOME": str(project.root / ".dagster")}
    return {**os.environ, **home}


def command(
    project: Project, *arguments: str, env_more: Mapping[str, str] | None = None, **options
) -> subprocess.CompletedProcess:
    """Run the installed command in a process of its own."""
    return subprocess.run(
        [str(COMMAND), *arguments],
        env=environment(project) | dict(env_more or {}),
        cwd=project.root,
        capture_output=True,
        text=True,
        timeout=600,
        **options,
    )


def listing(project: Project) -> dict[str, bytes | None]:
    """Every file and directory of the project with its content, Dagster's records and the trial register apart (what was
    evaluated is counted, whatever becomes of it).
    """
    return {
        str(path.relative_to(project.root)): path.read_bytes() if path.is_file() else None
        for path in sorted(project.root.rglob("*"))
        if not {".dagster", "__pycache__", "trials"} & set(path.relative_to(project.root).parts)
    }


@contextmanager
def unchanged(project: Project) -> Iterator[None]:
    """Nothing in the project is changed by what runs inside."""
    before = listing(project)
    yield
    after = listing(project)
    assert sorted(after) == sorted(before)
    assert [name for name in after if after[name] != before[name]] == []
