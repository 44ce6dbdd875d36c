"""The independent checker: what an exchange and a book did together, judged by their records alone.

It reads the exchange's own record (what really happened, whatever was answered) and the commit files of the book as
plain JSON. Nothing of the code under test takes part: neither the log, nor the fold, nor the matching of fills. When a
commit became durable is what the file system says (its ctime, on the same clock as the record), not what was written
into it, since clocks may be set wrong on purpose.

    before = snapshot(book_dir)
    ...                                                     # faults
    assert check(served, book_dir, earlier=before) == []

The breaches are sentences that begin with the number of the invariant:

I1   nothing is posted without an earlier durable ORDER_INTENDED and, once for each POST, ORDER_SUBMITTED
I2   one order at the broker for an intent, on its terms, and never more filled than was asked for
I3   every fill of the broker is in the book once      I4   every fill of the book is the broker's, to the last digit
I5   a fill belongs to the strategy that intended it, and the strategies' positions add up to the broker's
I6   the cash is explained                             I7   the log only grows, contiguous, its chain whole
I8   an order ends once, and nothing is sent after     I9   nothing is sent while halted, unreconciled or too late
I10  when the faults have stopped, the book is clean or says what is wrong
I12  the book is that of a local exchange
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sqlite3
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any

from ledger_pipeline_tests.exchange.server import Served

D = Decimal
Place = Path | str | Mapping[str, bytes]
CENT = D("0.01")
HALF_CENT = D("0.005")
ENDS = ("ORDER_CANCELED", "ORDER_EXPIRED", "ORDER_REJECTED", "ORDER_REPLACED")
MOVES_POSITION = ("OPENED", "FILLED", "SPLIT", "FILL_CORRECTED", "FILL_BUSTED", "OVERRIDDEN")
DEAD = ("filled", "canceled", "expired", "rejected", "replaced")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def check(
    served: Served, book_dir: Place, *, earlier: Mapping[str, bytes] | None = None, settled: bool = True
) -> list[str]:
    """The invariants that are broken; none when all hold.

    settled: the faults are over, the activities visible and the last thing that was done is a reconciliation. Then the
    book must agree with the broker in everything, or have breaks open that say what is wrong. earlier: a `snapshot`.
    The exchange may run or have been stopped; after a reset only what came since counts. book_dir: the directory of the
    book, or its objects by key where it is not one; then a commit counts as durable when it says that it was written.
    """
    wrong, book = _log_breaches(book_dir, earlier or {})
    if book is None:
        return wrong
    exchange = read_exchange(served)
    wrong += [*_posts(book, exchange), *_orders(book, exchange), *_fills(book, exchange), *_lives(book)]
    wrong += _halts(book)
    if settled:
        wrong += _rest(book, exchange)
    return wrong


def snapshot(book_dir: Place) -> dict[str, bytes]:
    """The objects of the log as they are now, by key, to be compared with later; checkpoints are none."""
    if not isinstance(book_dir, Mapping):
        root = Path(book_dir)
        book_dir = {path.relative_to(root).as_posix(): path for path in root.rglob("*.json")}
    chosen = sorted(key for key in book_dir if re.fullmatch(r"(\d{4}/\d\d/\d\d/)?\d{12}\.json", key))
    return {key: one.read_bytes() if isinstance(one := book_dir[key], Path) else one for key in chosen}


def events_of(book_dir: Place) -> list[dict[str, Any]]:
    """The events of a book, in order, as plain JSON; amounts are strings."""
    found = [json.loads(data) for data in snapshot(book_dir).values()]
    commits = sorted((row for row in found if "events" in row), key=lambda row: row["seq"])
    return [event for commit in commits for event in commit["events"]]


@dataclass(frozen=True)
class Book:
    """The events of a book; `durable` is when the commit of each was there, in seconds of Unix time, by seq."""

    events: list[dict[str, Any]]
    durable: dict[int, float]

    def of(self, *kinds: str) -> Iterator[dict[str, Any]]:
        """The events of some kinds."""
        return (event for event in self.events if event["kind"] in kinds)

    @cached_property
    def intents(self) -> dict[str, dict[str, Any]]:
        """ORDER_INTENDED by the order's id."""
        return {event["order_id"]: event for event in self.of("ORDER_INTENDED")}


@dataclass(frozen=True)
class Exchange:
    """The record of an exchange since its last reset, and its positions and cash now."""

    record: list[dict[str, Any]]
    positions: dict[str, Decimal]
    cash: Decimal

    def of(self, kind: str) -> Iterator[dict[str, Any]]:
        """The rows of a kind."""
        return (row for row in self.record if row["kind"] == kind)

    @cached_property
    def posts(self) -> list[tuple[str, float, datetime]]:
        """The submits that arrived: client_order_id, when (Unix time), and when by the exchange's clock."""
        rows = [row for row in self.of("request") if row["key"] == "POST /v2/orders"]
        bodies = [row["doc"]["body"] if isinstance(row["doc"]["body"], dict) else {} for row in rows]
        return [
            (str(body.get("client_order_id")), float(row["wall"]), EPOCH + timedelta(microseconds=int(row["at"])))
            for row, body in zip(rows, bodies, strict=True)
        ]

    @cached_property
    def foreign(self) -> set[str]:
        """The broker's ids of the orders that a test put there."""
        return {row["doc"] for row in self.of("admin") if row["key"] == "foreign order"}

    @cached_property
    def orders(self) -> dict[str, dict[str, Any]]:
        """The last version of each order, by the broker's id."""
        return {row["key"]: row["doc"]["order"] for row in self.of("order")}

    @cached_property
    def fills(self) -> dict[str, dict[str, Any]]:
        """The executions, by the activity's id; busts and corrections are not among them."""
        rows = [row["doc"] | {"at": int(row["at"])} for row in self.of("fill")]
        return {row["id"]: row for row in rows if row["type"] in ("fill", "partial_fill")}

    def ours(self, book: Book) -> dict[str, dict[str, Any]]:
        """The orders that the book intended."""
        return {
            name: order
            for name, order in self.orders.items()
            if name not in self.foreign and order["client_order_id"] in book.intents
        }


def read_exchange(served: Served) -> Exchange:
    """The record, over the admin API, or from a copy of the SQLite file when the process has ended."""
    if served.process.poll() is None:
        state = served.admin.state()
        since = max((row["seq"] for row in served.admin.record("admin") if row["key"] == "reset"), default=0)
        record = served.admin.record("request", "order", "fill", "admin", after=since)
        return _exchange(record, state["positions"], state["cash"])
    with tempfile.TemporaryDirectory() as place:
        for file in served.state.glob("exchange.sqlite*"):
            shutil.copy(file, place)
        db = sqlite3.connect(Path(place) / "exchange.sqlite")
        try:
            names = ("seq", "at", "wall", "kind", "key", "doc")
            rows = db.execute(f"select {', '.join(names)} from record order by seq").fetchall()
            record = [dict(zip(names, row, strict=True)) | {"doc": json.loads(row[5])} for row in rows]
            cash = json.loads(db.execute("select value from meta where name = 'cash'").fetchone()[0])
            return _exchange(record, dict(db.execute("select symbol, quantity from positions").fetchall()), cash)
        finally:
            db.close()


def _exchange(record: list[dict[str, Any]], positions: Mapping[str, Any], cash: Any) -> Exchange:
    reset = max((n for n, row in enumerate(record, 1) if (row["kind"], row["key"]) == ("admin", "reset")), default=0)
    return Exchange(record[reset:], {name: D(str(held)) for name, held in positions.items()}, D(str(cash)))


def _log_breaches(place: Place, earlier: Mapping[str, bytes]) -> tuple[list[str], Book | None]:
    """I7 and I12, and the book when it can be read."""
    now = snapshot(place)
    wrong = [f"I7: {key} has changed" for key, data in earlier.items() if key in now and now[key] != data]
    wrong += [f"I7: {key} is gone" for key in earlier if key not in now]
    commits: dict[int, tuple[str, dict[str, Any]]] = {}
    pointers: dict[tuple[int, str], str] = {}
    for key, data in now.items():
        folder, _, name = key.rpartition("/")
        try:
            row = json.loads(data)
            form = {name: value for name, value in row.items() if name != "hash"}
            text = json.dumps(form, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
            if hashlib.sha256(text.encode()).hexdigest() != row["hash"] or int(name[:12]) != row["seq"]:
                wrong.append(f"I7: {key} is not what it states to be")
        except (ValueError, KeyError, AttributeError) as error:
            return [*wrong, f"I7: {key} cannot be read ({error})"], None
        if "continued_in" in row:
            pointers[row["seq"], folder] = row["continued_in"]
        elif row["seq"] in commits:
            wrong.append(f"I7: there are two commits {row['seq']}")
        else:
            commits[row["seq"]] = (folder, row)
    if sorted(commits) != list(range(1, len(commits) + 1)):
        wrong.append(f"I7: the commits are {sorted(commits)}, not one after the other")
    previous, day = "0" * 64, ""
    events, durable = [], {}
    for seq, (folder, row) in sorted(commits.items()):
        if row["prev_hash"] != previous:
            wrong.append(f"I7: commit {seq} does not follow the one before")
        if folder != day and pointers.get((seq, day)) != folder:
            wrong.append(f"I7: commit {seq} is in {folder}, and nothing in {day or 'the beginning'} leads there")
        previous, day = row["hash"], folder
        for event in row["events"]:
            events.append(event)
            durable[event["seq"]] = _durable_at(place, folder, row)
    if [event["seq"] for event in events] != list(range(1, len(events) + 1)):
        wrong.append("I7: the events are not numbered one after the other")
    bound = [event["payload"] for event in events if "account_id" in event.get("payload", {})]
    if len({(one["account_id"], one["environment"]) for one in bound}) > 1:
        wrong.append("I12: the book is bound to more than one account")
    if any(one["environment"] != "exchange" for one in bound):
        wrong.append(f"I12: the book belongs to {bound[0]['environment']}")
    return wrong, Book(events, durable)


def _durable_at(place: Place, folder: str, commit: Mapping[str, Any]) -> float:
    if isinstance(place, Mapping):
        return datetime.fromisoformat(commit["written_at"]).timestamp()
    return (Path(place) / folder / f"{commit['seq']:012d}.json").stat().st_ctime


def _posts(book: Book, exchange: Exchange) -> list[str]:
    """I1, and of I9 that nothing is sent past its deadline."""
    wrong = []
    submitted: dict[str, list[int]] = defaultdict(list)
    for event in book.of("ORDER_SUBMITTED"):
        submitted[event["order_id"]].append(event["seq"])
    made: Counter[str] = Counter()
    for name, wall, at in exchange.posts:
        intent = book.intents.get(name)
        if intent is None:
            wrong.append(f"I1: {name} was posted and never intended")
            continue
        made[name] += 1
        if made[name] > len(submitted[name]):
            wrong.append(f"I1: {name} was posted {made[name]} times and submitted {len(submitted[name])} times")
        elif book.durable[submitted[name][made[name] - 1]] > wall:
            wrong.append(f"I1: {name} was posted before its ORDER_SUBMITTED was durable")
        if book.durable[intent["seq"]] > wall:
            wrong.append(f"I1: {name} was posted before its ORDER_INTENDED was durable")
        deadline = intent["payload"].get("deadline")
        if deadline and at >= datetime.fromisoformat(deadline):
            wrong.append(f"I9: {name} was posted at {at}, and its deadline was {deadline}")
    return wrong


def _orders(book: Book, exchange: Exchange) -> list[str]:
    """I2."""
    wrong = []
    intended = Counter(event["order_id"] for event in book.of("ORDER_INTENDED"))
    wrong += [f"I2: {name} was intended {count} times" for name, count in intended.items() if count > 1]
    ours = exchange.ours(book)
    at_broker = Counter(order["client_order_id"] for order in ours.values())
    wrong += [f"I2: {name} became {count} orders" for name, count in at_broker.items() if count > 1]
    told = {event["payload"].get("break_id", "") for event in book.of("BREAK_OPENED")}
    for broker_id, order in ours.items():
        name = order["client_order_id"]
        intent = book.intents[name]
        asked = _amount(intent.get("quantity")), _amount(intent["payload"].get("notional"))
        if (intent["symbol"], intent["side"]) != (order["symbol"], order["side"].upper()):
            wrong.append(f"I2: {name} is to {order['side']} {order['symbol']} at the broker")
        if asked != (_amount(order["qty"]), _amount(order["notional"])):
            wrong.append(f"I2: {name} asks for {asked} and its order for {order['qty']}, {order['notional']}")
        fills = [fill for fill in exchange.fills.values() if fill["order_id"] == broker_id]
        shares = sum(D(fill["qty"]) for fill in fills)
        value = sum(D(fill["qty"]) * D(fill["price"]) for fill in fills)
        # The shares of an order in dollars follow from the price of its first fill; the others may cost more.
        prices = [D(fill["price"]) for fill in fills] or [D(1)]
        most = (asked[1] or 0) * max(prices) / min(prices) + CENT
        over = shares > asked[0] if asked[0] is not None else value > most
        if over and f"order_overfilled:{name}" not in told:
            wrong.append(f"I2: {name} got {shares} shares for {value} of {asked}")
    return wrong


def _fills(book: Book, exchange: Exchange) -> list[str]:
    """I4, the strategies of I5, and of I3 that nothing is there twice."""
    wrong = []
    booked = list(book.of("FILLED"))
    fill_ids = Counter(event.get("fill_id") for event in booked)
    wrong += [f"I3: fill {name} is in the book {count} times" for name, count in fill_ids.items() if count > 1]
    for event in booked:
        if event["payload"].get("source") != "broker":
            continue
        fill = exchange.fills.get(event["fill_id"])
        if fill is None:
            wrong.append(f"I4: fill {event['fill_id']} of the book is none of the broker's")
            continue
        theirs = (fill["symbol"], fill["side"].upper(), D(fill["qty"]), D(fill["price"]), fill["order_id"])
        ours = (event["symbol"], event["side"], D(event["quantity"]), D(event["price"]), event["broker_order_id"])
        if theirs != ours:
            wrong.append(f"I4: fill {fill['id']} is {theirs} at the broker and {ours} in the book")
        if fill["client_order_id"] != event["order_id"]:
            wrong.append(f"I4: fill {fill['id']} is of {fill['client_order_id']}, in the book of {event['order_id']}")
        intent = book.intents.get(event["order_id"])
        if intent is None or intent["strategy"] != event["strategy"]:
            wrong.append(f"I5: fill {fill['id']} went to strategy {event['strategy']}")
    return wrong


def _lives(book: Book) -> list[str]:
    """I8."""
    wrong, ended, acknowledged = [], {}, {}
    for event in book.events:
        name, kind = event.get("order_id"), event["kind"]
        if kind in ENDS:
            if name in ended:
                wrong.append(f"I8: {name} ended twice, {ended[name]} and {kind}")
            ended[name] = kind
        elif kind == "ORDER_SUBMITTED" and name in ended:
            wrong.append(f"I8: {name} was submitted after it had ended, {ended[name]}")
        elif kind == "ORDER_SUBMITTED" and name in acknowledged:
            wrong.append(f"I8: {name} was submitted again although the broker had it")
        elif kind == "ORDER_ACKNOWLEDGED":
            if acknowledged.setdefault(name, event["broker_order_id"]) != event["broker_order_id"]:
                wrong.append(f"I8: {name} became another order of the broker")
    return wrong


def _halts(book: Book) -> list[str]:
    """I9: what the book said when it let an order go."""
    wrong: list[str] = []
    halted: set[str] = set()
    breaks: dict[str, str] = {}
    reconciled: dict[str, Any] | None = None
    for event in book.events:
        payload = event.get("payload", {})
        if event["kind"] == "HALTED":
            halted.add(payload["scope"])
        elif event["kind"] == "RESUMED":
            halted.discard(payload["scope"])
        elif event["kind"] == "BREAK_OPENED":
            breaks[payload["break_id"]] = payload["scope"]
        elif event["kind"] == "BREAK_CLOSED":
            breaks.pop(payload["break_id"], None)
        elif event["kind"] == "RECONCILED":
            reconciled = payload
        elif event["kind"] == "ORDER_SUBMITTED":
            name = event["order_id"]
            wrong += [f"I9: {name} was submitted while {scope} was halted" for scope in halted if _covers(scope, event)]
            wrong += [f"I9: {name} was submitted while {one} was open" for one in breaks if _covers(breaks[one], event)]
            if reconciled is None:
                wrong.append(f"I9: {name} was submitted by a book that was never reconciled")
            elif not reconciled["clean"] and any(_covers(scope, event) for scope in reconciled["scopes"]):
                wrong.append(f"I9: {name} was submitted after a reconciliation that was not clean")
    return wrong


def _covers(scope: str, event: Mapping[str, Any]) -> bool:
    kind, _, name = scope.partition(":")
    return {"strategy": event.get("strategy") == name, "symbol": event.get("symbol") == name}.get(kind, True)


def _rest(book: Book, exchange: Exchange) -> list[str]:
    """I10, and what must be equal when the book says that it is clean: I3, I5, I6."""
    verdicts = list(book.of("RECONCILED"))
    if not verdicts:
        return ["I10: the book was not reconciled"]
    breaks: dict[str, Any] = {}
    for event in book.events:
        if event["kind"] == "BREAK_OPENED":
            breaks[event["payload"]["break_id"]] = event["payload"]
        elif event["kind"] == "BREAK_CLOSED":
            breaks.pop(event["payload"]["break_id"], None)
    if not verdicts[-1]["payload"]["clean"]:
        if not breaks:
            return ["I10: the book is not clean and no break says why"]
        return [f"I10: {name} does not say what to do" for name, told in breaks.items() if not told.get("what_to_do")]
    wrong = [f"I10: the book is clean and {name} is open" for name in breaks]
    return wrong + _missing(book, exchange) + _ends(book, exchange) + _amounts(book, exchange)


def _missing(book: Book, exchange: Exchange) -> list[str]:
    """I3: the fills, our own and those of strangers, that the book says nothing of."""
    known = {event["fill_id"] for event in book.of("FILLED")}
    opened = 0
    for event in book.events:
        payload = event.get("payload", {})
        known |= {payload.get("activity_id"), *payload.get("activity_ids", ())}
        if payload.get("as_of"):
            opened = (datetime.fromisoformat(payload["as_of"]) - EPOCH) // timedelta(microseconds=1)
    return [
        f"I3: fill {name} of {fill['client_order_id']} is missing from the book"
        for name, fill in exchange.fills.items()
        if name not in known and fill["at"] > opened
    ]


def _ends(book: Book, exchange: Exchange) -> list[str]:
    """I10: intents of which nobody knows what became of them, and orders that the broker ended in another way."""
    wrong = []
    ends = {event["order_id"]: event["kind"] for event in book.of(*ENDS)}
    submitted = {event["order_id"] for event in book.of("ORDER_SUBMITTED")}
    blocked = {event.get("order_id") for event in book.of("BLOCKED")} - submitted
    at_broker = {order["client_order_id"]: order["status"] for order in exchange.ours(book).values()}
    for name in book.intents:
        status = at_broker.get(name)
        if status is None and name not in ends and name not in blocked:
            wrong.append(f"I10: {name} is not at the broker and has no end")
        elif status in DEAD and status != "filled" and ends.get(name) != f"ORDER_{status.upper()}":
            wrong.append(f"I10: {name} is {status} at the broker and {ends.get(name)} in the book")
        elif status == "filled" and name in ends:
            wrong.append(f"I10: {name} is filled at the broker and {ends[name]} in the book")
    return wrong


def _amounts(book: Book, exchange: Exchange) -> list[str]:
    """I5 and I6."""
    held: dict[str, Decimal] = defaultdict(Decimal)
    for event in book.of(*MOVES_POSITION):
        if event.get("symbol") and event.get("quantity"):
            held[event["symbol"]] += D(event["quantity"]) * (1 if event["side"] == "BUY" else -1)
    ours = {symbol: quantity for symbol, quantity in held.items() if quantity}
    theirs = {symbol: quantity for symbol, quantity in exchange.positions.items() if quantity}
    wrong = [] if ours == theirs else [f"I5: the book holds {_shown(ours)} and the account {_shown(theirs)}"]
    cash = sum((D(event["cash_delta"]) for event in book.events if event.get("cash_delta")), D(0))
    tolerance = HALF_CENT * sum(1 for _ in book.of("FILLED"))
    if abs(cash - exchange.cash) > tolerance:
        wrong.append(f"I6: the book's cash is {cash} and the account's {exchange.cash}")
    return wrong


def _amount(text: Any) -> Decimal | None:
    return None if text is None else D(str(text))


def _shown(positions: Mapping[str, Decimal]) -> str:
    return ", ".join(f"{symbol} {quantity}" for symbol, quantity in sorted(positions.items())) or "nothing"
