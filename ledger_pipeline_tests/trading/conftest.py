"""Connections of one test to brokers in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from ledger_pipeline_tests.trading.loopback import Reach, connected


@pytest.fixture
def reach() -> Iterator[Reach]:
    """reach(fake): the adapter, connected to `fake` over loopback until the test ends."""
    with ExitStack() as stack:
        yield lambda fake: stack.enter_context(connected(fake))
