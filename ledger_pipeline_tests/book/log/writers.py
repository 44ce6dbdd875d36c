"""Processes that append to one book: many at once, or one that is killed again and again. Run as a program.

It is a process of its own, because it forks: every writer starts in no time, with all that it imports.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable

from ledger_pipeline.book.book import open_book
from ledger_pipeline_tests.book.log.samples import deposit


def child(work: Callable[[int], None], told: int) -> int:
    """Fork; the child does work(told) and ends. Gives its process id."""
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        work(told)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def together(url: str, count: int, each: int) -> list[int]:
    """`count` processes append `each` events, one a commit, all at once. Gives what they were told is stored."""
    ready, go = os.pipe()
    told, tell = os.pipe()

    def work(number: int) -> None:
        os.close(go)
        book = open_book(url)
        os.read(ready, 1)  # ends when the parent closes its side
        for step in range(each):
            value = number * 1000 + step + 1
            (event,) = book.append([deposit(value)])
            os.write(tell, f"{event.payload.activity_id}\n".encode())

    processes = [child(lambda _, number=number: work(number), 0) for number in range(count)]
    os.close(tell)
    time.sleep(0.5)
    os.close(go)
    with open(told) as answers:
        values = answers.read().split()
    if any(os.waitpid(process, 0)[1] for process in processes):
        raise SystemExit("a writer failed")
    return values


def killed(url: str, rounds: int, seed: int) -> list[str]:
    """One process after the other appends without end and is killed at a random time. Gives what they were told is
    stored; each starts after the last value of the one before, whether that was stored or not.
    """
    chance = random.Random(seed)
    stored: list[str] = []
    for number in range(rounds):
        told, tell = os.pipe()

        def work(tell: int, number: int = number) -> None:
            book = open_book(url)
            for step in range(100_000):
                (event,) = book.append([deposit(number * 100_000 + step + 1)])
                os.write(tell, f"{event.payload.activity_id}\n".encode())

        process = child(work, tell)
        os.close(tell)
        time.sleep(chance.uniform(0.01, 0.25))
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        with open(told) as answers:
            stored += answers.read().split()
    return stored


if __name__ == "__main__":
    name, url, *numbers = sys.argv[1:]
    work = {"together": together, "killed": killed}[name]
    print(json.dumps(work(url, *map(int, numbers))))
