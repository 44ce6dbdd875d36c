"""Tables from CSV and Parquet files: the same table whatever the file, and one clear sentence for what is none."""

from __future__ import annotations

import datetime as dt
import gzip
import os
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from upath import UPath

from ledger_pipeline.core.errors import InputError, NotFoundError, StorageError
from ledger_pipeline.market.bars import normalise_actions, normalise_bars
from ledger_pipeline.market.sources.files import read_table
from ledger_pipeline_tests.market.frames import HEADER, random_bars

LINES = [f"A,2024-01-{day:02}T00:00:00Z,10,11,9,10.5,100" for day in (1, 2, 3)]
TEXT = HEADER + "\n".join(LINES) + "\n"


def expected() -> pd.DataFrame:
    ts = pd.date_range("2024-01-01", periods=3, tz="UTC").as_unit("us")
    fields = {"open": 10.0, "high": 11.0, "low": 9.0, "close": 10.5, "volume": 100.0}
    frame = pd.DataFrame({"symbol": "A", "ts": ts, **fields})
    return normalise_bars(frame)


def put(directory: Path, content: str | bytes, name: str = "bars.csv") -> Path:
    path = directory / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def same(path: Path, **options) -> None:
    pd.testing.assert_frame_equal(normalise_bars(read_table("bars", path, **options)), expected())


def refused(path: Path, *words: str, table: str = "bars", error: type = InputError, **options) -> None:
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(error) as caught:
        frame = read_table(table, path, **options)
        normalise_bars(frame)
    told = str(caught.value)
    for word in words:
        assert word in told, told
    assert "\n" not in told and told.endswith(".") and len(told) < 300, told
    assert (path.read_bytes() if path.is_file() else None) == before


# the same table in many files


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (TEXT, "bars.csv"),
        (TEXT.rstrip("\n"), "bars.csv"),
        (TEXT.replace("\n", "\r\n"), "bars.csv"),
        (TEXT.replace("\n", "\n\n"), "bars.csv"),
        (b"\xef\xbb\xbf" + TEXT.encode(), "bars.csv"),
        (b"\xef\xbb\xbf" + TEXT.replace("\n", "\r\n").encode(), "bars.csv"),
        (gzip.compress(TEXT.encode(), mtime=0), "bars.csv.gz"),
        (TEXT, "BARS.CSV"),
        (TEXT.replace("Z", "+00:00"), "bars.csv"),
        (TEXT.replace("T00:00:00Z", " 00:00:00.000000Z"), "bars.csv"),
        (TEXT.replace("01T00:00:00Z", "01T05:30:00+05:30"), "bars.csv"),
        (TEXT.replace("A,", '"A",').replace("10.5", '"1.05e1"'), "bars.csv"),
        ("\n".join([HEADER.strip(), *LINES[::-1]]), "bars.csv"),
    ],
)
def test_csv_files_of_the_same_bars_are_the_same_table(tmp_path, content, name):
    same(put(tmp_path, content, name))


def test_columns_of_a_csv_file_may_have_any_order(tmp_path):
    frame = pd.read_csv(put(tmp_path, TEXT))
    path = tmp_path / "other.csv"
    frame[frame.columns[::-1]].to_csv(path, index=False)
    same(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda f: f,
        lambda f: f.assign(symbol=f["symbol"].astype(str)),
        lambda f: f.assign(symbol=f["symbol"].astype(object)),
        lambda f: f.assign(ts=f["ts"].dt.tz_convert("Asia/Tokyo").dt.as_unit("ns")),
        lambda f: f.set_index("ts"),
        lambda f: f.set_index(["symbol", "ts"]),
        lambda f: f.astype({"open": "float32", "volume": "int32", "high": "int64"}),
        lambda f: f.iloc[::-1].reset_index(drop=True),
        lambda f: f[f.columns[::-1]],
    ],
)
def test_parquet_files_of_the_same_bars_are_the_same_table(tmp_path, change):
    change(expected()).to_parquet(tmp_path / "bars.parquet")
    same(tmp_path / "bars.parquet")


@pytest.mark.parametrize("text", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.large_string())])  # noqa: E501  # fmt: skip
def test_other_writers_types_are_read(tmp_path, text):
    table = pa.Table.from_pandas(expected().astype({"symbol": str}), preserve_index=False)
    table = table.set_column(0, "symbol", table["symbol"].cast(pa.string()).cast(text))
    table = table.set_column(2, "open", table["open"].cast(pa.decimal128(10, 2)))
    pq.write_table(table, tmp_path / "bars.parquet", row_group_size=2, compression="gzip", use_dictionary=False)
    same(tmp_path / "bars.parquet")


def test_a_file_may_be_given_as_a_url(tmp_path):
    same(f"file://{put(tmp_path, TEXT)}")
    UPath("memory://sources/bars.csv").write_bytes(TEXT.encode())
    same("memory://sources/bars.csv")


def test_every_bit_of_a_price_survives_csv(tmp_path):
    frame = random_bars("AB", 200)
    path = tmp_path / "bars.csv"
    frame.assign(ts=frame["ts"].dt.strftime("%Y-%m-%dT%H:%M:%SZ")).to_csv(path, index=False)
    pd.testing.assert_frame_equal(normalise_bars(read_table("bars", path)), normalise_bars(frame), check_exact=True)


def test_symbols_that_look_like_missing_values_stay_symbols(tmp_path):
    path = put(tmp_path, TEXT + "".join(line.replace("A,", f"{name},") + "\n" for name in ("NA", "null", "nan", "1") for line in LINES))  # noqa: E501  # fmt: skip
    assert list(normalise_bars(read_table("bars", path))["symbol"].cat.categories) == ["1", "A", "NA", "nan", "null"]


# plain dates and naive times


@pytest.mark.parametrize("text", [TEXT.replace("T00:00:00Z", ""), TEXT.replace("Z", ""), TEXT.replace("T00:00:00Z", " 00:00")])  # noqa: E501  # fmt: skip
def test_csv_times_without_a_zone_need_the_word_of_the_user(tmp_path, text):
    path = put(tmp_path, text)
    refused(path, "bars.csv, line 2, column ts: the time '2024-01-01", "has no zone", "--assume-utc")
    same(path, assume_utc=True)


def test_a_csv_file_with_zones_needs_no_assumption_but_bears_it(tmp_path):
    same(put(tmp_path, TEXT), assume_utc=True)
    same(put(tmp_path, TEXT.replace("01T00:00:00Z", "01T05:30:00+05:30")), assume_utc=True)


def test_one_naive_time_among_others_is_named(tmp_path):
    path = put(tmp_path, HEADER + "\n".join([LINES[0], "", LINES[1].replace("Z", "")]))
    refused(path, "line 4, column ts: the time '2024-01-02T00:00:00' has no zone", "--assume-utc")
    refused(path, "line 4, column ts", "has no zone and others have one", assume_utc=True)


@pytest.mark.parametrize("kind", [pa.date32(), pa.date64(), pa.timestamp("ms"), pa.timestamp("ns")])
def test_parquet_times_without_a_zone_need_the_word_of_the_user(tmp_path, kind):
    table = pa.Table.from_pandas(expected(), preserve_index=False)
    dates = pa.array([dt.date(2024, 1, day) for day in (1, 2, 3)])
    pq.write_table(table.set_column(1, "ts", dates.cast(kind)), tmp_path / "bars.parquet")
    refused(tmp_path / "bars.parquet", "bars.parquet, column ts: the times have no zone", "--assume-utc")
    same(tmp_path / "bars.parquet", assume_utc=True)


def test_actions_with_plain_dates_are_read_when_dates_are_utc(tmp_path):
    path = put(tmp_path, "symbol,ex_date,kind,value\nA,2024-01-02,SPLIT,2\n", "actions.csv")
    refused(path, "line 2, column ex_date", "has no zone", table="actions")
    found = normalise_actions(read_table("actions", path, assume_utc=True), ["A"])
    assert found["ex_date"].tolist() == [pd.Timestamp("2024-01-02", tz="UTC")] and found["value"].tolist() == [2.0]


def test_a_header_alone_is_an_empty_table_of_actions(tmp_path):
    path = put(tmp_path, "symbol,ex_date,kind,value\n", "actions.csv")
    assert len(normalise_actions(read_table("actions", path), ["A"])) == 0


# what is refused


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("10.5,100\nA,2024-01-03", "abc,100\nA,2024-01-03", ["line 3, column close: 'abc' is not a number"]),
        (LINES[1], "\n\n" + LINES[1].replace("10.5", "abc"), ["line 5, column close: 'abc' is not a number"]),
        (LINES[2], LINES[2].replace("10.5", '"1,000.5"'), ["line 4, column close: '1,000.5' is not a number"]),
        (LINES[2], LINES[2].replace("10.5", "it's"), ["line 4, column close: \"it's\" is not a number"]),
        ("2024-01-03T00:00:00Z", "03/01/2024", ["line 4, column ts: '03/01/2024' is not a time", "ISO 8601"]),
        ("03T00:00:00Z", "03T00:00:00.123456789Z", ["line 4, column ts", "is not a time", "to the microsecond"]),
        ("2024-01-03T00:00:00Z", "2024-02-30T00:00:00Z", ["line 4, column ts: '2024-02-30T00:00:00Z' is not a time"]),
        (LINES[1], LINES[1] + ",7", ["line 3: has 8 values for 7 columns"]),
        (LINES[1], LINES[1][:-4], ["line 3: has 6 values for 7 columns"]),
        (HEADER, HEADER.replace(",volume", ""), ["has 7 values for 6 columns"]),
        (HEADER, HEADER.replace("volume", "turnover"), ["lacks 'volume'", "unknown 'turnover'"]),
        (HEADER, HEADER.replace("volume", "close"), ["lacks 'volume'", "repeats 'close'"]),
        (HEADER, "", ["lacks 'symbol'"]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("form", ["plain", "bom", "crlf", "gz"])
def test_what_is_wrong_in_a_csv_file_is_named_with_its_line(tmp_path, old, new, words, form):
    assert old in TEXT
    data = TEXT.replace(old, new, 1)
    encoded = (data.replace("\n", "\r\n") if form == "crlf" else data).encode()
    if form == "gz":
        path = put(tmp_path, gzip.compress(encoded), "bars.csv.gz")
    else:
        path = put(tmp_path, b"\xef\xbb\xbf" + encoded if form == "bom" else encoded)
    refused(path, *words)


def test_a_line_far_down_a_large_file_is_found(tmp_path):
    lines = [LINES[0].replace("A,", f"S{i:06},") for i in range(250_000)]
    lines[240_000] = lines[240_000].replace("10.5", "n.a.?")
    refused(put(tmp_path, HEADER + "\n".join(lines)), "line 240002, column close: 'n.a.?' is not a number")


def test_a_missing_column_of_a_csv_file_is_named(tmp_path):
    frame = pd.read_csv(put(tmp_path, TEXT)).drop(columns="volume")
    frame.to_csv(tmp_path / "less.csv", index=False)
    refused(tmp_path / "less.csv", "lacks 'volume'", "exactly the columns symbol, ts, open, high, low, close, volume")
    refused(put(tmp_path, TEXT.replace(",", ";")), "lacks 'symbol', 'ts'", "unknown 'symbol;ts;open")


@pytest.mark.parametrize("content", [b"", b"\n\n", b"  \r\n"])
@pytest.mark.parametrize("name", ["bars.csv", "bars.parquet"])
def test_an_empty_file_is_refused(tmp_path, content, name):
    refused(put(tmp_path, content, name), f"{name} is empty")


def test_a_header_alone_is_refused_for_bars(tmp_path):
    refused(put(tmp_path, HEADER), "the bars table is empty")


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (TEXT.encode() + b"\xff\xfe,2024-01-05T00:00:00Z,1,1,1,1,1\n", 5),
        (TEXT.replace("volume", "völume").encode("latin-1"), 1),
        (TEXT.encode("utf-16"), 1),
    ],
)
def test_text_that_is_not_utf_8_is_refused_with_its_line(tmp_path, content, line):
    refused(put(tmp_path, content), f"bars.csv, line {line}: this is not UTF-8 text; save the file as UTF-8")


@pytest.mark.parametrize(
    "content", [b"abc", gzip.compress(TEXT.encode(), mtime=0)[:-12], gzip.compress(TEXT.encode(), mtime=0)[:30]]
)
def test_a_broken_gzip_file_is_refused(tmp_path, content):
    refused(put(tmp_path, content, "bars.csv.gz"), "bars.csv.gz is not a whole gzip file", "write it again")


def test_a_broken_parquet_file_is_refused(tmp_path):
    expected().to_parquet(tmp_path / "bars.parquet")
    whole = (tmp_path / "bars.parquet").read_bytes()
    for data in (b"abc", whole[:-5], whole[: len(whole) // 2], TEXT.encode()):
        refused(put(tmp_path, data, "bars.parquet"), "bars.parquet is not a readable Parquet file")


@pytest.mark.parametrize(
    ("column", "values", "words"),
    [
        ("close", ["10.5", "x", "1"], ["column close: holds ", "it must hold numbers"]),
        ("volume", [True, False, True], ["column volume: holds bool", "numbers"]),
        ("ts", ["2024-01-01", "2024-01-02", "2024-01-03"], ["column ts: holds ", "it must hold times"]),
        ("symbol", [1, 2, 3], ["column symbol: holds int64", "it must hold text"]),
        ("symbol", pd.Categorical([1, 2, 3]), ["column symbol: holds ", "it must hold text"]),
        ("symbol", ["A", None, "A"], ["a bar has no symbol"]),
    ],
)
def test_a_wrong_type_in_parquet_is_named(tmp_path, column, values, words):
    expected().assign(**{column: values}).to_parquet(tmp_path / "bars.parquet")
    refused(tmp_path / "bars.parquet", *words)


def test_nanoseconds_in_parquet_are_refused_and_not_rounded(tmp_path):
    frame = expected()
    frame = frame.assign(ts=frame["ts"].dt.as_unit("ns") + pd.Timedelta(1, "ns"))
    frame.to_parquet(tmp_path / "bars.parquet")
    refused(tmp_path / "bars.parquet", "would lose data", "round the times to microseconds")


def test_columns_of_parquet_are_checked(tmp_path):
    expected().drop(columns="close").to_parquet(tmp_path / "bars.parquet")
    refused(tmp_path / "bars.parquet", "lacks 'close'")
    expected().assign(x=1).to_parquet(tmp_path / "bars.parquet")
    refused(tmp_path / "bars.parquet", "unknown 'x'")


def test_a_file_that_is_not_there_or_of_another_kind_is_refused(tmp_path):
    refused(tmp_path / "none.csv", "there is no file", "none.csv", error=NotFoundError)
    refused(put(tmp_path, TEXT, "bars.doc"), "bars.doc is none of .csv, .csv.gz, .txt, .tsv, .parquet")
    refused(put(tmp_path, TEXT, "bars"), "bars is none of .csv, .csv.gz")
    (tmp_path / "folder.csv").mkdir()
    refused(tmp_path / "folder.csv", "could not read", "folder.csv", error=StorageError)
    os.mkfifo(tmp_path / "pipe.csv")
    refused(tmp_path / "pipe.csv", "is no regular file")
