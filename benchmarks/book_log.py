"""The log of a live book: appends a second beside SQLite, the time to open a long book, eight processes at once.

appends    hash-chained commits of one event each, flushed to the disk, one after the other. `log` is `Log.append`, an
           object each; `sqlite` stores the same bytes in a table, WAL, synchronous=FULL, one transaction each, in which
           the head is read first. They take turns every few appends, so that a disk that slows down hits both; the
           ratios are medians over the turns. `book` is `Book.append`, which also reads on, decides, checks the event
           against the state and folds it; `insert` is SQLite without commits and hashes: an event as JSON text. What
           must hold is the hardest of them for the log: `log` beside `insert`.
opening    `open_book` in a process of its own, imports apart: 100,000 events in as many commits, 1,000,000 in commits
           of a thousand; four events an order. The books are written without flushes, since that is not timed.
processes  eight that append to one book, one event a commit; afterwards the book holds exactly what they were told.
"""

from __future__ import annotations

import argparse
import json
import secrets
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

HERE = Path(__file__).resolve().parent
LEAST_RATIO = 0.5
SECONDS = {100_000: 1.0, 1_000_000: 5.0}
EACH_COMMIT = {100_000: 1, 1_000_000: 1_000}
WRITERS = 8
START = datetime(2026, 1, 5, 14, 30, tzinfo=UTC)


def order(number: int) -> list:
    """The four events of one order."""
    from ledger_pipeline.core.events import Event

    symbol = ("VTI", "VXUS", "BND", "QQQ")[number % 4]
    common = {
        "occurred_at": START + timedelta(seconds=number),
        "order_id": f"dca.2026-01-05.{symbol}.{number}",
        "strategy": "dca",
        "symbol": symbol,
        "side": "BUY",
    }
    plan = {"type": "market", "time_in_force": "day", "session": "2026-01-05", "attempt": 1}
    ids = {"broker_order_id": f"b0e2c6d4-{number:012d}"}
    amounts = {"quantity": Decimal("2.7"), "price": Decimal("250.25"), "fee": Decimal("0.01")}
    paid = -(amounts["quantity"] * amounts["price"] + amounts["fee"])
    filled = {"fill_id": f"20260105::{number:012d}", "payload": {"cumulative": "2.7", "leaves": "0"}}
    return [
        Event(kind="ORDER_INTENDED", quantity=amounts["quantity"], reasons=("UNDERWEIGHT",), payload=plan, **common),
        Event(kind="ORDER_SUBMITTED", **common),
        Event(kind="ORDER_ACKNOWLEDGED", **ids, **common),
        Event(kind="FILLED", cash_delta=paid, **amounts, **ids, **filled, **common),
    ]


Append = Callable[[object], None]


def log_way(folder: Path) -> Append:
    """The log alone."""
    from dataclasses import replace

    from ledger_pipeline.book.log.log import Log

    log = Log.open(folder / "log", "log")

    def append(event) -> None:
        log.refresh()
        seq = log.head.events + 1
        log.append([replace(event, book="log", seq=seq, event_id=f"log-{seq}")])

    return append


def book_way(folder: Path) -> Append:
    """The whole book."""
    from ledger_pipeline.book.book import open_book

    book = open_book(folder / "book")
    return lambda event: book.append([event])


def database(path: Path, table: str) -> sqlite3.Connection:
    """A SQLite file as durable as the log."""
    made = sqlite3.connect(path, isolation_level=None)
    made.execute("pragma journal_mode=wal")
    made.execute("pragma synchronous=full")
    made.execute(f"create table commits {table}")
    return made


def sqlite_way(folder: Path) -> Append:
    """The same commits in SQLite."""
    from dataclasses import replace

    from ledger_pipeline.book.log.commits import GENESIS_HASH, Commit, as_read, encode

    file = database(folder / "sqlite.db", "(seq integer primary key, hash text not null, body blob not null)")

    def append(event) -> None:
        file.execute("begin immediate")
        head = file.execute("select seq, hash from commits order by seq desc limit 1").fetchone()
        seq, before = head or (0, GENESIS_HASH)
        events = (replace(event, book="log", seq=seq + 1, event_id=f"log-{seq + 1}"),)
        draft = Commit(seq + 1, before, "", "writer", secrets.token_hex(16), datetime.now(UTC), events)
        data = encode(draft)
        file.execute("insert into commits values (?, ?, ?)", (seq + 1, as_read(draft, data, "").hash, data))
        file.execute("commit")

    return append


def insert_way(folder: Path) -> Append:
    """Bare inserts into SQLite."""
    from ledger_pipeline.core.events import event_to_json

    file = database(folder / "insert.db", "(seq integer primary key, body text not null)")

    def append(event) -> None:
        file.execute("begin immediate")
        (last,) = file.execute("select coalesce(max(seq), 0) from commits").fetchone()
        file.execute("insert into commits values (?, ?)", (last + 1, json.dumps(event_to_json(event))))
        file.execute("commit")

    return append


WAYS = {"log": log_way, "sqlite": sqlite_way, "book": book_way, "insert": insert_way}


def compare_appends(work: Path, turns: int, count: int) -> float:
    """Print the speeds and return that of the log as a part of SQLite's, median of the turns."""
    folder = work / "appends"
    folder.mkdir()
    ways = {name: way(folder) for name, way in WAYS.items()}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(-1, turns):  # the first is not counted: it makes the folders of the day
        events = [order((turn + 1) * count + step)[0] for step in range(count)]
        for name, append in ways.items():
            started = time.perf_counter()
            for event in events:
                append(event)
            seconds[name].append((time.perf_counter() - started) / count)
    seconds = {name: each[1:] for name, each in seconds.items()}

    def ratio(one: str, other: str) -> float:
        return statistics.median(b / a for a, b in zip(seconds[one], seconds[other], strict=True))

    print(f"appends a second, one event a commit, flushed; medians of {turns} turns of {count}")
    for name, each in seconds.items():
        print(f"  {name:8} {1 / statistics.median(each):6,.0f}   (best turn {1 / min(each):,.0f})")
    print(f"  log / insert {ratio('log', 'insert'):.2f}, at least {LEAST_RATIO}")
    print(f"  log / sqlite {ratio('log', 'sqlite'):.2f}, book / insert {ratio('book', 'insert'):.2f}")
    return ratio("log", "insert")


def write_book(place: Path, count: int) -> None:
    """A book of `count` events, without flushes and with the C encoder: on such text it gives the RFC 8785 form too."""
    from dataclasses import replace

    from ledger_pipeline.book.log import commits
    from ledger_pipeline.book.log.local import LocalStore
    from ledger_pipeline.book.log.log import Log

    class Unflushed(LocalStore):
        def create(self, key: str, data: bytes) -> bool:
            path = self.root / key
            path.parent.mkdir(parents=True, exist_ok=True)
            return path.write_bytes(data) == len(data)

    encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode
    commits.canonical_json = lambda value: encode(value).encode()
    log = Log(Unflushed(place), place.name, clock=lambda: START)

    def given() -> Iterator:
        seq = 0
        while True:
            for event in order(seq // 4):
                seq += 1
                yield replace(event, book=log.book, seq=seq, event_id=f"{log.book}-{seq}")

    events = given()
    for _ in range(count // EACH_COMMIT[count]):
        log.append([next(events) for _ in range(EACH_COMMIT[count])])


def open_once(place: Path) -> dict:
    """Open a book and say how long that took."""
    from ledger_pipeline.book.book import open_book

    started = time.perf_counter()
    book = open_book(place)
    opened = time.perf_counter() - started
    book.ledger()
    return {
        "open_s": opened,
        "ledger_s": time.perf_counter() - started - opened,
        "events": book.head.events,
        "orders": len(book.state.orders),
    }


def append_many(place: Path, number: int, count: int) -> list[str]:
    """Append `count` intents and return the order ids that are stored."""
    from ledger_pipeline.book.book import open_book

    book = open_book(place)
    return [book.append(order(number * count + step)[:1])[0].order_id for step in range(count)]


def in_process(*arguments: object) -> subprocess.Popen:
    """This program for one task, which prints JSON."""
    command = [sys.executable, str(Path(__file__).resolve()), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def answer(process: subprocess.Popen, timeout: float = 900) -> object:
    """What it printed."""
    printed, _ = process.communicate(timeout=timeout)
    if process.returncode:
        raise RuntimeError(f"{' '.join(process.args[2:])} failed")
    return json.loads(printed)


def time_opening(work: Path, count: int, repeats: int) -> float:
    """Print how long a book of `count` events takes to open and return the median seconds with a checkpoint."""
    place = work / f"book-{count}"
    answer(in_process("--write", place, count))
    without = answer(in_process("--open", place))  # reads every commit, and leaves a checkpoint
    reports = [answer(in_process("--open", place)) for _ in range(repeats)]
    if any(report["events"] != count for report in [without, *reports]):
        raise RuntimeError(f"the book of {count:,} events opened with {reports}")
    middle = {key: statistics.median(report[key] for report in reports) for key in ("open_s", "ledger_s")}
    size = sum(path.stat().st_size for path in (place / "checkpoints").iterdir()) / 1e6
    print(
        f"  {count:9,} events, {count // EACH_COMMIT[count]:7,} commits, {reports[0]['orders']:7,} orders: "
        f"{middle['open_s']:.2f} s (under {SECONDS[count]:g}), as a frame {middle['ledger_s']:.2f} s more, "
        f"checkpoint {size:.0f} MB; without one {without['open_s']:.1f} s"
    )
    shutil.rmtree(place)
    return middle["open_s"]


def eight_at_once(work: Path, count: int) -> list[str]:
    """What is wrong after eight processes appended at once; prints how fast they were."""
    from ledger_pipeline.book.book import open_book

    place = work / "book"
    started = time.perf_counter()
    processes = [in_process("--append", place, number, count) for number in range(WRITERS)]
    told = [name for process in processes for name in answer(process)]
    elapsed = time.perf_counter() - started
    book = open_book(place, read_only=True)
    verified = book.verify()
    stored = Counter(event.order_id for event in book.events())
    print(
        f"{WRITERS} processes at once, {count:,} commits each: {verified.commits:,} commits, "
        f"{verified.writers} writers, {elapsed:.1f} s with their start; lost {len(set(told) - set(stored))}, "
        f"double {sum(times - 1 for times in stored.values())}"
    )
    sound = stored == Counter(told) and verified.events == WRITERS * count
    return [] if sound else ["eight processes at once lost or doubled events"]


def main() -> int:
    """Measure all three; exit code 1 when one is beyond its limit."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: python benchmarks/book_log.py --events 100000",
    )
    parser.add_argument("--turns", type=int, default=100, help="turns of appending (100)")
    parser.add_argument("--appends", type=int, default=10, help="appends in a turn (10)")
    parser.add_argument("--each", type=int, default=100, help="appends of each of eight processes (100)")
    parser.add_argument("--events", default="100000,1000000", help="sizes to open (100000,1000000; minutes)")
    parser.add_argument("--write", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--open", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--append", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write:
        write_book(Path(options.write[0]), int(options.write[1]))
        print("true")
        return 0
    if options.open:
        print(json.dumps(open_once(options.open)))
        return 0
    if options.append:
        place, number, count = options.append
        print(json.dumps(append_many(Path(place), int(number), int(count))))
        return 0

    (HERE / "results").mkdir(exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="work-", dir=HERE / "results"))
    faults = []
    try:
        ratio = compare_appends(work, options.turns, options.appends)
        if ratio < LEAST_RATIO:
            faults.append(f"appends are {ratio:.2f} of SQLite's, not {LEAST_RATIO}")
        faults += eight_at_once(work, options.each)
        print("opening with a checkpoint, medians of 3 processes")
        for count in map(int, options.events.split(",") if options.events else ()):
            seconds = time_opening(work, count, 3)
            if seconds >= SECONDS[count]:
                faults.append(f"a book of {count:,} events opens in {seconds:.2f} s, not {SECONDS[count]:g}")
    finally:
        shutil.rmtree(work, ignore_errors=True)
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
