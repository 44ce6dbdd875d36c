"""Requests as tests write them."""

from __future__ import annotations

from typing import Any

from ledger_pipeline.core.order_terms import OrderTerms
from ledger_pipeline.trading.broker import OrderRequest


def order_request(client_order_id: str, *terms: Any, **more: Any) -> OrderRequest:
    """The request of an order with this id and these terms."""
    return OrderRequest(client_order_id, OrderTerms(*terms, **more))
