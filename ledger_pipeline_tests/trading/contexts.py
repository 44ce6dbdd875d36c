"""Arguments of an execution as tests write them: those of its context among the others."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from ledger_pipeline.trading.orders.execution_context import ExecutionContext


def in_context(**given: Any) -> dict[str, Any]:
    """The arguments, with those of an ExecutionContext in one."""
    names = [item.name for item in fields(ExecutionContext) if item.name in given]
    return {"context": ExecutionContext(**{name: given.pop(name) for name in names}), **given}
