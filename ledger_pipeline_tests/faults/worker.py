"""One process that trades: reconcile (adopt at first), then execute, against the exchange that the environment names.

    LEDGER_PIPELINE_EXCHANGE_URL=... python -m ledger_pipeline_tests.faults.worker ROOT BOOK LEGS.json

It prints one line of JSON, and its exit codes are those of the command line. LEDGER_PIPELINE_CRASH_AT ends it at a
crash point of the product. Finer places are named in FAULT_AT, for which it replaces system calls of its own:

    tear 4       the fourth write to the book stores half of its bytes, then the process dies, as in a power cut
    unlinked 4   it dies before the fourth object of the book gets its name
    linked 4     it dies when the fourth object has its name, before the directory is flushed
    stop NAME    it stops (SIGSTOP) at the crash point NAME, until somebody continues it
    slow 0.5     its on_progress callback takes half a second each time
    deaf         it does not listen to SIGTERM

`Workers` starts them without the two seconds that importing the broker's client takes: one process has everything
imported, no thread and no connection, and forks a worker for each job. Every worker has an alarm that ends it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

FAULT_AT = "LEDGER_PIPELINE_TESTS_FAULT_AT"
CRASHED = 137
LONGEST = 60  # seconds that a worker may live
POLICY = "core"


def work(root: Path, book_url: str, rows: Sequence[Mapping[str, Any]], timeout: float) -> tuple[int, dict[str, Any]]:
    """Reconcile and execute; the exit code, and what is printed."""
    from ledger_pipeline.book.book import open_book
    from ledger_pipeline.core.errors import LedgerPipelineError
    from ledger_pipeline.trading.connect import connect
    from ledger_pipeline.trading.orders.execution_context import ExecutionContext, Pace
    from ledger_pipeline.trading.orders.executor import execute
    from ledger_pipeline.trading.orders.legs import Leg
    from ledger_pipeline.trading.reconciliation.adopt import adopt
    from ledger_pipeline.trading.reconciliation.reconcile import reconcile

    _arrange_faults(os.environ.get(FAULT_AT, ""))
    legs = [Leg(**{**row, "reasons": tuple(row.get("reasons", ("DCA",)))}) for row in rows]
    pace = Pace(poll=0.05, poll_longest=0.2, lookups=2, lookup_every=0.1, sells_within=20)
    try:
        with connect() as broker:
            book = open_book(book_url)
            if book.state.seq <= 1:
                adopt(book, broker, by="worker", reason="a new book")
            found = reconcile(book, broker)
            told: dict[str, Any] = {"clean": found.clean, "digest": found.digest}
            if not found.clean:
                return 7, told | {"breaks": [item.break_id for item in found.breaks]}
            done = execute(
                legs,
                book,
                broker,
                policy=POLICY,
                timeout=timeout,
                on_progress=_progress(),
                context=ExecutionContext(root=root, pace=pace),
            )
            return (3 if done.status == "BLOCKED" else 0), told | {"status": done.status, "notes": list(done.notes)}
    except LedgerPipelineError as error:
        return error.exit_code, {"error": type(error).__name__, "why": str(error)}


def _progress() -> Callable[[str], None]:
    what, _, seconds = os.environ.get(FAULT_AT, "").partition(" ")
    return lambda sentence: time.sleep(float(seconds)) if what == "slow" else None


def _arrange_faults(text: str) -> None:
    what, _, where = text.partition(" ")
    if what == "stop":
        _stop_at(where)
    elif what == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    elif what in ("tear", "unlinked", "linked"):
        _die_in_store(what, int(where))


def _stop_at(place: str) -> None:
    from ledger_pipeline.trading.orders import executor, submit
    from ledger_pipeline.trading.reconciliation import ingest, reconcile

    def stop(name: str) -> None:
        if name == place:
            os.kill(os.getpid(), signal.SIGSTOP)

    for module in (executor, ingest, reconcile, submit):
        module.crash_point = stop


def _die_in_store(what: str, nth: int) -> None:
    """Replace the calls of the local store that make an object: it has one write and one link for each."""
    from ledger_pipeline.book.log import local

    left = nth
    write, link = os.write, os.link

    class System:
        """`os`, but for two calls."""

        def __getattr__(self, name: str) -> Any:
            return getattr(os, name)

        def write(self, handle: int, data: Any) -> int:
            nonlocal left
            if what == "tear":
                left -= 1
                if left == 0:
                    write(handle, bytes(data)[: len(data) // 2])
                    os._exit(CRASHED)
            return write(handle, data)

        def link(self, *arguments: Any, **options: Any) -> None:
            nonlocal left
            if what != "tear":
                left -= 1
            if left == 0 and what == "unlinked":
                os._exit(CRASHED)
            link(*arguments, **options)
            if left == 0 and what == "linked":
                os._exit(CRASHED)

    local.os = System()


@dataclass(frozen=True)
class Job:
    """What a worker is to do. env: more of its environment. out: the file that it prints to."""

    root: str
    book: str
    legs: list[dict[str, Any]]
    out: str
    timeout: float = 20.0
    env: dict[str, str] = field(default_factory=dict)


class Workers:
    """Starts workers by forking a process that has everything imported."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._running: set[int] = set()
        if not self._process.stdout.readline():
            raise RuntimeError("the process that starts workers did not start")

    def start(self, job: Job) -> int:
        """Start a worker; its process id."""
        pid = self._ask({"start": asdict(job)})
        self._running.add(pid)
        return pid

    def wait(self, pid: int, job: Job) -> tuple[int, dict[str, Any]]:
        """The exit code of a worker (minus the number of the signal that ended it) and what it printed."""
        code = self._ask({"wait": pid})
        self._running.discard(pid)
        text = Path(job.out).read_text() if Path(job.out).exists() else ""
        return code, json.loads(text) if text else {}

    def run(self, job: Job) -> tuple[int, dict[str, Any]]:
        """Start a worker and wait for it."""
        return self.wait(self.start(job), job)

    def close(self) -> None:
        """End it, and the workers that a failed test has left."""
        for pid in self._running:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()

    def _ask(self, what: Mapping[str, Any]) -> int:
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


def stopped(pid: int, seconds: float = 20.0) -> None:
    """Wait until a worker has stopped itself; AssertionError when it does not."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with suppress(FileNotFoundError):
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T":
                return
        time.sleep(0.01)
    raise AssertionError(f"worker {pid} did not stop within {seconds} s")


def _serve() -> None:
    import alpaca.data.historical  # noqa: F401
    import alpaca.trading.client  # noqa: F401

    import ledger_pipeline.book.book  # noqa: F401
    import ledger_pipeline.trading.alpaca.broker  # noqa: F401
    import ledger_pipeline.trading.orders.executor  # noqa: F401
    import ledger_pipeline.trading.reconciliation.adopt  # noqa: F401
    import ledger_pipeline.trading.reconciliation.reconcile  # noqa: F401

    print("ready", flush=True)
    for line in sys.stdin:
        what = json.loads(line)
        if "start" in what:
            job = Job(**what["start"])
            pid = os.fork()
            if pid == 0:
                _child(job)
            print(pid, flush=True)
        else:
            print(os.waitstatus_to_exitcode(os.waitpid(what["wait"], 0)[1]), flush=True)


def _child(job: Job) -> None:
    code = 1
    try:
        signal.alarm(LONGEST)
        os.environ.update(job.env)
        code, told = work(Path(job.root), job.book, job.legs, job.timeout)
        Path(job.out).write_text(json.dumps(told))
    except BaseException:
        import traceback

        Path(job.out).write_text(json.dumps({"error": "crashed", "why": traceback.format_exc()}))
    finally:
        os._exit(code)


def main(arguments: Sequence[str]) -> int:
    """Work as the command line asks."""
    if arguments == ["--serve"]:
        _serve()
        return 0
    root, book, legs = arguments
    signal.alarm(LONGEST)
    code, told = work(Path(root), book, json.loads(Path(legs).read_text()), 20.0)
    print(json.dumps(told), flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
