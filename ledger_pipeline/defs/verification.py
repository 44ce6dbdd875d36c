"""record_heads: the last commit of every book, kept elsewhere, beside checks that read every byte of every record."""

import os

import dagster as dg

from ledger_pipeline.defs.resources import ProjectResource
from ledger_pipeline.defs.tables import rows_table
from ledger_pipeline.defs.versions import code_version

HEADS_TO = "LEDGER_PIPELINE_HEADS_TO"
KINDS = ("snapshots", "raw", "runs", "sweeps", "walk-forwards", "trials", "books", "deployments", "files")


def check_name(kind: str) -> str:
    """The name of the check of a kind of record."""
    return f"{kind.replace('-', '_')}_as_written"


@dg.asset(
    deps=["sealed_snapshot", "metrics", "promoted_run", "live_ledger", "deployed_strategy"],
    group_name="audit",
    kinds={"json"},
    owners=["team:audit"],
    tags={"layer": "derived"},
    code_version=code_version("audit"),
    check_specs=[
        dg.AssetCheckSpec(
            check_name(kind), asset="record_heads", description=f"Every byte of {kind} is as it was written."
        )
        for kind in KINDS
    ],
)
def record_heads(context: dg.AssetExecutionContext, project: ProjectResource) -> dg.MaterializeResult:
    """The last commit of every book, sent to LEDGER_PIPELINE_HEADS_TO where that is set, and every byte read again."""
    from dataclasses import asdict

    from ledger_pipeline.audit.heads import heads, send
    from ledger_pipeline.audit.verification import verify_project
    from ledger_pipeline.core.identity import hash_json

    verified = verify_project(project.project, KINDS, tell=lambda kind: context.log.info(f"verifying {kind}"))
    sound = {one.kind for one in verified if not one.findings}
    present = heads(project.project) if "books" in sound else []
    rows = [asdict(head) for head in present]
    to = os.environ.get(HEADS_TO)
    if to and present:
        send(present, to)
    results = []
    for one in verified:
        wrong = [f"{finding.path}: {finding.problem}" for finding in one.findings]
        results.append(
            dg.AssetCheckResult(
                check_name=check_name(one.kind),
                passed=not wrong,
                description="; ".join(wrong[:5]) or f"{one.records:,} records are as they were written",
                metadata={
                    "records": one.records,
                    "seconds": one.seconds,
                    "findings": dg.MetadataValue.json(wrong[:200]),
                },
            )
        )
    return dg.MaterializeResult(
        data_version=dg.DataVersion(hash_json([[row["book"], row["seq"], row["hash"]] for row in rows])),
        metadata={
            "heads": dg.MetadataValue.md(rows_table(rows) if rows else "no book"),
            "records": sum(one.records for one in verified),
            "findings": sum(len(one.findings) for one in verified),
            "sent": bool(to and rows),
        },
        check_results=results,
    )


verify_job = dg.define_asset_job(
    "verify",
    dg.AssetSelection.assets("record_heads"),
    description=f"Every byte of every record. Sends the heads of all books to {HEADS_TO}, where that is set.",
)
verify_nightly = dg.ScheduleDefinition(
    name="verify_nightly",
    job=verify_job,
    cron_schedule="30 3 * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.STOPPED,
    description="Every byte of every record, at night, and the heads of all books kept elsewhere.",
)
