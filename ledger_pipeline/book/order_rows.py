"""All orders of a book in little room: objects for the few that live, one line of text for each that is settled.

A book of a million events holds hundreds of thousands of orders that will hardly be asked for again. Each is kept as
one line, fields separated by `|`, and becomes an Order when somebody asks; a checkpoint holds the same lines. A line is
canonical: equal orders give equal lines.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any
from urllib.parse import unquote

from ledger_pipeline.book.orders import Fill, Order, gross_of
from ledger_pipeline.core.amounts import EXACT, ZERO, decimal_text
from ledger_pipeline.core.errors import IntegrityError
from ledger_pipeline.core.order_terms import OrderTerms
from ledger_pipeline.core.times import time_text

_FIELDS = 27
_FILL_FIELDS = 8


def order_to_row(order: Order) -> str:
    """The order as one line. What follows from its other fields is left out."""
    return "|".join(
        (
            order.order_id,
            _text(order.strategy),
            _text(order.symbol),
            order.side,
            _amount(order.quantity),
            _amount(order.notional),
            _text(order.type),
            _amount(order.limit_price),
            _text(order.time_in_force),
            _text(order.session),
            str(order.attempt),
            time_text(order.intended_at),
            str(order.intended_seq),
            _text(order.replaces),
            ",".join(map(_text, order.reasons)),
            _text(order.correlation_id),
            _time(order.deadline),
            _text(order.broker_order_id),
            str(order.submits),
            str(order.unknowns),
            "1" if order.acknowledged else "",
            order.closed or "",
            _amount(order.stated_quantity),
            _text(order.reason),
            _text(order.replaced_by),
            ";".join([_fill("", fill) for fill in order.fills] + [_fill("!", fill) for fill in order.busted]),
            str(order.updated_seq),
        )
    )


def order_from_row(row: str) -> Order:
    """The order of `order_to_row`; IntegrityError when the line is none."""
    parts = row.split("|")
    try:
        if len(parts) != _FIELDS:
            raise ValueError(f"it has {len(parts)} fields")
        rows = [part.split("~") for part in parts[25].split(";")] if parts[25] else []
        fills = tuple(_fill_of(part) for part in rows if not part[0])
        busted = tuple(_fill_of(part) for part in rows if part[0])
        filled = value = fees = ZERO
        for fill in fills:
            filled = EXACT.add(filled, fill.quantity)
            value = EXACT.fma(fill.quantity, fill.price, value)
            fees = EXACT.add(fees, fill.fee)
        return Order(
            order_id=parts[0],
            strategy=_plain(parts[1]),
            terms=OrderTerms(
                _plain(parts[2]),
                parts[3],
                _number(parts[4]),
                _number(parts[5]),
                _plain(parts[6]),
                _number(parts[7]),
                _plain(parts[8]),
            ),
            session=_plain(parts[9]),
            attempt=int(parts[10]),
            intended_at=datetime.fromisoformat(parts[11]),
            intended_seq=int(parts[12]),
            replaces=_plain(parts[13]) or None,
            reasons=tuple(map(_plain, parts[14].split(","))) if parts[14] else (),
            correlation_id=_plain(parts[15]) or None,
            deadline=datetime.fromisoformat(parts[16]) if parts[16] else None,
            broker_order_id=_plain(parts[17]) or None,
            submits=int(parts[18]),
            unknowns=int(parts[19]),
            acknowledged=parts[20] == "1",
            closed=parts[21] or None,
            stated_quantity=_number(parts[22]),
            reason=_plain(parts[23]) or None,
            replaced_by=_plain(parts[24]) or None,
            fills=fills,
            busted=busted,
            updated_seq=int(parts[26]),
            filled=filled,
            filled_value=value,
            fees=fees,
            gross=gross_of((*fills, *busted)),
        )
    except (ValueError, IndexError, ArithmeticError) as error:
        raise IntegrityError(
            f"the stored order {parts[0]!r} cannot be read ({error}): delete the checkpoints."
        ) from None


def _fill(mark: str, fill: Fill) -> str:
    return "~".join(
        (
            mark,
            _text(fill.fill_id),
            decimal_text(fill.quantity),
            decimal_text(fill.price),
            "" if not fill.fee else decimal_text(fill.fee),
            time_text(fill.at),
            f"{_amount(fill.cumulative)}/{_amount(fill.leaves)}",
            _text(fill.corrects),
        )
    )


def _fill_of(parts: list[str]) -> Fill:
    if len(parts) != _FILL_FIELDS:
        raise ValueError(f"a fill has {len(parts)} fields")
    cumulative, _, leaves = parts[6].partition("/")
    return Fill(
        fill_id=_plain(parts[1]),
        quantity=Decimal(parts[2]),
        price=Decimal(parts[3]),
        fee=Decimal(parts[4]) if parts[4] else ZERO,
        at=datetime.fromisoformat(parts[5]),
        cumulative=_number(cumulative),
        leaves=_number(leaves),
        corrects=_plain(parts[7]) or None,
    )


def _amount(value: Decimal | None) -> str:
    return "" if value is None else decimal_text(value)


def _number(text: str) -> Decimal | None:
    return Decimal(text) if text else None


def _time(value: datetime | None) -> str:
    return "" if value is None else time_text(value)


def _text(value: str | None) -> str:
    """Free text without the separators of a line: each of them, and %, as % and two hexadecimal digits."""
    if not value:
        return ""
    if value.isalnum():
        return value
    value = value.replace("%", "%25").replace("|", "%7C").replace(";", "%3B").replace("~", "%7E")
    return value.replace(",", "%2C")


def _plain(text: str) -> str:
    return unquote(text) if "%" in text else text


class Orders(Mapping[str, Order]):
    """Orders by order_id, in the order in which they were first put. `live` are those that are not settled.

    `beneath` are the orders of the state that a trial was made from: they are read and never written.
    """

    def __init__(self, rows: Iterable[str] = (), beneath: Orders | None = None) -> None:
        lines = list(rows)
        self.beneath = beneath
        self.live: dict[str, Order] = {}
        self.rows: dict[str, str] = dict(zip([line.partition("|")[0] for line in lines], lines, strict=True))
        self._by_broker: dict[str, str] | None = None

    def put(self, order: Order) -> None:
        """Keep this order in the place of the one with its id."""
        name = order.order_id
        if order.is_settled:
            self.live.pop(name, None)
            self.rows[name] = order_to_row(order)
        else:
            self.rows.pop(name, None)
            self.live[name] = order
        if self._by_broker is not None and order.broker_order_id:
            self._by_broker[order.broker_order_id] = name

    def get(self, order_id: Any, default: Order | None = None) -> Order | None:  # type: ignore[override]
        """The order, else `default`."""
        order = self.live.get(order_id)
        if order is not None:
            return order
        row = self.rows.get(order_id)
        if row is not None:
            return order_from_row(row)
        return default if self.beneath is None else self.beneath.get(order_id, default)

    def unsettled(self) -> list[Order]:
        """The orders that are not settled, in the order of their intents."""
        orders = dict(self.live)
        if self.beneath is not None:
            below = self.beneath.unsettled()
            orders = {order.order_id: order for order in below if order.order_id not in self.rows} | orders
        return sorted(orders.values(), key=lambda order: (order.intended_seq, order.order_id))

    def lines(self) -> tuple[list[str], list[str]]:
        """The lines of the orders that are not settled, and of those that are, each by order_id."""
        live = {order.order_id: order_to_row(order) for order in self.unsettled()}
        return [row for _, row in sorted(live.items())], [row for _, row in sorted(self._settled().items())]

    def _settled(self) -> dict[str, str]:
        if self.beneath is None:
            return self.rows
        below = {name: row for name, row in self.beneath._settled().items() if name not in self.live}
        return below | self.rows

    def with_broker_id(self, broker_order_id: str) -> Order | None:
        """The order that the broker knows by this id. The first call reads all lines for an index."""
        if self._by_broker is None:
            self._by_broker = {_plain(row.split("|", 18)[17]): name for name, row in self.rows.items()}
            self._by_broker |= {order.broker_order_id or "": order.order_id for order in self.live.values()}
            self._by_broker.pop("", None)
        name = self._by_broker.get(broker_order_id)
        if name is not None:
            return self[name]
        return None if self.beneath is None else self.beneath.with_broker_id(broker_order_id)

    def __getitem__(self, order_id: str) -> Order:
        order = self.get(order_id)
        if order is None:
            raise KeyError(order_id)
        return order

    def __contains__(self, order_id: object) -> bool:
        return order_id in self.live or order_id in self.rows or (self.beneath is not None and order_id in self.beneath)

    def __iter__(self) -> Iterator[str]:
        if self.beneath is not None:
            yield from (name for name in self.beneath if name not in self.live and name not in self.rows)
        yield from self.rows
        yield from self.live

    def __len__(self) -> int:
        own = len(self.live) + len(self.rows)
        return own if self.beneath is None else sum(1 for _ in self)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Orders):
            return NotImplemented
        if self.beneath is None and other.beneath is None:
            return self.live == other.live and self.rows == other.rows
        return dict(self) == dict(other)

    __hash__ = None  # type: ignore[assignment]


class Ids:
    """Ids that were seen; those of a trial lie above those of its state, which are not written."""

    def __init__(self, seen: Iterable[str] = (), beneath: Ids | None = None) -> None:
        self.beneath = beneath
        self.own = set(seen)

    def add(self, name: str) -> None:
        """Note one id."""
        self.own.add(name)

    def before(self, name: str) -> bool:
        """Whether it was seen before this commit: in a trial, by the state that it was made from."""
        return name in (self if self.beneath is None else self.beneath)

    def __contains__(self, name: object) -> bool:
        return name in self.own or (self.beneath is not None and name in self.beneath)

    def __iter__(self) -> Iterator[str]:
        if self.beneath is not None:
            yield from (name for name in self.beneath if name not in self.own)
        yield from self.own

    def __len__(self) -> int:
        return len(self.own) if self.beneath is None else sum(1 for _ in self)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Ids):
            return NotImplemented
        if self.beneath is None and other.beneath is None:
            return self.own == other.own
        return set(self) == set(other)

    __hash__ = None  # type: ignore[assignment]
