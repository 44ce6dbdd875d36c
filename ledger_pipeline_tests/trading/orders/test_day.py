"""Whole trading days with random markets and random faults, each from one seed, judged by an independent checker.

A day: reconcile, execute, processes that die and start again, two executors that get into each other's way, cancels,
replacements and the kill switch at random moments, then the faults stop, the session closes, and the book must come to
rest: every intent ended, every fill of the broker in the book once, positions and cash the same, nothing at the broker
without an earlier durable intent.

A failure names its seed; `SEED=<n> pytest -k one_seed` plays that day again, operation by operation.
"""

from __future__ import annotations

import os
import shutil
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from random import Random

import pytest

from ledger_pipeline.core.errors import BlockedError, BrokerError, LedgerPipelineError, StorageError
from ledger_pipeline.trading.orders import halts
from ledger_pipeline.trading.orders.cancel import cancel, replace
from ledger_pipeline.trading.orders.legs import Leg
from ledger_pipeline_tests.trading.contexts import in_context
from ledger_pipeline_tests.trading.days import Day, buy, checked, close, intents_seen, sell
from ledger_pipeline_tests.trading.fake import START, Crash, FakeBroker, random_faults, random_plan
from ledger_pipeline_tests.trading.loopback import connected

D = Decimal
BATCH = 25
NORMAL = 2  # batches in the usual run
CAMPAIGN = 200
OUR_FAULTS = (Crash, BrokerError, StorageError)


def legs_of(rng: Random) -> list[Leg]:
    legs = [buy(symbol, str(D(rng.randint(100, 300_000)) / 100)) for symbol in ("VTI", "VXUS") if rng.random() < 0.8]
    if rng.random() < 0.5:
        legs.append(sell("BND", str(D(rng.randint(1, 9 * 10**9)) / 10**9), strategy="UNATTRIBUTED"))
    if rng.random() < 0.4:
        legs.append(buy("AAPL", quantity=str(rng.randint(1, 5))))
    if rng.random() < 0.2:
        legs.append(buy("VTI", "55.55", strategy="other"))
    return legs or [buy("VTI", "100")]


class Machine:
    """A disk and a process that may fail: at random operations until `calm` is set."""

    def __init__(self, rng: Random) -> None:
        self.rng, self.calm, self.rate = rng, False, rng.choice((0.0, 0.0, 0.02, 0.06))

    def __call__(self, operation: str, when: str) -> None:
        if not self.calm and self.rng.random() < self.rate:
            if operation == "create" and self.rng.random() < 0.5:
                raise StorageError(f"{operation} failed {when} its effect")
            raise Crash(f"{operation}, {when}")


def play(seed: int, root: Path) -> tuple[Day, list[str]]:
    """One day; what was broken in it."""
    rng = Random(seed)
    root.mkdir()
    broker = FakeBroker(
        seed=seed,
        cash=D(rng.choice((500, 10_000, 10_000))),
        holdings={"BND": D(10)},
        plan=random_plan,
        stream=rng.random() < 0.7,
        refusals_first=rng.random() < 0.3,
        start=START + timedelta(minutes=rng.choice((0, 5, 200, 385))),
    )
    day = Day(broker, root).begin()
    broker.witness = intents_seen(day)
    broker.calls.clear()
    broker.faults = random_faults(rng)
    machine = Machine(rng)
    broker.gate = day.store.gate = machine
    for _ in range(rng.choice((1, 1, 2))):
        machine.calm = False
        legs = legs_of(rng)
        for _ in range(rng.randint(1, 5)):
            _disturb(day, rng)
            try:
                day.execute(legs, timeout=rng.choice((5, 30, 120)))
            except OUR_FAULTS:
                continue
            if rng.random() < 0.3:
                _change_mind(day, rng)
        _settle(day, machine, legs)
        broker.advance_to(broker._next_session().open + timedelta(minutes=rng.choice((0, 30, 386))))
    return day, checked(day)


def _disturb(day: Day, rng: Random) -> None:
    """What else happens before a process starts."""
    chance = rng.random()
    if chance < 0.08:
        (day.root / "HALT").touch()
    elif chance < 0.6:
        (day.root / "HALT").unlink(missing_ok=True)
    if rng.random() < 0.3:
        day.broker.advance(rng.choice((1, 30, 600)))
    if rng.random() < 0.15:
        day.broker.deposit(D(100))
    if rng.random() < 0.4:
        try:
            day.reconcile()
        except OUR_FAULTS:
            pass


def _change_mind(day: Day, rng: Random) -> None:
    """Cancel or replace an open order, halted or not."""
    try:
        book = day.book()
        open_orders = book.state.open_orders()
        if not open_orders:
            return
        order = rng.choice(open_orders)
        clocks = {"now": day.broker.local_now, "monotonic": day.broker.monotonic, "timeout": 20}
        with connected(day.broker) as broker:
            if rng.random() < 0.5:
                cancel(book, broker, order.order_id, **in_context(**clocks))
            else:
                replace(
                    book, broker, order.order_id, **in_context(root=day.root, environment=day.environment, **clocks)
                )
    except (*OUR_FAULTS, LedgerPipelineError):
        pass


def _settle(day: Day, machine: Machine, legs: list[Leg]) -> None:
    """The faults stop, the session closes, the late activities come."""
    machine.calm = True
    day.broker.faults = ()
    (day.root / "HALT").unlink(missing_ok=True)
    session = day.broker.session()
    if session is None:
        session = next(s for s in reversed(day.broker._sessions) if s.close <= day.broker.now)
    close(day, legs, session=session.session, timeout=60)
    result = day.reconcile()
    assert result.clean, [item.to_json() for item in result.breaks]
    assert all(order.is_settled for order in day.book().state.orders.values())


@pytest.mark.parametrize("batch", range(NORMAL))
def test_days_with_random_faults(batch: int, tmp_path: Path) -> None:
    _play_batch(batch, tmp_path)


@pytest.mark.campaign
@pytest.mark.parametrize("batch", range(NORMAL, CAMPAIGN))
def test_many_days_with_random_faults(batch: int, tmp_path: Path) -> None:
    _play_batch(batch, tmp_path)


def test_one_seed(tmp_path: Path) -> None:
    """The day of the environment variable SEED (0 without it), twice: the same seed is the same day to the byte."""
    seed = int(os.environ.get("SEED", "0"))
    first, wrong = play(seed, tmp_path / "day")
    events = list(first.events())
    shutil.rmtree(tmp_path / "day")  # a halt by file names the directory, so it is the same one again
    second, _ = play(seed, tmp_path / "day")
    assert wrong == [], f"seed {seed}"
    assert events == list(second.events())


def _play_batch(batch: int, tmp_path: Path) -> None:
    for seed in range(batch * BATCH, (batch + 1) * BATCH):
        try:
            day, wrong = play(seed, tmp_path / str(seed))
        except Exception as error:
            raise AssertionError(f"SEED={seed}: {type(error).__name__}: {error}") from error
        assert wrong == [], f"SEED={seed}: {wrong}"


def test_the_days_reach_what_they_are_about(tmp_path: Path) -> None:
    """The random days are worth something only if faults strike, orders fill in parts and processes die."""
    kinds: dict[str, int] = {}
    struck = posts = 0
    for seed in range(40):
        day, _ = play(seed, tmp_path / str(seed))
        struck += len(day.broker.struck)
        posts += len(day.broker.posts)
        for event in day.events():
            kinds[event.kind] = kinds.get(event.kind, 0) + 1
    assert struck > 40 and posts > 60, (struck, posts)
    for kind in (
        "SUBMIT_UNKNOWN", "ORDER_REJECTED", "ORDER_CANCELED", "ORDER_EXPIRED", "BLOCKED", "DEPOSITED", "FILLED",
    ):  # fmt: skip
        assert kinds.get(kind, 0) > 2, kinds


def test_a_halt_on_any_day_stops_every_submit_after_it(tmp_path: Path) -> None:
    for seed in range(40):
        rng = Random(seed)
        (tmp_path / str(seed)).mkdir()
        broker = FakeBroker(seed=seed, holdings={"BND": D(10)}, plan=random_plan)
        day = Day(broker, tmp_path / str(seed)).begin()
        left, at = [rng.randint(1, 60)], []

        def set_the_switch(operation: str, when: str, day: Day = day, left: list = left, at: list = at) -> None:
            left[0] -= 1
            if left[0] == 0 and operation != "submit":
                at.append(day.broker.now)
                (day.root / "HALT.account").touch()

        broker.gate = set_the_switch
        done = day.execute(legs_of(rng), timeout=30)
        if at:
            assert not [post for post in broker.posts if post.at > at[0] + timedelta(seconds=0.02)], f"SEED={seed}"
            said = {order_id for event in day.events("BLOCKED") for order_id in (event.order_id,)}
            silent = [order for order in done.orders if not order.submits and order.order_id not in said]
            assert not silent or not done.orders, f"SEED={seed}: {silent}"
        with pytest.raises(BlockedError) if not day.reconcile().clean else _nothing():
            halts.halt(day.book(), "account", "ada", "a test", at=broker.now)
            day.reconcile()
            halts.resume(day.book(), "account", "ada", "a test", at=broker.now)


class _nothing:
    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...
