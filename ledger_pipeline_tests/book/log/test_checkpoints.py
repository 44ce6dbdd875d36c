"""Checkpoints: a book opens with one exactly as without, and no damage to one is ever believed."""

from __future__ import annotations

from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger_pipeline.book import book as book_module
from ledger_pipeline.book.book import Book, open_book
from ledger_pipeline.book.log import checkpoints
from ledger_pipeline.book.log.log import Log
from ledger_pipeline.book.log.store import open_store
from ledger_pipeline.book.log.table import events_of, joined, ledger_of, ledger_of_table, selected, table_of
from ledger_pipeline.core.errors import IntegrityError, StorageError
from ledger_pipeline.core.identity import hash_bytes
from ledger_pipeline_tests.book.log import samples
from ledger_pipeline_tests.book.log.lives import life, order_events


def living(url: str, orders: int = 3) -> Book:
    """A book with a few orders, one commit each."""
    book = open_book(url, account="account-1", environment="exchange", clock=samples.clock())
    events = life(orders)
    book.append([next(events)])
    for order in zip(*[events] * 4, strict=True):
        book.append(order)
    return book


def same(one: Book, other: Book) -> None:
    assert one.state == other.state and one.state.digest() == other.state.digest()
    assert list(one.events()) == list(other.events())
    assert one.ledger().head == other.ledger().head
    assert one.head == other.head


def unread(url: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys that are read while the book is opened."""
    store = open_store(url)
    read, found = type(store).read, []
    with monkeypatch.context() as patch:
        patch.setattr(type(store), "read", lambda self, key: found.append(key) or read(self, key))
        open_book(url)
    return found


def test_opening_reads_only_what_came_after(url: str, monkeypatch):
    book = living(url)
    plain = open_book(url)
    place = book.checkpoint()
    assert place.endswith(".parquet") and "checkpoints/000000000005-" in place
    book.append(order_events(7))
    with_it = open_book(url)
    same(with_it, book)
    assert with_it.verify().events == 18 and plain.state.seq == 14
    keys = unread(url, monkeypatch)
    commits = [key for key in keys if key.startswith("2026/")]
    assert commits == [f"2026/01/05/00000000000{seq}.json" for seq in (5, 6, 7)]  # the one it stands at, then new ones
    events = list(book.events())
    for after in range(19):
        assert list(with_it.events(after)) == events[after:]
    fills = [event for event in events if event.kind == "FILLED"]
    assert list(with_it.events(kinds=["FILLED"])) == fills and list(with_it.events(9, ("FILLED",))) == fills[1:]


def test_amounts_are_exact_in_the_file(tmp_path):
    book = open_book(str(tmp_path / "paper"))
    amount = Decimal("0.1234567890123456789012345678901234567")
    book.append([samples.replace(samples.deposit(1), cash_delta=amount)])
    place = book.checkpoint()
    assert pyarrow.parquet.read_table(place).column("cash_delta").to_pylist() == [str(amount)]
    (event,) = open_book(str(tmp_path / "paper")).events()
    assert event.cash_delta == amount


@settings(max_examples=30, deadline=None)
@given(st.lists(samples.EVENT, max_size=5), st.integers(0, 5))
def test_events_as_columns_and_back(events, cut):
    events = samples.given(events, "paper")
    table = joined([table_of(events[:cut]), table_of(events[cut:])])
    assert list(events_of(table)) == events
    assert ledger_of_table(table).head == ledger_of(events).head  # as the plain fold of every event makes it
    assert list(events_of(selected(table, cut, None))) == events[cut:]
    kinds = [event.kind for event in events[:1]]
    assert list(events_of(selected(table, 0, kinds))) == [event for event in events if event.kind in kinds]


def test_every_kind_of_damage_is_ignored(tmp_path):
    url = str(tmp_path / "paper")
    book = living(url)
    path = tmp_path / "paper" / "checkpoints" / book.checkpoint().rpartition("/")[2]
    data = path.read_bytes()
    damages = [b"", b"PAR1", data[:-1], data + b"x", data[: len(data) // 2]]
    damages += [data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :] for at in range(0, len(data), len(data) // 40)]
    for damaged in damages:
        path.write_bytes(damaged)
        log = Log(open_store(url), "paper")
        assert checkpoints.newest(log) is None
        same(open_book(url), book)
    path.unlink()
    same(open_book(url), book)


def test_a_damaged_one_gives_way_to_the_one_before(tmp_path, monkeypatch):
    url = str(tmp_path / "paper")
    book = living(url)
    first = book.checkpoint()
    book.append(order_events(7))
    second = tmp_path / "paper" / "checkpoints" / book.checkpoint().rpartition("/")[2]
    second.write_bytes(second.read_bytes()[:-9])
    assert checkpoints.newest(Log(open_store(url), "paper")).head.seq == 5
    same(open_book(url), book)
    book.append(order_events(8))
    book.checkpoint()
    names = sorted(path.name[:12] for path in second.parent.iterdir())
    assert names == ["000000000006", "000000000007"] and first  # two are kept


def test_one_of_another_history_is_not_used(tmp_path):
    """The same seqs, other events: the hash of the commit at its seq is not the one it states."""
    one, two = str(tmp_path / "one" / "paper"), str(tmp_path / "two" / "paper")
    living(one).checkpoint()
    book = living(two)
    (name,) = (path.name for path in (tmp_path / "one" / "paper" / "checkpoints").iterdir())
    open_store(two).create(f"checkpoints/{name}", open_store(one).read(f"checkpoints/{name}"))
    assert checkpoints.newest(Log(open_store(two), "paper")) is None
    same(open_book(two), book)


def test_one_of_another_book_is_not_used(tmp_path):
    living(str(tmp_path / "other")).checkpoint()
    book = living(str(tmp_path / "paper"))
    (path,) = (tmp_path / "other" / "checkpoints").iterdir()
    open_store(str(tmp_path / "paper")).create(f"checkpoints/{path.name}", path.read_bytes())
    same(open_book(str(tmp_path / "paper")), book)


def test_one_of_another_version_is_not_used(tmp_path):
    url = str(tmp_path / "paper")
    book = living(url)
    log = Log.open(url, "paper")
    checkpoints.write(log, {"version": 999}, table_of(list(book.events())))
    same(open_book(url), book)


def test_a_checkpoint_beyond_the_last_commit_shows_that_commits_were_removed(url: str):
    book = living(url)
    book.checkpoint()
    open_store(url).delete("2026/01/05/000000000005.json")
    with pytest.raises(IntegrityError, match="commit 5 is missing"):
        open_book(url)


def test_a_commit_removed_or_damaged_before_a_checkpoint(url: str):
    living(url).checkpoint()
    store = open_store(url)
    data = store.read("2026/01/05/000000000003.json")
    store.replace("2026/01/05/000000000003.json", data.replace(b"dca", b"dcb"))
    with pytest.raises(IntegrityError, match="000000000003.json is damaged"):
        open_book(url).verify()
    store.delete("2026/01/05/000000000003.json")
    with pytest.raises(IntegrityError, match="commit 3 is missing"):
        open_book(url)


FORGED = {
    "cash in the state": lambda state, table: (state | {"cash": "999999"}, table),
    "shares in the state": lambda state, table: (state | {"positions": [["core", "VTI", "77", "1"]]}, table),
    "cash in the state and in an event": lambda state, table: (
        state | {"cash": str(Decimal(state["cash"]) + 999999)}, changed(table, table.num_rows - 1, "999999"),
    ),
    "an event more": lambda state, table: (
        state | {"cash": str(Decimal(state["cash"]) * 2)}, pa.concat_tables([table, table.slice(table.num_rows - 1)]),
    ),
    "an event less": lambda state, table: (state, table.slice(0, table.num_rows - 1)),
}  # fmt: skip


def changed(table: pa.Table, row: int, cash: str) -> pa.Table:
    values = table.column("cash_delta").to_pylist()
    values[row] = cash
    place = table.schema.get_field_index("cash_delta")
    return table.set_column(place, table.schema.field(place), pa.array(values, pa.string()))


@pytest.mark.parametrize("what", FORGED)
def test_a_forged_checkpoint_is_not_believed(tmp_path, what):
    """Its own hash is right and it names the right commit; only the commits say what is true."""
    url = str(tmp_path / "core")
    book = living(url)
    true = open_book(url)
    state, table = FORGED[what](book.state.to_json(), joined([table_of(list(book.events()))]))
    checkpoints.write(Log.open(url, "core"), state, table)
    opened = open_book(url)
    same(opened, true)
    assert opened.state.cash == true.state.cash and opened.verify().events == book.state.seq


def test_verify_finds_a_checkpoint_that_lies(tmp_path):
    """A sound file that says what its commits do not say is found by the walk over all commits."""
    url = str(tmp_path / "paper")
    book = living(url)
    log = Log.open(url, "paper")
    events = list(book.events())
    state = book.state.to_json() | {"overridden_seq": 7}  # what nothing but a fold of all events tells
    checkpoints.write(log, state, table_of(events))
    with pytest.raises(IntegrityError, match="the state is not what its commits say; delete .*checkpoints"):
        open_book(url).verify()
    log.store.delete(next(iter(log.store.keys("checkpoints/"))))
    lied = [samples.replace(event, strategy="x") if event.seq == 4 else event for event in events]
    checkpoints.write(log, book.state.to_json(), table_of(lied))
    with pytest.raises(IntegrityError, match="event 4 is not what"):
        open_book(url).verify()


def test_a_long_book_gets_one_when_it_is_opened_for_writing(tmp_path, monkeypatch):
    url = str(tmp_path / "paper")
    book = living(url)
    monkeypatch.setattr(book_module, "_IN_COLUMNS", 10)
    folder = tmp_path / "paper" / "checkpoints"
    same(open_book(url, read_only=True), book)
    assert not folder.exists()
    same(open_book(url), book)
    assert len(list(folder.iterdir())) == 1
    same(open_book(url), book)
    assert len(list(folder.iterdir())) == 1  # nothing new came since

    def refused(*arguments):
        raise StorageError("full")

    for path in folder.iterdir():
        path.unlink()
    monkeypatch.setattr(checkpoints, "write", refused)
    same(open_book(url), book)


def test_the_digest_of_the_file_is_in_its_name(tmp_path):
    book = living(str(tmp_path / "paper"))
    place = book.checkpoint()
    with open(place, "rb") as file:
        assert hash_bytes(file.read()) in place
    assert book.checkpoint() == place  # the same content, the same file
