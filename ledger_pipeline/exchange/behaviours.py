"""What the local exchange does like Alpaca, and how we know: documented by Alpaca, observed by others, or assumed.

Alpaca itself was never contacted for this. What is assumed is our reading, chosen so that it is either harmless or the
harder case for the caller.
"""

from __future__ import annotations

DOCUMENTED, OBSERVED, ASSUMED = "documented", "observed", "assumed"

BEHAVIOURS: tuple[tuple[str, str], ...] = (
    (DOCUMENTED, "Fields and forms of orders, positions, account, activities, clock, calendar, assets, bars, actions."),
    (DOCUMENTED, "Day, opg and cls orders; opg until 9:28 and cls until 15:50, unfilled ones are canceled."),
    (DOCUMENTED, "An order sent while the market is closed is accepted and released at the next open."),
    (DOCUMENTED, "client_order_id: 128 characters at most, unique in the account."),
    (DOCUMENTED, "Notional and fractional orders are for the day; notional orders cannot be replaced."),
    (DOCUMENTED, "PATCH makes a new order (replaces, replaced_by); DELETE of all answers 207 with a row each."),
    (DOCUMENTED, "Buying power holds back open buys; a queued market buy is counted with a collar of 4 %."),
    (DOCUMENTED, "No second notional sell beside an open sell of the symbol."),
    (DOCUMENTED, "Activities: page_token is the last id of the page before, 100 rows a page; fees come a day later."),
    (DOCUMENTED, "Stream: authenticate, listen, trade_updates; binary frames; nothing is replayed after a drop."),
    (DOCUMENTED, "Splits and dividends change the account without an order; no pattern-day-trader fields."),
    (OBSERVED, "Duplicate id: 422, code 40010001, even after a cancel; the reply holds no order."),
    (OBSERVED, "403, code 40310000 for buying power, shares, wash trade, not fractionable, below a dollar, suspended."),
    (OBSERVED, "Notional has two decimals at most (422, code 42210000), quantities nine."),
    (OBSERVED, "A submit answers pending_new while the market is open; new and fills follow."),
    (OBSERVED, "Cancel of a final order: 422, code 42210000, order is already in ... state."),
    (OBSERVED, "Cash is in whole cents and fits fills rounded to the nearest cent."),
    (OBSERVED, "Activity ids begin with New York time; rows of the same millisecond come in no order."),
    (OBSERVED, "Bad keys: 401 with a message and no code."),
    (ASSUMED, "A notional order buys floor(notional / price) at nine decimals."),
    (ASSUMED, "Prices: the open of a bar from its start to its end, then its close; limits by the range as it ends."),
    (ASSUMED, "Orders find any quantity; parts, and prices that move between them, only by setting or the admin API."),
    (ASSUMED, "A refused submit does not use up its id (setting burn_refused_ids); an id is never free again."),
    (ASSUMED, "Long only, multiplier 1; cash goes below zero when a queued buy fills above its estimate."),
    (ASSUMED, "Splits come at the open of the ex-date and cancel the symbol's orders (setting split_orders)."),
    (ASSUMED, "Dividends are paid at the open of the ex-date, on the shares held at the close before."),
    (ASSUMED, "The opening cash is a CSD activity at the start, so cash is always the sum of the activities."),
    (ASSUMED, "A bust or correction is a FILL row with a new id, previous_id, and type trade_bust or trade_correct."),
    (ASSUMED, "execution_id of the stream has nothing to do with the activity's id."),
    (ASSUMED, "The qty of a PATCH is the whole wanted; what was filled before is taken off the new order."),
    (ASSUMED, "Regulatory fees: 27.80 a million dollars sold and 0.000166 a share, off unless set."),
    (ASSUMED, "An unknown symbol is 422, code 42210000; codes of blocked accounts and malformed bodies."),
    (ASSUMED, "Corporate actions are told from their ex-date on; only splits and cash dividends are there."),
    (ASSUMED, "Extended hours are accepted on limit orders and mean nothing here."),
)  # fmt: skip


def as_text() -> str:
    """The list, a line each, by tag."""
    lines = []
    for tag in (DOCUMENTED, OBSERVED, ASSUMED):
        lines.append(f"{tag}:")
        lines += [f"  - {what}" for kind, what in BEHAVIOURS if kind == tag]
    return "\n".join(lines)
