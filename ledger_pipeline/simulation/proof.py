"""Proof that a run depends on its inputs alone: it is made again in another process, under other circumstances.

A tier says from the text what a strategy depends on. Here that is tried: a new process with another hash seed, time
zones, locale, home and directory, a clock that is more than a year ahead, `-O`, and memory filled with a pattern

- decides afresh at sampled pulses (drawn by the run's id, half of them before orders): for each, a strategy that has
  decided nothing before is given what ctx showed then, as it follows from the ledger, and must order what the run did;
- runs the whole experiment again, or a stretch of it where it is long, with the strategy's text executed anew for each
  pulse: the ledger must be the same to the bit.

What differs at one pulse alone is hidden memory: it would decide otherwise live. What differs in the whole run is
something that is neither ctx nor params: the order of a set, a clock, a time zone, an address, uninitialised memory.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ledger_pipeline.core.errors import IntegrityError
from ledger_pipeline.simulation.run import Run

SAMPLE = 24  # pulses that are decided afresh
STRETCH = 2_000_000  # bars: a longer run is made again up to here, unless everything is asked for
TIMEOUT = 900.0  # seconds for all runs of one proof
SEEDS = ("20011", "20021", "20023", "20029")  # of the hashes; two that order a set alike say nothing


@dataclass(frozen=True)
class Proof:
    """What came of it for one run. decided: pulses decided afresh; pulses: how many were run again; difference: what
    was not the same, with its likely cause; None when nothing was.
    """

    run_id: str
    decided: int
    pulses: int
    difference: str | None

    def require(self) -> Proof:
        """Itself when nothing differed; IntegrityError else."""
        if self.difference is not None:
            raise IntegrityError(f"run {self.run_id} cannot be reproduced: {self.difference}")
        return self


def prove(runs: Sequence[Run], *, everything: bool = False) -> list[Proof]:
    """Prove runs in another process, which is started at the first proof and waits for others until this one ends.
    `everything` runs long ones again as a whole, too, and those of tier 2 under several hash seeds, each in a process
    of its own: one order of a set may be the same by chance. IntegrityError when a process cannot be started or does
    not answer.
    """
    proofs = []
    for run in runs:
        seeds = SEEDS[1:] if everything and run.provenance["tier"] == 2 else ()
        others = [_Prover(seed) for seed in seeds]
        with tempfile.NamedTemporaryFile(prefix="proof-", suffix=".parquet") as file:
            file.write(run.events.to_parquet())
            file.flush()
            job = {
                "provenance": run.provenance,
                "snapshot": {"root": str(run.snapshot.path.parent), "id": run.snapshot.id},
                "ledger": file.name,
                "sample": SAMPLE,
                "stretch": None if everything else STRETCH,
            }
            proof = Proof(run.run_id, **_PROVER.ask(job))
            for other in others:
                if proof.difference is not None:
                    break
                try:
                    proof = Proof(run.run_id, **other.ask(job))
                finally:
                    other.end()
            proofs.append(proof)
    return proofs


def give_up() -> None:
    """End the other processes, whatever they are at; the next proof starts another."""
    for prover in tuple(_Prover.started):
        if prover.process is not None and prover.owner == os.getpid():
            prover.process.kill()


class _Prover:
    """The other process: one line of JSON a job, one line an answer. One job at a time."""

    started: ClassVar[set[_Prover]] = set()

    def __init__(self, seed: str) -> None:
        self.seed = seed
        self.lock = threading.Lock()
        self.process: subprocess.Popen[str] | None = None
        self.owner = 0

    def ask(self, job: dict[str, Any]) -> dict[str, Any]:
        """The answer to a job. IntegrityError without one, after ending the process."""
        with self.lock:
            process = self._running()
            try:
                process.stdin.write(json.dumps(job) + "\n")  # type: ignore[union-attr]
                process.stdin.flush()  # type: ignore[union-attr]
                with selectors.DefaultSelector() as waiting:
                    waiting.register(process.stdout, selectors.EVENT_READ)  # type: ignore[arg-type]
                    line = process.stdout.readline() if waiting.select(TIMEOUT) else None  # type: ignore[union-attr]
                if line is None:
                    raise TimeoutError(f"it took more than {TIMEOUT:g} s; is there a loop without end?")
                return json.loads(line)
            except (OSError, ValueError) as error:
                process.kill()
                process.wait()
                self.process = None
                raise IntegrityError(
                    f"the process that proves runs failed ({error or 'it ended'}); nothing is proven."
                ) from None

    def _running(self) -> subprocess.Popen[str]:
        if self.process is None or self.process.poll() is not None or self.owner != os.getpid():
            self.folder = tempfile.TemporaryDirectory(prefix="proof-")
            optimised = ["-O"] if __debug__ else []
            command = [sys.executable, *optimised, "-m", "ledger_pipeline.simulation.prover"]
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                env=_circumstances(self.folder.name, self.seed), cwd=self.folder.name, start_new_session=True,
            )  # fmt: skip
            self.owner = os.getpid()
            self.started.add(self)
        return self.process

    def end(self) -> None:
        """End the process."""
        with self.lock:
            if self.process is not None:
                self.process.stdin.close()  # type: ignore[union-attr]
                self.process.wait()
                self.process = None
            self.started.discard(self)


_PROVER = _Prover(SEEDS[0])


def _circumstances(folder: str, seed: str) -> dict[str, str]:
    paths = [*sys.path, os.getcwd()]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(os.path.abspath(path or ".") for path in paths),
        "PYTHONHASHSEED": seed if os.environ.get("PYTHONHASHSEED") != seed else "20047",
        "MALLOC_PERTURB_": "165",  # glibc fills what it hands out, and what is given back, with a pattern
        "HOME": folder,
        "LC_ALL": "C.UTF-8",
        "LANG": "C.UTF-8",
    }
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # what -O compiles is kept, else each process would do it again
    return environment
