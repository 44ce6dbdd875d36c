"""Events as tests write them: the kind by its name and the payload as on disk."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ledger_pipeline.core.events import Event, payload_of


def event_of(kind: str, payload: Mapping[str, Any] | None = None, **columns: Any) -> Event:
    """The event of a kind with this payload and these columns."""
    return Event(payload=payload_of(kind, payload or {}), **columns)
