"""A book under processes that are killed, and under eight that append at once: nothing is lost and nothing is double."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter

import pytest

from ledger_pipeline.book.book import open_book


def run(*arguments: object) -> list[str]:
    """What writers.py prints."""
    command = [sys.executable, "-m", "ledger_pipeline_tests.book.log.writers", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return json.loads(done.stdout)


def stored(url: str) -> Counter[str]:
    """How often each value is in the book, read anew and verified."""
    book = open_book(url, read_only=True)
    found = book.verify()
    events = list(book.events())
    assert [event.seq for event in events] == list(range(1, len(events) + 1)) and found.events == len(events)
    return Counter(event.payload.activity_id for event in events)


def test_eight_processes_at_once(url: str):
    told = run("together", url, 8, 12 if not url.startswith("s3") else 3)
    found = stored(url)
    assert found == Counter(told)
    assert len(told) == (96 if not url.startswith("s3") else 24) and max(found.values()) == 1


def check_killed(url: str, rounds: int, seed: int) -> None:
    told = run("killed", url, rounds, seed)
    found = stored(url)
    assert max(found.values()) == 1
    assert set(told) <= set(found)  # what a writer was told is stored, is stored
    extra = sorted(int(name[1:]) // 100_000 for name in set(found) - set(told))
    assert len(extra) == len(set(extra))  # of each writer at most the one that it was not told of any more
    assert len(told) > rounds


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_at_random_times(tmp_path, seed: int):
    check_killed(str(tmp_path / "paper"), 12, seed)


@pytest.mark.campaign
@pytest.mark.parametrize("seed", range(10, 20))
def test_killed_many_times(tmp_path, seed: int):
    check_killed(str(tmp_path / "paper"), 100, seed)


@pytest.mark.campaign
@pytest.mark.parametrize("number", range(10))
def test_eight_busy_processes(url: str, number: int):
    told = run("together", url, 8, 200 if not url.startswith("s3") else 20)
    assert stored(url) == Counter(told)
