"""A project of one's own, outside of this repository, and the prices to begin with."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import ledger_pipeline
from ledger_pipeline.cli.new import TEMPLATES
from ledger_pipeline.market.snapshot import open_snapshot
from ledger_pipeline.project import Project
from ledger_pipeline_tests.exchange.server import exchange
from ledger_pipeline_tests.projects import CHECKOUT, command


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> dict[str, str]:
    """The environment in which the package lies as an installation has it: its folder alone, away from the repository."""
    place = tmp_path_factory.mktemp("installed")
    shutil.copytree(
        CHECKOUT / "ledger_pipeline", place / "ledger_pipeline", ignore=shutil.ignore_patterns("__pycache__")
    )
    kept = {name: value for name, value in os.environ.items() if name not in ("LEDGER_PIPELINE_ROOT", "DAGSTER_HOME")}
    return kept | {"PYTHONPATH": str(place)}


def ledger(installed: dict[str, str], folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "ledger_pipeline.cli.main", *arguments], cwd=folder, env=installed, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def test_from_nothing_to_a_report_of_its_own(installed, tmp_path) -> None:
    told = json.loads(ledger(installed, tmp_path, "new", "my_strategies", "--json"))
    project = tmp_path / "my_strategies"
    assert set(told["files"]) == {p.relative_to(project).as_posix() for p in project.rglob("*") if p.is_file()}
    assert f"ledger_pipeline=={ledger_pipeline.__version__}" in (project / "pyproject.toml").read_text()
    for step in told["next"][1:]:
        ledger(installed, project, *step.split()[1:])
    page = (project / "trend.html").read_text()
    assert "trend on simulated" in page and "ABOVE_AVERAGE" in page
    tested = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=project,
        env=installed,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert tested.returncode == 0, tested.stdout
    asked = "import json, ledger_pipeline.definitions as d; print(d.__file__, len(d.defs().get_repository_def().get_all_jobs()))"
    loaded = subprocess.run(
        [sys.executable, "-c", asked], cwd=project, env=installed, capture_output=True, text=True, timeout=120
    )
    assert loaded.returncode == 0 and loaded.stdout.startswith(installed["PYTHONPATH"]), loaded.stderr
    listed = subprocess.run(
        [sys.executable, "-m", "dagster", "job", "list", "-w", "workspace.yaml"], cwd=project, capture_output=True, text=True, timeout=120,
        env=installed | {"DAGSTER_HOME": str(project / ".dagster"), "LEDGER_PIPELINE_ROOT": str(project)},
    )  # fmt: skip
    assert listed.returncode == 0 and "research" in listed.stdout, listed.stderr
    assert "sweep_hash" in ledger(installed, project, "sweep", "run", "trend", "--snapshot", "simulated")


def test_nothing_is_written_over(tmp_path) -> None:
    (tmp_path / "mine" / "strategies").mkdir(parents=True)
    (tmp_path / "mine" / "strategies" / "trend.py").write_text("mine")
    done = command(Project(tmp_path), "new", str(tmp_path / "mine"))
    assert done.returncode == 3 and "is there already" in done.stderr
    assert [p.name for p in (tmp_path / "mine").rglob("*") if p.is_file()] == ["trend.py"]
    assert command(Project(tmp_path), "new", str(tmp_path / "No Name")).returncode == 2


def test_what_dagster_needs_is_as_in_this_repository() -> None:
    for name in ("dagster.yaml", "workspace.yaml"):
        assert (TEMPLATES / name).read_bytes() == (CHECKOUT / name).read_bytes()


def test_prices_of_the_exchange_become_a_snapshot(fresh, tmp_path, monkeypatch) -> None:
    demo = CHECKOUT / "snapshots" / "demo"
    with exchange(tmp_path / "exchange", snapshot=str(demo), at="2012-01-03T21:30:00Z") as served:
        for name, value in served.environ.items():
            monkeypatch.setenv(name, value)
        arguments = [
            "data",
            "fetch",
            "--source",
            "exchange",
            "--exchange-url",
            served.url,
            "--id",
            "fetched",
            "--start",
            "2011-06-01",
            "--end",
            "2011-12-30",
        ]
        done = command(fresh, *arguments, "--symbols", "AAPL,IBM")
        assert done.returncode == 0, done.stderr
        sealed = open_snapshot("fetched", root=fresh.snapshots)
        theirs = open_snapshot("demo", root=CHECKOUT / "snapshots").bars
        theirs = theirs[theirs["symbol"].isin(["AAPL", "IBM"]) & theirs["ts"].between("2011-06-01", "2011-12-30")]
        assert sealed.bars["close"].tolist() == theirs["close"].tolist() and len(sealed.bars) == 2 * 149
        assert (fresh.root / "sources" / "fetched" / "bars.csv").exists()
        assert command(fresh, *arguments, "--symbols", "AAPL,IBM").returncode == 0
        other = command(fresh, *arguments, "--symbols", "IBM")
        assert other.returncode == 3 and "is there with other prices" in other.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (
            ["fetch", "--id", "x", "--symbols", "VTI", "--start", "yesterday", "--end", "2025-12-31"],
            2,
            "--start is 'yesterday'",
        ),
        (["simulate", "--id", "X Y"], 2, "id"),
    ],
)
def test_what_cannot_be_asked_for(fresh, arguments, code, said) -> None:
    done = command(fresh, "data", *arguments)
    assert done.returncode == code and said in done.stderr, done.stderr
    assert not (fresh.root / "sources" / "simulated").exists()
