"""Projects that several rooms test on. The environment leads every test to its own project, never to this checkout."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger_pipeline.project import Project
from ledger_pipeline.trading.reconciliation.adopt import adopt
from ledger_pipeline.trading.session_context import open_session
from ledger_pipeline_tests import projects
from ledger_pipeline_tests.exchange.server import NOON, Served, exchange

SHOWN = ("buy_and_hold", "dca_monthly", "equal_weights", "inverse_volatility", "sma_crossover", "sma_long_flat_20")


@pytest.fixture(scope="session")
def small_template(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A small project that was sealed and run once; copy it, never change it."""
    return projects.small_project(tmp_path_factory.mktemp("small") / "project")


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, dict]:
    """A project on which `ledger-pipeline demo --json` was run in a process of its own, with some of the bundled
    experiments, and what it printed. Only read it.
    """
    worker = tmp_path_factory.getbasetemp()
    shared = worker.parent if worker.name.startswith("popen-") else worker  # one for all processes of a test run
    printed = shared / "demo.json"
    with open(shared / "demo.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not printed.exists():
            project = projects.make_project(shared / "demo" / "project")
            for path in (project.strategies / "experiments").glob("*.yaml"):
                if path.stem not in SHOWN:
                    path.unlink()
            done = projects.command(project, "demo", "--json")
            assert done.returncode == 0, done.stderr
            printed.write_text(done.stdout)
    return Project(shared / "demo" / "project"), json.loads(printed.read_text())


def _lead(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("LEDGER_PIPELINE_ROOT", str(project.root))
    monkeypatch.setenv("DAGSTER_HOME", str(project.root / ".dagster"))
    monkeypatch.chdir(project.root)
    return project


@pytest.fixture
def small(small_template: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A copy of the small project: snapshot `small`, experiments hold, fast and slow, all run."""
    return _lead(projects.copied(small_template, tmp_path / "project"), monkeypatch)


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project with the three small experiments and nothing sealed."""
    return _lead(projects.make_project(tmp_path / "project", projects.EXPERIMENTS), monkeypatch)


@pytest.fixture(scope="session")
def running_exchange(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A local exchange for all tests of this process; each begins it again."""
    place = tmp_path_factory.mktemp("exchange")
    with exchange(place, symbols="VTI=250,VXUS=60", at=NOON, cash=10_000) as running:
        yield running


@pytest.fixture
def served(running_exchange: Served, monkeypatch: pytest.MonkeyPatch) -> Served:
    """The local exchange at noon of a Monday, with VTI at 250, VXUS at 60 and 10,000 in cash; this process has its keys
    and its address.
    """
    running_exchange.since = running_exchange.admin.reset()
    for name, value in running_exchange.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LEDGER_PIPELINE_EXCHANGE_URL", running_exchange.url)
    return running_exchange


@pytest.fixture
def traded(fresh: Project, served: Served) -> Project:
    """A project whose book `local` was adopted from the account of the exchange."""
    with open_session(fresh) as context:
        adopt(context.book, context.broker, by="Ada Byron", reason="first use")
    return fresh
