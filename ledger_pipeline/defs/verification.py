"""Checks that read every byte again, on a schedule; the heads of books go elsewhere in the same run."""

import os
from collections.abc import Iterator

import dagster as dg

from ledger_pipeline.defs.resources import ProjectResource

HEADS_TO = "LEDGER_PIPELINE_HEADS_TO"
# The kinds of records, by the asset that they belong to (see audit.verification.KINDS).
CHECKED = {
    "snapshots": "sealed_snapshot",
    "raw": "raw_bars",
    "runs": "run_ledger",
    "sweeps": "sweep",
    "walk-forwards": "walk_forward",
    "trials": "promoted_run",
    "books": "live_ledger",
    "deployments": "deployed_strategy",
    "files": "metrics",
}


def _name(kind: str) -> str:
    return f"{kind.replace('-', '_')}_as_written"


@dg.multi_asset_check(
    name="verify_records",
    can_subset=True,
    specs=[
        dg.AssetCheckSpec(
            _name(kind), asset=asset, description=f"Every byte of {kind} is as it was written; see `verify`."
        )
        for kind, asset in CHECKED.items()
    ],
)
def records_as_written(
    context: dg.AssetCheckExecutionContext, project: ProjectResource
) -> Iterator[dg.AssetCheckResult]:
    """Verify each kind of record."""
    from ledger_pipeline.audit.verification import verify_project

    for kind, asset in CHECKED.items():
        if dg.AssetCheckKey(dg.AssetKey(asset), _name(kind)) not in context.selected_asset_check_keys:
            continue
        (verified,) = verify_project(project.project, [kind])
        wrong = [f"{finding.path}: {finding.problem}" for finding in verified.findings]
        yield dg.AssetCheckResult(
            asset_key=asset,
            check_name=_name(kind),
            passed=not wrong,
            description="; ".join(wrong[:5]) or f"{verified.records:,} records are as they were written",
            metadata={
                "records": verified.records,
                "seconds": verified.seconds,
                "findings": dg.MetadataValue.json(wrong[:200]),
            },
        )
    if os.environ.get(HEADS_TO):
        from ledger_pipeline.audit.heads import heads, send

        send(heads(project.project), os.environ[HEADS_TO])
        context.log.info("the heads of all books were sent")


verify_job = dg.define_asset_job(
    "verify",
    dg.AssetSelection.checks(*(dg.AssetCheckKey(dg.AssetKey(asset), _name(kind)) for kind, asset in CHECKED.items())),
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
