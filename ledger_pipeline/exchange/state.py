"""What the exchange remembers: one SQLite file, and nothing else.

Every effect is one transaction, committed before its reply leaves, so the process may be killed at any time and started
again on the same file. WAL with synchronous=NORMAL: it survives the death of the process, not that of the machine.
`record` is append-only (triggers refuse anything else): all requests, replies, versions of orders, fills, activities
and moves of the clock, in the order in which they happened. It is the oracle that a checker reads, here or at
GET /admin/record.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

from ledger_pipeline.core.errors import RefusedError, StorageError
from ledger_pipeline.exchange.accounts import Holding
from ledger_pipeline.exchange.orders import Order, from_row, to_row

FILE = "exchange.sqlite"
_SCHEMA = """
create table if not exists meta (name text primary key, value text not null) without rowid;
create table if not exists sessions (day text primary key, open integer not null, close integer not null) without rowid;
create table if not exists bars (symbol text, start integer, until integer not null, day text not null, open text not null, high text not null,
  low text not null, close text not null, volume real not null, primary key (symbol, start)) without rowid;
create index if not exists bars_by_end on bars (symbol, until);
create table if not exists quotes (symbol text, at integer, price text not null, primary key (symbol, at)) without rowid;
create table if not exists actions (symbol text, day text, kind text, value text not null, primary key (symbol, day, kind)) without rowid;
create table if not exists assets (symbol text primary key, id text not null, doc text not null) without rowid;
create table if not exists orders (id text primary key, client_order_id text unique not null, number integer unique not null,
  is_open integer not null, symbol text not null, submitted_at integer not null, doc text not null) without rowid;
create index if not exists orders_by_state on orders (is_open, number);
create table if not exists burned (client_order_id text primary key) without rowid;
create table if not exists positions (symbol text primary key, quantity text not null, cost text not null) without rowid;
create table if not exists activities (id text primary key, at integer not null, kind text not null, visible real not null,
  doc text not null) without rowid;
create index if not exists activities_by_time on activities (at, id);
create table if not exists record (seq integer primary key autoincrement, at integer not null, wall real not null,
  kind text not null, key text not null, doc text not null);
create index if not exists record_by_key on record (key, kind);
create trigger if not exists record_update before update on record begin select raise(abort, 'the record is append-only'); end;
create trigger if not exists record_delete before delete on record begin select raise(abort, 'the record is append-only'); end;
"""  # noqa: E501
_FOUNDED = ("meta", "quotes", "assets", "activities")


class Store:
    """The SQLite file in `directory`; ":memory:" keeps it in memory. Used by one thread."""

    def __init__(self, directory: str | Path) -> None:
        try:
            if str(directory) != ":memory:":
                Path(directory).mkdir(parents=True, exist_ok=True)
            path = ":memory:" if str(directory) == ":memory:" else str(Path(directory) / FILE)
            self.db = sqlite3.connect(path, isolation_level=None, timeout=1.0)
            if path != ":memory:":
                self.db.execute("pragma locking_mode=exclusive")  # a second exchange on the same state is refused
                self.db.execute("pragma journal_mode=wal")
                self.db.execute("pragma synchronous=normal")
                self.db.execute("begin immediate")
                self.db.execute("commit")
            self.db.executescript(_SCHEMA)
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise RefusedError(f"another exchange runs on {directory}: stop it or choose another place.") from None
            raise StorageError(f"the exchange cannot keep its state in {directory}: {error}.") from None
        except OSError as error:
            raise StorageError(f"the exchange cannot keep its state in {directory}: {error.strerror}.") from None

    def close(self) -> None:
        """Let go of the file."""
        self.db.close()

    def copy(self) -> Store:
        """The state as it is now, in memory."""
        other = Store(":memory:")
        self.db.backup(other.db)
        return other

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing."""
        self.db.execute("begin immediate")
        try:
            yield
        except BaseException:
            self.db.execute("rollback")
            raise
        self.db.execute("commit")

    def keep_foundation(self) -> None:
        """Remember the state as it is now, for `refound`."""
        for table in _FOUNDED:
            self.db.execute(f"create table founding_{table} as select * from {table}")

    def refound(self) -> None:
        """Go back to the state that `keep_foundation` remembered. The record stays: it only grows."""
        for table in (*_FOUNDED, "orders", "burned", "positions"):
            self.db.execute(f"delete from {table}" + (" where name <> 'session_years'" if table == "meta" else ""))
        for table in _FOUNDED:
            self.db.execute(f"insert or ignore into {table} select * from founding_{table}")

    def get(self, name: str, default: Any = None) -> Any:
        """A value of `meta`."""
        row = self.db.execute("select value from meta where name = ?", (name,)).fetchone()
        return default if row is None else json.loads(row[0])

    def put(self, name: str, value: Any) -> None:
        """Set a value of `meta`."""
        self.db.execute("insert or replace into meta values (?, ?)", (name, json.dumps(value)))

    def log(self, at: int, kind: str, key: str, doc: Any) -> int:
        """Append to the record; `at` is the exchange's own time in microseconds. Returns its seq."""
        row = (at, time.time(), kind, key, json.dumps(doc, default=str))
        return int(
            self.db.execute("insert into record (at, wall, kind, key, doc) values (?, ?, ?, ?, ?)", row).lastrowid or 0
        )

    def record(self, after: int = 0, kinds: tuple[str, ...] = (), limit: int = 100_000) -> list[dict[str, Any]]:
        """Rows of the record after `after`, ascending: seq, at (microseconds), wall (Unix time), kind, key, doc."""
        chosen = f"and kind in ({','.join('?' * len(kinds))})" if kinds else ""
        rows = self.db.execute(
            f"select seq, at, wall, kind, key, doc from record where seq > ? {chosen} order by seq limit ?",
            (after, *kinds, limit),
        )
        return [dict(zip(("seq", "at", "wall", "kind", "key", "doc"), row, strict=True)) | {"doc": json.loads(row[5])}
                for row in rows]  # fmt: skip

    def save_order(self, order: Order) -> None:
        """Insert or replace an order."""
        row = to_row(order)
        values = (order.id, order.client_order_id, order.number, order.is_open, order.symbol, row["submitted_at"])
        self.db.execute("insert or replace into orders values (?, ?, ?, ?, ?, ?, ?)", (*values, json.dumps(row)))

    def order(self, order_id: str) -> Order | None:
        """The order with this id."""
        row = self.db.execute("select doc from orders where id = ?", (order_id,)).fetchone()
        return None if row is None else from_row(json.loads(row[0]))

    def known_order(self, order_id: str) -> Order:
        """The order with this id, which is there."""
        order = self.order(order_id)
        assert order is not None, order_id
        return order

    def order_by_client_id(self, client_order_id: str) -> Order | None:
        """The order with this client_order_id."""
        row = self.db.execute("select doc from orders where client_order_id = ?", (client_order_id,)).fetchone()
        return None if row is None else from_row(json.loads(row[0]))

    def open_orders(self, symbol: str | None = None) -> list[Order]:
        """Orders that can still change, oldest first."""
        rows = self.db.execute("select doc from orders where is_open = 1 order by number").fetchall()
        orders = [from_row(json.loads(row[0])) for row in rows]
        return orders if symbol is None else [order for order in orders if order.symbol == symbol]

    def orders(self, where: str, values: tuple[Any, ...], *, descending: bool, limit: int) -> list[Order]:
        """Orders by a condition on number, is_open, symbol, submitted_at; `where` is never made from what was sent."""
        order = "desc" if descending else "asc"
        rows = self.db.execute(
            f"select doc from orders where {where} order by number {order} limit ?", (*values, limit)
        )
        return [from_row(json.loads(row[0])) for row in rows]

    def holding(self, symbol: str) -> Holding:
        """The position in a symbol; zero when there is none."""
        row = self.db.execute("select quantity, cost from positions where symbol = ?", (symbol,)).fetchone()
        return Holding(symbol) if row is None else Holding(symbol, Decimal(row[0]), Decimal(row[1]))

    def holdings(self) -> list[Holding]:
        """All positions that are not zero, by symbol."""
        rows = self.db.execute("select symbol, quantity, cost from positions order by symbol")
        return [Holding(symbol, Decimal(quantity), Decimal(cost)) for symbol, quantity, cost in rows]

    def save_holding(self, holding: Holding) -> None:
        """Set a position; one of zero vanishes."""
        if holding.quantity == 0:
            self.db.execute("delete from positions where symbol = ?", (holding.symbol,))
        else:
            row = (holding.symbol, str(holding.quantity), str(holding.cost))
            self.db.execute("insert or replace into positions values (?, ?, ?)", row)

    def asset(self, key: str) -> dict[str, Any] | None:
        """The asset with this symbol or id."""
        row = self.db.execute("select doc from assets where symbol = ? or id = ?", (key, key)).fetchone()
        return None if row is None else json.loads(row[0])

    def assets(self) -> list[dict[str, Any]]:
        """All assets, by symbol."""
        return [json.loads(row[0]) for row in self.db.execute("select doc from assets order by symbol")]

    def save_asset(self, asset: dict[str, Any]) -> None:
        """Insert or replace an asset."""
        row = (asset["symbol"], asset["id"], json.dumps(asset))
        self.db.execute("insert or replace into assets values (?, ?, ?)", row)
