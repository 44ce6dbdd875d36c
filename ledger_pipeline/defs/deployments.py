"""deployment -> dca_plan -> dca_orders, and deployment -> live_snapshot -> strategy_decision -> strategy_orders.

A policy is planned with the account, a promoted strategy decides on the sealed bars of the session; both are checked by
the same guardrails before anything is sent. What is decided stands in the book, so making a partition again decides
nothing twice; a session that is not on is never decided.
"""

from typing import TYPE_CHECKING, Any

import dagster as dg

from ledger_pipeline.defs.live import OWNERS, live_asset, only_now, reconciliation
from ledger_pipeline.defs.partitions import DEPLOYMENTS, deployments, live, live_parts, partitioned_check
from ledger_pipeline.defs.resources import ProjectResource, TradingResource
from ledger_pipeline.defs.tables import rows_table
from ledger_pipeline.defs.versions import written

if TYPE_CHECKING:
    from ledger_pipeline.project import Project
    from ledger_pipeline.trading.deployment.decision import Decision
    from ledger_pipeline.trading.deployment.deployment import Deployment

# The names of trading.policy.GUARDRAILS, written out: loading the graph reads no policy.
GUARDRAILS = (
    "position_limit", "concentration", "daily_spend", "monthly_spend", "large_order", "order_count", "buying_power",
    "price_collar", "stale_price", "market_closed", "allow_list",
)  # fmt: skip
_PAST = "a past session is never decided, and sends no order"

deployment = dg.AssetSpec(
    "deployment",
    partitions_def=deployments,
    deps=[dg.AssetDep("run_ledger", partition_mapping=dg.AllPartitionMapping())],
    group_name="decide",
    kinds={"yaml", "json"},
    owners=OWNERS,
    tags={"layer": "written"},
    description="What trades by itself: strategies/deployments/<name>.yaml, or a policy. A promoted one pins the "
    "run it was researched with. The data version is the hash of all that decides.",
)


def _checks(asset: str) -> list[dg.AssetCheckSpec]:
    told = "Asked of the whole decision before it is sent, and of each order again; what cannot be computed blocks."
    decided = partitioned_check(asset, "decided", live, "Nothing kept it from being decided.", blocking=True)
    return [decided, *(partitioned_check(asset, name, live, told, blocking=True) for name in GUARDRAILS)]


class DecisionConfig(dg.Config):
    """How often it decides (decision.GRANULARITIES; else as its schedule says), a person's reason to decide again in
    a period that is used up, and whether it only shows what it would decide.
    """

    granularity: str = ""
    again: str = ""
    dry_run: bool = False


class OrdersConfig(dg.Config):
    """How many seconds to wait for fills; what is open then is followed by live_ledger."""

    timeout: float = 300.0


@dg.asset(
    deps=[reconciliation, deployment],
    check_specs=_checks("dca_plan"),
    **live_asset("decide", "json", "trading"),
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
    **live_asset("order", "json", "trading", op_tags={"dagster/max_retries": "0"}),
)
def dca_orders(
    context: dg.AssetExecutionContext, config: OrdersConfig, trading: TradingResource
) -> dg.MaterializeResult:
    """The legs of the plan as orders, each sent at most once whatever happens, and followed until its fills add up."""
    return _work(context, config, trading)


@dg.asset(
    deps=[reconciliation, deployment],
    check_specs=[
        partitioned_check(
            "live_snapshot", "live_quality", live, "New bars, not restated, without errors or jumps.", blocking=True
        )
    ],
    **live_asset("decide", "parquet", "market", "trading"),
)
def live_snapshot(context: dg.AssetExecutionContext, trading: TradingResource) -> dg.MaterializeResult:
    """The bars up to the last session that is over, checked and sealed: what a promoted strategy decides on."""
    from ledger_pipeline.trading.deployment.decision import Decision
    from ledger_pipeline.trading.deployment.session import seal_session

    made = _deployment(context, trading, "strategy")
    with trading.desk(made.name) as desk:
        only_now(desk, context.partition_key, _PAST)
        found = seal_session(trading.project, desk, made)
    if isinstance(found, Decision):
        text = "; ".join(found.reasons)
        return dg.MaterializeResult(
            data_version=dg.DataVersion("blocked"),
            metadata={"blocked": text},
            check_results=[dg.AssetCheckResult(check_name="live_quality", passed=False, description=text)],
        )
    manifest = found.snapshot.manifest
    return dg.MaterializeResult(
        data_version=dg.DataVersion(found.snapshot.hash),
        metadata={
            "snapshot_hash": found.snapshot.hash,
            "pulse": found.pulse.isoformat(),
            "dagster/row_count": manifest["rows"]["bars"],
            "source": dg.MetadataValue.json(manifest["source"]),
            "path": dg.MetadataValue.path(str(found.snapshot.path)),
        },
        check_results=[dg.AssetCheckResult(check_name="live_quality", passed=True, description="sealed")],
    )


@dg.asset(
    deps=[live_snapshot, reconciliation, deployment],
    check_specs=_checks("strategy_decision"),
    **live_asset("decide", "json", "trading", "simulation", "strategy", "features"),
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
    **live_asset("order", "json", "trading", op_tags={"dagster/max_retries": "0"}),
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
    from ledger_pipeline.errors import InputError

    name = live_parts(context.partition_key)[0]
    made = trading.deployment(name)
    if made is None or (made.policy is not None) != (kind == "policy"):
        what = "a book that is traded by hand" if made is None else made.what
        raise InputError(f"{name!r} is {what}, not a deployed {kind}; materialise the assets that are for it.")
    return made


def _decide(
    context: dg.AssetExecutionContext, config: DecisionConfig, trading: TradingResource, kind: str
) -> dg.MaterializeResult:
    from ledger_pipeline.trading.deployment.session import plan_session
    from ledger_pipeline.trading.deployment.views import decision_rows

    made = _deployment(context, trading, kind)
    with trading.desk(made.name) as desk:
        only_now(desk, context.partition_key, _PAST)
        found = plan_session(
            trading.project, desk, made, granularity=config.granularity or None, again=config.again or None,
            dry_run=config.dry_run,
        )  # fmt: skip
    decided = found.decision
    told = decided.to_json() | {"dry_run": config.dry_run, "resumed": found.resumed, "settled": found.settled}
    path = trading.write(context.partition_key, f"decision_{made.name}.json", told)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(decided.hash or decided.status),
        metadata={
            "status": decided.status if not found.settled else f"{decided.status}, done already",
            "decision": decided.key.id,
            "run_key": decided.run_key,
            "plan_hash": decided.hash,
            "why": dg.MetadataValue.md("\n".join(f"- {text}" for text in decided.reasons) or "none"),
            "notes": dg.MetadataValue.md("\n".join(f"- {text}" for text in decided.notes) or "none"),
            "legs": dg.MetadataValue.md(rows_table(decision_rows(decided))),
            "guardrails": dg.MetadataValue.md(
                rows_table(
                    [{"guardrail": v.guardrail, "passed": v.passed, "says": v.sentence} for v in decided.verdicts]
                )
            ),
            "dagster/row_count": len(decided.legs),
            "path": dg.MetadataValue.path(path),
            **_picture(decided),
        },
        check_results=_verdicts(decided),
    )


def _picture(decided: "Decision") -> dict[str, Any]:
    """The weights of a plan, drawn."""
    from ledger_pipeline.analytics.plots import grouped_bars, markdown_image
    from ledger_pipeline.trading.deployment.views import weight_series

    labels, series = weight_series(decided)
    if not labels:
        return {}
    figure = grouped_bars(labels, series, f"Weights of {decided.key.id}", "% of cash and holdings")
    return {"weights": dg.MetadataValue.md(markdown_image(figure, "Weights now, wanted and afterwards"))}


def _verdicts(decided: "Decision") -> list[dg.AssetCheckResult]:
    """The checks: whether it was decided, and each guardrail; one that only warns does not block."""
    results = [
        dg.AssetCheckResult(
            check_name="decided",
            passed=decided.status != "BLOCKED" or bool(decided.verdicts),
            description="; ".join(decided.reasons) or decided.status,
        )
    ]
    for name in GUARDRAILS:
        mine = [verdict for verdict in decided.verdicts if verdict.guardrail == name]
        failed = [verdict for verdict in mine if not verdict.passed]
        blocks = any(verdict.blocks for verdict in mine)
        results.append(
            dg.AssetCheckResult(
                check_name=name,
                passed=bool(mine) and not failed,  # what was not asked has passed nothing
                severity=dg.AssetCheckSeverity.ERROR if blocks else dg.AssetCheckSeverity.WARN,
                description="; ".join(verdict.sentence for verdict in failed or mine)
                or "not asked: nothing is sent, or the limit is off",
            )
        )
    return results


def _work(context: dg.AssetExecutionContext, config: OrdersConfig, trading: TradingResource) -> dg.MaterializeResult:
    import json
    from pathlib import Path

    from ledger_pipeline import progress
    from ledger_pipeline.errors import RefusedError
    from ledger_pipeline.identity import hash_json
    from ledger_pipeline.trading.deployment.decision import from_json, record
    from ledger_pipeline.trading.deployment.session import verified, work_session
    from ledger_pipeline.trading.views import order_row

    def tell(text: str) -> None:
        context.log.info(text)
        progress.report(0, 0, text)

    name = live_parts(context.partition_key)[0]
    made = trading.deployment(name)
    told = json.loads(Path(trading.path(context.partition_key, f"decision_{name}.json")).read_text(encoding="utf-8"))
    if told.get("dry_run"):
        raise RefusedError(
            f"the decision of {context.partition_key} was made to be shown only; decide again, then send."
        )
    decided = from_json(told)
    with trading.desk(name) as desk:
        only_now(desk, context.partition_key, _PAST)
        if decided.status == "PLANNED" and decided.legs:
            done = work_session(
                trading.project, desk, made, verified(trading.project, desk, decided), timeout=config.timeout,
                on_progress=tell,
            )  # fmt: skip
            status, notes, orders = done.status, done.notes, [order_row(order) for order in done.orders]
        else:
            status, notes, orders = "NO_ACTION", decided.reasons, []
        kept = record(desk.book, decided.key) | {"outcome": status, "notes_of_orders": list(notes)}
        path = trading.write(context.partition_key, f"run_{name}.json", kept)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(hash_json([status, orders])),
        metadata={
            "dagster/row_count": len(orders),
            "status": status,
            "decision": decided.key.id,
            "notes": dg.MetadataValue.md("\n".join(f"- {note}" for note in notes) or "none"),
            "orders": dg.MetadataValue.md(rows_table(orders)),
            "path": dg.MetadataValue.path(path),
        },
    )


def follow_deployments(project: "Project", instance: dg.DagsterInstance, *more: str) -> None:
    """Bring the partitions up to date with the files; `more` are ids of books that are traded by hand."""
    from ledger_pipeline.trading.deployment.deployment import deployment_names

    wanted = [*deployment_names(project), *more]
    missing = [name for name in dict.fromkeys(wanted) if not instance.has_dynamic_partition(DEPLOYMENTS, name)]
    if missing:
        instance.add_dynamic_partitions(DEPLOYMENTS, missing)


@dg.sensor(
    name="deployments_follow_files",
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=30,
    description="Keeps the deployment partitions and their versions equal to the files under strategies/.",
)
def deployments_follow_files(context: dg.SensorEvaluationContext, project: ProjectResource) -> dg.SensorResult:
    """Add partitions, and materialise the deployments that changed."""
    import json

    from ledger_pipeline.errors import LedgerPipelineError
    from ledger_pipeline.trading.deployment.deployment import deployment_names, describe

    known: dict[str, str] = json.loads(context.cursor or "{}")
    names = deployment_names(project.project)
    new = [name for name in names if not context.instance.has_dynamic_partition(DEPLOYMENTS, name)]
    changed = []
    for name in names:
        try:
            told = describe(project.project, name)
        except LedgerPipelineError as error:
            context.log.error(f"deployment {name}: {error}")
            continue
        if known.get(name) != told["hash"]:
            known[name] = told["hash"]
            metadata = {"what": told["what"], "told": dg.MetadataValue.json(told)}
            changed += written("deployment", name, told["hash"], metadata)
    return dg.SensorResult(
        asset_events=changed,
        cursor=json.dumps(known, sort_keys=True),
        dynamic_partitions_requests=[deployments.build_add_request(new)] if new else [],
        skip_reason=None if changed or new else dg.SkipReason("the partitions are equal to the files"),
    )


@dg.definitions
def defs() -> dg.Definitions:
    """The external asset; everything else is found by itself."""
    return dg.Definitions(
        assets=[deployment, dca_plan, dca_orders, live_snapshot, strategy_decision, strategy_orders],
        sensors=[deployments_follow_files],
    )
