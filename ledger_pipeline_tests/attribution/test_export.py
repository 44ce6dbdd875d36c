"""Exports: every row once, amounts exact, text never a formula."""

from __future__ import annotations

import csv

import openpyxl
import pyarrow.parquet
import pytest

from ledger_pipeline.attribution.attribute import attribute
from ledger_pipeline.attribution.entries import table_of
from ledger_pipeline.attribution.export import export
from ledger_pipeline.core.errors import InputError, StorageError
from ledger_pipeline_tests.attribution.hand import buy, sell

ROWS = [buy(1, "0.333333333", "250.1234", "=A1+\x01", fees="0.01"), sell(2, "0.2", "123456789.123456789", "=A1+\x01")]


def test_csv(tmp_path):
    assert export(table_of(ROWS), tmp_path / "entries.csv", "csv") == 2
    with open(tmp_path / "entries.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["quantity"] for row in rows] == ["0.333333333", "0.2"]
    assert rows[1]["price"] == "123456789.123456789"
    assert (rows[0]["occurred_at"], rows[0]["strategy"], rows[0]["cash"]) == (
        "2026-01-05T14:30:01.000000Z",
        "=A1+\x01",
        "",
    )


def test_parquet(tmp_path):
    found = attribute(ROWS)
    for name in ("lots", "matches", "parts", "trips", "income"):
        table = getattr(found, name)
        assert export(table, tmp_path / f"{name}.parquet", "parquet") == table.num_rows
        assert pyarrow.parquet.read_table(tmp_path / f"{name}.parquet").to_pylist() == table.to_pylist()


def test_xlsx(tmp_path):
    assert export(table_of(ROWS), tmp_path / "entries.xlsx", "xlsx") == 2
    rows = list(openpyxl.load_workbook(tmp_path / "entries.xlsx").active.iter_rows())
    names = [cell.value for cell in rows[0]]
    cells = [dict(zip(names, row, strict=True)) for row in rows[1:]]
    assert cells[0]["quantity"].value == pytest.approx(0.333333333) and cells[0]["quantity"].data_type == "n"
    assert cells[1]["price"].value == "123456789.123456789"  # more digits than a sheet keeps
    assert (cells[0]["strategy"].value, cells[0]["strategy"].data_type) == ("=A1+\ufffd", "s")


def test_what_cannot_be_written(tmp_path):
    with pytest.raises(InputError):
        export(table_of(ROWS), tmp_path / "a.ods", "ods")
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        export(table_of(ROWS), tmp_path / "file" / "a.csv", "csv")
