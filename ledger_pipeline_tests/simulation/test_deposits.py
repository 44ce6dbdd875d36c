"""Design 5.7: deposits on schedules, and that a deposit is no return."""

from __future__ import annotations

import pandas as pd
import pytest

import ledger_pipeline as lp
from ledger_pipeline.simulation.deposits import schedule
from ledger_pipeline.strategy.experiment_spec import Deposit
from ledger_pipeline_tests import small

SESSIONS = pd.bdate_range("2023-12-13", "2025-02-05")  # Monday to Friday


def days(*deposits: dict) -> list[tuple[str, float]]:
    """(date, amount) of what arrives on business days."""
    times = SESSIONS.as_unit("us").asi8
    found = schedule([Deposit(**deposit) for deposit in deposits], times)
    return [(str(SESSIONS[t].date()), amount) for t, amount in sorted(found.items())]


def test_every_month() -> None:
    assert days({"amount": 10, "every": "month", "start": "2024-05-20", "end": "2024-09-02"}) == [
        ("2024-05-20", 10), ("2024-06-03", 10), ("2024-07-01", 10), ("2024-08-01", 10), ("2024-09-02", 10),
    ]  # fmt: skip


def test_a_period_whose_first_bar_comes_after_the_end_gets_nothing() -> None:
    assert [day for day, _ in days({"amount": 1, "every": "month", "start": "2024-05-01", "end": "2024-06-02"})] == [
        "2024-05-01"
    ]


def test_every_quarter_starts_with_the_first_bar() -> None:
    assert [day for day, _ in days({"amount": 1, "every": "quarter"})] == [
        "2023-12-13", "2024-01-01", "2024-04-01", "2024-07-01", "2024-10-01", "2025-01-01",
    ]  # fmt: skip


def test_every_year() -> None:
    assert [day for day, _ in days({"amount": 1, "every": "year"})] == ["2023-12-13", "2024-01-01", "2025-01-01"]


def test_every_week_starts_on_monday() -> None:
    assert [day for day, _ in days({"amount": 1, "every": "week", "end": "2024-01-08"})] == [
        "2023-12-13", "2023-12-18", "2023-12-25", "2024-01-01", "2024-01-08",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("at", "arrives"),
    [
        ("2024-06-03", ["2024-06-03"]),
        ("2024-06-01", ["2024-06-03"]),
        ("2025-02-05", ["2025-02-05"]),
        ("2025-02-06", []),
    ],
)
def test_at_a_date_or_the_first_bar_after_it(at, arrives) -> None:
    assert [day for day, _ in days({"amount": 1, "at": at})] == arrives


def test_several_on_one_day_add_up() -> None:
    assert days(
        {"amount": 10, "at": "2024-06-01"}, {"amount": 5, "at": "2024-06-03"},
        {"amount": 1, "every": "month", "start": "2024-06-02", "end": "2024-06-28"},
    ) == [("2024-06-03", 16)]  # fmt: skip


def test_a_later_bar_never_moves_an_earlier_deposit() -> None:
    times = SESSIONS.as_unit("us").asi8
    deposits = [Deposit(amount=3, every=every) for every in ("week", "month", "quarter", "year")]
    whole = schedule(deposits, times)
    for cut in range(1, len(times), 7):
        assert schedule(deposits, times[:cut]) == {t: amount for t, amount in whole.items() if t < cut}


@pytest.mark.parametrize(
    "wrong",
    [{"amount": 1}, {"amount": 0, "every": "month"}, {"amount": 1, "every": "day"}, {"amount": 1, "every": "week", "at": "2024-01-01"},
     {"amount": 1, "at": "2024-01-01", "end": "2024-02-01"}, {"amount": float("inf"), "at": "2024-01-01"}],
)  # fmt: skip
def test_other_schedules_are_refused(wrong) -> None:
    with pytest.raises(lp.InputError):
        lp.experiment(small.PLAN, costs=[], deposits=[wrong])


def test_a_deposit_is_cash_before_the_fills_of_its_bar(tmp_path) -> None:
    """100 of cash; 500 comes on day 1 and pays for what was decided on day 0: 5 x 100."""
    run = small.play(
        tmp_path, {"A": [100, 100, 100]}, {0: {"A": 5}}, opening={"cash": 100},
        deposits=[{"amount": 500, "at": small.day(1)}],
    )  # fmt: skip
    assert [row["kind"] for row in small.events(run)] == ["OPENED", "DECIDED", "DEPOSITED", "FILLED"]
    assert run.equity["cash"].tolist() == [100, 100, 100]
    assert run.equity["equity"].tolist() == [100, 600, 600] and run.equity["flow"].tolist() == [0, 500, 0]


def test_a_deposit_is_no_return(tmp_path) -> None:
    """The price never moves: whatever is deposited, both returns are zero and there is no drawdown."""
    run = small.play(
        tmp_path, {"A": [10] * 40}, {0: {"A": "500"}, 20: {"A": "250"}}, deposits=[{"amount": 300, "every": "week"}]
    )
    assert run.metrics["total_return"] == 0 and run.metrics["max_drawdown"] == 0
    assert run.metrics["money_weighted_return"] == pytest.approx(0, abs=1e-9)
    assert run.metrics["net_flows"] == 6 * 300 and run.metrics["final_equity"] == 1000 + 6 * 300


def test_a_flow_shares_the_return_of_its_bar(tmp_path) -> None:
    """100 A at 10 from day 1; 20 on day 3, when 1000 comes in, and 10 on day 4.

    Equity 1000, 1000, 1000, 3000, 2000. The flow comes before the fills of day 3, so it shares that day's return:
    3000 / (1000 + 1000) = 1.5, then 2000 / 3000; together exactly 1. 2000 were paid in and 2000 are there.
    """
    run = small.play(
        tmp_path, {"A": [10, 10, 10, 20, 10]}, {0: {"A": 100}}, deposits=[{"amount": 1000, "at": small.day(3)}]
    )
    assert run.equity["equity"].tolist() == [1000, 1000, 1000, 3000, 2000]
    assert run.metrics["money_weighted_return"] == pytest.approx(0, abs=1e-9)
    assert run.metrics["total_return"] == pytest.approx(0, abs=1e-12)


def test_the_opening_cash_is_no_flow_and_a_deposit_at_the_first_bar_is(tmp_path) -> None:
    run = small.play(tmp_path, {"A": [10] * 3}, {}, deposits=[{"amount": 50, "at": small.day(0)}])
    assert run.equity["flow"].tolist() == [50, 0, 0] and run.equity["equity"].tolist() == [1050] * 3
    assert not any(run.invariants().values())
