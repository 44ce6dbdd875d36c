"""Where a broker is, and the keys to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

TARGETS = ("exchange", "paper", "live")  # the brokers there are; `connect` has the adapter of each


@dataclass(frozen=True)
class Endpoint:
    """Where a broker is: the addresses of its orders, its market data and its stream of updates."""

    environment: str  # exchange, paper or live
    trading: str
    data: str
    stream: str

    @property
    def is_local(self) -> bool:
        """Whether it is a simulator on this machine."""
        return self.environment == "exchange"


@dataclass(frozen=True)
class Keys:
    """A key and its secret; neither is ever shown."""

    key: str = field(repr=False)
    secret: str = field(repr=False)

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("keys are never stored")
