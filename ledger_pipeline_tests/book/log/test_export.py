"""A book as a file for other programs: every event once, amounts exact, text never a formula."""

from __future__ import annotations

import csv
import json
from datetime import UTC, date, datetime
from decimal import Decimal
from zipfile import ZipFile

import duckdb
import openpyxl
import pyarrow as pa
import pyarrow.parquet
import pytest

from ledger_pipeline.book.book import Book, open_book
from ledger_pipeline.book.log import export
from ledger_pipeline.core.errors import InputError, StorageError
from ledger_pipeline.core.events import event_from_json
from ledger_pipeline_tests.book.log.samples import deposit
from ledger_pipeline_tests.events import event_of

FORMULA = '=HYPERLINK("http://example.com","x")'


@pytest.fixture
def book(tmp_path) -> Book:
    """Six events on two days: midnight exactly, text that looks like formulas, an amount that no float holds."""
    made = open_book(str(tmp_path / "paper"))
    late, midnight = datetime(2026, 1, 5, 23, 59, 59, 999999, tzinfo=UTC), datetime(2026, 1, 6, tzinfo=UTC)
    made.append([deposit(1), deposit(2, late), deposit(3, midnight)])
    for text, amount in ((FORMULA, "-12.5"), ("+1 -1 @x", "0.12345678901234567890"), ("-a,b\n\"c'\x01ä", "1E+3")):
        made.append([event_of(kind="NO_ACTION", occurred_at=midnight, strategy=text, price=Decimal(amount), reasons=("A", text.replace(",", "")), payload={"note": text})])  # fmt: skip
    return made


def test_one_day_is_a_day_in_utc(book: Book, tmp_path):
    for day in ("2026-01-05", date(2026, 1, 5)):
        assert book.export(tmp_path / "day.jsonl", "jsonl", day) == 2
    assert book.export(tmp_path / "day.jsonl", "jsonl", "2026-01-06") == 4
    assert [json.loads(line)["seq"] for line in (tmp_path / "day.jsonl").read_text().splitlines()] == [3, 4, 5, 6]
    assert book.export(tmp_path / "none.csv", "csv", "2026-01-07") == 0
    assert (tmp_path / "none.csv").read_text().count("\n") == 1


def test_jsonl_holds_the_events_as_they_are(book: Book, tmp_path):
    assert book.export(tmp_path / "book.jsonl", "jsonl") == 6
    lines = (tmp_path / "book.jsonl").read_bytes().split(b"\n")
    assert lines[-1] == b""
    assert [event_from_json(json.loads(line)) for line in lines[:-1]] == list(book.events())


def test_csv_holds_exact_amounts(book: Book, tmp_path):
    assert book.export(tmp_path / "book.csv", "csv") == 6
    with open(tmp_path / "book.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["price"] for row in rows] == ["", "", "", "-12.5", "0.1234567890123456789", "1000"]
    assert [row["strategy"] for row in rows[3:]] == [FORMULA, "+1 -1 @x", "-a,b\n\"c'\x01ä"]
    assert rows[1]["occurred_at"] == "2026-01-05T23:59:59.999999Z"
    assert json.loads(rows[3]["payload"]) == {"note": FORMULA}


def test_parquet_holds_exact_decimals(book: Book, tmp_path):
    assert book.export(tmp_path / "book.parquet", "parquet") == 6
    table = pyarrow.parquet.read_table(tmp_path / "book.parquet")
    assert pa.types.is_decimal(table.schema.field("price").type)
    assert table.column("price").to_pylist()[3:] == [Decimal("-12.5"), Decimal("0.12345678901234567890"), Decimal(1000)]
    total = duckdb.sql(f"select sum(cash_delta) from '{tmp_path / 'book.parquet'}'").fetchone()
    assert total == (Decimal(6),)


@pytest.mark.parametrize(
    "texts, kind",
    [
        (["1.5", "-0.25", None], pa.decimal128(38, 2)),
        ([None, None], pa.decimal128(38, 0)),
        (["1" * 30, "0." + "1" * 9], pa.decimal256(76, 9)),
        (["1" * 60, "0." + "1" * 30], pa.string()),
    ],
)
def test_the_smallest_type_that_is_exact(texts, kind):
    found = export._decimals(pa.chunked_array([pa.array(texts, pa.string())]))
    assert found.type == kind
    assert [None if value is None else Decimal(value) for value in found.to_pylist()] == [
        None if text is None else Decimal(text) for text in texts
    ]


def test_a_sheet_has_no_formulas(book: Book, tmp_path):
    assert book.export(tmp_path / "book.xlsx", "xlsx") == 6
    sheet = openpyxl.load_workbook(tmp_path / "book.xlsx")["events"]
    rows = [dict(zip([cell.value for cell in sheet[1]], row, strict=True)) for row in sheet.iter_rows(min_row=2)]
    assert [row["strategy"].value for row in rows[3:]] == [FORMULA, "+1 -1 @x", "-a,b\n\"c'\ufffdä"]
    assert all(cell.data_type != "f" for row in rows for cell in row.values())
    assert [row["price"].value for row in rows[3:]] == [-12.5, "0.1234567890123456789", 1000]
    assert rows[1]["cash_delta"].value == 2 and rows[1]["occurred_at"].value == "2026-01-05T23:59:59.999999Z"
    with ZipFile(tmp_path / "book.xlsx") as file:
        assert b"<f>" not in file.read("xl/worksheets/sheet1.xml")


def test_a_sheet_that_would_not_fit(book: Book, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "_SHEET_ROWS", 6)
    with pytest.raises(InputError, match="a sheet holds 5 events, not 6; export single days"):
        book.export(tmp_path / "book.xlsx", "xlsx")
    assert not (tmp_path / "book.xlsx").exists()


def test_what_cannot_be_exported(book: Book, tmp_path):
    with pytest.raises(InputError, match="'xml' is no format.*jsonl, csv, parquet, xlsx"):
        book.export(tmp_path / "x", "xml")
    with pytest.raises(InputError, match="'yesterday' is no day"):
        book.export(tmp_path / "x", "csv", "yesterday")
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="could not write"):
        book.export(tmp_path / "file" / "x", "csv")


def test_a_failed_export_leaves_the_old_file(book: Book, tmp_path, monkeypatch):
    target = tmp_path / "out" / "book.csv"
    book.export(target, "csv")
    before = target.read_bytes()

    def full(rows, path) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(export.WRITERS, "csv", full)
    with pytest.raises(StorageError, match="No space left on device; nothing was changed"):
        book.export(target, "csv")
    assert target.read_bytes() == before and [path.name for path in target.parent.iterdir()] == ["book.csv"]
