"""The bars that a strategy decides on in a session: those sealed before, and what the broker has since, sealed anew.

    promoted snapshot, or the last live one  +  bars and corporate actions of the broker since  ->  live snapshot

What was sealed stays as it is, and its last sessions are fetched once more to be compared: where the broker has
restated them (an adjustment, another feed) nothing is decided. A session's snapshot is sealed once and used again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

import pandas as pd

from ledger_pipeline.core.errors import BlockedError, RefusedError
from ledger_pipeline.market.bars import normalise_actions
from ledger_pipeline.market.calendars import sessions
from ledger_pipeline.market.quality import quality_report
from ledger_pipeline.market.snapshot import Snapshot, open_snapshot, seal, snapshot_ids
from ledger_pipeline.trading.broker import Broker

if TYPE_CHECKING:
    from pathlib import Path

OVERLAP = 5  # sessions that are fetched again and compared
RESTATED = 0.005  # a close that differs by more is another price, not another feed's last cents


@dataclass(frozen=True)
class LiveBars:
    """The sealed bars up to the pulse; the pulse, which is the last session that is over; and new shares for an old one
    of splits with an ex-date after the pulse, up to the session that trades.
    """

    snapshot: Snapshot
    pulse: date
    ratios: Mapping[str, float]


def require_followable(snapshot: Snapshot, symbols: Sequence[str]) -> None:
    """RefusedError when these instruments cannot be followed live: what trades decides once a session, at the close
    before it, so all must have daily bars and one calendar.
    """
    calendars = sorted({snapshot.calendars[symbol] for symbol in symbols})
    if len(calendars) > 1:
        raise RefusedError(
            f"the universe follows {len(calendars)} calendars ({', '.join(calendars)}), and a deployment trades in the "
            "sessions of one: name a universe of one calendar in the experiment, run it and promote that run."
        )
    ts = snapshot.bars["ts"][snapshot.bars["symbol"].isin(symbols)]
    if not (ts.dt.normalize() == ts).all():
        raise RefusedError(
            "the run was made on bars within the day, and a deployment decides on daily bars: run the experiment on a "
            "snapshot of daily bars and promote that run."
        )


def pulse_of(calendar: str, session: date) -> date:
    """The session before this one, at whose close is decided what trades in this one."""
    days = sessions(calendar, session - pd.Timedelta(days=20), session - pd.Timedelta(days=1))
    return days[-1].date()


def live_id(deployment: str, session: date) -> str:
    """The id of the snapshot that a deployment decides on in a session."""
    return f"{deployment[:52]}-{session:%Y%m%d}"


def live_bars(
    root: Path | str,
    promoted: Snapshot,
    deployment: str,
    session: date,
    symbols: Sequence[str],
    *,
    broker: Broker,
    feed: str,
    max_jump: float,
    now: datetime,
) -> LiveBars:
    """The live snapshot of a session, sealed under `root` when it is not there yet.

    promoted: the snapshot that the run was made on, whose history goes on here. now: the broker's
    time. max_jump: see Deployment.

    BlockedError when there is no new bar, when bars were restated, or when their quality is not what it should be;
    RefusedError for a corporate action that cannot be followed; BrokerError when the broker cannot be read.
    """
    calendar = promoted.calendars[symbols[0]]
    pulse, name = pulse_of(calendar, session), live_id(deployment, session)
    known = _base(root, promoted, deployment, session)
    last = min(known.bars["ts"].max().date(), pulse)
    after = broker.corporate_actions(symbols, last + pd.Timedelta(days=1), session)
    ratios = _ratios(after, pulse)
    if name in snapshot_ids(root):
        return LiveBars(open_snapshot(name, root=root), pulse, ratios)
    before = sessions(calendar, last - pd.Timedelta(days=30), last)[-OVERLAP:]
    fetched, record = broker.bars(symbols, before[0].date(), pulse, feed=feed, calendar=calendar, now=now)
    sealed, fetched = _text(known.bars), _text(fetched)
    sealed = sealed[(sealed["ts"] <= _stamp(last)) & sealed["symbol"].isin(symbols)]
    _check_same(sealed, fetched)
    table = pd.concat([sealed, fetched[fetched["ts"] > _stamp(last)]], ignore_index=True)
    if not (table["ts"] == _stamp(pulse)).any():
        raise BlockedError(f"NO_BARS: the broker has no bar of {pulse} of any symbol of the universe; try again later.")
    posted = pd.concat([known.actions[known.actions["ex_date"] <= _stamp(last)], after], ignore_index=True)
    posted = posted[posted["ex_date"] <= _stamp(pulse)]
    posted = normalise_actions(posted[posted["symbol"].isin(symbols)], sorted(set(table["symbol"])))
    instruments = known.instruments[known.instruments["symbol"].isin(set(table["symbol"]))]
    _check_quality(table, instruments, posted, last, max_jump)
    source = {
        "kind": "live",
        "deployment": deployment,
        "promoted": {"id": promoted.id, "hash": promoted.hash},
        "base": {"id": known.id, "hash": known.hash, "until": last.isoformat()},
        "fetched": record,
    }
    return LiveBars(
        seal(table, snapshot_id=name, root=root, instruments=instruments, actions=posted, source=source), pulse, ratios
    )


def _base(root: Path | str, promoted: Snapshot, deployment: str, session: date) -> Snapshot:
    """The newest live snapshot of the deployment that goes back to the promoted one, else that."""
    start, this = live_id(deployment, session)[:-8], live_id(deployment, session)
    for name in reversed(snapshot_ids(root)):
        if name.startswith(start) and len(name) == len(this) and name < this:
            snapshot = open_snapshot(name, root=root)
            if snapshot.manifest["source"].get("promoted", {}).get("hash") == promoted.hash:
                return snapshot
    return promoted


def _stamp(day: date) -> pd.Timestamp:
    return pd.Timestamp(day, tz="UTC")


def _text(bars: pd.DataFrame) -> pd.DataFrame:
    return bars.assign(symbol=bars["symbol"].astype(str))


def _check_same(sealed: pd.DataFrame, fetched: pd.DataFrame) -> None:
    """BlockedError when a close that was sealed is another one now."""
    both = sealed.merge(fetched, on=["symbol", "ts"], suffixes=("", "_now"))
    apart = (both["close_now"] / both["close"] - 1).abs()
    if (apart > RESTATED).any():
        row = both.loc[apart.idxmax()]
        raise BlockedError(
            f"RESTATED: the close of {row['symbol']} on {row['ts']:%Y-%m-%d} was sealed as {row['close']:.10g} and is "
            f"{row['close_now']:.10g} at the broker; see whether prices were adjusted, then promote a run on a "
            "snapshot of this feed."
        )


def _check_quality(
    table: pd.DataFrame, instruments: pd.DataFrame, actions: pd.DataFrame, last: date, max_jump: float
) -> None:
    """BlockedError for an error anywhere, and for a jump in the bars that are new."""
    report = quality_report(table, instruments, actions, jump_threshold=max_jump)
    new = (report["issue"] == "JUMP") & (report["ts"] > _stamp(last))
    wrong = report[(report["severity"] == "ERROR") | new]
    if len(wrong):
        row = wrong.iloc[0]
        raise BlockedError(
            f"DATA_QUALITY: {row['issue']} of {row['symbol']} on {row['ts']:%Y-%m-%d}: {row['detail'].rstrip('.')}. If "
            "it is right, raise max_jump of the deployment for this session."
        )


def _ratios(actions: pd.DataFrame, pulse: date) -> dict[str, float]:
    """New shares for an old one, by symbol, of the splits after the pulse."""
    after = actions[(actions["kind"] == "SPLIT") & (actions["ex_date"] > _stamp(pulse))]
    ratios: dict[str, float] = {}
    for symbol, value in zip(after["symbol"], after["value"], strict=True):
        ratios[symbol] = ratios.get(symbol, 1.0) * float(value)
    return ratios


def described(snapshot: Snapshot) -> dict[str, Any]:
    """A snapshot as evidence: its id and its hash."""
    return {"id": snapshot.id, "hash": snapshot.hash}
