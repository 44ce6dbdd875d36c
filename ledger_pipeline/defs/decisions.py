"""dca_plan -> dca_orders, and live_snapshot -> strategy_decision -> strategy_orders, one partition a deployment and
trading session.

A policy is planned with the account, a promoted strategy decides on the sealed bars of the session; both are checked by
the same guardrails before anything is sent. What is decided stands in the book, so making a partition again decides
nothing twice; of a session that is over it shows what was decided, and asks nobody.
"""

from datetime import date
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from ledger_pipeline.defs.content import Content
from ledger_pipeline.defs.live import (
    context_if_on,
    keep,
    live_asset,
    of_the_session,
    record_after,
    record_before,
)
from ledger_pipeline.defs.partitions import (
    live_parts,
    partitioned_check,
    policy_sessions,
    strategy_sessions,
)
from ledger_pipeline.defs.resources import TradingResource
from ledger_pipeline.defs.run_tags import label_run
from ledger_pipeline.defs.tables import rows_table
from ledger_pipeline.trading.planning.names import GUARDRAILS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ledger_pipeline.book.book import Book
    from ledger_pipeline.market.snapshot import Snapshot
    from ledger_pipeline.trading.deployment.decision import Decision
    from ledger_pipeline.trading.deployment.deployment import Deployment

NOT_ASKED = "not asked: nothing is sent, or the limit is off"
_PAST = "a past session is never decided, and sends no order"


def _checks(asset: str) -> list[dg.AssetCheckSpec]:
    description = (
        "Asked of the whole decision before it is sent, and of each order again; what cannot be computed blocks."
    )
    sessions = policy_sessions if asset == "dca_plan" else strategy_sessions
    decided = partitioned_check(asset, "decided", sessions, "Nothing kept it from being decided.", blocking=True)
    return [decided, *(partitioned_check(asset, name, sessions, description, blocking=True) for name in GUARDRAILS)]


class Granularity(StrEnum):
    """How often something decides: as its schedule says, or a word of trading.deployment.decision.GRANULARITIES."""

    as_scheduled = ""
    hourly = "hourly"
    daily = "daily"
    weekly = "weekly"
    monthly = "monthly"
    quarterly = "quarterly"


class DecisionConfig(dg.Config):
    """What a person may say of a decision."""

    granularity: Granularity = Field(default=Granularity.as_scheduled, description="How often it decides.")
    again: str = Field(default="", description="A reason to decide once more in a period that is used up.")
    dry_run: bool = Field(default=False, description="Only show what would be decided; nothing is recorded or sent.")


class OrdersConfig(dg.Config):
    """How long orders are followed."""

    timeout: float = Field(
        default=300.0, description="Seconds to wait for fills; live_ledger follows what is open then."
    )


@dg.asset(
    deps=[*of_the_session("reconciliation"), "deployed_policy"],
    check_specs=_checks("dca_plan"),
    **live_asset("decide", "json", "trading", partitions_def=policy_sessions),
)
def dca_plan(
    context: dg.AssetExecutionContext, config: DecisionConfig, trading: TradingResource
) -> dg.MaterializeResult:
    """What the policy buys with the cash of the account, and why: amounts, weights, reasons, and what the guardrails
    say of it. Recorded in the book when it is nothing, and with its orders when it is something.
    """
    return _decide(context, config, trading, "policy")


@dg.asset(
    deps=[dca_plan],
    **live_asset("order", "json", "trading", partitions_def=policy_sessions, op_tags={"dagster/max_retries": "0"}),
)
def dca_orders(
    context: dg.AssetExecutionContext, config: OrdersConfig, trading: TradingResource
) -> dg.MaterializeResult:
    """The legs of the plan as orders, each sent at most once whatever happens, and followed until its fills add up."""
    return _work(context, config, trading)


@dg.asset(
    deps=[*of_the_session("reconciliation"), "deployed_strategy"],
    check_specs=[
        partitioned_check(
            "live_snapshot",
            "live_quality",
            strategy_sessions,
            "New bars, not restated, without errors or jumps.",
            blocking=True,
        )
    ],
    **live_asset("decide", "parquet", "market", "trading", partitions_def=strategy_sessions),
)
def live_snapshot(context: dg.AssetExecutionContext, trading: TradingResource) -> dg.MaterializeResult:
    """The bars up to the last session that is over, checked and sealed: what a promoted strategy decides on."""
    from ledger_pipeline.trading.deployment.decision import Decision
    from ledger_pipeline.trading.deployment.session_work import seal_session

    deployment, session = _deployment(context, trading, "strategy"), live_parts(context.partition_key)[1]
    label_run(context, deployment=deployment.name, session=session)
    with context_if_on(trading.open_session(deployment.name), _book(trading, deployment), session) as live:
        if isinstance(live, str):
            return sealed_content(trading, deployment, session).result()
        label_run(context, book=live.book.name)
        bars = seal_session(trading.project, live, deployment)
    if isinstance(bars, Decision):
        text = "; ".join(bars.reasons)
        return Content("blocked", {"blocked": text}, {"live_quality": {"passed": False, "description": text}}).result()
    return _bars_content(bars.snapshot, bars.pulse.isoformat()).result()


def sealed_content(trading: TradingResource, deployment: "Deployment", session: str) -> Content:
    """The bars that a strategy decided on in a session that is over. dg.Failure when none were sealed."""
    from ledger_pipeline.core.errors import NotFoundError
    from ledger_pipeline.market.snapshot import open_snapshot
    from ledger_pipeline.trading.deployment.live_bars import live_id

    try:
        snapshot = open_snapshot(
            live_id(deployment.name, date.fromisoformat(session)), root=trading.project.live_snapshots
        )
    except NotFoundError:
        raise dg.Failure(
            f"no bars were sealed for {deployment.name} in session {session}, which is over; {_PAST}.",
            allow_retries=False,
        ) from None
    return _bars_content(snapshot, str(snapshot.manifest["last"])[:10])


def _bars_content(snapshot: "Snapshot", pulse: str) -> Content:
    return Content(
        snapshot.hash,
        {
            "pulse": pulse,
            "dagster/row_count": snapshot.manifest["rows"]["bars"],
            "source": dg.MetadataValue.json(snapshot.manifest["source"]),
            "snapshot_hash": snapshot.hash,
            "path": dg.MetadataValue.path(str(snapshot.path)),
        },
        {"live_quality": {"passed": True, "description": "sealed"}},
    )


@dg.asset(
    deps=[live_snapshot, *of_the_session("reconciliation"), "deployed_strategy"],
    check_specs=_checks("strategy_decision"),
    **live_asset("decide", "json", "trading", "simulation", "strategy", "features", partitions_def=strategy_sessions),
)
def strategy_decision(
    context: dg.AssetExecutionContext, config: DecisionConfig, trading: TradingResource
) -> dg.MaterializeResult:
    """What the promoted strategy decides on the sealed bars: targets, the difference from its own lots, and what the
    guardrails say of it.
    """
    return _decide(context, config, trading, "strategy")


@dg.asset(
    deps=[strategy_decision],
    **live_asset("order", "json", "trading", partitions_def=strategy_sessions, op_tags={"dagster/max_retries": "0"}),
)
def strategy_orders(
    context: dg.AssetExecutionContext, config: OrdersConfig, trading: TradingResource
) -> dg.MaterializeResult:
    """The legs of the decision as orders, each sent at most once whatever happens, and followed until its fills add
    up.
    """
    return _work(context, config, trading)


def _deployment(context: dg.AssetExecutionContext, trading: TradingResource, kind: str) -> "Deployment":
    """The deployment of the partition; it must be of the kind (policy or strategy) that the asset is for."""
    from ledger_pipeline.core.errors import InputError

    deployment = trading.deployment(live_parts(context.partition_key)[0])
    if (deployment.policy is not None) != (kind == "policy"):
        raise InputError(
            f"{deployment.name!r} is {deployment.what}, not a deployed {kind}; materialise the assets that are for it."
        )
    return deployment


def _book(trading: TradingResource, deployment: "Deployment") -> "Book":
    from ledger_pipeline.trading.session_context import read_book

    return read_book(trading.project, deployment.book)


def _decide(
    context: dg.AssetExecutionContext, config: DecisionConfig, trading: TradingResource, kind: str
) -> dg.MaterializeResult:
    from ledger_pipeline.trading.deployment.session_work import plan_session

    deployment, session = _deployment(context, trading, kind), live_parts(context.partition_key)[1]
    label_run(context, deployment=deployment.name, session=session)
    with context_if_on(trading.open_session(deployment.name), _book(trading, deployment), session) as live:
        if isinstance(live, str):
            return decided_content(trading, deployment, session).result()
        label_run(context, book=live.book.name)
        record_before(context, trading, live)
        planned = plan_session(
            trading.project, live, deployment, granularity=config.granularity.value or None, again=config.again or None,
            dry_run=config.dry_run,
        )  # fmt: skip
    path = trading.path(deployment.name, session, f"decision_{deployment.name}.json")
    more = {"dry_run": config.dry_run, "resumed": planned.resumed, "settled": planned.settled}
    keep(path, planned.decision.to_json() | more)
    return _decision_content(planned.decision, path, settled=planned.settled).result()


def recorded_decision(
    trading: TradingResource, deployment: "Deployment", session: str, book: "Book | None" = None
) -> "tuple[Book, Decision]":
    """The last decision that the book has of a deployment in a session that is over; book: where it is open already.
    dg.Failure when it has none.
    """
    from ledger_pipeline.trading.deployment.decision import decided_events, document_of, from_json

    book = book or _book(trading, deployment)
    documents = [
        document
        for key, event in decided_events(book)
        if key.deployment == deployment.name and key.session.isoformat() == session and (document := document_of(event))
    ]
    if not documents:
        raise dg.Failure(
            f"{deployment.name} decided nothing in session {session}, which is over; {_PAST}.", allow_retries=False
        )
    return book, from_json(documents[-1])


def decided_content(
    trading: TradingResource, deployment: "Deployment", session: str, book: "Book | None" = None
) -> Content:
    """What was decided in a session that is over, from the book alone."""
    _, decided = recorded_decision(trading, deployment, session, book)
    path = trading.path(deployment.name, session, f"decision_{deployment.name}.json")
    keep(path, decided.to_json() | {"dry_run": False, "resumed": True, "settled": True})
    return _decision_content(decided, path, settled=True)


def _decision_content(decided: "Decision", path: str, *, settled: bool) -> Content:
    from ledger_pipeline.trading.deployment.plan_rows import decision_rows

    rows = [{"guardrail": v.guardrail, "passed": v.passed, "says": v.sentence} for v in decided.verdicts]
    return Content(
        decided.hash or decided.status,
        {
            "status": f"{decided.status}, done already" if settled else decided.status,
            "dagster/row_count": len(decided.legs),
            "why": dg.MetadataValue.md("\n".join(f"- {text}" for text in decided.reasons) or "none"),
            "legs": dg.MetadataValue.md(rows_table(decision_rows(decided))),
            "guardrails": dg.MetadataValue.md(rows_table(rows)),
            "notes": dg.MetadataValue.md("\n".join(f"- {text}" for text in decided.notes) or "none"),
            **_picture(decided),
            "decision": decided.key.id,
            "run_key": decided.run_key,
            "plan_hash": decided.hash,
            "path": dg.MetadataValue.path(path),
        },
        _verdicts(decided),
    )


def _picture(decided: "Decision") -> dict[str, Any]:
    """The weights of a plan, drawn."""
    from ledger_pipeline.analytics.plots import grouped_bars, markdown_image
    from ledger_pipeline.trading.deployment.plan_rows import weight_series

    labels, series = weight_series(decided)
    if not labels:
        return {}
    figure = grouped_bars(labels, series, f"Weights of {decided.key.id}", "% of cash and holdings")
    return {"weights": dg.MetadataValue.md(markdown_image(figure, "Weights now, wanted and afterwards"))}


def _verdicts(decided: "Decision") -> dict[str, dict[str, Any]]:
    """The checks: whether it was decided, and each guardrail; one that only warns does not block."""
    results: dict[str, dict[str, Any]] = {
        "decided": {
            "passed": decided.status != "BLOCKED" or bool(decided.verdicts),
            "description": "; ".join(decided.reasons) or decided.status,
        }
    }
    for name in GUARDRAILS:
        mine = [verdict for verdict in decided.verdicts if verdict.guardrail == name]
        failed = [verdict for verdict in mine if not verdict.passed]
        blocks = any(verdict.blocks for verdict in mine)
        results[name] = {
            "passed": bool(mine) and not failed,  # what was not asked has passed nothing
            "severity": dg.AssetCheckSeverity.ERROR if blocks else dg.AssetCheckSeverity.WARN,
            "description": "; ".join(verdict.sentence for verdict in failed or mine) or NOT_ASKED,
        }
    return results


def _work(context: dg.AssetExecutionContext, config: OrdersConfig, trading: TradingResource) -> dg.MaterializeResult:
    import json
    from pathlib import Path

    from ledger_pipeline import progress
    from ledger_pipeline.core.errors import RefusedError
    from ledger_pipeline.trading.deployment.decision import from_json, record
    from ledger_pipeline.trading.deployment.session_work import verified, work_session
    from ledger_pipeline.trading.rows import order_row

    def tell(text: str) -> None:
        context.log.info(text)
        progress.report(0, 0, text)

    name, session = live_parts(context.partition_key)
    deployment = trading.deployment(name)
    with context_if_on(trading.open_session(name), _book(trading, deployment), session) as live:
        if isinstance(live, str):
            return worked_content(trading, deployment, session).result()
        document = json.loads(Path(trading.path(name, session, f"decision_{name}.json")).read_text(encoding="utf-8"))
        if document.get("dry_run"):
            raise RefusedError(
                f"the decision of {context.partition_key} was made to be shown only; decide again, then send."
            )
        decided = from_json(document)
        if decided.status == "PLANNED" and decided.legs:
            done = work_session(
                trading.project, live, deployment, verified(trading.project, live, decided), timeout=config.timeout,
                on_progress=tell,
            )  # fmt: skip
            status, notes, orders = done.status, done.notes, [order_row(order) for order in done.orders]
        else:
            status, notes, orders = "NO_ACTION", decided.reasons, []
        kept = record(live.book, decided.key) | {"outcome": status, "notes_of_orders": list(notes)}
        path = trading.path(name, session, f"run_{name}.json")
        keep(path, kept)
        record_after(context, trading, live)
    return _orders_content(decided.key.id, status, notes, orders, path).result()


def worked_content(
    trading: TradingResource, deployment: "Deployment", session: str, book: "Book | None" = None
) -> Content:
    """What became of the decision of a session that is over, from the book alone."""
    from ledger_pipeline.trading.deployment.decision import record

    book, decided = recorded_decision(trading, deployment, session, book)
    kept = record(book, decided.key)
    path = trading.path(deployment.name, session, f"run_{deployment.name}.json")
    keep(path, kept | {"outcome": kept["status"], "notes_of_orders": []})
    return _orders_content(decided.key.id, kept["status"], kept["why"], kept["execution"]["orders"], path)


def _orders_content(
    decision: str, status: str, notes: "Sequence[str]", orders: list[dict[str, Any]], path: str
) -> Content:
    from ledger_pipeline.core.identity import hash_json

    return Content(
        hash_json([status, orders]),
        {
            "status": status,
            "dagster/row_count": len(orders),
            "orders": dg.MetadataValue.md(rows_table(orders)),
            "notes": dg.MetadataValue.md("\n".join(f"- {note}" for note in notes) or "none"),
            "decision": decision,
            "path": dg.MetadataValue.path(path),
        },
    )
