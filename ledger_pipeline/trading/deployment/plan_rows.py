"""A decision as rows and series, for the command line, the UI and pictures. Amounts are decimal texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ledger_pipeline.core.amounts import decimal_text
from ledger_pipeline.trading.planning.planner import usd

if TYPE_CHECKING:
    from ledger_pipeline.trading.deployment.decision import Decision


def decision_rows(decided: Decision) -> list[dict[str, Any]]:
    """One row a leg: side, symbol, amount, for a policy the weights now, wanted and afterwards in percent, reasons."""
    weights = {row["symbol"]: row for row in (decided.evidence.get("plan") or {}).get("legs", ())}
    rows = []
    for leg in decided.legs:
        known = weights.get(leg.symbol)
        shares = "" if leg.quantity is None else f"{decimal_text(leg.quantity)} shares"
        rows.append(
            {
                "side": leg.side,
                "symbol": leg.symbol,
                "amount": shares if leg.notional is None else usd(leg.notional),
                **({} if known is None else {name: _percent(known[f"{name}_weight"]) for name in _WEIGHTS}),
                "reasons": ", ".join(leg.reasons),
            }
        )
    return rows


_WEIGHTS = ("current", "target", "resulting")


def weight_series(decided: Decision) -> tuple[list[str], dict[str, list[float]]]:
    """(symbols, percent by name) of a plan: what is held now, what is wanted, and what results; empty without legs."""
    legs = (decided.evidence.get("plan") or {}).get("legs", ())
    return [row["symbol"] for row in legs], {
        name: [100 * float(row[f"{name}_weight"]) for row in legs] for name in _WEIGHTS
    }


def _percent(weight: str) -> str:
    return f"{100 * float(weight):.2f}%"
