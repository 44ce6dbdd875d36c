"""Exchanges for the tests: one process for a module, which begins again for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ledger_pipeline_tests.exchange import server


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[server.Served]:
    """An exchange at noon of 2026-01-05 (market open) with VTI 250, BND 72.50, AAPL 200 and ten thousand dollars."""
    with server.exchange(tmp_path_factory.mktemp("exchange")) as served:
        yield served


@pytest.fixture
def served(running: server.Served) -> server.Served:
    """The same, as fresh as just started."""
    running.admin.reset()
    return running
