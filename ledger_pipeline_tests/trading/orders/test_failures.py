"""A failure, a crash or a second process at every single operation: nothing is lost and nothing doubled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from ledger_pipeline.core.errors import BrokerError, StorageError
from ledger_pipeline.trading import crash
from ledger_pipeline.trading.crash import CRASH_POINTS
from ledger_pipeline.trading.orders.executor import DONE
from ledger_pipeline_tests.trading.days import (
    Day,
    Failing,
    buy,
    checked,
    made,
    sell,
)
from ledger_pipeline_tests.trading.fake import Crash, Step

D = Decimal


def scenario(tmp_path: Path, name: str) -> tuple[Day, list]:
    plans = {"VTI": (Step(after=0.5, share=D("0.4"), late=1.0), Step(after=2.0)), "BND": (Step(after=1.0),)}
    day = made(tmp_path / name, holdings={"BND": D(10)}, plans=plans)
    return day, [buy("VTI", "600"), sell("BND", "3", strategy="UNATTRIBUTED"), buy("VXUS", quantity="2")]


FAILURES: dict[str, Callable[[str], BaseException]] = {
    "crash": Crash,
    "error": lambda operation: StorageError("disk full") if operation == "create" else BrokerError("no answer"),
}


@pytest.mark.parametrize("when", [pytest.param("before", marks=pytest.mark.campaign), "after"])
@pytest.mark.parametrize("failure", FAILURES)
def test_a_failure_at_the_nth_operation_loses_and_doubles_nothing(tmp_path: Path, failure: str, when: str) -> None:
    """For n = 1, 2, 3, ... until a run has fewer operations: fail there, then run again with the same arguments."""
    operations = []
    for nth in range(1, 400):
        (tmp_path / str(nth)).mkdir()
        day, legs = scenario(tmp_path, str(nth))
        failing = Failing(nth, FAILURES[failure], when)
        day.broker.gate = day.store.gate = failing
        try:
            day.execute(legs)
        except (Crash, StorageError, BrokerError):
            pass
        day.broker.gate = day.store.gate = None
        done = day.execute(legs)
        where = f"{failure} {when} operation {nth} ({failing.struck})"
        assert done.status == DONE, where
        assert checked(day) == [], where
        assert {order.status for order in done.orders} == {"FILLED"}, where
        assert len(day.broker.orders_by_id) == 3, where
        assert day.reconcile().clean, where
        if not failing.struck:
            break
        operations.append(failing.struck)
    assert not failing.struck, "the run never finished untouched"
    assert set(operations) >= {"create", "submit", "activities", "order_by_client_id", "account", "clock", "asset"}
    assert operations.count("submit") == 3


def test_a_second_executor_at_every_operation_only_looks_on(tmp_path: Path) -> None:
    """For n = 1, 2, 3, ...: at the n-th operation of one process another does the whole decision."""
    for nth in range(1, 400):
        (tmp_path / str(nth)).mkdir()
        day, legs = scenario(tmp_path, str(nth))
        left = [nth]

        def interrupt(operation: str, when: str, day: Day = day, left: list[int] = left, legs: list = legs) -> None:
            if when == "before":
                left[0] -= 1
                if left[0] == 0:
                    left.append(day.execute(legs).status)  # type: ignore[arg-type]

        day.broker.gate = day.store.gate = interrupt
        done = day.execute(legs)
        assert done.status == DONE and left[1:] in ([DONE], []), f"operation {nth}"
        assert len(day.broker.orders_by_id) == 3 and checked(day) == [], f"operation {nth}"
        if len(left) == 1:
            return
    raise AssertionError("the run never finished untouched")


def test_a_crash_at_every_other_operation_still_ends(tmp_path: Path) -> None:
    """Restart after restart, each a little further: every process dies at its fifth operation after its first commit."""
    day, legs = scenario(tmp_path / "", "")
    for _ in range(200):
        failing = Failing(25, Crash, "after")
        day.broker.gate = day.store.gate = failing
        try:
            done = day.execute(legs)
            break
        except Crash:
            continue
    day.broker.gate = day.store.gate = None
    assert done.status == DONE and checked(day) == [] and len(day.broker.orders_by_id) == 3


@pytest.mark.parametrize("nth", [1, 2])
@pytest.mark.parametrize("point", CRASH_POINTS)
def test_a_process_that_ends_at_a_crash_point_is_continued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str, nth: int
) -> None:
    day, legs = scenario(tmp_path / "", "")

    def end(code: int) -> None:
        assert code == crash.EXIT_CODE
        raise Crash(point)

    monkeypatch.setattr(crash.os, "_exit", end)
    monkeypatch.setattr(crash, "_passed", Counter())
    monkeypatch.setenv(crash.VARIABLE, f"{point}:{nth}")
    try:
        done = day.execute(legs)
        day.reconcile()
        crashed = False
    except Crash:
        crashed = True
    monkeypatch.delenv(crash.VARIABLE)
    assert crashed or nth == 2  # some places are passed once only
    done = day.execute(legs)
    assert done.status == DONE and checked(day) == [] and len(day.broker.orders_by_id) == 3


def test_the_crash_points_do_nothing_unless_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(crash.VARIABLE, raising=False)
    crash.crash_point("before_intent")
    monkeypatch.setenv(crash.VARIABLE, "elsewhere")
    crash.crash_point("before_intent")
