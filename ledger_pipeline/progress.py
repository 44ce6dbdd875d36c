"""Progress of long work, told to whoever listens in the same process; nobody by default."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar

Listener = Callable[[int, int, str], None]

_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


def report(done: int, total: int, what: str) -> None:
    """Say that `done` of `total` pieces are finished and `what` comes next or was last."""
    listener = _listener.get()
    if listener is not None:
        listener(done, total, what)


def listen(listener: Listener | None) -> None:
    """Have progress told to `listener` from now on; None stops it."""
    _listener.set(listener)
