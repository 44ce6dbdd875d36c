"""The kill switch: every source, every scope, everything unreadable; and what it takes to lift it."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest

from ledger_pipeline.core.errors import BlockedError, InputError
from ledger_pipeline.core.events import Event
from ledger_pipeline.trading.orders import halts
from ledger_pipeline_tests.events import event_of
from ledger_pipeline_tests.trading.days import Day, buy
from ledger_pipeline_tests.trading.fake import START, FakeBroker


@pytest.fixture
def day(tmp_path: Path) -> Day:
    return Day(FakeBroker(), tmp_path).begin()


def codes(day: Day, strategy: str | None = "core", symbol: str | None = "VTI") -> list[str]:
    found = halts.check(day.book().state, root=day.root, environment=day.environment, strategy=strategy, symbol=symbol)
    return [reason.partition(":")[0] for reason in found]


FILES = {
    "HALT": True,
    "HALT.account": True,
    "HALT.global": True,
    "HALT.strategy.core": True,
    "HALT.symbol.VTI": True,
    "HALT.strategy.other": False,
    "HALT.symbol.VXUS": False,
    "HALT.symbol.BRK.B": False,
    "HALT.symbol.vxus": True,  # no symbol: nobody knows what was meant
    "HALT.strategy": True,
    "HALT.xyz": True,
    "HALT.": True,
    "HALT~": True,  # an editor's copy of it
    "HALT (1)": True,
    "Halt": True,
    "halt": True,
    "HALTING": False,
    "HALT-procedure.md": False,
    "README": False,
}


@pytest.mark.parametrize("name", FILES)
def test_files_that_halt(day: Day, name: str) -> None:
    (day.root / name).touch()
    assert codes(day) == (["HALT_FILE"] if FILES[name] else [])


def test_anything_of_that_name_halts(day: Day) -> None:
    (day.root / "HALT").mkdir()
    assert codes(day) == ["HALT_FILE"]
    (day.root / "HALT").rmdir()
    os.symlink("/nowhere/at/all", day.root / "HALT")
    assert codes(day) == ["HALT_FILE"]


def test_an_unreadable_root_halts(day: Day, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no directory")
    for root in (tmp_path / "missing", tmp_path / "file"):
        day.root = root
        assert codes(day) == ["HALT_FILE"]
        assert codes(day, None, None) == ["HALT_FILE"]


VARIABLES = {
    "global": True, "account": True, "strategy:core": True, "symbol:VTI": True, "strategy:other,symbol:VTI": True,
    "strategy:other": False, "symbol:VXUS": False, " symbol:VXUS , strategy:other ": False,
    "": True, "0": True, "false": True, "symbol:": True, "symbol:VXUS,": True, "strategy:Other": True,
}  # fmt: skip


@pytest.mark.parametrize("text", VARIABLES)
def test_the_environment_halts(day: Day, text: str) -> None:
    day.environment[halts.VARIABLE] = text
    assert bool(codes(day)) == VARIABLES[text]


def test_the_process_environment_and_the_project_are_the_defaults(day: Day, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEDGER_PIPELINE_ROOT", str(day.root))
    monkeypatch.delenv(halts.VARIABLE, raising=False)
    state = day.book().state
    assert halts.check(state) == ()
    monkeypatch.setenv(halts.VARIABLE, "global")
    assert len(halts.check(state)) == 1
    (day.root / "HALT").touch()
    assert len(halts.check(state)) == 2


@pytest.mark.parametrize(
    "scope, core, other",
    [("global", 1, 1), ("account", 1, 1), ("strategy:core", 1, 0), ("symbol:VTI", 1, 0), ("symbol:BND", 0, 0)],
)
def test_the_book_halts_its_scope_only(day: Day, scope: str, core: int, other: int) -> None:
    assert halts.halt(day.book(), scope, "ada", "a test")[0].payload.by == "ada"
    assert halts.halt(day.book(), scope, "bob", "again") == ()  # it is halted already
    assert len(codes(day)) == core
    assert len(codes(day, "other", "VXUS")) == other
    assert len(codes(day, None, None)) == (1 if scope in ("global", "account") else 0)


def test_a_scope_that_nobody_understands_halts_everything(day: Day) -> None:
    day.book().append(
        [event_of(kind="HALTED", occurred_at=START, payload={"scope": "context:7", "by": "x", "reason": "y"})]
    )
    assert codes(day) == codes(day, "other", "VXUS") == codes(day, None, None) == ["HALTED"]


@pytest.mark.parametrize("scope", ["", "all", "symbol", "symbol:vti", "strategy:", "strategy:../x", "ACCOUNT", None])
def test_unknown_scopes_are_refused(day: Day, scope: str) -> None:
    with pytest.raises(InputError, match="scope"):
        halts.halt(day.book(), scope, "ada", "why")


@pytest.mark.parametrize("by, reason", [("", "why"), ("ada", ""), (" ", "why"), ("ada", "\n"), (None, "why")])
def test_a_name_and_a_reason_are_needed(day: Day, by: str, reason: str) -> None:
    before = len(day.events())
    with pytest.raises(InputError, match="who does it"):
        halts.halt(day.book(), "account", by, reason)
    with pytest.raises(InputError, match="who does it"):
        halts.resume(day.book(), "account", by, reason)
    assert len(day.events()) == before


def resume(day: Day, scope: str = "account") -> tuple[Event, ...]:
    return halts.resume(day.book(), scope, "ada", "settled", at=day.broker.now)


def test_resuming_needs_a_clean_reconciliation_after_the_halt(day: Day) -> None:
    halts.halt(day.book(), "account", "ada", "a test", at=day.broker.now)
    with pytest.raises(BlockedError, match="older than the halt"):
        resume(day)
    assert day.reconcile().clean
    day.broker.advance(16 * 60)
    with pytest.raises(BlockedError, match="16 minutes old"):
        resume(day)
    assert day.reconcile().clean
    assert [event.kind for event in resume(day)] == ["RESUMED"]
    assert codes(day) == [] and resume(day) == ()


def test_resuming_is_refused_while_a_break_is_open(day: Day) -> None:
    halts.halt(day.book(), "symbol:VTI", "ada", "a test", at=day.broker.now)
    day.broker.holdings["VTI"] = day.broker.prices["VTI"]  # shares out of nowhere
    assert not day.reconcile().clean
    with pytest.raises(BlockedError, match="position"):
        resume(day, "symbol:VTI")
    del day.broker.holdings["VTI"]
    assert day.reconcile().clean
    assert resume(day, "symbol:VTI")


def test_resuming_the_book_leaves_the_file(day: Day) -> None:
    (day.root / "HALT").touch()
    halts.halt(day.book(), "account", "ada", "a test", at=day.broker.now)
    day.reconcile()
    resume(day)
    assert codes(day) == ["HALT_FILE"]
    assert day.execute([buy("VTI", "100")]).status == "BLOCKED"
    assert not day.broker.posts


def gate_codes(day: Day, **scope: str) -> list[str]:
    covered = (lambda name: halts.covers(name, **scope)) if scope else (lambda name: True)
    found = halts.reconciliation_reasons(day.book().state, day.broker.now, timedelta(minutes=15), covered)
    return [reason.partition(":")[0] for reason in found]


def test_trading_needs_a_reconciliation(tmp_path: Path) -> None:
    day = Day(FakeBroker(), tmp_path)
    assert gate_codes(day) == ["NOT_RECONCILED"]
    day.begin()
    assert gate_codes(day) == []
    day.broker.advance(15 * 60 + 1)
    assert gate_codes(day) == ["NOT_RECONCILED"]


def test_a_break_of_one_symbol_stops_that_symbol(day: Day) -> None:
    day.broker.holdings["VTI"] = day.broker.prices["VTI"]
    result = day.reconcile()
    scopes = {item.scope for item in result.breaks}
    assert set(gate_codes(day)) == {"BREAK", "NOT_RECONCILED"}
    for symbol in ("VTI", "VXUS"):
        blocked = any(halts.covers(scope, "core", symbol) for scope in scopes)
        assert bool(gate_codes(day, strategy="core", symbol=symbol)) == blocked
    assert gate_codes(day, strategy="core", symbol="VTI")
