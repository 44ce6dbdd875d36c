"""raw_bars -> data_quality -> sealed_snapshot, one partition a snapshot."""

import dagster as dg

from ledger_pipeline.defs.partitions import snapshots
from ledger_pipeline.defs.resources import ProjectResource
from ledger_pipeline.defs.tables import bar_columns, frame_table
from ledger_pipeline.defs.versions import code_version

OWNERS = ["team:research"]


class SourceConfig(dg.Config):
    """Where raw bars are read from: paths of files (`also` names more of them), and for a vendor's form the columns by
    ours, the symbol and the time zone. Left empty, the source of the last import is read again; `kept`: nothing is
    read, and the raw tables are those that are kept.
    """

    bars: str = ""
    instruments: str = ""
    actions: str = ""
    calendar: str = "XNYS"
    assume_utc: bool = False
    note: str = ""
    also: list[str] = []
    columns: dict[str, str] = {}
    symbol: str = ""
    tz: str = ""
    kept: bool = False


@dg.asset(
    partitions_def=snapshots,
    group_name="market",
    kinds={"parquet", "python"},
    owners=OWNERS,
    tags={"layer": "raw"},
    code_version=code_version("market"),
    check_specs=[
        dg.AssetCheckSpec(
            "data_quality", asset="raw_bars", blocking=True, description="Sessions, duplicates, stale bars, jumps."
        )
    ],
)
def raw_bars(context: dg.AssetExecutionContext, config: SourceConfig, project: ProjectResource) -> dg.MaterializeResult:
    """Bars, instruments and corporate actions as they came from the source, right in form and unchecked in value."""
    from ledger_pipeline.market.quality import quality_errors, quality_report, quality_sentence, summary
    from ledger_pipeline.market.raw import RawSource, import_raw, read_raw, read_source
    from ledger_pipeline.market.snapshot import table_hash

    data = project.project.data
    if config.bars:
        source = RawSource(
            config.bars,
            config.instruments or None,
            config.actions or None,
            config.calendar,
            config.assume_utc,
            config.note,
            tuple(config.also),
            dict(config.columns),
            config.symbol,
            config.tz,
        )
    else:
        source = read_source(context.partition_key, data)
    if config.kept:
        raw = read_raw(context.partition_key, data)
    else:
        raw = import_raw(context.partition_key, source, data, snapshots=project.project.snapshots)
    report = quality_report(raw.bars, raw.instruments, raw.actions)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(table_hash("bars", raw.bars)),
        metadata={
            "dagster/row_count": len(raw.bars),
            "dagster/column_schema": bar_columns(),
            "symbols": ", ".join(map(str, raw.bars["symbol"].cat.categories[:50])),
            "first": str(raw.bars["ts"].min()),
            "last": str(raw.bars["ts"].max()),
            "source": dg.MetadataValue.json(raw.described),
            "preview": dg.MetadataValue.md(frame_table(raw.bars.head(5))),
        },
        check_results=[
            dg.AssetCheckResult(
                check_name="data_quality",
                passed=report.empty,
                severity=dg.AssetCheckSeverity.ERROR if quality_errors(report) else dg.AssetCheckSeverity.WARN,
                description=quality_sentence(report, len(raw.bars)),
                metadata={
                    "summary": dg.MetadataValue.md(frame_table(summary(report))),
                    "findings": dg.MetadataValue.md(frame_table(report.head(50))),
                },
            )
        ],
    )


@dg.asset(
    partitions_def=snapshots,
    deps=[raw_bars],
    group_name="market",
    kinds={"parquet"},
    owners=OWNERS,
    tags={"layer": "sealed"},
    code_version=code_version("market"),
    check_specs=[
        dg.AssetCheckSpec(
            "sealed_bytes", asset="sealed_snapshot", blocking=True, description="Files and content match the manifest."
        )
    ],
)
def sealed_snapshot(context: dg.AssetExecutionContext, project: ProjectResource) -> dg.MaterializeResult:
    """The raw tables checked, hashed and sealed under the partition's name; the same content again is harmless, other
    content is refused.
    """
    from ledger_pipeline.market.raw import read_raw
    from ledger_pipeline.market.snapshot import seal, verify

    paths = project.project
    raw = read_raw(context.partition_key, paths.data)
    snapshot = seal(
        raw.bars,
        snapshot_id=context.partition_key,
        root=paths.snapshots,
        instruments=raw.instruments,
        actions=raw.actions,
        source=raw.described,
    )
    verified = verify(snapshot.id, root=paths.snapshots)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(snapshot.hash),
        metadata={
            "snapshot_hash": snapshot.hash,
            "dagster/row_count": snapshot.manifest["rows"]["bars"],
            "path": dg.MetadataValue.path(str(snapshot.path)),
            "manifest": dg.MetadataValue.json(snapshot.manifest),
            "actions": dg.MetadataValue.md(frame_table(verified.actions.head(100))),
        },
        check_results=[
            dg.AssetCheckResult(
                check_name="sealed_bytes",
                passed=verified.hash == snapshot.hash,
                metadata={"snapshot_hash": verified.hash},
            )
        ],
    )
