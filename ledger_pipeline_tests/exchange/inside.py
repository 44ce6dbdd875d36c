"""The exchange without its process, for tests that make thousands of effects."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from ledger_pipeline.exchange.engine import Exchange
from ledger_pipeline.exchange.server import Options, begin_account
from ledger_pipeline.exchange.state import Store


def founded(at: str, **options: Any) -> Exchange:
    """An exchange in memory whose clock is at `at`."""
    store = Store(":memory:")
    cash = Decimal(options.pop("cash", 10_000))
    with store.transaction():
        begin_account(store, Options(state=Path("unused"), start=datetime.fromisoformat(at), cash=cash, **options))
        store.keep_foundation()
    return Exchange(store)


def order(symbol: str, side: str, *, type: str = "market", tif: str = "day", **fields: Any) -> dict[str, Any]:
    """The body of a POST."""
    body = {"symbol": symbol, "side": side, "type": type, "time_in_force": tif}
    return body | {name: value if isinstance(value, str) else Decimal(str(value)) for name, value in fields.items()}
