"""What the documents of the repository name is there."""

from __future__ import annotations

import json
import re
import runpy
import shlex
import shutil
from pathlib import Path

import click
import nbclient
import nbformat
import pytest
import yaml

from ledger_pipeline.cli.main import main
from ledger_pipeline.project import Project
from ledger_pipeline_tests.cli.console import call

ROOT = Path(__file__).parent.parent
ROOMS = (
    "",
    "ledger_pipeline/",
    "ledger_pipeline_tests/",
    "ledger_pipeline/exchange/",
    "ledger_pipeline/trading/planning/",
)
PAGES = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md"))
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PATH = re.compile(r"`([\w./-]+/[\w.-]+\.(?:py|md|yaml|yml|toml)|[\w-]+\.(?:py|md|toml|yaml))`")


@pytest.mark.parametrize(
    "name",
    [
        "CONTRIBUTING.md",
        "ARCHITECTURE.md",
        "SECURITY.md",
        "CHANGELOG.md",
        "README.md",
        "ledger_pipeline/exchange/README.md",
        *PAGES,
    ],
)
def test_every_file_that_a_document_names_is_there(name) -> None:
    named = set(PATH.findall((ROOT / name).read_text()))
    alone = {
        path.name for folder in ("ledger_pipeline", "ledger_pipeline_tests") for path in (ROOT / folder).rglob("*")
    }
    missing = [path for path in named - alone if not any((ROOT / room / path).exists() for room in ROOMS)]
    written_by_the_reader = {"strategies/deployments/core.yaml"}
    assert sorted(set(missing) - written_by_the_reader) == []


def test_the_recipes_name_functions_and_tables_that_are_there() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    for path, name in (
        ("analytics/metrics.py", "FORMULAS"),
        ("strategy/terms.py", "COST_STEPS"),
        ("strategy/terms.py", "RISK_STEPS"),
        ("features/own.py", "indicators"),
        ("trading/planning/guardrails.py", "CHECKS"),
        ("core/events.py", "CLASSES"),
        ("trading/connect.py", "ADAPTERS"),
    ):
        assert name in text and path in text
        assert re.search(rf"^(def )?{name}\b", (ROOT / "ledger_pipeline" / path).read_text(), re.MULTILINE)


def test_every_room_says_what_its_modules_are() -> None:
    for room in (ROOT / "ledger_pipeline").iterdir():
        if (room / "__init__.py").exists():
            assert (room / "__init__.py").read_text().startswith('"""'), room.name


def blocks(name: str, language: str) -> list[str]:
    """The code of a document that is in this language; "" is for commands."""
    return [code for kind, code in BLOCK.findall((ROOT / name).read_text()) if kind == language]


def commands(name: str) -> list[list[str]]:
    """The commands of a document as words, without comments; `a | b` is two commands."""
    found = []
    for line in "".join(blocks(name, "")).splitlines():
        if line.startswith("ledger-pipeline "):
            rest = shlex.split(line, comments=True)[1:]
            first = rest.index("|") if "|" in rest else len(rest)
            found.append(rest[:first])
            found += [[*rest[: first - 1], other] for other in rest[first + 1 :: 2]]
    return found


@pytest.mark.parametrize("name", ["README.md", *PAGES])
def test_every_command_that_a_document_shows_is_there_with_its_options(name: str) -> None:
    for words in commands(name):
        group, left = main, list(words)
        while isinstance(group, click.Group) and left and not left[0].startswith("-"):
            context = click.Context(group, info_name=left[0])
            command = group.get_command(context, left.pop(0))
            assert command is not None, words
            group = command
        group.make_context(group.name, [word for word in left if word != "..."], resilient_parsing=True)


@pytest.mark.parametrize("name", ["README.md", *PAGES])
def test_code_that_a_document_shows_is_code(name: str) -> None:
    for code in blocks(name, "python"):
        compile(code, name, "exec")
    for code in blocks(name, "json"):
        json.loads(code)
    for code in blocks(name, "yaml"):
        assert yaml.safe_load(code)


@pytest.mark.parametrize("name", ["README.md", "docs/tutorials/research.md"])
def test_the_first_strategy_of_a_document_runs_as_it_is_shown(name: str, small: Project) -> None:
    shown = [*blocks(name, "python")[:1], *blocks(name, "yaml")[:1]]
    for code in shown:
        path = small.root / code.splitlines()[0].removeprefix("# ")
        path.write_text(code.replace("benchmark: IBM", "").replace("window: 20", "window: 2"))
    for words in commands(name)[:2]:
        done = call(*[{"demo": "small"}.get(word, word) for word in words])
        assert done.exit_code == 0, done.output


def test_the_python_of_the_research_tutorial_runs_as_it_is_shown(small: Project) -> None:
    (code,) = [code for code in blocks("docs/tutorials/research.md", "python") if "lp.open_snapshot" in code]
    code = code.replace('"demo"', '"small"').replace('"window": 20', '"window": 2')
    script = small.root / "tutorial.py"
    features = "{'sma': {'indicator': 'sma', 'window': 2}}"
    other = f"other = lp.experiment(above_average, params={{'quantity': 5}}, features={features}, costs=[])\n"
    script.write_text(code.replace("run.save(", f"{other}run.save(").replace("2005-06-01", "2027-01-01"))
    names = runpy.run_path(str(script))
    assert (small.root / "report.html").exists() and names["run"].metrics is not None


def test_the_python_of_the_sweeps_tutorial_runs_as_it_is_shown(small: Project) -> None:
    (code,) = blocks("docs/tutorials/sweeps.md", "python")
    for shown, here in (
        ('"demo"', '"small"'), ('"sma_crossover"', '"fast"'), ('"fast": range(10, 31, 10)', '"window": range(3, 6)'),
        ('"slow": [100, 200]', '"quantity": [5, 10]'), ("fast < slow", "window < quantity"),
        ('"fast", "slow"', '"window", "quantity"'),
    ):  # fmt: skip
        assert shown in code
        code = code.replace(shown, here)
    script = small.root / "tutorial.py"
    script.write_text(code)
    names = runpy.run_path(str(script), run_name="__main__")
    assert len(names["sweep"].candidates) == 5 and names["run"].run_id == names["sweep"].candidates["id"][0]


@pytest.mark.parametrize("path", sorted((ROOT / "docs/notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_runs_from_the_first_cell_to_the_last(path: Path, tmp_path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    shutil.copytree(ROOT / "snapshots" / "demo", tmp_path / "snapshots" / "demo")
    nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": tmp_path}}).execute()
    assert any(cell.get("outputs") for cell in notebook.cells)
