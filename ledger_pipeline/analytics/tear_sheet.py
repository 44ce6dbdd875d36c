"""One run as a file that one would mail: headline first, then pictures, tables, trades, and what it all rests on.

It rests on the ledger alone: equity, holdings, trades and costs are folds of it. Returns are time-weighted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ledger_pipeline.analytics import charts, plots
from ledger_pipeline.analytics.benchmark import beta
from ledger_pipeline.analytics.comparison_tables import (
    ABSENT,
    ALL_FORMULAS,
    MONTHS,
    flatten,
    format_metric,
    metric_title,
    monthly_returns,
    value_text,
)
from ledger_pipeline.analytics.metrics import period_rates
from ledger_pipeline.analytics.page import render
from ledger_pipeline.analytics.report import heat_rows
from ledger_pipeline.analytics.returns import drawdown, time_weighted_returns, undefined_reason, wealth_index
from ledger_pipeline.simulation.measures import benchmark_levels, risk_free_rates

if TYPE_CHECKING:
    from ledger_pipeline.simulation.run import Run

MOST_TRADES = 100
MOST_HOLDINGS = 8
_Z95 = 1.959963984540054


@dataclass(frozen=True)
class Episode:
    """A drawdown: depth (negative), the peak before it, its trough, when the peak was reached again (None: not yet),
    and bars from the peak to there or to the end.
    """

    depth: float
    peak: pd.Timestamp
    trough: pd.Timestamp
    recovered: pd.Timestamp | None
    bars: int


def episodes(wealth: pd.Series, most: int = 5) -> list[Episode]:
    """The deepest drawdowns of a wealth index by ts, which do not overlap, the deepest first."""
    depth = drawdown(wealth).to_numpy()
    below = np.flatnonzero(np.diff(np.concatenate([[False], depth < 0, [False]]).astype(np.int8)))
    drawdowns = []
    for start, end in zip(below[::2], below[1::2], strict=True):
        trough = start + int(depth[start:end].argmin())
        back = end if end < len(wealth) else None
        bars = (end if back is not None else len(wealth) - 1) - (start - 1)
        at = wealth.index
        drawdowns.append(
            Episode(float(depth[trough]), at[start - 1], at[trough], None if back is None else at[back], int(bars))
        )
    return sorted(drawdowns, key=lambda one: one.depth)[:most]


def sharpe_interval(excess: np.ndarray, periods_per_year: float) -> tuple[float, float] | None:
    """The 95 % interval of the annual Sharpe ratio of excess returns a period; None where there is none.

    The standard error of a ratio S a period is sqrt((1 + S^2 (k - 1) / 4 - g S) / (n - 1)), with skewness g and
    kurtosis k. Source: E. Mertens, "Comments on variance of the IID estimator in Lo (2002)", 2002.
    """
    n = len(excess)
    deviation = float(np.std(excess, ddof=1)) if n > 2 else 0.0
    if deviation < 1e-12:
        return None
    centred = (excess - excess.mean()) / float(np.std(excess))
    ratio = float(excess.mean()) / deviation
    skew, kurtosis = float(np.mean(centred**3)), float(np.mean(centred**4))
    variance = (1.0 + ratio**2 * (kurtosis - 1.0) / 4.0 - skew * ratio) / (n - 1)
    width = _Z95 * math.sqrt(max(variance, 0.0))
    year = math.sqrt(periods_per_year)
    return (ratio - width) * year, (ratio + width) * year


def spread_costs(run: Run) -> float:
    """What the spread of the experiment's costs took at the fills, in the account's currency: the price of a fill is
    the open x the product of (1 +- bps/20000) over the spread steps.
    """
    steps = [step["spread_bps"] for step in run.provenance["experiment"]["costs"] if "spread_bps" in step]
    fills = run.fills
    if not steps or not len(fills):
        return 0.0
    side = np.where(fills["side"].to_numpy() == "BUY", 1.0, -1.0)
    factor = np.prod([1.0 + side * bps / 20000.0 for bps in steps], axis=0)
    worth = np.abs(fills["cash_delta"].to_numpy(np.float64) + fills["fee"].to_numpy(np.float64))
    return float(np.abs(worth * (1.0 - 1.0 / factor)).sum())


def tear_sheet(run: Run, *, trials: int | None = None, selection: str = "") -> str:
    """The page of a run. trials: how many candidates of its strategy were ever evaluated on its snapshot; selection:
    what is to be said of how it was chosen. The same run gives the same bytes.
    """
    metrics, equity = run.metrics, run.equity
    wealth, returns = wealth_index(equity), time_weighted_returns(equity)
    returns = returns[np.isfinite(returns)]
    levels = benchmark_levels(run)
    name = run.provenance["experiment"]["benchmark"]
    reason = undefined_reason(equity)
    spread = spread_costs(run)
    months = monthly_returns(equity)
    limit = plots.heat_limit([months])
    excess = _excess(run, returns, metrics["periods_per_year"])
    drawn = _charts(run, wealth, returns, levels, excess)
    return render(
        "tear_sheet.html.j2",
        drawn,
        title=f"{run.provenance['experiment']['name']} on {run.snapshot.id}",
        sentence=_sentence(run),
        selection=[text for text in (_trials_text(trials), selection) if text],
        notes=[*([reason] if reason else []), *run.warnings],
        cards=_cards(run, wealth, excess, spread),
        benchmark="" if levels is None else name,
        drawdowns=[_episode_row(one) for one in episodes(wealth)],
        month_names=MONTHS,
        months=heat_rows(months, limit),
        limit=f"{limit * 100:.1f}%",
        metrics=[
            {"title": metric_title(key), "formula": ALL_FORMULAS.get(key, ""), "value": format_metric(key, value)}
            for key, value in metrics.items()
        ],
        contributions=_contribution_rows(run),
        trades=_trade_rows(run),
        trade_count=len(run.trades),
        provenance=[
            {"name": key, "value": value_text(value)}
            for key, value in flatten({k: v for k, v in run.provenance.items() if k != "strategy_text"}).items()
        ],
        source=run.provenance["strategy_text"],
    )


def _excess(run: Run, returns: pd.Series, periods_per_year: float) -> pd.Series:
    """Returns over the risk-free rate of their periods."""
    free = risk_free_rates(run.snapshot, run.provenance["experiment"].get("risk_free", 0.0))
    starts = pd.DatetimeIndex(run.equity["ts"])
    places = starts.get_indexer(returns.index) - 1
    return returns - period_rates(free, periods_per_year, starts.as_unit("us").asi8[places])


def _sentence(run: Run) -> str:
    metrics, first, last = run.metrics, run.equity.iloc[0], run.equity.iloc[-1]
    flows = (
        "" if not metrics["net_flows"] else f" with {format_metric('net_flows', metrics['net_flows'])} paid in since"
    )
    text = (
        f"From {first['ts']:%Y-%m-%d} to {last['ts']:%Y-%m-%d} an account of "
        f"{format_metric('final_equity', float(first['equity']))}{flows} became "
        f"{format_metric('final_equity', metrics['final_equity'])}: {format_metric('cagr', metrics['cagr'])} a year, "
        f"with a deepest fall of {format_metric('max_drawdown', metrics['max_drawdown']).lstrip('-')}"
    )
    theirs = metrics.get("benchmark_return")
    if theirs is None:
        return text + "."
    ours = format_metric("total_return", metrics["total_return"])
    name = run.provenance["experiment"]["benchmark"]
    return f"{text}. In all {ours}; {name} returned {format_metric('benchmark_return', theirs)}."


def _trials_text(trials: int | None) -> str:
    if not trials:
        return ""
    if trials == 1:
        return "This is the only candidate of its strategy that was ever evaluated on this snapshot."
    return f"{trials:,} candidates of its strategy were evaluated on this snapshot: the more, the luckier the best."


def _cards(run: Run, wealth: pd.Series, excess: pd.Series, spread: float) -> list[dict[str, str]]:
    metrics = run.metrics
    interval = sharpe_interval(excess.to_numpy(), metrics["periods_per_year"])
    between = "" if interval is None else f"95 % from {interval[0]:.2f} to {interval[1]:.2f}"
    under = float((drawdown(wealth) < 0).mean()) if len(wealth) else None
    longest = f"longest {metrics['max_drawdown_length']:,} bars" if metrics.get("max_drawdown_length") else ""
    fees = format_metric("costs", metrics["costs"])
    spread_text = format_metric("costs", spread)
    return [
        _card("CAGR", format_metric("cagr", metrics["cagr"])),
        _card("Volatility", format_metric("volatility", metrics["volatility"]), "a year"),
        _card("Sharpe", format_metric("sharpe", metrics["sharpe"]), between),
        _card("Max drawdown", format_metric("max_drawdown", metrics["max_drawdown"])),
        _card("Time under water", ABSENT if under is None else f"{under:.0%}", longest),
        _card("Turnover", format_metric("turnover", metrics["turnover"]), "of equity a year"),
        _card("Costs", format_metric("costs", metrics["costs"] + spread), f"fees {fees}, spread {spread_text}"),
        _card("Exposure", format_metric("exposure", metrics["exposure"]), "mean of what is held / equity"),
    ]


def _card(title: str, value: str, note: str = "") -> dict[str, str]:
    return {"title": title, "value": value, "note": note}


def _charts(
    run: Run, wealth: pd.Series, returns: pd.Series, levels: pd.Series | None, excess: pd.Series
) -> dict[str, charts.Chart]:
    name = str(run.provenance["experiment"]["name"])
    both = {name: wealth}
    theirs = None if levels is None else levels.reindex(wealth.index).dropna()
    if theirs is not None and len(theirs):
        both[str(run.provenance["experiment"]["benchmark"])] = theirs / theirs.iloc[0]
    positive = all((line > 0).all() for line in both.values())
    scale = "growth of 1, log scale" if positive else "growth of 1"
    drawn = {
        "growth": charts.lines(both, "The growth of 1 over time.", y=scale,
                               log=positive, height=300),
        "underwater": charts.area(drawdown(wealth), "The drawdown over time.", y="drawdown"),
    }  # fmt: skip
    years = monthly_returns(run.equity)["Year"].dropna()
    drawn["years"] = charts.bars({str(y): float(v) for y, v in years.items()}, "The return of each year.", y="return")
    drawn["distribution"] = charts.histogram(
        returns.to_numpy(), "How often each return of a bar occurred.", x="return of a bar"
    )
    drawn |= _rolling(run, returns, excess, theirs)
    share = run.holdings.div(run.equity.set_index("ts")["equity"].where(lambda level: level > 0), axis=0)
    largest = share.abs().mean().sort_values(ascending=False).index
    shown = share[list(largest[:MOST_HOLDINGS])]
    if len(largest) > MOST_HOLDINGS:
        shown = shown.assign(others=share[list(largest[MOST_HOLDINGS:])].sum(axis=1))
    drawn["holdings"] = charts.stacked(shown.fillna(0.0), "What is held, as shares of equity.", y="share of equity")
    gains = {symbol or "account": gain for symbol, gain in run.contributions.items() if gain}
    ordered = dict(sorted(gains.items(), key=lambda pair: -abs(pair[1]))[:25])
    drawn["contributions"] = charts.bars(ordered, "What each symbol added to the equity.", y="gain", form=",.0f")
    return drawn


def _rolling(run: Run, returns: pd.Series, excess: pd.Series, levels: pd.Series | None) -> dict[str, charts.Chart]:
    """Sharpe, volatility and beta of half a year of bars, those that are defined somewhere."""
    periods = run.metrics["periods_per_year"]
    window = max(round(periods / 2), 20)
    year = math.sqrt(periods)
    rolling = excess.rolling(window)
    sharpe = rolling.mean() / rolling.std().where(lambda deviation: deviation > 1e-12) * year
    known = {"Sharpe": sharpe, "volatility": returns.rolling(window).std() * year}
    overall = ""
    if levels is not None and len(levels) > 1:
        theirs = levels.pct_change().reindex(returns.index)
        variance = theirs.rolling(window).var()
        known["beta"] = returns.rolling(window).cov(theirs) / variance.where(variance > 1e-30)
        whole = beta(returns.to_numpy()[theirs.notna()], theirs.dropna().to_numpy())
        overall = "" if whole is None else f"; {whole:.2f} over all"
    forms = {"volatility": ".0%"}
    drawn = {}
    for name, line in known.items():
        line = line.dropna()
        if len(line) > 1:
            text = f"The {name} over the last {window} bars{overall if name == 'beta' else ''}."
            drawn[f"rolling_{name.lower()}"] = charts.lines(
                {name: line}, text, y=name, form=forms.get(name, ".2f"), height=150
            )
    return drawn


def _episode_row(one: Episode) -> dict[str, Any]:
    back = "not yet" if one.recovered is None else f"{one.recovered:%Y-%m-%d}"
    depth = format_metric("max_drawdown", one.depth)
    return {"depth": depth, "cells": [f"{one.peak:%Y-%m-%d}", f"{one.trough:%Y-%m-%d}", back, f"{one.bars:,}"]}


def _contribution_rows(run: Run) -> list[dict[str, Any]]:
    """Each symbol's gain, its trades and their wins, the largest gain first; the sum at the end."""
    gains, trades = run.contributions, run.trades
    rows = []
    for symbol, gain in sorted(gains.items(), key=lambda pair: -pair[1]):
        own = trades[trades["symbol"] == symbol]
        if not gain and not len(own):
            continue
        won = f"{(own['pnl'] > 0).mean():.0%}" if len(own) else ABSENT
        title = symbol or "the account itself (interest, fees)"
        rows.append({"title": title, "cells": [format_metric("income", gain), f"{len(own):,}", won]})
    total = format_metric("income", sum(gains.values()))
    return [*rows, {"title": "All", "cells": [total, f"{len(trades):,}", ""]}] if rows else []


def _trade_rows(run: Run) -> list[list[str]]:
    """The last trades, the newest first, with the reasons of the fills that opened and closed them."""
    fills = run.fills
    reasons = {
        (symbol, at): str(text)
        for symbol, at, text in zip(fills["symbol"], fills["occurred_at"], fills["reasons"], strict=True)
        if isinstance(text, str) and text
    }
    rows = []
    for trade in run.trades.tail(MOST_TRADES).iloc[::-1].itertuples():
        why = [reasons.get((trade.symbol, at), "") for at in (trade.opened_at, trade.closed_at)]
        rows.append([
            str(trade.symbol), str(trade.side).lower(), f"{trade.opened_at:%Y-%m-%d}", f"{trade.closed_at:%Y-%m-%d}",
            f"{trade.quantity:,.4g}", f"{trade.entry_price:,.2f}", f"{trade.exit_price:,.2f}",
            format_metric("income", float(trade.pnl)), format_metric("total_return", float(trade.trade_return)),
            " → ".join(text for text in why if text),
        ])  # fmt: skip
    return rows
