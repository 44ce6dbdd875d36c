"""ledger_pipeline: from raw bars to compared, replayable runs, and from legs to a live book.

    import ledger_pipeline as lp
    snapshot = lp.open_snapshot("demo")
    experiment = lp.experiment(strategy, params={"quantity": 10}, features={"sma": {"indicator": "sma", "window": 20}},
    costs=[])
    run = lp.run(experiment, snapshot)
    run.metrics, run.equity, run.trades, run.ledger

    broker = lp.connect("exchange")
    book = lp.open_book("books/local", account=broker.account().id, environment=broker.environment)
    lp.adopt(book, broker, by="Ada Byron", reason="first use")
    lp.reconcile(book, broker)
    lp.execute([lp.Leg("VTI", "BUY", "core", notional="676.00")], book, broker, policy="core")

The names below are the public API. They are imported when first used, so that loading the Dagster definitions stays
quick.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

# Arrow's own allocator keeps the memory it frees; the system's gives it back. An explicit choice of the user stands.
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")

__version__ = "0.1.0"

_PUBLIC = {
    "seal": "ledger_pipeline.market.snapshot",
    "open_snapshot": "ledger_pipeline.market.snapshot",
    "verify": "ledger_pipeline.market.snapshot",
    "Snapshot": "ledger_pipeline.market.snapshot",
    "quality_report": "ledger_pipeline.market.quality",
    "experiment": "ledger_pipeline.strategy.experiment",
    "Experiment": "ledger_pipeline.strategy.experiment",
    "Catalogue": "ledger_pipeline.strategy.catalogue",
    "user_indicator": "ledger_pipeline.features.indicators",
    "preflight": "ledger_pipeline.strategy.preflight",
    "extract": "ledger_pipeline.strategy.source",
    "run": "ledger_pipeline.simulation.run",
    "Run": "ledger_pipeline.simulation.run",
    "RunStore": "ledger_pipeline.simulation.store",
    "replay": "ledger_pipeline.simulation.replay",
    "prove": "ledger_pipeline.simulation.proof",
    "sweep": "ledger_pipeline.sweeps.running",
    "Sweep": "ledger_pipeline.sweeps.sweep",
    "open_sweep": "ledger_pipeline.sweeps.sweep",
    "walk_forward": "ledger_pipeline.selection.walk_forward",
    "WalkForward": "ledger_pipeline.selection.walk_forward",
    "open_walk_forward": "ledger_pipeline.selection.walk_forward",
    "cpcv": "ledger_pipeline.selection.cpcv",
    "selection_integrity": "ledger_pipeline.selection.integrity",
    "pbo": "ledger_pipeline.selection.overfitting",
    "probabilistic_sharpe": "ledger_pipeline.selection.sharpe",
    "deflated_sharpe": "ledger_pipeline.selection.sharpe",
    "expected_maximum_sharpe": "ledger_pipeline.selection.sharpe",
    "min_track_record": "ledger_pipeline.selection.sharpe",
    "min_backtest_length": "ledger_pipeline.selection.sharpe",
    "haircut_sharpe": "ledger_pipeline.selection.sharpe",
    "effective_trials": "ledger_pipeline.selection.clusters",
    "reality_check": "ledger_pipeline.selection.reality",
    "bootstrap_intervals": "ledger_pipeline.selection.resampling",
    "permutation_test": "ledger_pipeline.selection.resampling",
    "trade_order": "ledger_pipeline.selection.resampling",
    "TrialRegister": "ledger_pipeline.simulation.trials",
    "compare": "ledger_pipeline.analytics.compare",
    "explain": "ledger_pipeline.audit.explain",
    "verify_project": "ledger_pipeline.audit.verification",
    "reconstruct": "ledger_pipeline.ledger.folds",
    "open_book": "ledger_pipeline.book.book",
    "Book": "ledger_pipeline.book.book",
    "connect": "ledger_pipeline.trading.connect",
    "adopt": "ledger_pipeline.trading.reconciliation.adopt",
    "Leg": "ledger_pipeline.trading.orders.legs",
    "execute": "ledger_pipeline.trading.orders.executor",
    "cancel": "ledger_pipeline.trading.orders.cancel",
    "replace": "ledger_pipeline.trading.orders.cancel",
    "reconcile": "ledger_pipeline.trading.reconciliation.reconcile",
    "collect": "ledger_pipeline.trading.reconciliation.ingest",
    "override": "ledger_pipeline.trading.reconciliation.override",
    "halt": "ledger_pipeline.trading.orders.halts",
    "resume": "ledger_pipeline.trading.orders.halts",
    "load_policy": "ledger_pipeline.trading.planning.policy",
    "plan": "ledger_pipeline.trading.planning.planner",
    "PlanAccount": "ledger_pipeline.trading.planning.plan",
    "promote": "ledger_pipeline.trading.deployment.promote",
    "plan_session": "ledger_pipeline.trading.deployment.session_work",
    "work_session": "ledger_pipeline.trading.deployment.session_work",
    "trade_entries": "ledger_pipeline.attribution.entries",
    "attribute": "ledger_pipeline.attribution.attribute",
    "query_trades": "ledger_pipeline.attribution.query",
    "performance": "ledger_pipeline.attribution.performance",
    "attribution_report": "ledger_pipeline.attribution.symbol_report",
    "LedgerPipelineError": "ledger_pipeline.core.errors",
    "InputError": "ledger_pipeline.core.errors",
    "RefusedError": "ledger_pipeline.core.errors",
    "NotFoundError": "ledger_pipeline.core.errors",
    "IntegrityError": "ledger_pipeline.core.errors",
    "BlockedError": "ledger_pipeline.core.errors",
    "BrokerError": "ledger_pipeline.core.errors",
    "BreakError": "ledger_pipeline.core.errors",
    "StorageError": "ledger_pipeline.core.errors",
}
__all__ = [*_PUBLIC, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
