"""A quarter left alone: nothing is lost, doubled or left undone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ledger_pipeline.trading.session_context import read_book
from ledger_pipeline_tests.e2e import quarter

NAMES = {"daily", "monthly", "sma", "equal"}


@pytest.mark.parametrize("sessions", [1, pytest.param(quarter.SESSIONS, marks=pytest.mark.campaign)])
def test_four_deployments_trade_a_quarter_by_themselves(tmp_path: Path, monkeypatch, sessions: int) -> None:

    class Environment(dict):
        def update(self, values) -> None:
            for name, value in values.items():
                monkeypatch.setenv(name, value)

    found, breaches, project = quarter.play(tmp_path / "project", tmp_path / "exchange", Environment(), sessions)
    print(found.report())
    assert breaches == [] and found.clean and found.sessions == sessions
    assert set(found.decided) == NAMES
    for name, decided in found.decided.items():
        assert len(decided) == len(set(decided)), f"{name} decided twice in a period"
    for name in NAMES - {"monthly"}:
        assert len(found.decided[name]) == sessions, f"{name} missed a session"
    months = {day[:7] for day in found.bought["monthly"]}
    assert len(months) == len(found.bought["monthly"]) == (4 if sessions == quarter.SESSIONS else 1)
    told = [text for text in found.alerts if text.startswith(("MISSED_SESSION", "BREAK"))]
    assert set(told) <= {"BREAK_OPENED FUND: split:FUND"}, told  # which rests until the broker shows it too
    assert not set(found.orders) - {"FILLED"}, found.orders
    book = read_book(project, quarter.BOOK)
    assert not book.state.breaks and not book.state.halts
    assert os.environ["LEDGER_PIPELINE_ROOT"] == str(project.root)
