"""The links behind a run: what was asked of it, the run, how it was chosen, its snapshot, the raw file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ledger_pipeline.audit.explanation import Link, verdict
from ledger_pipeline.core.errors import InputError, LedgerPipelineError
from ledger_pipeline.simulation.promotions import promotion_of
from ledger_pipeline.simulation.replay import replay
from ledger_pipeline.simulation.store import RunStore

if TYPE_CHECKING:
    from ledger_pipeline.project import Project
    from ledger_pipeline.simulation.run import Run

_MOST = 5  # days and trades that make a metric


def chain_of_run(project: Project, subject: str) -> list[Link]:
    """The links behind a run, or behind one of its fills, trades or metrics. NotFoundError for no such run."""
    name, _, part = subject.partition("/")
    store = RunStore(project.data)
    run_id = store.resolve(name)
    first = list(_part(project, store.open(run_id, project.snapshots), part)) if part else []
    return [*first, *links_of_run(project, run_id)]


def links_of_run(project: Project, run_id: str) -> Iterator[Link]:
    """The run, made again; how it was chosen; its snapshot and the raw files."""
    store = RunStore(project.data)
    try:
        provenance = store.provenance(run_id)
    except LedgerPipelineError as error:
        yield Link("run", run_id, verdict=str(error))
        return
    experiment, names = provenance["experiment"], store.label(run_id)

    def again() -> str | None:
        from ledger_pipeline.strategy.catalogue import Catalogue

        outcome = replay(
            run_id,
            root=project.data,
            snapshots=project.snapshots,
            indicators=Catalogue(project.strategies).indicators(),
        )
        return None if outcome.same else f"made again, its ledger differs: {outcome.first_difference}"

    folder = store.runs / run_id
    yield Link(
        "run",
        f"{run_id}: {experiment['name']} on {provenance['snapshot']['id']}",
        {
            "strategy": f"{experiment['strategy']} ({experiment['strategy_hash'][:16]})",
            "params": experiment["params"],
            "features": {alias: f"{row['indicator']} {row['params']}" for alias, row in experiment["features"].items()},
            "costs": experiment["costs"],
            "tier": provenance["tier"],
            "made at": provenance["created_at"],
            **({"strategies at": provenance["git"]} if provenance.get("git") else {}),
            "label": names.get("label"),
            "ledger_head": provenance["ledger_head"],
        },
        verdict(again),
        (str(folder / "provenance.json"), str(folder / "ledger.parquet"), str(folder / "strategy.py")),
        f"ledger-pipeline replay {run_id[:10]}",
    )
    yield from _chosen(project, run_id, experiment, provenance["snapshot"]["hash"])
    yield link_of_snapshot(
        provenance["snapshot"]["id"], project.snapshots, provenance["snapshot"]["hash"], project, of_run=True
    )
    yield from _raw(project, provenance["snapshot"]["id"])


def _chosen(project: Project, run_id: str, experiment: dict[str, Any], snapshot_hash: str) -> Iterator[Link]:
    from ledger_pipeline.simulation.trials import TrialRegister

    register = TrialRegister(project.data)
    trials = register.count(strategy=experiment["strategy"], snapshot_hash=snapshot_hash)
    kept = promotion_of(project.data, run_id)
    if kept is None:
        yield Link(
            "trials",
            f"{trials:,} candidates of its strategy were evaluated on this snapshot; it was not promoted from a sweep",
            verdict=verdict(lambda: None if list(register.entries()) else "the register is empty"),
            files=(str(project.data / "trials"),),
        )
        return
    what = "walk-forward" if kept.walk_forward else "sweep"
    gates = [f"{gate.get('gate')}: {'met' if gate.get('met') else 'not met'}" for gate in kept.gates]
    yield Link(
        what,
        f"candidate {kept.candidate} of {kept.candidates:,} of {what} {kept.sweep_name}",
        {
            "promoted by": kept.by,
            "reason": kept.reason,
            "at": kept.at,
            "trials then": kept.trials,
            "trials now": trials,
            "gates": gates or "none",
            **({"against gates": kept.against_gates} if kept.against_gates else {}),
            f"{what}_hash": kept.sweep_hash,
        },
        verdict(lambda: _same_sweep(project, kept)),
        (str(project.data / "promotions" / f"{run_id}.json"),),
        f"ledger-pipeline {'walk-forward' if kept.walk_forward else 'sweep'} show {kept.sweep_name}",
    )


def _same_sweep(project: Project, kept: Any) -> str | None:
    if kept.walk_forward:
        from ledger_pipeline.selection.walk_forward_store import WalkForwardStore

        result = WalkForwardStore(project.data).result(kept.sweep)
        now = None if result is None else result["hash"]
    else:
        from ledger_pipeline.sweeps.sweep_store import SweepStore

        result = SweepStore(project.data).result(kept.sweep)
        now = None if result is None else result["sweep_hash"]
    return None if now == kept.sweep_hash else f"its hash is {str(now)[:16]} now"


def link_of_snapshot(snapshot_id: str, root: Path, expected: str, project: Project, *, of_run: bool = False) -> Link:
    """A sealed snapshot, every byte of it hashed again."""
    from ledger_pipeline.files import location
    from ledger_pipeline.market.snapshot import read_manifest, verify

    def again() -> str | None:
        now = verify(snapshot_id, root=root).hash
        return None if now == expected else f"it is {now[:16]} now"

    path = root / snapshot_id
    facts: dict[str, Any] = {"snapshot_hash": expected}
    try:
        manifest = read_manifest(location(path))
        facts["bars"] = f"{manifest['rows']['bars']:,} of {', '.join(manifest['symbols'][:8])}"
        facts |= {name: manifest[name] for name in ("first", "last", "sealed_at", "manifest_hash")}
        source = manifest["source"]
        facts |= {"source": {k: v for k, v in source.items() if k != "files" and v}} if source else {}
    except LedgerPipelineError:
        pass  # the verdict says what is wrong
    kind = "snapshot" if of_run else "live snapshot"
    return Link(
        kind,
        f"{snapshot_id}, {expected[:16]}",
        facts,
        verdict(again),
        (str(path / "manifest.json"), str(path / "bars.parquet")),
    )


def _raw(project: Project, snapshot_id: str) -> Iterator[Link]:
    """The files that a snapshot was imported from, by the hashes in its manifest."""
    from ledger_pipeline.core.identity import hash_bytes
    from ledger_pipeline.files import location
    from ledger_pipeline.market.raw import read_source
    from ledger_pipeline.market.snapshot import read_manifest

    try:
        described = read_manifest(location(project.snapshots / snapshot_id))["source"].get("files", {})
    except LedgerPipelineError:
        return
    paths: dict[str, str | None] = {}
    try:
        source = read_source(snapshot_id, project.data)
        paths = {"bars": source.bars, "instruments": source.instruments, "actions": source.actions}
    except LedgerPipelineError:
        pass  # only the manifest is left of the import
    for name, kept in described.items():
        place = paths.get(name)
        path = None if place is None or "://" in place else Path(place)

        def again(path: Path | None = path, kept: dict[str, Any] = kept) -> str | None:
            if path is None or not path.is_file():
                return f"{kept['name']} is not here any more; its SHA-256 was {kept['sha256']}"
            now = hash_bytes(path.read_bytes())
            return None if now == kept["sha256"] else f"the file is another one now: {now[:16]}"

        yield Link(
            "raw file",
            f"{kept['name']} ({name})",
            {"sha256": kept["sha256"]},
            verdict(again),
            () if path is None else (str(path),),
        )


def _part(project: Project, run: Run, part: str) -> Iterator[Link]:
    kind, _, number = part.partition("/")
    if kind in ("fills", "trades"):
        frame = run.fills if kind == "fills" else run.trades
        place = int(number) if number.isdigit() else 0
        if not 1 <= place <= len(frame):
            raise InputError(f"run {run.run_id[:10]} has {kind} 1 to {len(frame)}; write {run.run_id[:10]}/{kind}/1.")
        row = frame.iloc[place - 1]
        yield from _fill(run, row, place) if kind == "fills" else _trade(run, row, place)
    elif not number and kind in run.metrics:
        yield _metric(project, run, kind)
    else:
        names = ", ".join(run.metrics)
        raise InputError(f"a run has fills/N, trades/N and the metrics {names}; {part!r} is none of them.")


def _fill(run: Run, row: Any, place: int) -> Iterator[Link]:
    title = f"{row['side']} {row['quantity']:g} {row['symbol']} at {row['price']:g} on {row['occurred_at']:%Y-%m-%d}"
    facts = {
        name: row[name]
        for name in ("seq", "occurred_at", "fee", "cash_delta", "order_id", "reasons")
        if row[name] is not None
    }
    yield Link("fill", f"{place}: {title}", facts)
    order = run.ledger[run.ledger["order_id"] == row["order_id"]]
    decided = order.iloc[0]["occurred_at"] if len(order) else row["occurred_at"]
    pulse = int(np.searchsorted(run.grid.times, int(decided.as_unit("us").asm8.astype(np.int64)), side="right")) - 1
    yield _run_saw(run, pulse, str(row["symbol"]))


def _run_saw(run: Run, pulse: int, symbol: str) -> Link:
    """The bar and the features of the pulse at which an order was decided, computed again."""
    from ledger_pipeline.features.table import compute_table
    from ledger_pipeline.simulation.param_schedule import feature_values
    from ledger_pipeline.simulation.replay import stored_experiment
    from ledger_pipeline.trading.deployment.strategy import seen_at

    experiment = stored_experiment(run.provenance)
    values = feature_values(experiment, run.snapshot, run.grid, lambda items, _, cells: compute_table(items, cells))
    seen = seen_at(run.grid, values, tuple(item.alias for item in experiment.features), pulse)
    at = np.datetime64(int(run.grid.times[pulse]), "us")
    facts = {name: float(value) for name, value in seen.get(symbol, {}).items()}
    row = run.equity[run.equity["ts"] <= str(at) + "+00:00"].tail(1)
    cash = {} if not len(row) else {"cash": float(row["cash"].iloc[0]), "equity": float(row["equity"].iloc[0])}
    return Link("what it saw", f"{symbol} at the pulse of {at}", facts | cash)


def _trade(run: Run, row: Any, place: int) -> Iterator[Link]:
    facts = {name: row[name] for name in row.index if name not in ("strategy", "symbol", "side")}
    fills = run.fills[
        (run.fills["symbol"] == row["symbol"]) & run.fills["occurred_at"].between(row["opened_at"], row["closed_at"])
    ]
    facts["fills"] = [
        f"{number + 1}: {fill.side} {fill.quantity:g} at {fill.price:g} on {fill.occurred_at:%Y-%m-%d} "
        f"({fill.reasons or 'no reason'})"
        for number, fill in zip(fills.index, fills.itertuples(), strict=True)
    ]
    yield Link("trade", f"{place}: {row['side'].lower()} {row['symbol']}, P&L {row['pnl']:,.2f}", facts)


def _metric(project: Project, run: Run, name: str) -> Link:
    """A metric with its formula, what makes it by symbol, day and trade, and the stored value beside it."""
    from ledger_pipeline.analytics.comparison_tables import ALL_FORMULAS, format_metric, metric_title
    from ledger_pipeline.analytics.returns import time_weighted_returns

    value = run.metrics[name]
    returns = time_weighted_returns(run.equity).dropna().sort_values()
    trades = run.trades.sort_values("pnl")
    gains = dict(
        sorted(((k or "the account", v) for k, v in run.contributions.items() if v), key=lambda pair: -abs(pair[1]))
    )
    days = [*returns.index[-_MOST:][::-1], *returns.index[:_MOST]]

    def again() -> str | None:
        stored = RunStore(project.data).metrics(run.run_id)
        if stored is None:
            return "its metrics are not stored"
        same = stored[name] == value or json.dumps(stored[name]) == json.dumps(value)
        return None if same else f"stored is {stored[name]!r}, and computed from the ledger it is {value!r}"

    def sentences(rows: Any) -> list[str]:
        return [
            f"{row.symbol} {row.opened_at:%Y-%m-%d} to {row.closed_at:%Y-%m-%d}: {row.pnl:,.2f}"
            for row in rows.itertuples()
        ]

    return Link(
        "metric",
        f"{metric_title(name)} {format_metric(name, value)}",
        {
            "value": "undefined" if value is None else value,
            "formula": ALL_FORMULAS.get(name, ""),
            "gain by symbol": {symbol: f"{gain:,.2f}" for symbol, gain in gains.items()},
            "days that count most": [f"{day:%Y-%m-%d} {returns[day]:+.2%}" for day in dict.fromkeys(days)],
            "best trades": sentences(trades.tail(_MOST).iloc[::-1]),
            "worst trades": sentences(trades.head(_MOST)),
            "returns": f"{len(returns):,}, {int((returns > 0).sum()):,} of them above zero",
        },
        verdict(again),
    )
