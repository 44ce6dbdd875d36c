"""Named places where a test may end the process, as a power cut would.

With the environment variable LEDGER_PIPELINE_CRASH_AT set to one of CRASH_POINTS (or to `name:3` for its third passing)
the process ends there by os._exit(137): nothing is flushed, closed or caught. It exists for tests of recovery, and
without the variable it does nothing.
"""

from __future__ import annotations

import os
from collections import Counter

VARIABLE = "LEDGER_PIPELINE_CRASH_AT"
EXIT_CODE = 137  # what a shell reports for kill -9
CRASH_POINTS = (
    "before_intent", "after_intent", "before_submit", "after_submit", "before_ack", "after_ack", "between_fills",
    "during_reconcile",
)  # fmt: skip

_passed: Counter[str] = Counter()


def crash_point(name: str) -> None:
    """End the process here if the environment asks for it."""
    chosen = os.environ.get(VARIABLE)
    if not chosen:
        return
    _passed[name] += 1
    place, _, nth = chosen.partition(":")
    if place == name and _passed[name] == int(nth or 1):
        os._exit(EXIT_CODE)
