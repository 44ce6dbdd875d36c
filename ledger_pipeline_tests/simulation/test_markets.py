"""Time on many markets: which open fills a decision, by which session actions, deposits and years go.

Every time is written in UTC. Expected values are worked by hand from the opening hours of the exchanges: New York
14:30-21:00 in winter and 13:30-20:00 in summer, Sydney 23:00-05:00 (of the day before) in its summer and 00:00-06:00
in its winter, Auckland 21:00-03:45, Tokyo 00:00-06:00, London 08:00-16:30 and 07:00-15:30, CME 23:00-23:00.
"""

from __future__ import annotations

import tempfile
from functools import cache

import exchange_calendars
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ledger_pipeline as lp
from ledger_pipeline.simulation.replay import truncation_replay
from ledger_pipeline_tests.market import frames

PLAN = '''
def strategy(ctx, params):
    """Wants by time and symbol the quantities of `plan`; of all else `want` (-1: any number), or what it holds."""
    targets = ctx.hold()
    for symbol in ctx.universe:
        if params["want"] is not None:
            targets[symbol] = params["want"] if params["want"] >= 0 else float(ctx.rng.integers(0, 5))
    for symbol, wish in params["plan"].get(ctx.now.isoformat()[:16], {}).items():
        targets[symbol] = wish
    return targets
'''
ANY = -1.0


def label(stamp) -> str:
    return f"{stamp:%Y-%m-%dT%H:%M}"


def days(*dates: str) -> list[str]:
    return [f"2024-{date}T00:00" for date in dates]


def hours(start: str, count: int, step: str = "h") -> list[str]:
    return [label(one) for one in pd.date_range(start, periods=count, freq=step)]


def flat(times, price: float = 100.0) -> dict[str, float]:
    return dict.fromkeys(times, price)


def seal(root, tables, actions=()):
    """A snapshot from {symbol: (calendar, {time: price})} and (symbol, date, kind, value)."""
    rows = []
    for symbol, (_, prices) in tables.items():
        rows += [(symbol, pd.Timestamp(time, tz="UTC"), *[float(p)] * 4, 1000.0) for time, p in prices.items()]
    listed = pd.DataFrame(
        [(symbol, symbol, "USD", calendar, "EQUITY") for symbol, (calendar, _) in tables.items()],
        columns=["symbol", "name", "currency", "calendar", "asset_class"],
    )
    columns = ["symbol", "ts", "open", "high", "low", "close", "volume"]
    bars, posted = pd.DataFrame(rows, columns=columns), frames.actions(*actions) if actions else None
    return lp.seal(bars, snapshot_id="s", root=root, instruments=listed, actions=posted)


def planned(plan=None, *, want: float | None = None, **options):
    options = {"costs": [], "opening": {"cash": 1000.0}, "name": "planned"} | options
    return lp.experiment(PLAN, params={"plan": plan or {}, "want": want}, **options)


def play(root, tables, plan=None, *, actions=(), **options):
    return lp.run(planned(plan, **options), seal(root, tables, actions))


def rows(run, *kinds):
    return [row for row in run.events.table.to_pylist() if row["kind"] in kinds]


def fills(run):
    names = ("symbol", "side", "quantity", "price")
    return [(label(row["occurred_at"]), *(row[name] for name in names)) for row in rows(run, "FILLED")]


def ended(run):
    lost = rows(run, "ORDER_EXPIRED", "ORDER_REJECTED")
    return [(label(r["occurred_at"]), r["symbol"], r["reasons"]) for r in lost]


def posted(run, kind):
    return [(label(r["occurred_at"]), r["quantity"], r["cash_delta"]) for r in rows(run, kind)]


WEEKEND = days("03-08", "03-09", "03-10", "03-11", "03-12")  # Friday to Tuesday
SHARE = dict(zip(days("03-08", "03-11", "03-12"), (100, 110, 120), strict=True))


def test_a_friday_decision_is_filled_on_monday_whatever_the_coin_does(tmp_path) -> None:
    """Friday: S 5, filled Monday at 110. Saturday: C 10, filled Sunday at 10. Cash 1000, 1000, 900, 350, 350."""
    tables = {"C": ("24/7", flat(WEEKEND, 10)), "S": ("XNYS", SHARE)}
    run = play(tmp_path, tables, {WEEKEND[0]: {"S": 5}, WEEKEND[1]: {"C": 10}})
    assert fills(run) == [(WEEKEND[2], "C", "BUY", 10.0, 10.0), (WEEKEND[3], "S", "BUY", 5.0, 110.0)]
    assert run.equity["cash"].tolist() == [1000, 1000, 900, 350, 350]
    assert run.equity["equity"].tolist() == [1000, 1000, 1000, 1000, 1050]
    assert run.warnings == [] and run.metrics["orders_expired"] == 0


def test_a_wish_repeated_at_every_pulse_is_ordered_once(tmp_path) -> None:
    """C is bought on Saturday (decided Friday), S on Monday; both are held from then on and nothing else is ordered."""
    run = play(tmp_path, {"C": ("24/7", flat(WEEKEND, 10)), "S": ("XNYS", SHARE)}, want=5.0)
    assert fills(run) == [(WEEKEND[1], "C", "BUY", 5.0, 10.0), (WEEKEND[3], "S", "BUY", 5.0, 110.0)]
    assert ended(run) == [] and run.equity["cash"].tolist() == [1000, 950, 950, 400, 400]


def test_a_holiday_is_no_missing_bar(tmp_path) -> None:
    """Thanksgiving, Thursday 2024-11-28: Wednesday's decision is filled on Friday."""
    coin, share = days("11-27", "11-28", "11-29", "11-30"), days("11-27", "11-29")
    run = play(tmp_path, {"C": ("24/7", flat(coin)), "S": ("XNYS", flat(share))}, {coin[0]: {"S": 1}})
    assert fills(run) == [(coin[2], "S", "BUY", 1.0, 100.0)] and ended(run) == []


@pytest.mark.parametrize("beside_coin", [True, False])
def test_a_missing_session_is_no_bar_once(tmp_path, beside_coin) -> None:
    """Monday's bar of S is missing: Friday's order ends on Monday; Tuesday's is filled on Wednesday at 130."""
    share = dict(zip(days("03-07", "03-08", "03-12", "03-13"), (90, 100, 120, 130), strict=True))
    other = ("24/7", flat([*days("03-07"), *WEEKEND, *days("03-13")], 10))
    tables = {"C": other if beside_coin else ("XNYS", flat(days("03-07", "03-08", "03-11", "03-12", "03-13"), 10))}
    run = play(tmp_path, {**tables, "S": ("XNYS", share)}, {d: {"S": 5} for d in days("03-08", "03-12")})
    assert ended(run) == [(WEEKEND[3], "S", "NO_BAR")]
    assert fills(run) == [(days("03-13")[0], "S", "BUY", 5.0, 130.0)]
    assert run.warnings == ["1 order was not filled: 1 NO_BAR"]


@pytest.mark.parametrize(
    ("calendar", "dates", "filled"),
    [
        ("XASX", ("04-02", "04-03", "04-04", "04-05"), "04-04"),  # opens 23:00, an hour before the coin's end
        ("XASX", ("04-08", "04-09", "04-10", "04-11"), "04-09"),  # opens 00:00, at the coin's end
        ("XNZE", ("03-05", "03-06", "03-07", "03-08"), "03-07"),  # opens 21:00
        ("XTKS", ("03-05", "03-06", "03-07", "03-08"), "03-06"),
        ("XNYS", ("03-05", "03-06", "03-07", "03-08"), "03-06"),
        ("CMES", ("03-05", "03-06", "03-07", "03-08"), "03-07"),  # opens 23:00
    ],
)
def test_no_fill_at_an_open_before_the_coins_close(tmp_path, calendar, dates, filled) -> None:
    """Decided when the coin's bar of the first date has ended; the opens before that have passed."""
    tables = {"C": ("24/7", flat(days(*dates), 10)), "S": (calendar, flat(days(*dates)))}
    run = play(tmp_path, tables, want=2.0)
    assert [f for f in fills(run) if f[1] == "S"] == [(days(filled)[0], "S", "BUY", 2.0, 100.0)]
    assert ended(run) == []


def test_what_is_ordered_and_not_yet_filled_is_held_by_hold(tmp_path) -> None:
    """Sydney is ordered at the pulse of 04-02 and filled at 04-04; holding all at 04-03 and later orders nothing."""
    dates = days("04-02", "04-03", "04-04", "04-05")
    run = play(tmp_path, {"C": ("24/7", flat(dates, 10)), "S": ("XASX", flat(dates))}, {dates[0]: {"S": 2}})
    assert fills(run) == [(dates[2], "S", "BUY", 2.0, 100.0)] and ended(run) == []


def test_a_split_restates_an_order_that_waits_over_a_pulse(tmp_path) -> None:
    """Ordered at the pulse of 04-02: 2 at 100; the 2:1 split of 04-04 makes that 4 at 50, bought there."""
    dates = days("04-02", "04-03", "04-04", "04-05")
    tables = {"C": ("24/7", flat(dates, 10)), "S": ("XASX", flat(dates[:2]) | flat(dates[2:], 50))}
    plan = {dates[0]: {"S": 2}, dates[1]: {"S": 2}, dates[2]: {"S": 4}}
    run = play(tmp_path, tables, plan, actions=[("S", "2024-04-04", "SPLIT", 2.0)])
    assert fills(run) == [(dates[2], "S", "BUY", 4.0, 50.0)] and run.equity["cash"].iloc[-1] == 800.0


# Sessions of bars within a day: (calendar, bars of three sessions, ex-date: the date of the second)
SESSIONS = [
    ("XASX", [("2024-04-02T23:00", 6), ("2024-04-03T23:00", 6), ("2024-04-04T23:00", 6)], "2024-04-04"),
    ("XASX", [("2024-04-04T23:00", 6), ("2024-04-08T00:00", 6), ("2024-04-09T00:00", 6)], "2024-04-08"),
    ("XASX", [("2024-10-04T00:00", 6), ("2024-10-06T23:00", 6), ("2024-10-07T23:00", 6)], "2024-10-07"),
    ("XNZE", [("2024-03-04T21:00", 7), ("2024-03-05T21:00", 7), ("2024-03-06T21:00", 7)], "2024-03-06"),
    ("XTKS", [("2024-03-05T00:00", 6), ("2024-03-06T00:00", 6), ("2024-03-07T00:00", 6)], "2024-03-06"),
    ("XLON", [("2024-03-28T08:00", 9), ("2024-04-02T07:00", 9), ("2024-04-03T07:00", 9)], "2024-04-02"),
    ("XNYS", [("2024-03-08T14:30", 7), ("2024-03-11T13:30", 7), ("2024-03-12T13:30", 7)], "2024-03-11"),
    ("XNYS", [("2024-11-01T13:30", 7), ("2024-11-04T14:30", 7), ("2024-11-05T14:30", 7)], "2024-11-04"),
    ("XNYS", [("2024-03-05T09:00", 16), ("2024-03-06T09:00", 16), ("2024-03-07T09:00", 16)], "2024-03-06"),  # 4 to 20
    ("XNYS", [("2024-03-08T09:00", 16), ("2024-03-11T08:00", 16), ("2024-03-12T08:00", 16)], "2024-03-11"),
    ("CMES", [("2024-03-04T23:00", 23), ("2024-03-05T23:00", 23), ("2024-03-06T23:00", 23)], "2024-03-06"),
    ("CMES", [("2024-03-07T23:00", 23), ("2024-03-10T22:00", 23), ("2024-03-11T22:00", 23)], "2024-03-11"),
    ("24/7", [("2024-03-05T00:00", 24), ("2024-03-06T00:00", 24), ("2024-03-07T00:00", 24)], "2024-03-06"),
]
each_market = pytest.mark.parametrize(("calendar", "parts", "ex_date"), SESSIONS)
HOLDS = {"cash": 1000.0, "positions": {"S": 10}, "cost_basis": {"S": 100}}


@each_market
def test_a_split_is_posted_at_the_open_of_its_session(tmp_path, calendar, parts, ex_date) -> None:
    """10 at 100; the sale decided at the bar before the 2:1 split sells 20 at 50: equity stays 2000."""
    one, two, last = [hours(*part) for part in parts]
    prices = flat(one) | flat([*two, *last], 50)
    action = [("S", ex_date, "SPLIT", 2.0)]
    run = play(tmp_path, {"S": (calendar, prices)}, {one[-1]: {"S": 0}}, opening=HOLDS, actions=action)
    assert posted(run, "SPLIT") == [(two[0], 10.0, None)]
    assert fills(run) == [(two[0], "S", "SELL", 20.0, 50.0)] and ended(run) == []
    assert set(run.equity["equity"]) == {2000.0}


@each_market
def test_a_dividend_and_a_deposit_come_with_their_session(tmp_path, calendar, parts, ex_date) -> None:
    """10 held; 10 more at 50 are bought at the open of the ex-date: 10 x 1.5 = 15 of dividend, and 70 deposited, there.

    Cash: 1000 + 15 + 70 - 500 = 585.
    """
    one, two, last = [hours(*part) for part in parts]
    prices, deposit = flat([*one, *two, *last], 50), [{"amount": 70.0, "at": ex_date}]
    action = [("S", ex_date, "DIVIDEND", 1.5)]
    tables, plan = {"S": (calendar, prices)}, {one[-1]: {"S": 20}}
    run = play(tmp_path, tables, plan, opening=HOLDS, actions=action, deposits=deposit)
    assert posted(run, "DIVIDEND") == [(two[0], 10.0, 15.0)] and posted(run, "DEPOSITED") == [(two[0], None, 70.0)]
    assert fills(run) == [(two[0], "S", "BUY", 10.0, 50.0)] and run.equity["cash"].iloc[-1] == 585.0


@pytest.mark.parametrize(
    ("calendar", "parts", "second"),
    [
        ("XNZE", [("2024-02-28T21:00", 7), ("2024-02-29T21:00", 7)], "2024-02-29T21:00"),  # session of 03-01
        ("XNYS", [("2024-01-31T09:00", 16), ("2024-02-01T09:00", 16)], "2024-02-01T09:00"),  # 00:00 is 19:00 of 01-31
        ("CMES", [("2024-01-30T23:00", 23), ("2024-01-31T23:00", 23)], "2024-01-31T23:00"),
    ],
)
def test_a_monthly_deposit_goes_by_session_dates(tmp_path, calendar, parts, second) -> None:
    times = [time for part in parts for time in hours(*part)]
    run = play(tmp_path, {"S": (calendar, flat(times))}, deposits=[{"amount": 50.0, "every": "month"}])
    assert posted(run, "DEPOSITED") == [(times[0], None, 50.0), (second, None, 50.0)]


def test_the_benchmark_counts_actions_by_session(tmp_path) -> None:
    """2 shares after the split of 04-04; a dividend of 5 at a close of 50 makes 2.2 of them; 2.2 x 55 = 121."""
    one, two, last = [hours(*part) for part in SESSIONS[0][1]]
    prices = flat(one) | flat([*two, last[0]], 50) | flat(last[1:], 55)
    tables = {"B": ("XASX", prices), "S": ("XASX", flat(prices))}
    actions = [("B", "2024-04-04", "SPLIT", 2.0), ("B", "2024-04-05", "DIVIDEND", 5.0)]
    run = play(tmp_path, tables, actions=actions, universe=["S"], benchmark="B")
    assert run.metrics["benchmark_return"] == pytest.approx(0.21, abs=1e-12)


HALF = [*hours("2024-03-06T14:30", 7), *hours("2024-03-07T14:30", 7), *hours("2024-03-08T14:30", 7)]
FULL = hours("2024-03-06T00:00", 72)


def test_hourly_bars_at_full_and_at_half_past_trade(tmp_path) -> None:
    """The share ordered at 14:30 is bought at 15:30, the coin ordered at 15:00 at 16:00; the 20:30 bar of the share
    ends at 21:00, its next opens at 14:30 of the next day.
    """
    plan = {"2024-03-06T14:30": {"S": 1}, "2024-03-06T15:00": {"C": 1}, "2024-03-06T20:30": {"S": 2}}
    run = play(tmp_path, {"C": ("24/7", flat(FULL, 10)), "S": ("XNYS", flat(HALF))}, plan)
    assert [(f[0], f[1]) for f in fills(run)] == [
        ("2024-03-06T15:30", "S"), ("2024-03-06T16:00", "C"), ("2024-03-07T14:30", "S"),
    ]  # fmt: skip
    assert ended(run) == []


@pytest.mark.parametrize(("beside", "told"), [(True, "2024-03-07T17:00"), (False, "2024-03-07T17:30")])
def test_a_missing_hour_is_no_bar_exactly_once(tmp_path, beside, told) -> None:
    """16:30 of the second day is missing: the order of 15:30 ends at the next bar time there is; the one of 17:30 is
    filled at 18:30.
    """
    share = flat([time for time in HALF if time != "2024-03-07T16:30"])
    tables = {"S": ("XNYS", share)} | ({"C": ("24/7", flat(FULL, 10))} if beside else {})
    run = play(tmp_path, tables, {"2024-03-07T15:30": {"S": 1}, "2024-03-07T17:30": {"S": 1}})
    assert ended(run) == [(told, "S", "NO_BAR")]
    assert fills(run) == [("2024-03-07T18:30", "S", "BUY", 1.0, 100.0)]


@pytest.mark.parametrize(
    ("calendar", "parts"),
    [
        ("XNYS", [("2024-07-02T13:30", 7), ("2024-07-03T13:30", 4), ("2024-07-05T13:30", 7), ("2024-07-08T13:30", 7)]),
        ("XLON", [("2024-12-23T08:00", 9), ("2024-12-24T08:00", 5), ("2024-12-27T08:00", 9), ("2024-12-30T08:00", 9)]),
    ],
)
def test_an_early_close_is_no_missing_bar(tmp_path, calendar, parts) -> None:
    """The last bar of the short day is filled at the first of the next session."""
    sessions = [hours(*part) for part in parts]
    tables = {"S": (calendar, flat(time for session in sessions for time in session))}
    run = play(tmp_path, tables, {sessions[1][-1]: {"S": 1}})
    assert [f[0] for f in fills(run)] == [sessions[2][0]] and ended(run) == []


DAILY = days("03-04", "03-05", "03-06", "03-07", "03-08", "03-11", "03-12")
WEEKLY = days("01-29", "02-05", "02-12", "02-26", "03-04", "03-11")
MINUTES = hours("2024-03-06T14:30", 390, "min") + hours("2024-03-07T14:30", 390, "min")


@pytest.mark.parametrize(
    ("one", "other"), [(DAILY, HALF), (DAILY, FULL), (DAILY, WEEKLY), (HALF, MINUTES), (DAILY, MINUTES)]
)
def test_bars_of_different_length_are_refused_with_both_names(tmp_path, one, other) -> None:
    for tables in ({"LONG": one, "SHORT": other}, {"LONG": other, "SHORT": one}):
        with pytest.raises(lp.InputError, match=r"LONG.*SHORT|SHORT.*LONG"):
            seal(tmp_path, {name: ("XNYS", flat(times)) for name, times in tables.items()})


SUMMER = hours("2024-06-03T13:30", 7) + hours("2024-06-04T13:30", 7)


@pytest.mark.parametrize(
    "times", [[*DAILY[:3], *HALF[7:]], [*HALF, *days("03-07", "03-08")], [*SUMMER, *days("06-03", "06-04")]]
)
def test_mixed_lengths_in_one_instrument_are_refused(tmp_path, times) -> None:
    """A daily bar at 00:00 shows at the open what happens until the close."""
    with pytest.raises(lp.InputError, match="ODD"):
        seal(tmp_path, {"ODD": ("XNYS", flat(sorted(times)))})


LUNCH = [t for d in (5, 6, 7) for t in hours(f"2024-03-{d:02}T01:30", 3) + hours(f"2024-03-{d:02}T05:00", 3)]


@pytest.mark.parametrize(("step", "count", "refused"), [("h", 72, False), ("30min", 144, True)])
def test_a_lunch_break_does_not_shorten_hourly_bars(tmp_path, step, count, refused) -> None:
    """Hong Kong's hours start at 01:30, 02:30, 03:30, 05:00, 06:00 and 07:00: they go with hours, not with half ones,
    where a coin bought at 02:00 would know the close of 02:30.
    """
    tables = {"C": ("24/7", flat(hours("2024-03-05T00:00", count, step))), "H": ("XHKG", flat(LUNCH))}
    if refused:
        with pytest.raises(lp.InputError, match="C.*H"):
            seal(tmp_path, tables)
    else:
        assert [f[0] for f in fills(play(tmp_path, tables, {LUNCH[1]: {"H": 1}}))] == [LUNCH[2]]


@pytest.mark.parametrize(
    ("dense", "few"),
    [
        (MINUTES, [MINUTES[m] for m in (3, 10, 17, 45, 200, 203, 400, 412, 777)]), (MINUTES, MINUTES[10:18:7]),
        (MINUTES, MINUTES[-1:]), (HALF, HALF[14:17:2]), (HALF, HALF[6:14:7]), (DAILY, DAILY[:4:3]),
        (DAILY, DAILY[1:6:2]), *((DAILY, DAILY[-n:]) for n in (1, 2, 3)),
    ],
)  # fmt: skip
def test_few_or_sparse_bars_are_not_refused(tmp_path, dense, few) -> None:
    """What a share that trades seldom, or was listed lately, lacks does not make its bars longer."""
    run = play(tmp_path, {"DENSE": ("XNYS", flat(dense)), "FEW": ("XNYS", flat(few))}, {dense[0]: {"DENSE": 1}})
    assert [f[:2] for f in fills(run)] == [(dense[1], "DENSE")]


@pytest.mark.parametrize(
    ("calendar", "start", "step"), [("XNYS", "2024-01-01", 7), ("24/7", "2024-01-01", 7), ("24/7", "2024-01-01", 3)]
)
def test_longer_bars_alone_trade_at_their_next_bar(tmp_path, calendar, start, step) -> None:
    times = hours(start, 12, f"{step}D")
    run = play(tmp_path, {"S": (calendar, flat(times))}, {times[2]: {"S": 1}, times[6]: {"S": 0}})
    assert [f[0] for f in fills(run)] == [times[3], times[7]] and ended(run) == []


@pytest.mark.parametrize(
    ("calendar", "given", "dates"),
    [
        ("XNYS", ["03-08T05:00", "03-11T04:00", "03-12T04:00"], ("03-08", "03-11", "03-12")),  # midnight
        ("XNYS", ["03-08T14:30", "03-11T13:30", "03-12T13:30"], ("03-08", "03-11", "03-12")),  # open
        ("XNYS", ["03-08T21:00", "03-11T20:00", "03-12T20:00"], ("03-08", "03-11", "03-12")),  # close
        ("XASX", ["04-04T13:00", "04-07T14:00", "04-08T14:00"], ("04-05", "04-08", "04-09")),
        ("XASX", ["04-04T23:00", "04-08T00:00", "04-09T00:00"], ("04-05", "04-08", "04-09")),
        ("XASX", ["04-05T05:00", "04-08T06:00", "04-09T06:00"], ("04-05", "04-08", "04-09")),
        ("XLON", ["03-28T00:00", "04-01T23:00", "04-02T23:00"], ("03-28", "04-02", "04-03")),
        ("XLON", ["03-28T08:00", "04-02T07:00", "04-03T07:00"], ("03-28", "04-02", "04-03")),
        ("XTKS", ["03-04T15:00", "03-05T15:00", "03-06T15:00"], ("03-05", "03-06", "03-07")),
    ],
)
def test_daily_bars_are_sealed_under_their_sessions(tmp_path, calendar, given, dates) -> None:
    """Beside shares labelled 00:00 UTC they share pulses; a split of the second date doubles 10 at its open."""
    prices = {f"2024-{given[0]}": 100, f"2024-{given[1]}": 50, f"2024-{given[2]}": 50}
    tables = {"S": (calendar, prices), "T": (calendar, flat(days(*dates)))}
    snapshot = seal(tmp_path, tables, [("S", f"2024-{dates[1]}", "SPLIT", 2.0)])
    mine = snapshot.bars.loc[snapshot.bars["symbol"] == "S", "ts"]
    assert [label(ts) for ts in mine] == days(*dates)
    run = lp.run(planned({days(dates[0])[0]: {"S": 5, "T": 1}}, opening=HOLDS), snapshot)
    assert fills(run) == [(days(dates[1])[0], "S", "SELL", 10.0, 50.0), (days(dates[1])[0], "T", "BUY", 1.0, 100.0)]
    assert len(run.equity) == 3 and set(run.equity["equity"]) == {2000.0}


@pytest.mark.parametrize("clock", ["12:00", "03:00", "17:17"])
def test_daily_bars_at_an_uncertain_time_are_refused_beside_others(tmp_path, clock) -> None:
    odd = [f"{time[:10]}T{clock}" for time in DAILY]
    with pytest.raises(lp.InputError, match="ODD"):
        seal(tmp_path, {"ODD": ("XNYS", flat(odd)), "S": ("XNYS", flat(DAILY))})


def test_daily_bars_whose_time_of_day_moves_are_refused_under_another_calendar(tmp_path) -> None:
    """Midnights of Sydney, which the clock change moves from 13:00 to 14:00, mean nothing certain in New York."""
    odd = ["2024-04-03T13:00", "2024-04-04T13:00", "2024-04-07T14:00", "2024-04-08T14:00", "2024-04-09T14:00"]
    with pytest.raises(lp.InputError, match="ODD"):
        seal(tmp_path, {"ODD": ("XNYS", flat(odd))})


@pytest.mark.parametrize(("calendar", "start"), [("XTKS", "1990-01-08"), ("XNYS", "2300-01-02")])
def test_a_calendar_that_cannot_serve_the_bars_is_refused_at_seal(tmp_path, calendar, start) -> None:
    """Before the first session, and after the last."""
    with pytest.raises(lp.InputError, match=calendar):
        seal(tmp_path, {"S": (calendar, flat(hours(start, 5, "D")))})


@cache
def schedule(name: str) -> pd.DataFrame:
    return exchange_calendars.get_calendar(name, start="2022-01-01", end="2025-03-31").schedule


Y2023 = [label(one) for one in schedule("XNYS").loc["2023-01-03":"2023-12-29"].index]
SPRING = 252 / (366 / 365.25)  # New York's 252 sessions of 2024 in its 366 days


@pytest.mark.parametrize(
    ("tables", "expected"),
    [
        # 2023-01-03 to 2023-12-29: 250 sessions, 249 steps in 360 days
        ({"S": ("XNYS", Y2023), "C": ("24/7", hours("2023-01-01", 365, "D"))}, 249 * 365.25 / 360),
        ({"S": ("24/7", hours("2024-01-01", 60, "3D"))}, 365.25 / 3),
        ({"S": ("24/7", hours("2024-01-01", 10, "3D"))}, 365.25 / 3),
        # Monday, Wednesday, Friday: 21 steps in 49 days; 156 in 364
        ({"S": ("XNYS", hours("2024-04-01", 8, "7D") + hours("2024-04-03", 7, "7D") + hours("2024-04-05", 7, "7D"))},
         21 * 365.25 / 49),
        ({"S": ("24/7", hours("2024-01-01", 53, "7D") + hours("2024-01-03", 52, "7D") + hours("2024-01-05", 52, "7D"))},
         156 * 365.25 / 364),
        ({"S": ("XNYS", [t for d in range(3, 8) for t in hours(f"2024-06-{d:02}T08:00", 16)])}, 16 * SPRING),
        ({"S": ("XNYS", [t for d in range(3, 7) for t in hours(f"2024-06-{d:02}T13:30", 100, "min")])}, 100 * SPRING),
        ({"S": ("XNYS", hours("2024-06-03", 40, "D"))}, 365.25),  # a coin under the default calendar
        ({"S": ("XNYS", DAILY), "C": ("24/7", hours("2024-03-04", 9, "D"))}, SPRING),
    ],
)  # fmt: skip
def test_periods_a_year_come_from_the_bars_of_the_universe(tmp_path, tables, expected) -> None:
    """Always the run of S alone. Over 90 days and more: steps by elapsed time; over less: sessions of the year."""
    told = play(tmp_path, {name: (of, flat(times)) for name, (of, times) in tables.items()}, universe=["S"]).metrics
    assert told["periods_per_year"] == pytest.approx(expected, rel=1e-9) and told["periods_basis"]


def test_weeks_of_two_labels_have_two_pulses_a_week(tmp_path) -> None:
    """8 Sundays and 8 Mondays: 15 steps in 50 days, 109.575 a year."""
    tables = {name: ("24/7", flat(hours(start, 8, "7D"))) for name, start in (("C", "2023-12-31"), ("S", "2024-01-01"))}
    assert play(tmp_path, tables).metrics["periods_per_year"] == pytest.approx(15 * 365.25 / 50, rel=1e-9)


@pytest.mark.parametrize("step", [7, 14])
def test_cagr_goes_by_elapsed_time(tmp_path, step) -> None:
    """100 to 121 in 728 days, 2022-01-03 to 2024-01-01, however many bars that are: 1.21 ^ (365.25 / 728) - 1."""
    times = hours("2022-01-03", 728 // step + 1, f"{step}D")
    opening = {"cash": 0.0, "positions": {"S": 1}, "cost_basis": {"S": 100}}
    told = play(tmp_path, {"S": ("XNYS", flat(times) | {times[-1]: 121})}, opening=opening).metrics
    assert told["cagr"] == pytest.approx(1.21 ** (365.25 / 728) - 1, rel=1e-12)
    assert told["periods_per_year"] == pytest.approx(365.25 / step, rel=1e-9)


MIXED = {
    "share and coin": {"C": ("24/7", flat(hours("2024-03-04", 20, "D"), 10)), "S": ("XNYS", flat(DAILY))},
    "Sydney and coin": {
        "C": ("24/7", flat(hours("2024-04-02", 9, "D"), 10)),
        "S": ("XASX", flat(days("04-02", "04-03", "04-04", "04-08", "04-09", "04-10"))),
    },
    "full and half hours": {"C": ("24/7", flat(FULL, 10)), "S": ("XNYS", flat([t for t in HALF if t != HALF[9]]))},
    "Tokyo, London and New York": {n: (n, flat(DAILY)) for n in ("XTKS", "XLON", "XNYS")},
    "early hours on the first day only": {"S": ("XNYS", flat(hours("2024-03-05T09:30", 12) + HALF))},
}


@pytest.mark.parametrize("tables", list(MIXED.values()), ids=list(MIXED))
@pytest.mark.parametrize("want", [5.0, ANY])
def test_a_history_that_ends_earlier_gives_the_same_beginning(tmp_path, tables, want) -> None:
    """By truncation replay, and by sealing only what was known then."""
    experiment = planned(want=want)
    full = lp.run(experiment, seal(tmp_path / "full", tables))
    assert {one.difference for one in truncation_replay(experiment, full, 6)} == {None}
    times = sorted({time for _, prices in tables.values() for time in prices})
    for cut in (times[len(times) * 2 // 5], times[-3]):
        known = {name: (of, {t: p for t, p in prices.items() if t <= cut}) for name, (of, prices) in tables.items()}
        short = lp.run(experiment, seal(tmp_path / cut.replace(":", ""), known))
        assert [f for f in fills(full) if f[0] <= cut] == fills(short)


NAMES = ("XNYS", "24/7", "XASX", "XTKS", "XLON", "CMES", "XNZE")


@given(
    st.lists(st.sampled_from(NAMES), min_size=2, max_size=2, unique=True),
    st.sampled_from(["2024-03-04", "2024-03-25", "2024-04-01", "2024-07-01", "2024-10-28", "2024-11-22"]),
    st.lists(st.tuples(st.integers(0, 1), st.integers(2, 13)), max_size=6),
)
@settings(max_examples=25, deadline=None, derandomize=True)
def test_each_order_is_settled_at_the_next_scheduled_open_and_once(names, start, missing) -> None:
    """Filled where that bar is, NO_BAR where it is missing, END_OF_DATA after the last bar; opens and closes are those
    of exchange_calendars, the end of a coin's bar is 00:00 of the next day.
    """
    tables, table = {}, {name: schedule(name).loc[start:].iloc[:14] for name in names}
    for number, name in enumerate(names):
        dates = [label(d) for k, d in enumerate(table[name].index) if (number, k) not in missing]
        tables[name] = (name, flat(dates))
    with tempfile.TemporaryDirectory() as root:
        run = play(root, tables, want=ANY)
    last = max(time for _, prices in tables.values() for time in prices)
    decided = {row["event_id"]: label(row["occurred_at"]) for row in rows(run, "DECIDED")}
    settled = rows(run, "FILLED", "ORDER_EXPIRED", "ORDER_REJECTED")
    assert len({row["order_id"] for row in settled}) == len(settled) > 0
    for row in settled:
        at, name = decided[row["correlation_id"]], row["symbol"]
        end = max(schedule(n).loc[at[:10], "close"] for n in names if at in tables[n][1])
        later = schedule(name)[(schedule(name)["open"] >= end) & (schedule(name).index > pd.Timestamp(at[:10]))]
        due = label(later.index[0])
        what = row["kind"] if row["kind"] == "FILLED" else row["reasons"]
        bar = due in tables[name][1]
        wanted = ("END_OF_DATA",) if due > last else ("FILLED", "INSUFFICIENT_CASH") if bar else ("NO_BAR",)
        assert what in wanted and (not bar or label(row["occurred_at"]) == due), (at, name, what)
