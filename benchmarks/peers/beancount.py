"""beancount: its booking of the same trades, one account a strategy, FIFO.

Run by `attribution.py` in beancount's own environment: reads the trades from a JSON file, prints a line of JSON. Timed
is `booking.book` alone, the step that finds the lots of each sale; the directives are made before. Fees are left out,
since beancount puts none into a lot's cost.
"""

from __future__ import annotations

import datetime
import json
import sys
import time
from decimal import Decimal
from pathlib import Path


def directives(trades: list[list]) -> list:
    """Opening directives and one transaction a trade [day, strategy, symbol, shares (signed), price]."""
    from beancount.core import data
    from beancount.core.amount import Amount
    from beancount.core.number import MISSING
    from beancount.core.position import CostSpec

    first = datetime.date(1900, 1, 1)
    names = sorted({trade[1] for trade in trades})
    found = [data.Open(data.new_metadata("t", 0), first, f"Assets:{name}", None, data.Booking.FIFO) for name in names]
    found += [data.Open(data.new_metadata("t", 0), first, name, None, None) for name in ("Assets:Cash", "Income:Gains")]
    for line, (day, strategy, symbol, shares, price) in enumerate(trades, 1):
        number, at = Decimal(shares), Decimal(price)
        meta, on = data.new_metadata("t", line), first + datetime.timedelta(days=day)
        held, cash = Amount(number, symbol), Amount(-number * at, "USD")
        if number > 0:
            cost = CostSpec(at, None, "USD", None, None, False)
            legs = [
                data.Posting(f"Assets:{strategy}", held, cost, None, None, {}),
                data.Posting("Assets:Cash", cash, None, None, None, {}),
            ]
        else:
            cost = CostSpec(MISSING, None, MISSING, None, None, False)
            legs = [
                data.Posting(f"Assets:{strategy}", held, cost, Amount(at, "USD"), None, {}),
                data.Posting("Assets:Cash", cash, None, None, None, {}),
                data.Posting("Income:Gains", MISSING, None, None, None, {}),
            ]
        found.append(data.Transaction(meta, on, "*", None, "trade", frozenset(), frozenset(), legs))
    return found


def main() -> None:
    """Book the trades of the file named in the first argument, as often as the second says."""
    from beancount.parser import booking, options

    trades = json.loads(Path(sys.argv[1]).read_text())
    seconds = []
    for _ in range(int(sys.argv[2])):
        made = directives(trades)
        started = time.process_time()
        booked, errors = booking.book(made, options.OPTIONS_DEFAULTS)
        seconds.append(time.process_time() - started)
        if errors:
            raise SystemExit(str(errors[0]))
    sold = [leg for entry in booked for leg in getattr(entry, "postings", ()) if leg.price is not None]
    gains = -sum(leg.units.number * (leg.price.number - leg.cost.number) for leg in sold)  # the leg Gains is rounded
    print(json.dumps({"cpu_s": min(seconds), "realised": str(gains)}))


if __name__ == "__main__":
    main()
