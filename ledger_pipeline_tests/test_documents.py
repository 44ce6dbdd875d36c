"""What the documents of the repository name is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = (
    "",
    "ledger_pipeline/",
    "ledger_pipeline_tests/",
    "ledger_pipeline/exchange/",
    "ledger_pipeline/trading/planning/",
)
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
