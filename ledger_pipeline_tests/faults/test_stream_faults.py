"""Rows 26 to 28, 30 and 31: a stream of order updates that drops, keeps silent, repeats itself or lets nobody in.

The stream wakes whoever waits, and nothing more: what happened is always read from the account. So a test here shows
two things, that the fill is found all the same and how soon. Where the stream works, polling is slow (`ON_WAKING`), so
that only a wake can have been quick enough; where it does not, polling finds the fill (`PACE`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from ledger_pipeline.trading.alpaca import broker as alpaca
from ledger_pipeline.trading.alpaca.broker import AlpacaBroker
from ledger_pipeline.trading.orders.execution_context import Pace
from ledger_pipeline_tests.exchange.server import Served, eventually
from ledger_pipeline_tests.faults.bench import Bench, buy, order_id, sat_down, settled

D = Decimal
VTI = order_id("VTI")
ON_WAKING = Pace(poll=20, poll_longest=20)  # polling alone would be too late for any test here
SOON = 8.0  # seconds; a wake takes a fraction of one
FILLED = ["ORDER_INTENDED", "ORDER_SUBMITTED", "ORDER_ACKNOWLEDGED", "FILLED"]


@pytest.fixture
def bench(served: Served, tmp_path: Path) -> Iterator[Bench]:
    """A bench at an exchange that fills orders only when it is told to."""
    with sat_down(served, tmp_path) as one:
        served.admin.settings(matching="manual")
        yield one


def listen(bench: Bench, broker: AlpacaBroker | None = None) -> None:
    """Let the stream come up, and nothing be left to wake anybody."""
    broker = broker or bench.broker
    assert broker.wait_for_update(10)
    forget(broker)


def forget(broker: AlpacaBroker) -> None:
    """Let everything that was told so far have woken whom it wakes, so that only what comes next can wake."""
    while broker.wait_for_update(0.05):
        pass


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """AssertionError when it takes longer."""
    started = time.monotonic()
    yield
    assert time.monotonic() - started < seconds


def fill(bench: Bench, quantity: str | None = None) -> Callable[[], None]:
    """What fills our order, wholly or by a quantity, when all news before that has been heard."""
    amounts = {"qty": quantity, "price": "250"} if quantity else {}

    def act() -> None:
        forget(bench.broker)
        bench.served.admin.order(VTI, "fill", **amounts)

    return act


def connections(bench: Bench) -> int:
    return bench.served.admin.state()["stream_connections"]


def test_a_fill_wakes_whoever_waits_for_it(bench: Bench) -> None:
    """What the other tests are measured by."""
    listen(bench)
    with within(SOON):
        done = bench.execute([buy("VTI", "676")], pace=ON_WAKING, on_progress=bench.when(r"VTI.*: OPEN", fill(bench)))
    assert settled(done) == ("DONE", ["FILLED"]) and bench.life("VTI") == FILLED
    bench.check()


@pytest.mark.parametrize("code", [1006, 1012, 1000])
def test_what_happened_while_the_stream_was_down_is_read_when_it_is_up_again(bench: Bench, code: int) -> None:
    """Row 26: dropped between the submit and the fill, which is never told."""
    admin = bench.served.admin
    listen(bench)

    def drop_and_fill() -> None:
        admin.stream(refuse=True)
        assert admin.stream(kick=code)["kicked"] == 1
        eventually(lambda: connections(bench) == 0)
        fill(bench)()
        admin.stream(refuse=False)

    with within(SOON):
        done = bench.execute([buy("VTI", "676")], pace=ON_WAKING, on_progress=bench.when(r"VTI.*: OPEN", drop_and_fill))
    assert settled(done) == ("DONE", ["FILLED"]) and bench.life("VTI") == FILLED
    assert connections(bench) == 1 and bench.posts() == [VTI]  # only coming up again can have woken it
    bench.check()


def test_a_stream_that_drops_again_and_again_loses_no_fill(bench: Bench) -> None:
    admin = bench.served.admin
    listen(bench)

    def drop_and_fill() -> None:
        admin.stream(kick=1006)
        fill(bench, "1")()

    done = bench.execute(
        [buy("VTI", quantity="4")],
        on_progress=bench.when(r"VTI.*: (OPEN|PARTIALLY_FILLED)", drop_and_fill),
        timeout=1,
    )
    assert [order.filled for order in done.orders] == [1]
    for more in (2, 3, 4):
        drop_and_fill()
        done = bench.execute([buy("VTI", quantity="4")], timeout=0.5)
        assert [order.filled for order in done.orders] == [more]
    assert done.status == "DONE" and len({event.fill_id for event in bench.events("FILLED")}) == 4
    bench.check()


def test_a_stream_that_is_silent_is_not_needed(bench: Bench) -> None:
    """Row 27: connected, authorised, and mute."""
    bench.served.admin.stream(mute=True)
    listen(bench)
    pace = Pace(poll=0.1, poll_longest=0.4)
    with within(3):
        done = bench.execute([buy("VTI", "676")], pace=pace, on_progress=bench.when(r"VTI.*: OPEN", fill(bench)))
    assert settled(done) == ("DONE", ["FILLED"]) and bench.life("VTI") == FILLED
    assert connections(bench) == 1
    bench.check()


@pytest.mark.parametrize(
    "disturbance",
    [{"duplicate": 100}, {"reorder": 5}, {"delay": 0.3}],
    ids=["twice", "last-first", "late"],
)
def test_updates_that_come_twice_late_or_in_another_order_change_nothing(
    bench: Bench, disturbance: dict[str, Any]
) -> None:
    """Row 28. Three parts of an order, told in any way: the book has each part once."""
    admin = bench.served.admin
    listen(bench)
    admin.stream(**disturbance)

    def three() -> None:
        for _ in range(3):
            fill(bench, "1")()

    with within(SOON):
        done = bench.execute(
            [buy("VTI", quantity="3")], pace=ON_WAKING, on_progress=bench.when(r"VTI.*: OPEN", three), timeout=30
        )
    (order,) = done.orders
    assert (done.status, order.status, order.filled) == ("DONE", "FILLED", 3)
    assert len({event.fill_id for event in bench.events("FILLED")}) == 3
    for _ in range(12):  # what comes afterwards is news of nothing
        if not bench.broker.wait_for_update(0.5):
            break
    again = bench.execute([buy("VTI", quantity="3")])
    assert again.orders == done.orders and bench.posts() == [VTI]
    bench.check()


def test_updates_of_another_day_change_nothing(bench: Bench) -> None:
    """Row 28, delayed by days: what the stream told of Monday's order comes on Tuesday, when it has long been booked,
    and once more with another status than it had at the end.
    """
    admin = bench.served.admin
    listen(bench)
    admin.stream(reorder=5)  # held back: pending_new, new, and three to come
    done = bench.execute([buy("VTI", quantity="3")], on_progress=bench.when(r"VTI.*: OPEN", fill(bench, "3")))
    assert settled(done) == ("DONE", ["FILLED"])
    admin.until("close")
    admin.until("open")
    before = bench.events()
    for event in ("new", "canceled", "fill"):
        order = {"client_order_id": VTI, "status": event, "filled_qty": "1"}
        admin.stream(send={"stream": "trade_updates", "data": {"event": event, "qty": "1", "order": order}})
    assert bench.broker.wait_for_update(5)
    bench.execute([buy("VTI", quantity="3")], session=done.session)
    assert [event for event in bench.events() if event.order_id] == [event for event in before if event.order_id]
    admin.stream(reorder=0)
    bench.check()


FRAMES: dict[str, Any] = {
    "bad-json": "{bad json",
    "no-object": "[]",
    "number": "17",
    "empty": "",
    "unknown-event": {"stream": "trade_updates", "data": {"event": "trade_moved", "order": {}}},
    "no-event": {"stream": "trade_updates", "data": {}},
    "null": {"stream": "trade_updates", "data": None},
    "unknown-stream": {"stream": "weather", "data": {"rain": True}},
    "bad-amounts": {"stream": "trade_updates", "data": {"event": "fill", "qty": "many", "order": {"filled_qty": "-1"}}},
    "error": {"stream": "error", "data": {"error": "slow client"}},
}


@pytest.mark.parametrize("name", sorted(FRAMES))
def test_a_frame_that_nobody_understands_hides_no_fill_after_it(bench: Bench, name: str) -> None:
    """Row 30. It can tell nothing wrong, since nothing is read from it; the fill that follows still wakes, at once or
    by a connection that came up anew.
    """
    listen(bench)

    def nonsense() -> None:
        bench.served.admin.stream(send=FRAMES[name])
        fill(bench)()

    with within(SOON):
        done = bench.execute([buy("VTI", "676")], pace=ON_WAKING, on_progress=bench.when(r"VTI.*: OPEN", nonsense))
    assert settled(done) == ("DONE", ["FILLED"]) and bench.life("VTI") == FILLED
    assert not bench.events("BREAK_OPENED", "UNRECOGNIZED")
    bench.check()


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """When a connection of the stream was tried."""
    times: list[float] = []
    start = alpaca._Stream._start_ws

    async def counted(self: Any) -> None:
        times.append(time.monotonic())
        await start(self)

    monkeypatch.setattr(alpaca._Stream, "_start_ws", counted)
    return times


@pytest.mark.parametrize("obstacle", [{"unauthorized": -1}, {"refuse": True}], ids=["unauthorized", "refused"])
def test_a_stream_that_lets_nobody_in_is_given_up_and_polled_instead(
    served: Served, tmp_path: Path, attempts: list[float], caplog: pytest.LogCaptureFixture, obstacle: dict[str, Any]
) -> None:
    """Row 31: said once, without a key, and not tried over and over."""
    caplog.set_level(logging.DEBUG)
    with sat_down(served, tmp_path, authorised_within=0.5) as bench:
        served.admin.settings(matching="manual")
        served.admin.stream(**obstacle)
        late = [False]

        def later() -> None:
            late[0] = True
            time.sleep(0.7)
            fill(bench)()

        with within(SOON):
            bench.broker.wait_for_update(0.1)
            done = bench.execute([buy("VTI", "676")], on_progress=bench.when(r"VTI.*: OPEN", later))
        assert late[0] and settled(done) == ("DONE", ["FILLED"])
        bench.broker.wait_for_update(0.1)
        tried = len(attempts)
        assert 1 <= tried <= 3
        for _ in range(3):
            assert bench.broker.wait_for_update(0.2) is False
        assert len(attempts) == tried
        said = [record for record in caplog.records if "polled" in record.getMessage()]
        assert len(said) == 1
        assert served.secret not in "".join(record.getMessage() for record in caplog.records)
        bench.check()


def test_a_second_connection_that_is_refused_polls_and_leaves_the_first_alone(
    served: Served, tmp_path: Path, attempts: list[float]
) -> None:
    """Row 31: somebody else of ours listens already."""
    with sat_down(served, tmp_path, authorised_within=0.5) as bench:
        served.admin.settings(matching="manual")
        with bench.connect() as first:
            listen(bench, first)
            served.admin.stream(refuse_second=True)
            done = bench.execute([buy("VTI", "676")], on_progress=bench.when(r"VTI.*: OPEN", fill(bench)))
            assert settled(done) == ("DONE", ["FILLED"])
            assert first.wait_for_update(5) and connections(bench) == 1
            assert len(attempts) <= 3
        bench.check()
