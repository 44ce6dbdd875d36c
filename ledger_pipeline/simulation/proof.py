"""Proof that a run depends on its inputs alone: it is made again in another process, under other circumstances.

A tier says from the text what a strategy depends on. Here that is tried: a new process with another hash seed, time
zone, locale and directory, a clock that is days ahead, `-O`, and memory filled with a pattern

- decides afresh at sampled pulses (drawn by the run's id, half of them before orders): for each, a strategy that has
  decided nothing before is given what ctx showed then, as it follows from the ledger, and must order what the run did;
- runs the whole experiment again, or a stretch of it where it is long: the ledger must be the same to the bit.

What differs at one pulse alone is hidden memory: it would decide otherwise live. What differs in the whole run is
something that is neither ctx nor params: the order of a set, a clock, a time zone, an address, uninitialised memory.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ledger_pipeline.errors import IntegrityError
from ledger_pipeline.simulation.run import Run

SAMPLE = 24  # pulses that are decided afresh
STRETCH = 2_000_000  # bars: a longer run is made again up to here, unless everything is asked for
TIMEOUT = 900.0  # seconds for all runs of one proof


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
    """Prove runs in one other process. `everything` runs long ones again as a whole, too. IntegrityError when the
    process cannot be started or does not answer.
    """
    jobs = [
        {
            "provenance": run.provenance,
            "snapshot": {"root": str(run.snapshot.path.parent), "id": run.snapshot.id},
            "ledger": None,
            "sample": SAMPLE,
            "stretch": None if everything else STRETCH,
        }
        for run in runs
    ]
    with tempfile.TemporaryDirectory(prefix="proof-") as folder:
        for number, (job, run) in enumerate(zip(jobs, runs, strict=True)):
            job["ledger"] = os.path.join(folder, f"{number}.parquet")
            with open(str(job["ledger"]), "wb") as file:
                file.write(run.events.to_parquet())
        answers = _ask(jobs, folder)
    return [Proof(run.run_id, **answer) for run, answer in zip(runs, answers, strict=True)]


def _ask(jobs: list[dict[str, Any]], folder: str) -> list[dict[str, Any]]:
    paths = [*sys.path, os.getcwd()]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(os.path.abspath(path or ".") for path in paths),
        "PYTHONHASHSEED": "20011" if os.environ.get("PYTHONHASHSEED") != "20011" else "20021",
        "MALLOC_PERTURB_": "165",  # glibc fills what it hands out, and what is given back, with a pattern
        "TZ": "Pacific/Kiritimati" if time.tzname[0] != "+14" else "America/St_Johns",
        "LC_ALL": "C.UTF-8",
        "LANG": "C.UTF-8",
    }
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # what -O compiles is kept, else each proof would do it again
    command = [sys.executable, "-O", "-m", "ledger_pipeline.simulation.prover"]
    try:
        done = subprocess.run(
            command,
            input=json.dumps(jobs),
            env=environment,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
        )
        answers = json.loads(done.stdout.rpartition("\n\n")[2]) if done.returncode == 0 else None
    except subprocess.TimeoutExpired:
        raise IntegrityError(
            f"the proof took more than {TIMEOUT:g} s and was ended: is there a loop without end?"
        ) from None
    except (OSError, ValueError):
        answers = None
    if answers is None:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise IntegrityError(f"the process that proves runs failed ({last}); nothing is proven.")
    return answers
