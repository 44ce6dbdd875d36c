"""The bundled prices are what their README says: raw, complete, with the splits and dividends that really happened."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from ledger_pipeline.market.calendars import sessions

FOLDER = Path(__file__).parents[2] / "sources" / "demo"

# (first bar, last bar, bars)
PERIODS = {
    "AAPL": ("2000-03-01", "2013-03-01", 3270),
    "FB": ("2012-05-18", "2013-03-01", 196),
    "GOOG": ("2004-08-19", "2013-03-01", 2148),
    "IBM": ("2000-03-01", "2013-03-01", 3270),
    "MSFT": ("2000-03-01", "2013-03-01", 3270),
}
SPLIT_DAYS = {("AAPL", "2000-06-21"), ("AAPL", "2005-02-28"), ("MSFT", "2003-02-18")}
# Adjusted closes as the source (bokeh_sampledata 2026.1, stocks.csv.gz) prints them.
ADJUSTED = {
    "AAPL": {
        "2000-03-01": 4.186662803811,
        "2000-06-20": 3.2530090467797,
        "2000-06-21": 3.5746151757502,
        "2005-02-25": 5.7182276557615,
        "2005-02-28": 5.7651352430039,
        "2012-08-08": 79.660649392073,
        "2012-08-09": 80.113018452603,
        "2013-03-01": 56.137353095488,
    },
    "FB": {"2012-05-18": 38.2318, "2013-03-01": 27.78},
    "GOOG": {"2004-08-19": 50.32284179174976, "2013-03-01": 404.3431686260103},
    "IBM": {"2000-03-01": 73.667718762847, "2006-05-05": 63.638335754577, "2013-03-01": 175.27118333217},
    "MSFT": {
        "2000-03-01": 30.225709797294,
        "2003-02-14": 16.076442938105,
        "2003-02-18": 16.61565282547,
        "2003-02-19": 16.382660898831,
        "2004-11-12": 20.185104962165,
        "2004-11-15": 20.521860133372,
        "2013-03-01": 24.684342419163,
    },
}


@pytest.fixture(scope="module")
def bars() -> pd.DataFrame:
    return pd.read_csv(FOLDER / "bars.csv", parse_dates=["ts"])


@pytest.fixture(scope="module")
def actions() -> pd.DataFrame:
    return pd.read_csv(FOLDER / "actions.csv", parse_dates=["ex_date"])


def test_each_symbol_has_exactly_the_sessions_of_its_period(bars):
    assert list(bars.columns) == ["symbol", "ts", "open", "high", "low", "close", "volume"]
    assert set(bars["symbol"]) == set(PERIODS)
    for symbol, (first, last, count) in PERIODS.items():
        held = bars.loc[bars["symbol"] == symbol, "ts"]
        assert len(held) == count
        assert held.tolist() == sessions("XNYS", first, last).tolist()


def test_prices_bracket_each_other_and_volume_is_positive(bars):
    assert (bars["high"] >= bars[["open", "close", "low"]].max(axis=1)).all()
    assert (bars["low"] <= bars[["open", "close"]].min(axis=1)).all()
    assert (bars["low"] > 0).all() and (bars["volume"] > 0).all()


def test_every_instrument_is_described(bars):
    instruments = pd.read_csv(FOLDER / "instruments.csv")
    assert list(instruments.columns) == ["symbol", "name", "currency", "calendar", "asset_class"]
    assert instruments["symbol"].tolist() == sorted(PERIODS)
    assert set(instruments["currency"]) == {"USD"} and set(instruments["calendar"]) == {"XNYS"}
    assert instruments.notna().all().all()


def test_the_raw_open_halves_on_the_split_days_and_on_no_other(bars, actions):
    halved = bars["open"] / bars.groupby("symbol")["close"].shift()
    days = bars.loc[halved < 0.6, ["symbol", "ts"]]
    # Apple opened 47 % lower on 2000-09-29: the one real fall overnight that looks like a split.
    seen = {(symbol, f"{ts:%Y-%m-%d}") for symbol, ts in days.itertuples(index=False)}
    assert seen - {("AAPL", "2000-09-29")} == SPLIT_DAYS
    splits = actions[actions["kind"] == "SPLIT"]
    assert {(row.symbol, f"{row.ex_date:%Y-%m-%d}") for row in splits.itertuples()} == SPLIT_DAYS
    assert (splits["value"] == 2).all()


def test_dividends_are_those_the_companies_paid(actions):
    paid = actions[actions["kind"] == "DIVIDEND"].set_index("ex_date")
    assert paid.groupby("symbol").size().to_dict() == {"AAPL": 3, "IBM": 52, "MSFT": 37}

    apple = paid.loc[paid["symbol"] == "AAPL", "value"]
    assert {f"{day:%Y-%m-%d}": cash for day, cash in apple.items()} == {
        "2012-08-09": 2.65,
        "2012-11-07": 2.65,
        "2013-02-07": 2.65,
    }

    # IBM's dividends a share by year of payment; the one of February 2000 (0.12) came before the first bar.
    ibm = paid.loc[paid["symbol"] == "IBM", "value"]
    assert ibm.groupby(ibm.index.year).sum().round(9).to_dict() == {
        2000: 0.39, 2001: 0.55, 2002: 0.59, 2003: 0.63, 2004: 0.70, 2005: 0.78, 2006: 1.10, 2007: 1.50,
        2008: 1.90, 2009: 2.15, 2010: 2.50, 2011: 2.90, 2012: 3.30, 2013: 0.85,
    }  # fmt: skip

    microsoft = {f"{day:%Y-%m-%d}": cash for day, cash in paid.loc[paid["symbol"] == "MSFT", "value"].items()}
    # The special dividend of 3.00 went ex together with the quarter's 0.08.
    known = {"2003-02-19": 0.08, "2003-10-15": 0.16, "2004-11-15": 3.08, "2008-11-18": 0.13, "2009-08-18": 0.13}
    assert {day: microsoft[day] for day in known} == known


def test_every_ex_date_is_a_bar_of_its_instrument(bars, actions):
    assert len(actions.merge(bars, left_on=["symbol", "ex_date"], right_on=["symbol", "ts"])) == len(actions)
    assert not actions.duplicated(["symbol", "ex_date"]).any()


@pytest.mark.parametrize("symbol", sorted(PERIODS))
def test_raw_prices_and_actions_rebuild_the_adjusted_return_of_the_source(bars, actions, symbol):
    # Buys one share at the first close; splits multiply it, dividends buy more at the close of the ex-date.
    posted = {row.ex_date: row for row in actions[actions["symbol"] == symbol].itertuples()}
    shares, worth = 1.0, {}
    for day, close in bars.loc[bars["symbol"] == symbol, ["ts", "close"]].itertuples(index=False):
        if action := posted.get(day):
            shares *= action.value if action.kind == "SPLIT" else 1 + action.value / close
        worth[f"{day:%Y-%m-%d}"] = shares * close
    first, *later = ADJUSTED[symbol]
    for day in later:
        expected = ADJUSTED[symbol][day] / ADJUSTED[symbol][first]
        assert worth[day] / worth[first] == pytest.approx(expected, rel=1e-12), day


def test_the_files_stay_small():
    assert (FOLDER / "bars.csv").stat().st_size < 1_000_000
