"""Processes that die, stop, or run twice, at every place where it could matter: rows 1 to 9, 41, 42, 51 and 54.

The worker is a real process, its broker the adapter over the real client, and its end as abrupt as a power cut. What
follows is what a person would do: start it again. The checker then compares what the exchange saw with the book.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from random import Random
from types import SimpleNamespace

import pytest

from ledger_pipeline.book.book import open_book
from ledger_pipeline.trading.connect import EXCHANGE_URL
from ledger_pipeline.trading.reconciliation.adopt import adopt
from ledger_pipeline.trading.reconciliation.reconcile import reconcile
from ledger_pipeline_tests.book.log import s3
from ledger_pipeline_tests.exchange.server import Served, eventually
from ledger_pipeline_tests.faults.checker import check
from ledger_pipeline_tests.faults.stage import Stage, theatre
from ledger_pipeline_tests.faults.worker import CRASHED, Workers, stopped

COMMITS = 8  # of a worker that does everything: reconcile, intents; submit, acknowledge and fill for two orders


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, Workers]]:
    with theatre(tmp_path_factory.mktemp("crashes")) as one:
        yield one


@pytest.fixture
def stage(both: tuple[Served, Workers], tmp_path: Path) -> Stage:
    return Stage(*both, tmp_path / "project").begin()


def everything(stage: Stage) -> None:
    """Both orders are filled, by one POST each."""
    assert [order.status for order in stage.finish().orders] == ["FILLED", "FILLED"]
    assert len(stage.posts()) == len(set(stage.posts())) == 2
    assert len(stage.events("FILLED")) == 2


def test_a_worker_that_nothing_disturbs(stage: Stage) -> None:
    code, told = stage.run(settled=False)
    assert (code, told["clean"], told["status"]) == (0, True, "DONE"), told
    everything(stage)


def test_the_worker_as_a_command_of_its_own(stage: Stage, tmp_path: Path) -> None:
    legs = tmp_path / "legs.json"
    legs.write_text('[{"symbol": "VTI", "side": "BUY", "strategy": "core", "quantity": null, "notional": "25.00"}]')
    done = subprocess.run(
        [sys.executable, "-m", "ledger_pipeline_tests.faults.worker", str(stage.root), str(stage.book_dir), str(legs)],
        env=os.environ | stage.served.environ | {EXCHANGE_URL: stage.served.url},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0 and '"DONE"' in done.stdout, done
    assert stage.reconcile().clean
    stage.assert_sound(settled=True)


# Where a process dies, and how often each order was posted then. Rows 1, 3, 5 and 6 of the matrix.
PLACES = {
    "before_intent": 0, "after_intent": 0, "before_submit": 0, "before_submit:2": 1, "after_submit": 1,
    "after_submit:2": 2, "before_ack": 1, "before_ack:2": 2, "after_ack": 1, "after_ack:2": 2,
}  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
def test_dying_at_a_crash_point(stage: Stage, place: str) -> None:
    assert stage.run(crash=place) == (CRASHED, {})
    assert len(stage.posts()) == PLACES[place]
    everything(stage)


def test_before_the_intent_nothing_is_left_and_the_decision_is_made_again_with_the_same_ids(stage: Stage) -> None:
    assert stage.run(crash="before_intent")[0] == CRASHED
    assert not stage.events("ORDER_INTENDED") and not stage.posts()
    copy = stage.root / "books" / "other" / "live"
    shutil.copytree(stage.book_dir, copy)
    everything(stage)
    ids = {event["order_id"] for event in stage.events("ORDER_INTENDED")}
    stage.since = stage.served.admin.reset()
    stage.served.admin.position("BND", "10")
    shutil.rmtree(stage.book_dir)
    shutil.copytree(copy, stage.book_dir)
    stage.earlier = {}
    everything(stage)
    assert {event["order_id"] for event in stage.events("ORDER_INTENDED")} == ids


def test_an_intent_that_nobody_sent_expires_with_its_session(stage: Stage) -> None:
    assert stage.run(crash="after_intent")[0] == CRASHED
    stage.served.admin.until("close")
    assert stage.reconcile().clean
    assert not stage.posts()
    assert [event["kind"] for event in stage.events("ORDER_EXPIRED")] == ["ORDER_EXPIRED"] * 2
    stage.assert_sound(settled=True)


def test_a_submit_that_never_left_is_given_up_some_minutes_after_the_close(stage: Stage) -> None:
    """Until then it might still arrive, so the order stays open and the checker would say that it has no end."""
    stage.legs = stage.legs[1:]
    assert stage.run(crash="before_submit")[0] == CRASHED
    stage.served.admin.until("close")
    assert stage.reconcile().clean
    assert [breach[:3] for breach in check(stage.served, stage.book_dir)] == ["I10"]
    stage.served.admin.by(400)
    (order,) = stage.finish().orders
    assert order.status == "EXPIRED" and not stage.posts()


TORN = [("tear", nth) for nth in range(1, COMMITS + 2)]
UNNAMED = [(what, nth) for what in ("unlinked", "linked") for nth in (1, 2, 3, 4)]


@pytest.mark.parametrize(("what", "nth"), TORN + UNNAMED)
def test_dying_while_a_commit_is_written(stage: Stage, what: str, nth: int) -> None:
    """A torn record (rows 2 and 6): half of the bytes, all of them but no name, or a name that is not flushed."""
    before = len(stage.events())
    code, _ = stage.run(at=f"{what} {nth}")
    assert code == (CRASHED if nth <= COMMITS else 0)
    if nth == 1 and what != "linked":
        assert len(stage.events()) == before
    everything(stage)


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_between_the_post_and_its_answer(stage: Stage, sign: int, when: str) -> None:
    """Rows 4 and 51: the exchange answers late, and by then nobody listens."""
    stage.served.admin.fault("hang", "POST", "/v2/orders", when=when, seconds=2.0, then="drop")
    job = stage.job()
    pid = stage.workers.start(job)
    eventually(stage.posts, 20)
    os.kill(pid, sign)
    code, _ = stage.workers.wait(pid, job)
    assert code in (-sign, 1)
    stage.assert_sound(settled=False)
    done = stage.finish()
    assert [order.status for order in done.orders] == ["FILLED", "FILLED"]
    assert len(stage.posts()) == (3 if when == "before" else 2)  # what never arrived is sent again under the same id
    assert len(set(stage.posts())) == 2


def test_terminated_and_then_killed(stage: Stage) -> None:
    """Row 51, as an orchestrator does it to a process that does not listen to the first signal."""
    stage.served.admin.fault("hang", "POST", "/v2/orders", when="after", seconds=2.0)
    job = stage.job(at="deaf")
    pid = stage.workers.start(job)
    eventually(stage.posts, 20)
    os.kill(pid, signal.SIGTERM)
    time.sleep(0.2)
    os.kill(pid, signal.SIGKILL)
    assert stage.workers.wait(pid, job)[0] == -signal.SIGKILL
    everything(stage)


def test_dying_between_the_records_of_two_fills(stage: Stage) -> None:
    """Row 7."""
    stage.legs = stage.legs[1:]
    stage.served.admin.settings(matching="manual")
    job = stage.job(crash="between_fills:2")  # passed when the acknowledgement is in the book, then the first fill
    pid = stage.workers.start(job)
    name = eventually(stage.posts, 20)[0]
    eventually(lambda: stage.events("ORDER_ACKNOWLEDGED"), 20)
    stage.served.admin.order(name, "fill", qty="1")
    assert stage.workers.wait(pid, job)[0] == CRASHED
    assert len(stage.events("FILLED")) == 1
    stage.served.admin.order(name, "fill", qty="0.5")
    stage.served.admin.order(name, "fill")
    (order,) = stage.finish().orders
    assert order.status == "FILLED" and [str(fill.quantity) for fill in order.fills] == ["1", "0.5", "1.204"]


def test_dying_while_reconciling_changes_no_verdict(stage: Stage) -> None:
    """Row 8: the digest is that of a reconciliation which nothing disturbed."""
    stage.served.admin.settings(matching="manual")
    stage.legs = stage.legs[1:]
    assert stage.run(crash="after_ack")[0] == CRASHED
    (name,) = stage.posts()
    stage.served.admin.order(name, "fill", qty="1")
    copy = stage.root / "books" / "other" / "live"
    shutil.copytree(stage.book_dir, copy)
    for _ in range(3):
        assert stage.run(crash="during_reconcile")[0] == CRASHED
    again = stage.reconcile()
    with stage.bench() as (_, broker):
        undisturbed = reconcile(open_book(copy), broker)
    assert again.clean and undisturbed.clean and again.digest == undisturbed.digest
    assert len(stage.events("FILLED")) == 1
    stage.served.admin.order(name, "fill")
    stage.finish()


@pytest.mark.parametrize("seed", range(3))
def test_killed_at_random_times(stage: Stage, seed: int) -> None:
    """Row 9."""
    assert _killed(stage, Random(seed), 6) >= 3, "the kills come too late to show anything"


@pytest.mark.campaign
@pytest.mark.parametrize("seed", range(3, 23))
def test_killed_a_hundred_times(stage: Stage, seed: int) -> None:
    assert _killed(stage, Random(seed), 100) >= 30


def _killed(stage: Stage, rng: Random, times: int) -> int:
    """Kill workers on one decision after another, each session's until the book is at rest; how many were killed."""
    stage.served.admin.settings(partial=0.5)
    died = 0
    for _ in range(times):
        job = stage.job()
        pid = stage.workers.start(job)
        time.sleep(rng.uniform(0.02, 0.6))
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        code, told = stage.workers.wait(pid, job)
        assert code in (0, -signal.SIGKILL), told
        died += code != 0
        stage.assert_sound(settled=False)
        if code == 0 and rng.random() < 0.8:
            assert stage.reconcile().clean
            stage.assert_sound(settled=True)
            stage.served.admin.until("open")
            stage.served.admin.by(600)
            stage.legs[1]["notional"] = f"{rng.randint(100, 20_000) / 100:.2f}"
            stage.legs = stage.legs[1:] if len(stage.events("FILLED")) > 12 else stage.legs
    stage.served.admin.until("close")
    stage.served.admin.by(400)  # a submit that left no answer is given up some minutes after the close
    stage.finish(timeout=5)
    return died


@pytest.mark.parametrize("seed", range(3))
def test_two_processes_at_once(stage: Stage, seed: int) -> None:
    """Row 41: both work on the same decision in the same book, and each order is sent by one of them."""
    rng = Random(seed)
    jobs = [stage.job(), stage.job()]
    pids = []
    for job in jobs:
        pids.append(stage.workers.start(job))
        time.sleep(rng.uniform(0, 0.1))
    codes = [stage.workers.wait(pid, job) for pid, job in zip(pids, jobs, strict=True)]
    assert any(code == 0 for code, _ in codes), codes
    stage.assert_sound(settled=False)
    everything(stage)


def test_a_break_that_another_process_opens_after_the_gate_was_passed_stops_the_submit(stage: Stage) -> None:
    """Row 41: the book is asked once more in the moment in which the submit is recorded."""
    stage.legs = stage.legs[1:]

    def meanwhile(*_: object) -> tuple[str, ...]:
        if not stage.events("BREAK_OPENED"):
            stage.served.admin.position("VXUS", "1")
            assert not stage.reconcile().clean
        return ()

    done = stage.execute(guards=[meanwhile])
    assert done.status == "BLOCKED" and not stage.posts()
    stage.assert_sound(settled=True)
    stage.served.admin.position("VXUS", "0")
    stage.finish()


def test_two_processes_at_once_on_s3(stage: Stage) -> None:
    """Row 41, as on two hosts: they share nothing but the objects of the book and the broker."""
    with s3.serve() as environment:
        url = f"s3://{s3.BUCKET}/two/live"
        with stage.bench() as (_, broker):
            book = open_book(url)
            adopt(book, broker, by="ada", reason="a new book")
            assert reconcile(book, broker).clean
            jobs = [replace(stage.job(env=environment), book=url) for _ in range(2)]
            pids = [stage.workers.start(job) for job in jobs]
            ended = [stage.workers.wait(pid, job) for pid, job in zip(pids, jobs, strict=True)]
            assert any(code == 0 and told["status"] == "DONE" for code, told in ended), ended
            assert all(code in (0, 3, 7) for code, _ in ended), ended
            assert reconcile(book, broker).clean
        assert check(stage.served, _objects("two/live/")) == []
    assert len(stage.posts()) == len(set(stage.posts())) == 2


def _objects(prefix: str) -> dict[str, bytes]:
    """What S3 holds below a prefix, read without the code under test."""
    import boto3

    client = boto3.client("s3")
    rows = client.list_objects_v2(Bucket=s3.BUCKET, Prefix=prefix)["Contents"]
    keys = [row["Key"] for row in rows]
    return {key.removeprefix(prefix): client.get_object(Bucket=s3.BUCKET, Key=key)["Body"].read() for key in keys}


# Where a process is stopped, and how often the same id is sent in all when the other one finishes the work meanwhile.
ZOMBIES = {
    "before_intent": 1,
    "after_intent": 1,
    "before_submit": 2,
    "after_submit": 1,
    "before_ack": 1,
    "after_ack": 1,
}


@pytest.mark.parametrize("place", ZOMBIES)
def test_a_process_that_was_stopped_wakes_up_after_another_has_done_its_work(stage: Stage, place: str) -> None:
    """Row 42. Between its durable ORDER_SUBMITTED and its POST it may still send: the same id, which is refused."""
    stage.legs = stage.legs[1:]
    job = stage.job(at=f"stop {place}")
    pid = stage.workers.start(job)
    stopped(pid)
    assert stage.run()[0] == 0
    orders = stage.events("ORDER_ACKNOWLEDGED")
    os.kill(pid, signal.SIGCONT)
    code, told = stage.workers.wait(pid, job)
    assert code == 0 and told["status"] == "DONE", told
    assert stage.events("ORDER_ACKNOWLEDGED") == orders and len(stage.events("FILLED")) == 1
    assert len(set(stage.posts())) == 1 and len(stage.posts()) <= ZOMBIES[place]
    stage.finish()


def test_a_process_that_was_stopped_for_long_does_not_send(stage: Stage) -> None:
    """Rows 42 and 54: the checks were passed too long ago, so the POST is not made; then the same id is sent, once."""
    stage.legs = stage.legs[1:]
    job = stage.job(at="stop before_submit")
    pid = stage.workers.start(job)
    stopped(pid)
    time.sleep(5.2)  # Pace.submit_within is 5 s
    assert not stage.posts()
    job_again = SimpleNamespace(out=job.out)
    os.kill(pid, signal.SIGCONT)
    eventually(lambda: stage.events("SUBMIT_UNKNOWN"), 20)
    stopped(pid)  # at the same place again, before the second submit
    assert not stage.posts()
    os.kill(pid, signal.SIGCONT)
    code, told = stage.workers.wait(pid, job_again)
    assert code == 0 and told["status"] == "DONE", told
    (unknown,) = stage.events("SUBMIT_UNKNOWN")
    assert "not sent" in unknown["payload"]["why"]
    assert len(stage.posts()) == 1
    stage.finish()


def test_fills_that_come_while_the_process_starves_are_taken_in_when_it_goes_on(stage: Stage) -> None:
    """Row 54: stopped again and again while the order is filled bit by bit."""
    stage.legs = stage.legs[1:]
    stage.served.admin.settings(matching="manual")
    job = stage.job()
    pid = stage.workers.start(job)
    name = eventually(stage.posts, 20)[0]
    for _ in range(5):
        os.kill(pid, signal.SIGSTOP)
        stage.served.admin.order(name, "fill", qty="0.25")
        stage.served.admin.order(name, "fill", qty="0.25")
        time.sleep(0.05)
        os.kill(pid, signal.SIGCONT)
        time.sleep(0.05)
    stage.served.admin.order(name, "fill")
    code, told = stage.workers.wait(pid, job)
    assert code == 0 and told["status"] == "DONE", told
    assert len(stage.events("FILLED")) == 11
    stage.finish()


def test_a_slow_handler_loses_nothing(stage: Stage) -> None:
    """Row 54: who is told of progress takes his time, and the fills wait."""
    code, told = stage.run(at="slow 0.3")
    assert code == 0 and told["status"] == "DONE", told
    everything(stage)
