"""What each asset of a run does, one function an asset: make it, store it, and tell its data version and metadata.

What the assets are is said in defs/runs.py.

Every function takes the Work of one partition and returns (data version, metadata).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import dagster as dg

from ledger_pipeline.core.identity import hash_json
from ledger_pipeline.defs.tables import column_lineage, columns, frame_table

if TYPE_CHECKING:
    from ledger_pipeline.features.store import FeatureStore
    from ledger_pipeline.market.snapshot import Snapshot
    from ledger_pipeline.project import Project
    from ledger_pipeline.simulation.compiled.choice import Compiled
    from ledger_pipeline.simulation.proof import Proof
    from ledger_pipeline.simulation.replay import Truncation
    from ledger_pipeline.simulation.run import Run, RunIdentity
    from ledger_pipeline.simulation.store import RunStore
    from ledger_pipeline.strategy.catalogue import Catalogue
    from ledger_pipeline.strategy.experiment import Experiment

Made = tuple[str, dict[str, Any]]


@dataclass(frozen=True)
class Work:
    """One partition at work: an experiment on a snapshot, and where its results go."""

    project: Project
    snapshot: Snapshot
    experiment: Experiment
    seed: int | None
    risk_free: float | dict[str, str] | None
    fresh: bool  # whether the ledger is to be made now, not read from the store
    compiled: Compiled

    @property
    def identity(self) -> RunIdentity:
        """The identity of the run."""
        from ledger_pipeline.simulation.run import identify

        return identify(self.experiment, self.snapshot, self.seed)

    @property
    def runs(self) -> RunStore:
        """The store of runs."""
        from ledger_pipeline.simulation.store import RunStore

        return RunStore(self.project.data)

    @property
    def features(self) -> FeatureStore:
        """The store of features."""
        from ledger_pipeline.features.store import FeatureStore

        return FeatureStore(self.project.data)

    @functools.cached_property
    def run(self) -> Run:
        """The run: made now, or read from the store."""
        from ledger_pipeline.simulation.evaluation import measured_by
        from ledger_pipeline.simulation.run import run
        from ledger_pipeline.strategy.git_state import git_state

        if self.fresh:
            result = run(
                self.experiment,
                self.snapshot,
                seed=self.seed,
                features=self.features.load,
                risk_free=self.risk_free,
                compiled=self.compiled,
            )
            known = git_state(self.project.strategies)
            return replace(result, provenance=result.provenance | {"git": known}) if known else result
        measured = measured_by(self.experiment, self.risk_free)
        return self.runs.open(self.identity.run_id, self.project.snapshots, measured)

    def truncation_replay(self, cuts: int) -> list[Truncation]:
        """The run replayed on histories cut at `cuts` bars; none when it has no bar to cut at."""
        from ledger_pipeline.simulation.replay import truncation_replay

        return truncation_replay(self.experiment, self.run, cuts) if self.run.provenance["pulses"] > 2 else []

    @functools.cached_property
    def picture(self) -> str:
        """Equity and drawdown as a Markdown image."""
        from ledger_pipeline.analytics.plots import equity_and_drawdown, markdown_image

        title = f"{self.experiment.name} on {self.snapshot.id}"
        figure = equity_and_drawdown(self.run.equity, title, _currency(self.run))
        return markdown_image(figure, f"Equity and drawdown of {title}")


def _currency(run: Run) -> str:
    """The currency of a run's account."""
    experiment = run.provenance["experiment"]
    by_symbol = run.snapshot.instruments.set_index("symbol")["currency"]
    universe = experiment["universe"] or list(by_symbol.index)
    return experiment.get("base_currency") or str(by_symbol[universe[0]])


def work(
    project: Project,
    catalogue: Catalogue,
    snapshot_id: str,
    name: str,
    seed: int | None,
    risk_free: float | dict[str, str] | None,
    period: tuple[str | None, str | None],
    fresh: bool,
    compiled: str,
) -> Work:
    """Open the snapshot and load the experiment of a partition, over this period where one is given."""
    from ledger_pipeline.market.snapshot import open_snapshot
    from ledger_pipeline.strategy.experiment import with_period

    sealed = open_snapshot(snapshot_id, root=project.snapshots)
    experiment = with_period(catalogue.experiment(name), *period)
    return Work(project, sealed, experiment, seed, risk_free, fresh, cast("Compiled", compiled))


@contextmanager
def proving() -> Iterator[Callable[[Work], Future[Proof]]]:
    """A function that has the run of a partition proven in the other process while this one goes on."""
    from ledger_pipeline.simulation.proof import give_up, prove

    waiting = ThreadPoolExecutor(1)
    try:
        yield lambda item: waiting.submit(lambda: prove([item.run])[0])
    except BaseException:  # Ctrl-C among them: nobody waits for what nobody asks for
        give_up()
        raise
    finally:
        waiting.shutdown(wait=False, cancel_futures=True)


def feature_table(item: Work) -> Made:
    """The materialisation of `feature_table`."""
    from ledger_pipeline.simulation.grids import experiment_grid, universe_grid

    spec = item.experiment.spec
    cells = universe_grid(item.snapshot, spec.universe, spec.base_currency)
    features = item.features.ensure(
        item.experiment.features, item.snapshot, cells, lambda: experiment_grid(item.snapshot, None)
    )
    for scheduled in item.experiment.scheduled:
        item.features.ensure(scheduled, item.snapshot, cells, lambda: experiment_grid(item.snapshot, None))
    fingerprints = {feature.alias: feature.fingerprint for feature in item.experiment.features}
    rows = [
        f"| {feature.alias} | {feature.indicator.name} | {dict(feature.params)} | {feature.warmup} | "
        f"{feature.indicator.basis} "
        f"| {'computed' if features[feature.alias] else 'shared'} | {feature.fingerprint[:16]} |"
        for feature in item.experiment.features
    ]
    header = "| alias | indicator | params | warm-up | basis | | fingerprint |\n|---|---|---|---|---|---|---|"
    return hash_json({"snapshot_hash": item.snapshot.hash, "features": fingerprints}), {
        "features": dg.MetadataValue.md("\n".join([header, *rows]) if rows else "none"),
        "snapshot_hash": item.snapshot.hash,
        "dagster/row_count": len(cells.times) * len(rows),
        "dagster/column_schema": columns(
            {"ts": "timestamp[us, UTC]", "symbol": "string", **dict.fromkeys(fingerprints, "float64")},
            {feature.alias: _described(feature) for feature in item.experiment.features},
        ),
        "dagster/column_lineage": column_lineage(
            {
                feature.alias: [("sealed_snapshot", name) for name in feature.indicator.inputs]
                for feature in item.experiment.features
            }
        ),
    }


def _described(feature: Any) -> str:
    params = ", ".join(f"{name} {value}" for name, value in dict(feature.params).items())
    return f"{feature.indicator.name}{f' ({params})' if params else ''}, {feature.indicator.basis}"


def run_ledger(item: Work) -> Made:
    """The materialisation of `run_ledger`."""
    result = item.run
    if item.fresh:
        item.runs.write_ledger(result)
    provenance = result.provenance
    return result.events.head, {
        "equity and drawdown": dg.MetadataValue.md(item.picture),
        "warnings": "; ".join(result.warnings) or "none",
        "dagster/row_count": len(result.events),
        "dagster/column_schema": columns({field.name: field.type for field in result.events.table.schema}),
        "pulses": provenance["pulses"],
        "duration_seconds": provenance["duration_seconds"],
        "tier": provenance["tier"],
        "seed": provenance["seed"],
        "params": dg.MetadataValue.json(provenance["experiment"]["params"]),
        "versions": dg.MetadataValue.json(provenance["versions"]),
        "platform": provenance["platform"],
        "path": dg.MetadataValue.path(str(item.runs.runs / result.run_id)),
        "run_id": result.run_id,
        "run_hash": provenance["run_hash"],
        "ledger_head": result.events.head,
        "snapshot_hash": provenance["snapshot"]["hash"],
        "experiment_hash": provenance["experiment"]["hash"],
        "strategy_hash": provenance["experiment"]["strategy_hash"],
        "params_hash": provenance["experiment"]["params_hash"],
    }


def fills(item: Work) -> Made:
    """The materialisation of `fills`."""
    frame = item.run.fills
    return hash_json({"ledger_head": item.run.events.head, "rows": len(frame)}), {
        "dagster/row_count": len(frame),
        "fees": float(frame["fee"].sum()),
        "notional": float((frame["quantity"] * frame["price"]).sum()),
        "first fills": dg.MetadataValue.md(frame_table(frame.head(10))),
    }


def trades(item: Work) -> Made:
    """The materialisation of `trades`."""
    return _stored(item, "trades", also=("lots",))


def equity(item: Work) -> Made:
    """The materialisation of `equity`."""
    version, metadata = _stored(item, "equity")
    last = item.run.equity.iloc[-1]
    return version, {
        "equity and drawdown": dg.MetadataValue.md(item.picture),
        "final_equity": float(last["equity"]),
        "final_cash": float(last["cash"]),
        "dagster/column_lineage": column_lineage(
            {
                "ts": [("sealed_snapshot", "ts")],
                "cash": [("run_ledger", "cash_delta")],
                "positions_value": [("run_ledger", "quantity"), ("sealed_snapshot", "close")],
                "equity": [("run_ledger", "cash_delta"), ("run_ledger", "quantity"), ("sealed_snapshot", "close")],
            }
        ),
        **metadata,
    }


def metrics(item: Work) -> Made:
    """The materialisation of `metrics`."""
    values = item.run.metrics
    item.runs.add_metrics(item.run, values)
    return hash_json(values), {name: value for name, value in values.items() if value is not None}


def _stored(item: Work, name: str, also: tuple[str, ...] = ()) -> Made:
    """Store derived tables; the version is that of the first."""
    import pyarrow as pa

    from ledger_pipeline.ledger.schema import table_hash

    for table in (name, *also):
        item.runs.add_table(item.run.run_id, table, getattr(item.run, table))
    frame = getattr(item.run, name)
    return table_hash(pa.Table.from_pandas(frame, preserve_index=False)), {
        "dagster/row_count": len(frame),
        "dagster/column_schema": columns(frame.dtypes.to_dict()),
        "path": dg.MetadataValue.path(str(item.runs.runs / item.run.run_id / f"{name}.parquet")),
        "last rows": dg.MetadataValue.md(frame_table(frame.tail(5))),
    }


MAKERS: dict[str, Callable[[Work], Made]] = {
    "feature_table": feature_table,
    "run_ledger": run_ledger,
    "fills": fills,
    "trades": trades,
    "equity": equity,
    "metrics": metrics,
}
