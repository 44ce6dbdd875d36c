"""What the work on orders goes by besides the book and the broker."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from ledger_pipeline.trading.orders.pretrade import Limits


@dataclass(frozen=True)
class Pace:
    """How long things may take, in seconds. poll, poll_longest: between two readings, doubled while nothing happens,
    since the broker counts requests. lookups, lookup_every: how many explicit answers that an order is not there, that
    far apart, before the same id is sent again. submit_within: from the pre-trade checks to the POST; later it is not
    made. sells_within: how long buys wait for the sells. resting_within: how long orders are waited for that the broker
    has and that may rest there until the session is over, limits and those for an auction.
    """

    poll: float = 1.0
    poll_longest: float = 15.0
    lookups: int = 3
    lookup_every: float = 2.0
    submit_within: float = 5.0
    sells_within: float = 120.0
    resting_within: float = 30.0


@dataclass(frozen=True)
class ExecutionContext:
    """root, environment: where the kill switch is looked for, None means this project and this process. now, monotonic:
    this machine's clocks; a broker whose time is virtual stands in for `now` where that is None. limits: what the
    pre-trade checks allow; pace: how long things may take.
    """

    root: Path | str | None = None
    environment: Mapping[str, str] | None = None
    now: Callable[[], datetime] | None = None
    monotonic: Callable[[], float] = time.monotonic
    limits: Limits = field(default_factory=Limits)
    pace: Pace = field(default_factory=Pace)
