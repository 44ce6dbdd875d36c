"""The life of an order: its statuses, and the one state machine of all orders.

    INTENDED -> SUBMITTED -> (UNKNOWN) -> OPEN -> PARTIALLY_FILLED -> FILLED | CANCELED | EXPIRED | REJECTED | REPLACED

INTENDED: durable, nothing was sent. SUBMITTED: about to be sent, or sent. UNKNOWN: the submit had no clear answer.
OPEN: the broker has it. The five on the right are terminal.

TRANSITIONS says for each status and kind of event whether it is ALLOWED, LATE (a fact worth recording, and the status
stays) or REFUSED.
"""

from __future__ import annotations

INTENDED, SUBMITTED, UNKNOWN, OPEN, PARTIALLY_FILLED = (
    "INTENDED", "SUBMITTED", "UNKNOWN", "OPEN", "PARTIALLY_FILLED",
)  # fmt: skip
FILLED, CANCELED, EXPIRED, REJECTED, REPLACED = "FILLED", "CANCELED", "EXPIRED", "REJECTED", "REPLACED"
TERMINAL = (FILLED, CANCELED, EXPIRED, REJECTED, REPLACED)
STATUSES = (INTENDED, SUBMITTED, UNKNOWN, OPEN, PARTIALLY_FILLED, *TERMINAL)
OrderStatus = str  # one of STATUSES

CLOSING = {
    "ORDER_CANCELED": CANCELED,
    "ORDER_EXPIRED": EXPIRED,
    "ORDER_REJECTED": REJECTED,
    "ORDER_REPLACED": REPLACED,
}
FILL_KINDS = ("FILLED", "FILL_CORRECTED", "FILL_BUSTED")
ORDER_KINDS = ("ORDER_INTENDED", "ORDER_SUBMITTED", "SUBMIT_UNKNOWN", "ORDER_ACKNOWLEDGED", *CLOSING, *FILL_KINDS)

ALLOWED, LATE, REFUSED = "allowed", "late", "refused"


def _row(allowed: str = "", late: str = "") -> dict[str, str]:
    """What one status makes of each kind of event; what is not named is refused."""
    return {
        kind: ALLOWED if kind in allowed.split() else LATE if kind in late.split() else REFUSED for kind in ORDER_KINDS
    }


_ENDS = "ORDER_REJECTED ORDER_CANCELED ORDER_EXPIRED ORDER_REPLACED"
_ENDED = _row(late="SUBMIT_UNKNOWN ORDER_ACKNOWLEDGED FILLED FILL_CORRECTED FILL_BUSTED")
# A submit is refused unless it is the first, or the one before it was found to have no clear answer: of two processes
# that are about to send the same order, one is told so before it sends.
TRANSITIONS: dict[tuple[OrderStatus, str], str] = {
    (status, kind): verdict
    for status, row in {
        INTENDED: _row(f"ORDER_SUBMITTED ORDER_ACKNOWLEDGED FILLED {_ENDS}"),
        SUBMITTED: _row(f"SUBMIT_UNKNOWN ORDER_ACKNOWLEDGED FILLED {_ENDS}"),
        UNKNOWN: _row(f"ORDER_SUBMITTED ORDER_ACKNOWLEDGED FILLED {_ENDS}"),
        OPEN: _row(f"FILLED {_ENDS}", "SUBMIT_UNKNOWN ORDER_ACKNOWLEDGED"),
        PARTIALLY_FILLED: _row(
            f"FILLED FILL_CORRECTED {_ENDS}", "SUBMIT_UNKNOWN ORDER_ACKNOWLEDGED FILL_BUSTED"
        ),
        **dict.fromkeys(TERMINAL, _ENDED),
    }.items()
    for kind, verdict in row.items()
}  # fmt: skip
