"""Whole days with random faults over a real exchange process, the real client of the broker, and processes that die.

    pytest -m campaign ledger_pipeline_tests/faults/test_campaign.py         500 days, each from its seed
    LEDGER_PIPELINE_SEED=17 pytest ledger_pipeline_tests/faults/test_campaign.py -k one_seed

A day: the decision is worked again and again, in this process or in one of its own, while requests are lost before and
after their effect, answers are garbage, the stream is cut, muted or repeats itself, the exchange itself dies and comes
back, orders fill in parts or are ended by the broker, money comes in, and workers are killed, torn or crash at named
points. After each attempt the checker judges what has happened so far. Then the faults stop and the session closes, and
the book must come to rest: clean, and equal to the broker in everything.

A seed decides what is done; how it interleaves is up to the machine, so a failure may need its seed several times.
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest

from ledger_pipeline.core.errors import BlockedError, BrokerError
from ledger_pipeline.trading.crash import CRASH_POINTS
from ledger_pipeline_tests.exchange.server import AdminError, Served
from ledger_pipeline_tests.faults.checker import DEAD
from ledger_pipeline_tests.faults.stage import Stage, theatre
from ledger_pipeline_tests.faults.worker import CRASHED, Workers

SEED = "LEDGER_PIPELINE_SEED"
DAYS = 500
BATCH = 20
USUAL = range(2)  # seeds of the usual run
LONGEST_LAG = 0.5  # seconds until an activity can be read
ENDINGS = (0, 3, 6, 7, CRASHED, -signal.SIGKILL)  # done, blocked, broker unreadable, not clean, died, was killed

# What may go wrong with a request: any answer may be lost, but a clear refusal is never a lie.
LOST = (
    {"do": "reply", "status": 504}, {"do": "reply", "status": 500, "body": {"code": 50010000, "message": "internal"}},
    {"do": "reply", "status": 502, "body": "<html>Bad Gateway</html>", "content_type": "text/html"},
    {"do": "reply", "status": 429, "body": {"code": 42910000, "message": "too many requests."}},
    {"do": "reset"}, {"do": "empty"}, {"do": "redirect"}, {"do": "hang", "seconds": 0.5, "then": "drop"},
)  # fmt: skip
SPOILED = ({"do": "truncate"}, {"do": "length"}, {"do": "drip", "seconds": 0.3})
READ = ({"do": "reset"}, {"do": "reply", "status": 503}, {"do": "truncate"}, {"do": "hang", "seconds": 0.3})
PATHS = (
    "/v2/account", "/v2/account/activities", "/v2/orders", "/v2/orders:by_client_order_id", "/v2/positions",
    "/v2/clock",
)  # fmt: skip


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, Workers]]:
    with theatre(tmp_path_factory.mktemp("campaign")) as one:
        yield one


def play(seed: int, both: tuple[Served, Workers], root: Path) -> Counter[str]:
    """One seed's days; what happened in them, counted."""
    rng, told = Random(seed), Counter()
    stage = Stage(*both, root)
    stage.served.admin.settings(partial=rng.choice((0.0, 0.5, 1.0)))
    stage.begin()
    for _ in range(rng.choice((1, 1, 2))):
        stage.legs = _legs(rng, stage)
        stage.served.admin.settings(matching=rng.choice(("auto", "auto", "manual")))
        for _ in range(rng.randint(1, 4)):
            for _ in range(rng.randint(0, 3)):
                told[rng.choice(DISTURBANCES)(stage, rng)] += 1
            told[_attempt(stage, rng)] += 1
            stage.assert_sound(settled=False)
            _market(stage, rng)
        _calm(stage)
        stage.served.admin.until("close")
        stage.served.admin.by(400)
        _rest(stage)
        told["days"] += 1
        stage.served.admin.until("open")
        stage.served.admin.by(rng.choice((60, 3600)))
    return told


def _legs(rng: Random, stage: Stage) -> list[dict[str, Any]]:
    held = stage.served.admin.state()["positions"].get("BND", "0")
    legs = []
    if float(held) > 1 and rng.random() < 0.6:
        sold = f"{rng.randint(1, 10**9) / 10**9:.9f}".rstrip("0")
        legs.append({"symbol": "BND", "side": "SELL", "strategy": "UNATTRIBUTED", "quantity": sold, "notional": None})
    for symbol in ("VTI", "VXUS"):
        if rng.random() < 0.8:
            notional = f"{rng.randint(100, 90_000) / 100:.2f}"
            legs.append({"symbol": symbol, "side": "BUY", "strategy": "core", "quantity": None, "notional": notional})
    if rng.random() < 0.4 or not legs:
        bought = str(rng.randint(1, 4))
        legs.append({"symbol": "AAPL", "side": "BUY", "strategy": "other", "quantity": bought, "notional": None})
    return legs


def _post_is_lost(stage: Stage, rng: Random) -> str:
    when = rng.choice(("before", "after"))
    fault = rng.choice(LOST if when == "before" else LOST + SPOILED)
    which = {"nth": rng.randint(1, 2), "times": rng.choice((1, 2))}
    stage.served.admin.fault(verb="POST", path="/v2/orders", when=when, **which, **fault)
    return f"post lost {when}"


def _read_fails(stage: Stage, rng: Random) -> str:
    fault, path = rng.choice(READ), rng.choice(PATHS)
    stage.served.admin.fault(verb="GET", path=path, nth=rng.randint(1, 12), times=rng.choice((1, 1, 3)), **fault)
    return "read fails"


def _order_is_invisible(stage: Stage, rng: Random) -> str:
    stage.served.admin.fault("invisible", "POST", "/v2/orders", seconds=rng.choice((0.2, 1.0)))
    return "order invisible"


def _stream_fails(stage: Stage, rng: Random) -> str:
    disturbance = rng.choice(
        ({"kick": 1006}, {"kick": 1012}, {"mute": True}, {"duplicate": True}, {"reorder": True}, {"send": "{no json"})
    )
    stage.served.admin.stream(**disturbance)
    return "stream"


def _activities_are_late(stage: Stage, rng: Random) -> str:
    stage.served.admin.settings(activity_lag=rng.choice((0.1, LONGEST_LAG)))
    return "late activities"


def _money_comes(stage: Stage, rng: Random) -> str:
    stage.served.admin.activity("CSD", f"{rng.randint(1, 50_000) / 100:.2f}")
    return "deposit"


def _kill_switch(stage: Stage, rng: Random) -> str:
    (stage.root / rng.choice(("HALT", "HALT.symbol.VTI", "HALT.strategy.core"))).touch()
    return "halt"


def _exchange_dies(stage: Stage, rng: Random) -> str:
    if rng.random() < 0.7:
        return "nothing"
    stage.served.kill()
    stage.served.restart()
    return "exchange killed"


DISTURBANCES: tuple[Callable[[Stage, Random], str], ...] = (
    _post_is_lost, _post_is_lost, _post_is_lost, _read_fails, _read_fails, _order_is_invisible, _stream_fails,
    _activities_are_late, _money_comes, _kill_switch, _exchange_dies,
)  # fmt: skip


def _attempt(stage: Stage, rng: Random) -> str:
    """Work on the decision once; what became of that."""
    if rng.random() < 0.3:
        try:
            if stage.reconcile().clean:
                return stage.execute(timeout=rng.choice((0.5, 3)), environment={}).status
            return "not clean"
        except (BrokerError, BlockedError) as error:
            return type(error).__name__
    fate, crash, at = rng.random(), "", ""
    if fate < 0.4:
        crash = f"{rng.choice(CRASH_POINTS)}:{rng.choice((1, 1, 2, 3))}"
    elif fate < 0.6:
        at = f"{rng.choice(('tear', 'linked', 'unlinked'))} {rng.randint(1, 10)}"
    job = stage.job(at=at, crash=crash, timeout=rng.choice((0.5, 3)))
    pid = stage.workers.start(job)
    if fate > 0.7:
        time.sleep(rng.uniform(0.02, 0.5))
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    code, told = stage.workers.wait(pid, job)
    assert code in ENDINGS, told
    return f"exit {code}"


def _market(stage: Stage, rng: Random) -> None:
    """What the market and the broker do to the orders that are open, and that time passes."""
    for order_id, status in stage.orders().items():
        if status in DEAD:
            continue
        verdict = rng.choice(("fill", "fill", "fill", "cancel", "reject", "expire", "done_for_day", None))
        with suppress(AdminError):  # it may have ended by itself
            if verdict:
                stage.served.admin.order(order_id, verdict)
    if rng.random() < 0.3:
        (stage.root / "HALT").unlink(missing_ok=True)
    stage.served.admin.by(rng.choice((1, 30, 600)))


def _calm(stage: Stage) -> None:
    stage.served.admin.clear_faults()
    stage.served.admin.stream(mute=False, duplicate=False, reorder=False)
    stage.served.admin.settings(activity_lag=0)
    time.sleep(LONGEST_LAG)
    for path in stage.root.glob("HALT*"):
        path.unlink()


def _rest(stage: Stage) -> None:
    """The faults are over and the session is: one more execution, and the book is clean and whole."""
    result = stage.reconcile()
    for _ in range(3):  # a break that closes by itself may need one more look
        if result.clean:
            break
        result = stage.reconcile()
    assert result.clean, [item.to_json() for item in result.breaks]
    stage.execute(timeout=5)
    result = stage.reconcile()
    assert result.clean, [item.to_json() for item in result.breaks]
    stage.assert_sound(settled=True)


def _play(seed: int, both: tuple[Served, Workers], root: Path) -> Counter[str]:
    print(f"{SEED}={seed}", flush=True)
    try:
        return play(seed, both, root / str(seed))
    except Exception as error:
        raise AssertionError(f"{SEED}={seed}: {type(error).__name__}: {error}") from error


@pytest.mark.parametrize("seed", USUAL)
def test_a_day_with_random_faults(seed: int, both: tuple[Served, Workers], tmp_path: Path) -> None:
    _play(seed, both, tmp_path)


@pytest.mark.campaign
@pytest.mark.parametrize("batch", range(DAYS // BATCH))
def test_many_days_with_random_faults(batch: int, both: tuple[Served, Workers], tmp_path: Path) -> None:
    told: Counter[str] = Counter()
    for seed in range(batch * BATCH, (batch + 1) * BATCH):
        told += _play(seed, both, tmp_path)
    print(dict(sorted(told.items())))
    assert told["days"] >= BATCH and told["post lost after"] and told[f"exit {CRASHED}"], told


def test_one_seed(both: tuple[Served, Workers], tmp_path: Path) -> None:
    """The day of the environment variable LEDGER_PIPELINE_SEED; 7 without it."""
    _play(int(os.environ.get(SEED, "7")), both, tmp_path)
