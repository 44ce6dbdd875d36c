"""Copies of the process that proves runs: one that hangs is made again, and one that dies proves nothing."""

from __future__ import annotations

import os
import signal
import time

import pytest

from ledger_pipeline.simulation import prover


def test_an_answer_comes_back_whatever_it_is() -> None:
    assert prover._apart(lambda: "different") == "different"
    assert prover._apart(lambda: "") is None and prover._apart(lambda: None) is None
    assert prover._apart(lambda: 1 / 0) == "it fails: ZeroDivisionError: division by zero"


def test_one_that_is_killed_is_no_proof() -> None:
    """An empty answer means that nothing differs; a copy that was killed before it could answer must not mean that."""
    with pytest.raises(RuntimeError, match="ended without an answer"):
        prover._apart(lambda: os.kill(os.getpid(), signal.SIGKILL))


def hang_the_first(tmp_path, monkeypatch, times: int) -> None:
    work = prover._work_and_end

    def begin(*arguments: object) -> None:
        hung = len(list(tmp_path.iterdir()))
        if hung < times:
            (tmp_path / str(hung)).touch()
            time.sleep(600)
        work(*arguments)

    monkeypatch.setattr(prover, "_work_and_end", begin)
    monkeypatch.setattr(prover, "_BEGINS_WITHIN", 0.3)


def test_one_that_does_not_begin_is_made_again(tmp_path, monkeypatch) -> None:
    hang_the_first(tmp_path, monkeypatch, 2)
    assert prover._apart(lambda: "answer") == "answer" and len(list(tmp_path.iterdir())) == 2


def test_it_is_given_up_when_none_begins(tmp_path, monkeypatch) -> None:
    hang_the_first(tmp_path, monkeypatch, 99)
    with pytest.raises(RuntimeError, match="did not begin"):
        prover._apart(lambda: "answer")
