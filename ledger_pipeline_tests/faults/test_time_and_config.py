"""Rows 40, 48, 49, 52, 53 and 56: the wrong account, the wrong time, the kill switch, and a broker that is away.

Row 50, whatever makes a Dagster run again, is in defs/test_live.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ledger_pipeline.book.book import open_book
from ledger_pipeline.core.errors import (
    BlockedError,
    BrokerError,
    InputError,
    IntegrityError,
    LedgerPipelineError,
    RefusedError,
)
from ledger_pipeline.trading.alpaca.broker import AlpacaBroker
from ledger_pipeline.trading.connect import connect
from ledger_pipeline.trading.endpoint import Endpoint, Keys
from ledger_pipeline.trading.orders import executor, halts, submit
from ledger_pipeline.trading.orders.cancel import cancel
from ledger_pipeline.trading.orders.execution_context import ExecutionContext
from ledger_pipeline.trading.orders.executor import Execution, execute
from ledger_pipeline.trading.orders.legs import client_order_id
from ledger_pipeline.trading.reconciliation.adopt import adopt
from ledger_pipeline.trading.reconciliation.ingest import collect
from ledger_pipeline.trading.reconciliation.reconcile import reconcile
from ledger_pipeline.trading.session_context import open_session
from ledger_pipeline_tests.events import event_of
from ledger_pipeline_tests.exchange.server import Served, exchange
from ledger_pipeline_tests.faults.bench import (
    NAME,
    PACE,
    POLICY,
    TODAY,
    Bench,
    broker_of,
    buy,
    order_id,
    sat_down,
    settled,
)
from ledger_pipeline_tests.trading import wire
from ledger_pipeline_tests.trading.contexts import in_context

VTI, VXUS = buy("VTI", "676.00"), buy("VXUS", "324.00")
LEGS = [VTI, VXUS]


@pytest.fixture(autouse=True)
def guarded(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No connection leaves this machine (I12)."""
    refused = wire.loopback_only(monkeypatch)
    yield
    assert not refused


@pytest.fixture
def bench(served: Served, tmp_path: Path) -> Iterator[Bench]:
    """A bench with ten thousand dollars."""
    with sat_down(served, tmp_path) as one:
        yield one


def in_environment(served: Served, environment: str) -> AlpacaBroker:
    """The adapter on the local exchange, in the belief that it is another environment."""
    return AlpacaBroker(Endpoint(environment, served.url, served.url, served.stream), Keys(served.key, served.secret))


def moved(served: Served, to: str) -> None:
    """The exchange's clock at a time of its own."""
    served.admin.to(to)


# Row 40: the wrong account.


def test_the_book_of_another_account_sends_and_records_nothing(bench, tmp_path):
    before = bench.book().head
    with exchange(tmp_path / "other", symbols="VTI=250,VXUS=60", seed=99) as other, broker_of(other) as theirs:
        for act in (
            lambda: bench.execute(LEGS, broker=theirs),
            lambda: reconcile(bench.book(), theirs),
            lambda: cancel(bench.book(), theirs, order_id("VTI"), timeout=1),
            lambda: adopt(bench.book(), theirs, by="ada", reason="the wrong one"),
        ):
            with pytest.raises(LedgerPipelineError):
                act()
        assert other.sent() == []
    assert bench.book().head == before and bench.posts() == []
    bench.check()


@pytest.mark.parametrize("environment", ["paper", "live"])
def test_the_book_of_another_environment_sends_and_records_nothing(bench, environment):
    before = bench.book().head
    with in_environment(bench.served, environment) as swapped:
        for act in (
            lambda: bench.execute(LEGS, broker=swapped),
            lambda: reconcile(bench.book(), swapped),
            lambda: collect(bench.book(), swapped),
        ):
            with pytest.raises(IntegrityError, match="environment"):
                act()
    assert bench.book().head == before and bench.posts() == []


def test_a_paper_book_does_not_open_for_another_target(served, tmp_path):
    place = tmp_path / "books" / "paper"
    with in_environment(served, "paper") as paper:
        open_book(place, account=paper.account().id, environment="paper").append(
            [event_of(kind="NO_ACTION", occurred_at=paper.clock().now)]
        )
        with broker_of(served) as broker, pytest.raises(IntegrityError, match="paper environment"):
            execute(LEGS, open_book(place), broker, policy=POLICY, context=ExecutionContext(root=tmp_path))
        for environment, account in (("live", paper.account().id), ("paper", "another")):
            with pytest.raises(RefusedError, match="belongs to"):
                open_book(place, account=account, environment=environment)
    assert served.sent() == []


@pytest.mark.parametrize("target", ["paper", "live"])
def test_a_book_of_the_exchange_does_not_reach_for_another_broker(traded, served, monkeypatch, target):
    for name in ("ALPACA_API_KEY", "ALPACA_API_SECRET", "ALPACA_LIVE_API_KEY", "ALPACA_LIVE_API_SECRET"):
        monkeypatch.setenv(name, "canary-of-a-key")
    monkeypatch.setenv("LEDGER_PIPELINE_ENABLE_LIVE", "123456789")
    with pytest.raises(RefusedError, match="belongs to environment exchange"):
        with open_session(traded, target=target, deployment_mode="live"):
            pytest.fail("it opened")


@pytest.mark.parametrize("url", ["https://api.alpaca.markets", "http://10.0.0.1:8765", "http://127.0.0.1.evil.example"])
def test_the_exchange_is_on_this_machine_and_nowhere_else(traded, url):
    with pytest.raises(InputError), open_session(traded, exchange_url=url):
        pytest.fail("it opened")


def test_live_without_an_explicit_opt_in_is_blocked_before_anything_is_sent(monkeypatch):
    with pytest.raises(BlockedError, match="live trading is not enabled"):
        connect("live", environ={"ALPACA_LIVE_API_KEY": "canary-key", "ALPACA_LIVE_API_SECRET": "canary-secret"})


# Row 48: clocks.


@dataclass
class Paper:
    """A paper book, where this machine's clock counts; it is `offset` away from the broker's."""

    served: Served
    root: Path
    broker: AlpacaBroker
    offset: timedelta = timedelta(0)

    def execute(self) -> Execution:
        """Execute, in a new process."""
        start = self.broker.clock().now
        book = open_book(self.root / "books" / NAME)
        options = {"policy": POLICY, "root": self.root, "environment": {}, "pace": PACE, "timeout": 5}
        return execute(LEGS, book, self.broker, **in_context(now=lambda: start + self.offset, **options))

    def posts(self) -> list[str]:
        """The client_order_ids of the submits that arrived."""
        return [row["doc"]["body"]["client_order_id"] for row in self.served.sent()]


@pytest.fixture
def paper(served: Served, tmp_path: Path) -> Iterator[Paper]:
    """A paper book, adopted and reconciled."""
    with in_environment(served, "paper") as broker:
        book = open_book(tmp_path / "books" / NAME)
        adopt(book, broker, by="ada", reason="a new book")
        assert reconcile(book, broker).clean
        yield Paper(served, tmp_path, broker)


SKEWS = {
    "a day ahead": timedelta(days=1),
    "a day behind": -timedelta(days=1),
    "an hour, as if summer time were wrong": timedelta(hours=1),
    "half a minute and a bit": timedelta(seconds=32),
    "a year": timedelta(days=366),
}


@pytest.mark.parametrize("name", SKEWS)
def test_a_clock_that_is_off_sends_nothing(paper, name):
    paper.offset = SKEWS[name]
    done = paper.execute()
    assert done.status == "BLOCKED" and paper.posts() == []
    assert any("CLOCK_SKEW" in note for note in done.notes)
    # the ids are made of the broker's session: once the clock is right the decision has the same ones
    paper.offset = timedelta(seconds=3)
    assert settled(paper.execute()) == ("DONE", ["FILLED", "FILLED"])
    assert paper.posts() == [order_id("VTI"), order_id("VXUS")]


@pytest.mark.parametrize("jump", [timedelta(days=-1), timedelta(hours=1)], ids=["back", "on"])
def test_a_clock_that_jumps_between_two_orders_stops_the_second(paper, monkeypatch, jump):
    def jumping(name: str) -> None:
        if name == "after_ack":
            paper.offset = jump

    with monkeypatch.context() as patch:
        patch.setattr(submit, "crash_point", jumping)
        done = paper.execute()
    assert settled(done) == ("BLOCKED", ["FILLED", "INTENDED"])
    assert paper.posts() == [order_id("VTI")]
    paper.offset = timedelta(0)
    assert settled(paper.execute()) == ("DONE", ["FILLED", "FILLED"])
    assert paper.posts() == [order_id("VTI"), order_id("VXUS")]


DAYS = {
    # the moment of the exchange, and what may be sent then: winter and summer time, leap day, midnight in New York
    "2026-03-06T14:25:00Z": None,
    "2026-03-06T14:35:00Z": "20260306",
    "2026-03-09T13:25:00Z": None,
    "2026-03-09T13:35:00Z": "20260309",
    "2026-10-30T13:35:00Z": "20261030",
    "2026-11-02T13:35:00Z": None,
    "2026-11-02T14:35:00Z": "20261102",
    "2028-02-29T17:00:00Z": "20280229",
    "2026-01-06T04:30:00Z": None,
}


@pytest.mark.parametrize("moment", DAYS)
def test_the_trading_date_and_its_hours_are_the_brokers(bench, moment):
    moved(bench.served, moment)
    assert bench.reconcile().clean
    done = bench.execute([VTI])
    if DAYS[moment] is None:
        assert done.status == "BLOCKED" and bench.posts() == []
        assert any("MARKET_CLOSED" in note or "SESSION_OVER" in note for note in done.notes)
        if moment == "2026-01-06T04:30:00Z":
            assert done.session == TODAY  # it is still Monday in New York
    else:
        (sent,) = bench.posts()
        day = datetime.strptime(DAYS[moment], "%Y%m%d").date()
        assert done.session == day and sent == client_order_id(NAME, POLICY, day, "VTI", "BUY", 1, 0)
        assert f".{DAYS[moment]}." in sent
    bench.check()


# Row 49: deadlines.

DEADLINES = {
    "2026-01-05T20:57:50Z": "",
    "2026-01-05T20:58:10Z": "DEADLINE",
    "2026-01-05T21:00:10Z": "SESSION_OVER",
    "2026-11-27T17:57:50Z": "",  # closes at 13:00 in New York
    "2026-11-27T17:58:10Z": "DEADLINE",
    "2026-11-27T19:00:00Z": "SESSION_OVER",
    "2026-11-26T17:00:00Z": "NO_SESSION",
    "2026-01-10T17:00:00Z": "NO_SESSION",
}


@pytest.mark.parametrize("moment", DEADLINES)
def test_nothing_is_sent_past_a_deadline_or_on_a_holiday(bench, moment):
    moved(bench.served, moment)
    assert bench.reconcile().clean
    done = bench.execute(LEGS)
    if DEADLINES[moment]:
        assert done.status == "BLOCKED" and bench.posts() == []
        assert any(note.startswith(DEADLINES[moment]) for note in done.notes), done.notes
    else:
        assert done.status == "DONE" and len(bench.posts()) == 2
    bench.check()


def test_the_deadline_passes_between_two_orders(bench, monkeypatch):
    moved(bench.served, "2026-01-05T20:57:00Z")
    assert bench.reconcile().clean
    late = []

    def passing(name: str) -> None:
        if name == "after_ack" and not late:
            late.append(bench.served.admin.by(61))

    monkeypatch.setattr(submit, "crash_point", passing)
    done = bench.execute(LEGS)
    assert [order.status for order in done.orders] == ["FILLED", "EXPIRED"]
    assert bench.posts() == [order_id("VTI")]
    bench.check()


# Row 52: the kill switch, set at each step.


def by_file(bench: Bench) -> None:
    (bench.root / "HALT").touch()


def by_book(bench: Bench) -> None:
    halts.halt(bench.book(), "global", "ada", "stop")


def by_broker(bench: Bench) -> None:
    bench.served.admin.account(trade_suspended_by_user=True)


SWITCHES: dict[str, Callable[[Bench], None]] = {"file": by_file, "book": by_book, "broker": by_broker}
# How many submits reach the broker, of two, when the switch is set there: in a file or a variable, in the book, at the
# broker. The book's switch counts from its place in the log, so one that is set after ORDER_SUBMITTED stops the next;
# the broker's own refuses what is on its way.
STEPS = {
    "before_intent": (0, 0, 0),
    "after_intent": (0, 0, 0),
    "before_submit": (0, 1, 1),
    "after_submit": (1, 1, 1),
    "before_ack": (1, 1, 1),
    "after_ack": (1, 1, 1),
}


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("switch", [*SWITCHES, "environment"])
def test_the_switch_stops_every_submit_after_it_at_whatever_step_it_is_set(bench, monkeypatch, switch, step):
    environment: dict[str, str] = {}
    set_: list[str] = []

    def at(name: str) -> None:
        if name == step and not set_:
            set_.append(name)
            if switch == "environment":
                environment[halts.VARIABLE] = "global"
            else:
                SWITCHES[switch](bench)

    for module in (executor, submit):
        monkeypatch.setattr(module, "crash_point", at)
    # one that was to be sent and was held back at the last moment is looked up like any other without an answer
    held = step == "before_submit" and switch in ("file", "environment")
    done = bench.execute(LEGS, environment=environment, timeout=1)
    most = STEPS[step][{"book": 1, "broker": 2}.get(switch, 0)]
    assert set_ == [step] and len(bench.posts()) == most, done.notes
    assert done.status == ("OPEN" if held else "BLOCKED") and done.notes
    if switch == "broker" and step == "before_submit":
        assert bench.at_broker() == {}  # it refused
    # it survives a restart
    sent = bench.posts()
    assert bench.execute(LEGS, environment=environment, timeout=0.5).status == done.status
    assert bench.execute([buy("VTI", "9.00")], policy="later", environment=environment).status == "BLOCKED"
    assert bench.posts() == sent
    # and when it is lifted the rest is sent, once
    (bench.root / "HALT").unlink(missing_ok=True)
    bench.served.admin.account(trade_suspended_by_user=False)
    assert bench.reconcile().clean
    if switch == "book":
        halts.resume(
            bench.book(), "global", "ada", "go on", at=datetime.fromisoformat(bench.served.admin.state()["now"])
        )
    done = bench.execute(LEGS)
    refused = switch == "broker" and step == "before_submit"
    assert settled(done) == ("DONE", ["REJECTED" if refused else "FILLED", "FILLED"])
    assert sorted(set(bench.posts())) == sorted([order_id("VTI"), order_id("VXUS")])
    bench.check()


@pytest.mark.parametrize("switch", SWITCHES)
def test_an_open_order_may_be_canceled_while_halted(bench, switch):
    bench.served.admin.settings(matching="manual")
    assert bench.execute([VTI], timeout=0.3).status == "OPEN"
    SWITCHES[switch](bench)
    with bench.connect() as broker:
        assert cancel(bench.book(), broker, order_id("VTI"), timeout=5).status == "CANCELED"
    assert len(bench.posts()) == 1


# Row 53: a kill switch that cannot be read.


def unreadable_root(bench: Bench) -> dict[str, Any]:
    return {"root": bench.root / "gone"}


def root_is_a_file(bench: Bench) -> dict[str, Any]:
    (bench.root / "file").write_text("no directory")
    return {"root": bench.root / "file"}


def name_nobody_knows(bench: Bench) -> dict[str, Any]:
    (bench.root / "HALT.everything.at.once").touch()
    return {}


def dangling_link(bench: Bench) -> dict[str, Any]:
    (bench.root / "HALT").symlink_to("/nowhere/at/all")
    return {}


def odd_variable(bench: Bench) -> dict[str, Any]:
    return {"environment": {halts.VARIABLE: "0"}}


def odd_scope(bench: Bench) -> dict[str, Any]:
    at = datetime.fromisoformat(bench.served.admin.state()["now"])
    odd = {"scope": "everything", "by": "ada", "reason": "x"}
    bench.book().append([event_of(kind="HALTED", occurred_at=at, payload=odd)])
    return {}


@pytest.mark.parametrize(
    "fault", [unreadable_root, root_is_a_file, name_nobody_knows, dangling_link, odd_variable, odd_scope]
)
def test_a_switch_that_cannot_be_read_halts(bench, fault):
    done = bench.execute(LEGS, **fault(bench))
    assert done.status == "BLOCKED" and "HALT" in done.notes[0] and bench.posts() == []


# Row 56: the broker is away.

AWAY = {"refused": {"do": "reset"}, "busy": {"do": "reply", "status": 503}}


@pytest.mark.parametrize("name", AWAY)
def test_half_an_hour_without_the_broker_at_the_open_ends_in_one_order_each(bench, name):
    moved(bench.served, "2026-01-06T14:31:00Z")
    assert bench.reconcile().clean
    bench.served.admin.fault(verb="*", path="/v2/.*", times=None, **AWAY[name])
    before = len(bench.served.admin.record("request", after=bench.served.since))
    for _ in range(4):
        with pytest.raises(BrokerError):
            bench.execute(LEGS, timeout=1)
    with pytest.raises(BrokerError):
        bench.reconcile()
    during = len(bench.served.admin.record("request", after=bench.served.since)) - before
    assert during <= 8 and bench.posts() == []  # no hot loop
    moved(bench.served, "2026-01-06T15:01:00Z")
    bench.served.admin.clear_faults()
    done = bench.execute(LEGS)  # the reconciliation is too old, and a break is open
    assert done.status == "BLOCKED" and bench.posts() == []
    assert bench.reconcile().clean
    done = bench.execute(LEGS)
    assert settled(done) == ("DONE", ["FILLED", "FILLED"]) and len(bench.posts()) == 2
    bench.check()


def test_the_broker_goes_away_between_two_orders_and_comes_back(bench, monkeypatch):
    def away(name: str) -> None:
        if name == "after_submit":
            bench.served.admin.fault("reset", path="/v2/.*", times=None)

    with monkeypatch.context() as patch:
        patch.setattr(submit, "crash_point", away)
        done = bench.execute(LEGS, timeout=1)
    assert done.status == "OPEN" and bench.posts() == [order_id("VTI")]
    bench.served.admin.by(1800)
    bench.served.admin.clear_faults()
    done = bench.execute(LEGS, timeout=3)
    assert done.status == "BLOCKED" and bench.posts() == [order_id("VTI")]  # reconcile first
    assert bench.reconcile().clean
    assert settled(bench.execute(LEGS)) == ("DONE", ["FILLED", "FILLED"]) and len(bench.posts()) == 2
    bench.check()


def test_a_broker_that_is_away_until_the_deadline_gets_no_order(bench, monkeypatch):
    def away(name: str) -> None:
        if name == "after_ack":
            bench.served.admin.fault("reset", path="/v2/.*", times=None)

    with monkeypatch.context() as patch:
        patch.setattr(submit, "crash_point", away)
        bench.execute(LEGS, timeout=1)
    assert bench.posts() == [order_id("VTI")]
    moved(bench.served, "2026-01-05T20:59:00Z")
    bench.served.admin.clear_faults()
    found = bench.reconcile()
    done = bench.execute(LEGS)
    assert found.clean and [order.status for order in done.orders] == ["FILLED", "EXPIRED"]
    assert bench.posts() == [order_id("VTI")]
    moved(bench.served, "2026-01-06T17:00:00Z")  # and none the next day for the decision of the day before
    assert bench.reconcile().clean
    bench.execute(LEGS, session=date(2026, 1, 5))
    assert bench.posts() == [order_id("VTI")]
    bench.check()
