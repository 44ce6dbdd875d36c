"""Bars as vendors give them: headers, times, separators, and errors that name the file and the line."""

from __future__ import annotations

import pandas as pd
import pytest

import ledger_pipeline as lp
from ledger_pipeline.core.errors import InputError
from ledger_pipeline.market.sources.files import read_bars

YAHOO = """Date,Open,High,Low,Close,Adj Close,Volume
2024-01-02,187.15,188.44,183.88,185.64,184.70,82488700
2024-01-03,184.22,185.88,183.43,184.25,183.30,58414500
"""
STOOQ = """<TICKER>,<PER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>,<OPENINT>
AAPL.US,D,20240102,000000,187.15,188.44,183.88,185.64,82488700,0
AAPL.US,D,20240103,000000,184.22,185.88,183.43,184.25,58414500,0
"""
ALPACA = """symbol,timestamp,open,high,low,close,volume,trade_count,vwap
AAPL,2024-01-02T05:00:00Z,187.15,188.44,183.88,185.64,82488700,1009074,185.9
AAPL,2024-01-03T05:00:00Z,184.22,185.88,183.43,184.25,58414500,656956,184.3
"""
POLYGON = """ticker,volume,open,close,high,low,window_start,transactions
AAPL,82488700,187.15,185.64,188.44,183.88,1704171600000000000,1009074
AAPL,58414500,184.22,184.25,185.88,183.43,1704258000000000000,656956
"""
SEMICOLON = """Date;Open;High;Low;Close;Volume
2024-01-02;187,15;188,44;183,88;185,64;82488700
2024-01-03;184,22;185,88;183,43;184,25;58414500
"""
TAB = YAHOO.replace(",", "\t")


def put(folder, text: str, name: str = "AAPL.csv"):
    path = folder / name
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "text",
    [YAHOO, STOOQ, ALPACA, POLYGON, SEMICOLON, TAB],
    ids=["yahoo", "stooq", "alpaca", "polygon", "semicolon", "tab"],
)
def test_the_same_two_sessions_of_every_vendor(tmp_path, text):
    given = {} if text.startswith(("symbol", "<", "ticker")) else {"symbol": "AAPL"}
    sealed = lp.seal(put(tmp_path, text), snapshot_id="x", root=tmp_path / "s", **given)
    rows = sealed.bars
    assert rows["ts"].tolist() == [pd.Timestamp("2024-01-02", tz="UTC"), pd.Timestamp("2024-01-03", tz="UTC")]
    assert rows[["open", "high", "low", "close", "volume"]].to_numpy().tolist() == [
        [187.15, 188.44, 183.88, 185.64, 82488700.0], [184.22, 185.88, 183.43, 184.25, 58414500.0],
    ]  # fmt: skip


def test_a_folder_holds_a_file_a_symbol(tmp_path):
    for name in ("AAPL.csv", "msft.csv"):
        put(tmp_path, YAHOO, name)
    assert sorted(set(read_bars([tmp_path])["symbol"])) == ["AAPL", "MSFT"]
    assert len(read_bars([tmp_path / "AAPL.csv", tmp_path / "msft.csv"])) == 4
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="the folder empty holds no file"):
        read_bars([tmp_path / "empty"])


def test_excel_is_read(tmp_path):
    frame = pd.DataFrame({"Date": pd.to_datetime(["2024-01-02", "2024-01-03"]), "Open": [1.0, 2], "High": [1.0, 2],
                          "Low": [1.0, 2], "Close": [1.0, 2]})  # fmt: skip
    frame.to_excel(tmp_path / "a.xlsx", index=False)
    found = read_bars([tmp_path / "a.xlsx"], symbol="A")
    assert found["ts"].tolist()[0] == pd.Timestamp("2024-01-02", tz="UTC") and found["volume"].tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("unit", "first"),
    [("s", 1704205800), ("ms", 1704205800000), ("us", 1704205800000000), ("ns", 1704205800000000000)],
)
def test_epochs_are_told_by_their_size(tmp_path, unit, first):
    step = first // 1704205800 * 60
    text = "t,o,h,l,c,v\n" + "".join(f"{first + n * step},1,1,1,1,5\n" for n in range(3))
    found = read_bars([put(tmp_path, text)], symbol="A")
    assert found["ts"].tolist()[:2] == [pd.Timestamp("2024-01-02T14:30Z"), pd.Timestamp("2024-01-02T14:31Z")]


def test_times_without_a_zone_need_one(tmp_path):
    text = "Date,Open,High,Low,Close\n2024-07-01 09:30,1,1,1,1\n2024-07-01 09:31,1,1,1,1\n"
    path = put(tmp_path, text)
    with pytest.raises(
        InputError, match=r"AAPL.csv, line 2: the time 2024-07-01 09:30:00 has no zone; say which with --tz"
    ):
        read_bars([path], symbol="A")
    found = read_bars([path], symbol="A", tz="America/New_York")
    assert found["ts"].tolist()[0] == pd.Timestamp("2024-07-01T13:30Z")
    with pytest.raises(InputError, match="no time zone 'New York'"):
        read_bars([path], symbol="A", tz="New York")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (YAHOO, "no column that names the instrument: say --symbol"),
        ("Date,Open,High,Low,Adj Close\n2024-01-02,1,1,1,1\n", "no column for close .'Adj Close' is adjusted and not used"),
        ("Date,Open,High,Low,Close,Mood\n2024-01-02,1,1,1,1,5\n", "'Mood' is not known; say which of .* --map Mood=ts"),
        ("symbol,Date,Open,High,Low,Close\nA,2024-01-02,1,1,1,null\n", r"AAPL.csv, line 2, column Close: 'null' is not a"),
        ("symbol,Date,Open,High,Low,Close\nA,soon,1,1,1,1\n", "AAPL.csv, line 2: 'soon' is not a time"),
        ("symbol,Date,Open,High,Low,Close\nA,01/02/2024,1,1,1,1\n", "begins with the month or the day is not certain"),
        ("symbol,Date,Open,High,Low,Close\nA,2024-01-02,1,1,1\n", "line 2: has 5 values for 6 columns"),
    ],
)  # fmt: skip
def test_what_is_not_certain_is_said_with_its_place(tmp_path, text, says):
    with pytest.raises(InputError, match=says):
        read_bars([put(tmp_path, text)])


def test_other_headers_are_mapped(tmp_path):
    path = put(tmp_path, "when,a,b,c,d,noise\n2024-01-02,1,2,0.5,1.5,x\n2024-01-03,1,2,0.5,1.5,x\n")
    renamed = {"when": "ts", "a": "open", "b": "high", "c": "low", "d": "close", "noise": "-"}
    assert read_bars([path], renamed=renamed, symbol="A")["high"].tolist() == [2.0, 2.0]
    with pytest.raises(InputError, match="--map names 'When', and the columns are when"):
        read_bars([path], renamed={"When": "ts"}, symbol="A")
    with pytest.raises(InputError, match="'price' is none of symbol, ts"):
        read_bars([path], renamed=renamed | {"a": "price"}, symbol="A")


def test_american_dates_are_taken_where_a_day_tells(tmp_path):
    text = "Date,Open,High,Low,Close\n01/02/2024,1,1,1,1\n01/31/2024,1,1,1,1\n"
    assert read_bars([put(tmp_path, text)], symbol="A")["ts"].tolist()[0] == pd.Timestamp("2024-01-02", tz="UTC")


def test_a_frame_of_yfinance_is_sealed(tmp_path):
    index = pd.DatetimeIndex(["2024-01-02", "2024-01-03"], tz="America/New_York", name="Date")
    frame = pd.DataFrame({name: [1.0, 2.0] for name in ("Open", "High", "Low", "Close", "Volume")}, index=index)
    sealed = lp.seal(frame, snapshot_id="y", root=tmp_path, symbol="AAPL")
    assert sealed.bars["ts"].tolist()[0] == pd.Timestamp("2024-01-02", tz="UTC")
    assert sealed.manifest["relabelled"] == ["AAPL"]


def test_what_is_no_frame_is_an_input_error(tmp_path):
    for bars in ([1, 2], 5, None, {"symbol": "A"}):
        with pytest.raises(InputError, match="bars are a frame or the path of a file"):
            lp.seal(bars, snapshot_id="z", root=tmp_path)
