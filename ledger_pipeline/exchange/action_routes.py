"""The corporate actions API, /v1/corporate-actions: splits and cash dividends of the snapshot, by ex-date.

Only what has happened by the exchange's clock is told: an action from the day on that is its ex-date.
"""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ledger_pipeline.exchange import refusals, wire
from ledger_pipeline.exchange.routes import exchange_of, reply, routes, whole

_TYPES = {"cash_dividend": "cash_dividends", "forward_split": "forward_splits", "reverse_split": "reverse_splits"}


async def corporate_actions(request: Request) -> Response:
    """Splits and dividends by type, ascending by ex-date, page by page; by default those of today."""
    exchange, query = exchange_of(request), request.query_params
    today = f"{exchange.now.astimezone(wire.NEW_YORK):%Y-%m-%d}"
    symbols = {name for name in query.get("symbols", "").split(",") if name}
    types = {_TYPES.get(name, "") for name in query.get("types", ",".join(_TYPES)).split(",")}
    first = whole(request, "page_token", 0, 10**9) if query.get("page_token") else 0
    limit = whole(request, "limit", 100, 1000)
    start, end = query.get("start", today), min(query.get("end", today), today)
    if start > query.get("end", today):
        raise refusals.Refusal(400, None, "invalid request: start is after end")
    cursor = exchange.store.db.execute(
        "select symbol, day, kind, value from actions where day >= ? and day <= ? order by day, symbol, kind",
        (start, end),
    ).fetchall()
    rows = [
        (group, row)
        for symbol, day, kind, value in cursor
        if not symbols or symbol in symbols
        for group, row in [_row(symbol, day, kind, Decimal(value))]
        if group in types
    ]
    page = rows[first : first + limit]
    grouped: dict[str, list[dict[str, Any]]] = {}
    for group, row in page:
        grouped.setdefault(group, []).append(row)
    token = str(first + limit) if first + limit < len(rows) else None
    return reply({"corporate_actions": grouped, "next_page_token": token})


def _row(symbol: str, day: str, kind: str, value: Decimal) -> tuple[str, dict[str, Any]]:
    """The group of an action and how it is written there."""
    known = {
        "id": str(uuid5(NAMESPACE_URL, f"ledger_pipeline/action/{symbol}/{day}/{kind}")),
        "symbol": symbol,
        "process_date": day,
        "ex_date": day,
        "record_date": day,
        "payable_date": day,
    }
    if kind == "DIVIDEND":
        row = known | {"cusip": "000000000", "rate": float(value), "special": False, "foreign": False}
        return "cash_dividends", row
    ratio = Fraction(value).limit_denominator(1000)
    rates = {"new_rate": ratio.numerator, "old_rate": ratio.denominator}
    if ratio >= 1:
        return "forward_splits", known | rates | {"cusip": "000000000"}
    return "reverse_splits", known | rates | {"old_cusip": "000000000", "new_cusip": "000000001"}


def action_routes() -> list[Route]:
    """The routes of the corporate actions API."""
    return routes((("GET", "/v1/corporate-actions", corporate_actions),))
