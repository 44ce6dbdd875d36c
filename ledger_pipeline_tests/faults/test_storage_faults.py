"""Rows 43 to 47: the place of the book fails. It loses replies, is busy, is full, cannot be flushed, or was changed.

Nothing is sent that is not durable before, and a book that is not as it was written sends nothing at all.
"""

from __future__ import annotations

import errno
import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ledger_pipeline.book.book import Book, open_book
from ledger_pipeline.book.log import local
from ledger_pipeline.core.errors import IntegrityError, StorageError
from ledger_pipeline.trading.orders import halts
from ledger_pipeline.trading.orders.execution_context import ExecutionContext
from ledger_pipeline.trading.reconciliation.adopt import adopt
from ledger_pipeline.trading.reconciliation.reconcile import reconcile
from ledger_pipeline_tests.book.log import s3
from ledger_pipeline_tests.book.log.test_s3 import TRANSIENT, Faults, lost
from ledger_pipeline_tests.exchange.server import Served
from ledger_pipeline_tests.faults.bench import Bench, broker_of, buy, order_id, sat_down, settled
from ledger_pipeline_tests.faults.checker import check

VTI = buy("VTI", "676.00")
LEGS = [VTI, buy("VXUS", "324.00")]
NEVER = ("never", None)
_numbers = itertools.count()


@pytest.fixture
def bench(served: Served, tmp_path: Path) -> Iterator[Bench]:
    """A bench with its book on the local disk."""
    with sat_down(served, tmp_path) as one:
        yield one


# Rows 43 and 44: a book on S3.


@pytest.fixture(scope="module")
def s3_server() -> Iterator[None]:
    """A real S3 server, to which the environment leads."""
    with s3.serve():
        yield


@dataclass
class OnS3(Bench):
    """A bench whose book is on S3."""

    number: int = 0

    @property
    def place(self) -> str:
        return f"s3://{s3.BUCKET}/f{self.number}/bench"

    def objects(self) -> dict[str, bytes]:
        """The objects of the book, by key."""
        store = self.book()._log.store
        return {key: store.read(key) for key in store.keys()}

    def suffering(self, *faults: tuple[str, Any]) -> tuple[Book, Faults]:
        """The book, whose PUTs meet these faults, one each."""
        book = self.book()
        return book, Faults(book._log.store, list(faults))

    def judged(self, settled: bool = True) -> list[str]:
        """What is broken."""
        return check(self.served, self.objects(), earlier=self.earlier, settled=settled)


@pytest.fixture
def on_s3(served: Served, tmp_path: Path, s3_server: None) -> Iterator[OnS3]:
    """A bench with its book on S3, adopted and reconciled."""
    with broker_of(served) as broker:
        one = OnS3(served, tmp_path, broker, number=next(_numbers))
        book = open_book(one.place)
        adopt(book, broker, by="ada", reason="a new book")
        assert reconcile(book, broker).clean
        one.earlier = one.objects()
        yield one


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("fault", ["lost", "late", "conflict", "busy", "broken", "html"])
def test_every_write_loses_its_first_answer_and_all_is_there_once(on_s3, fault, when):
    book, faults = on_s3.suffering(*[(when, TRANSIENT[fault]), NEVER] * 40)
    assert settled(on_s3.execute(LEGS, book=book)) == ("DONE", ["FILLED", "FILLED"])
    assert faults.sent >= 2 * 6 and on_s3.posts() == [order_id("VTI"), order_id("VXUS")]
    assert on_s3.reconcile().clean and on_s3.judged() == []


@pytest.mark.parametrize("fault", ["lost", "busy"])
@pytest.mark.parametrize("good", range(6))
def test_s3_is_gone_from_the_nth_write_on_and_nothing_is_sent_that_is_not_durable(on_s3, fault, good):
    book, _ = on_s3.suffering(*[NEVER] * good, *[("before", TRANSIENT[fault])] * 100)
    with pytest.raises(StorageError):
        on_s3.execute(LEGS, book=book)
    durable = [event.order_id for event in on_s3.events("ORDER_SUBMITTED")]
    assert on_s3.posts() == durable
    with pytest.raises(StorageError):
        on_s3.execute(LEGS, book=book)
    assert on_s3.posts() == durable and on_s3.judged(settled=False) == []
    assert settled(on_s3.execute(LEGS)) == ("DONE", ["FILLED", "FILLED"])
    assert sorted(on_s3.posts()) == sorted([order_id("VTI"), order_id("VXUS")])
    assert on_s3.reconcile().clean and on_s3.judged() == []


def test_an_intent_that_arrives_when_its_writer_had_given_up_is_worked_once(on_s3):
    """The PUT of the intents reaches the server after the writer has given up and another has decided the same."""
    held: list[Any] = []
    book, faults = on_s3.suffering(*[("before", lambda request: held.append(request) or lost(request))] * 6)
    with pytest.raises(StorageError, match="unknown"):
        on_s3.execute(LEGS, book=book)
    assert on_s3.posts() == []
    faults.real(held[0])
    assert settled(on_s3.execute(LEGS)) == ("DONE", ["FILLED", "FILLED"])
    faults.real(held[1])  # and once more: the place is taken
    assert len(on_s3.events("ORDER_INTENDED")) == 2
    assert on_s3.reconcile().clean and on_s3.judged() == []


# Row 45: the disk.


def failing(patch: pytest.MonkeyPatch, name: str, nth: int, error: int, forever: bool) -> list[str]:
    """From now on the nth call of a system call (and all after it, when `forever`) fails. What was called."""
    real, made = getattr(os, name), []

    def call(*arguments: Any, **options: Any) -> Any:
        if name == "write" and len(arguments[1]) < 200:
            return real(*arguments, **options)  # no commit: somebody else's pipe
        made.append(name)
        if len(made) == nth or (forever and len(made) > nth):
            raise OSError(error, os.strerror(error))
        return real(*arguments, **options)

    patch.setattr(local.os, name, call)
    return made


DISKS = {
    "full": ("write", errno.ENOSPC, 4),
    "cannot be flushed": ("fsync", errno.EIO, 8),
    "read only": ("link", errno.EROFS, 4),
    "no directory": ("open", errno.EACCES, 4),
}


@pytest.mark.parametrize("forever", [False, True], ids=["once", "forever"])
@pytest.mark.parametrize("disk", DISKS)
def test_a_disk_that_fails_at_any_write_sends_nothing_that_is_not_durable(served, tmp_path, monkeypatch, disk, forever):
    call, error, most = DISKS[disk]
    for nth in range(1, most + 1):
        served.since = served.admin.reset()
        with sat_down(served, tmp_path / str(nth)) as bench:
            book = bench.book()
            with monkeypatch.context() as patch:
                made = failing(patch, call, nth, error, forever)
                with pytest.raises(StorageError, match=os.strerror(error)):
                    bench.execute([VTI], book=book)
                sent = bench.posts()
                assert len(made) >= nth
                if forever:
                    with pytest.raises(StorageError):
                        bench.execute([VTI], book=book)
                    assert bench.posts() == sent
            durable = [event.order_id for event in bench.events("ORDER_SUBMITTED")]
            assert sent == durable or (sent == [] and durable)
            assert check(bench.served, bench.place, earlier=bench.earlier, settled=False) == []
            assert settled(bench.execute([VTI])) == ("DONE", ["FILLED"])  # a new process, once the disk is mended
            assert bench.posts() == [order_id("VTI")]
            bench.check()


def test_after_a_failed_flush_the_process_sends_nothing_more(bench, monkeypatch):
    """The disk says that it is well again; what it holds is not known until the book is opened again."""
    book = bench.book()
    bench.execute([], book=book, policy="none")  # the directories are there
    flush = local._flush
    monkeypatch.setattr(local, "_flush", lambda folder: (_ for _ in ()).throw(OSError(errno.EIO, "I/O error")))
    with pytest.raises(StorageError, match="could not flush"):
        bench.execute(LEGS, book=book)
    monkeypatch.setattr(local, "_flush", flush)
    with pytest.raises(StorageError, match="start again and verify the book"):
        bench.execute(LEGS, book=book)
    assert bench.posts() == []
    assert settled(bench.execute(LEGS)) == ("DONE", ["FILLED", "FILLED"])
    bench.check()


# Row 46: the book was changed behind our back.


def flipped(paths: list[Path], number: int) -> None:
    data = bytearray(paths[number].read_bytes())
    data[len(data) // 2] ^= 1
    paths[number].chmod(0o600)
    paths[number].write_bytes(data)


def removed(paths: list[Path], number: int) -> None:
    paths[number].unlink()


def swapped(paths: list[Path], number: int) -> None:
    other = paths[number + 1] if number + 1 < len(paths) else paths[number - 1]
    one, two = paths[number].read_bytes(), other.read_bytes()
    for path, data in ((paths[number], two), (other, one)):
        path.chmod(0o600)
        path.write_bytes(data)


def cut(paths: list[Path], number: int) -> None:
    data = paths[number].read_bytes()
    paths[number].chmod(0o600)
    paths[number].write_bytes(data[: len(data) - 40])


def doubled(paths: list[Path], number: int) -> None:
    shutil.copy(paths[number], paths[-1].with_name(f"{len(paths):012d}.json"))


@pytest.mark.parametrize("damage", [flipped, removed, swapped, cut, doubled])
def test_a_book_that_is_not_as_it_was_written_refuses_to_start_and_names_the_place(bench, damage):
    bench.execute(LEGS)
    assert bench.reconcile().clean
    whole = bench.root / "whole"
    shutil.copytree(bench.place, whole)
    sent, count = bench.posts(), len(list(whole.rglob("0*.json")))
    for number in range(count - (damage is removed)):  # that the last one is gone nobody can see: see below
        shutil.rmtree(bench.place)
        shutil.copytree(whole, bench.place)
        paths = sorted(bench.place.rglob("0*.json"), key=lambda path: (path.name, len(path.parts)))
        damage(paths, number)
        for act in (bench.book, lambda: bench.execute([buy("VTI", "9.00")], policy="later"), bench.reconcile):
            with pytest.raises(IntegrityError, match=r"\d") as refused:
                act()
        named = {int(path.name[:12]) for path in (paths[number], paths[max(0, number - 1)], paths[-1])}
        named |= {seq + step for seq in named for step in (-1, 1)}
        assert any(str(seq) in str(refused.value) for seq in named), refused.value
        assert bench.posts() == sent
    shutil.rmtree(bench.place)
    shutil.copytree(whole, bench.place)
    assert bench.reconcile().clean


@pytest.mark.parametrize("gone", range(1, 7))
def test_the_end_of_a_book_that_is_gone_doubles_no_order(bench, gone):
    """A restored backup that is a little old: the last commits are missing, and the chain is whole."""
    bench.execute([VTI])
    paths = sorted(bench.place.rglob("0*.json"), key=lambda path: (path.name, len(path.parts)))
    for path in paths[-gone:]:
        if path.name != paths[0].name:
            path.unlink()
    bench.execute([VTI])
    assert set(bench.posts()) == {order_id("VTI")} and bench.at_broker() == {order_id("VTI"): ["filled"]}
    found = bench.reconcile()
    state = bench.book().state
    assert not found.clean or state.position("VTI") == state.orders[order_id("VTI")].filled > 0


# Row 47: a checkpoint and other derived files.


def checkpoint_of(bench: Bench) -> Path:
    bench.book().checkpoint()
    return max((path for path in (bench.place / "checkpoints").rglob("*") if path.is_file()), key=lambda p: p.name)


ALTERED: dict[str, Callable[[Path], Any]] = {
    "gone": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "garbage": lambda path: path.write_bytes(b"PAR1 and nothing"),
    "flipped": lambda path: path.write_bytes(path.read_bytes()[:-9] + b"x" + path.read_bytes()[-8:]),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:100]),
    "a directory": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("name", ALTERED)
def test_a_checkpoint_that_was_altered_is_not_used(bench, name):
    bench.execute([VTI])
    before = bench.book().state.digest()
    path = checkpoint_of(bench)
    path.chmod(0o600)
    ALTERED[name](path)
    assert bench.book().state.digest() == before
    assert settled(bench.execute([VTI])) == ("DONE", ["FILLED"]) and len(bench.posts()) == 1
    bench.check()


def test_a_checkpoint_from_before_a_halt_opens_halted(bench):
    checkpoint_of(bench)
    halts.halt(bench.book(), "global", "ada", "a test")
    done = bench.execute([VTI])
    assert done.status == "BLOCKED" and bench.posts() == []


def test_a_checkpoint_of_the_future_does_not_open(bench):
    """The log was restored from a backup that is older than its checkpoint."""
    bench.execute([VTI])
    checkpoint_of(bench)
    last = max(bench.place.glob("2*/**/0*.json"), key=lambda path: path.name)
    last.unlink()
    with pytest.raises(IntegrityError, match="checkpoint"):
        bench.execute([VTI], policy="later")
    assert bench.posts() == [order_id("VTI")]


def test_the_files_about_a_session_decide_nothing(traded, served):
    """What Dagster keeps of a session says that all is clean; the book does not."""
    from ledger_pipeline.trading.orders.executor import execute
    from ledger_pipeline.trading.session_context import open_session, session_file

    told = session_file(traded, None, "2026-01-05", "reconciliation.json")
    told.parent.mkdir(parents=True)
    told.write_text('{"clean": true, "breaks": []}')
    served.admin.cash("9000")
    with open_session(traded) as one:
        assert not reconcile(one.book, one.broker).clean
        assert (
            execute([VTI], one.book, one.broker, policy="core", context=ExecutionContext(root=traded.root)).status
            == "BLOCKED"
        )
        shutil.rmtree(traded.data, ignore_errors=True)
        assert (
            execute([VTI], one.book, one.broker, policy="core", context=ExecutionContext(root=traded.root)).status
            == "BLOCKED"
        )
    assert served.sent() == []
