"""The matrix is complete, and the tests that it names are there."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

from ledger_pipeline_tests.faults.matrix import ROWS, Row

TESTS = Path(__file__).parents[1]


@cache
def functions(file: str) -> frozenset[str]:
    """The names of the functions of a file of this package; the file is read, not imported."""
    tree = ast.parse((TESTS / file).read_text())
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef))


def test_every_fault_has_its_row() -> None:
    assert [row.number for row in ROWS] == list(range(1, 57))
    assert len({row.fault for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"row{row.number}")
def test_a_row_is_shown_by_tests_or_says_why_it_cannot_be(row: Row) -> None:
    assert row.tests or row.why, f"row {row.number} has neither"
    assert len(set(row.tests)) == len(row.tests)
    for name in row.tests:
        file, _, function = name.partition("::")
        assert function.startswith("test_") and function in functions(file), name
    for sentence in (row.fault, row.why):
        assert not sentence or (sentence[0].isupper() and sentence.endswith(".")), sentence


def test_every_test_of_this_folder_but_its_tools_belongs_to_a_row() -> None:
    """A fault that is shown and is in no row would be forgotten."""
    named = {name.rpartition("/")[2] for row in ROWS for name in row.tests}
    tools = {"test_matrix.py", "test_checker.py", "test_campaign.py"}
    files = [path.name for path in Path(__file__).parent.glob("test_*.py") if path.name not in tools]
    assert [file for file in files if not any(name.startswith(f"{file}::") for name in named)] == []
