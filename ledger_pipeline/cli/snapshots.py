"""snapshot import | list | show | delete | verify."""

from __future__ import annotations

from typing import Any

import click

from ledger_pipeline.cli.output import ErrorHandlingGroup, emit, json_option, table
from ledger_pipeline.core.errors import InputError, RefusedError
from ledger_pipeline.core.identity import check_id
from ledger_pipeline.project import Project


@click.group(cls=ErrorHandlingGroup)
def snapshot() -> None:
    """Seal market data and look at what is sealed."""


@snapshot.command("import")
@click.argument("bars", nargs=-1, required=True)
@click.option("--id", "snapshot_id", required=True, help="The snapshot's name: a-z, 0-9, '-' and '_', at most 63.")
@click.option("--instruments", help="CSV, Parquet or Excel: symbol, name, currency, calendar, asset_class.")
@click.option("--actions", help="CSV, Parquet or Excel: symbol, ex_date, kind (SPLIT, DIVIDEND or DELIST), value.")
@click.option(
    "--calendar", default="XNYS", show_default=True, help="Exchange calendar of instruments that are not listed."
)
@click.option("--assume-utc", is_flag=True, help="Take times without a zone, and plain dates, as UTC.")
@click.option(
    "--map",
    "columns",
    metavar="THEIRS=OURS,...",
    help="Columns under other names, such as Date=ts,Last=close; THEIRS=- leaves one out.",
)
@click.option("--symbol", help="The instrument of files that do not name it.")
@click.option("--tz", help="The zone of times without one, such as America/New_York.")
@click.option("--note", default="", help="Where the data comes from, kept in the manifest.")
@json_option
@click.pass_obj
def import_(
    project: Project,
    bars: tuple[str, ...],
    snapshot_id: str,
    instruments: str | None,
    actions: str | None,
    calendar: str,
    assume_utc: bool,
    columns: str | None,
    symbol: str | None,
    tz: str | None,
    note: str,
    as_json: bool,
) -> None:
    """Read BARS (files or folders of CSV, Parquet or Excel), report on their quality and seal them.

    Columns are symbol, ts, open, high, low, close, volume, or as Yahoo, Stooq, Alpaca and Polygon call them. Dates are
    session dates.

    Example: ledger-pipeline snapshot import bars.csv --id us_2024 --actions actions.csv

    Example: ledger-pipeline snapshot import AAPL.csv MSFT.csv --id two --map Date=ts --tz America/New_York
    """
    check_id("snapshot", snapshot_id)
    from pathlib import Path

    from ledger_pipeline.cli.lineage import report
    from ledger_pipeline.market.importing import import_and_seal
    from ledger_pipeline.market.quality import summary
    from ledger_pipeline.market.raw import RawSource

    def absolute(path: str | None) -> str | None:
        return path if path is None or "://" in path else str(Path(path).absolute())

    imported = import_and_seal(
        snapshot_id,
        RawSource(
            absolute(bars[0]) or "",
            absolute(instruments),
            absolute(actions),
            calendar,
            assume_utc,
            note,
            tuple(str(absolute(path)) for path in bars[1:]),
            _pairs(columns),
            symbol or "",
            tz or "",
        ),
        root=project.data,
        snapshots=project.snapshots,
    )
    report(project, "import", snapshot_id=snapshot_id)
    sealed, quality = imported.snapshot, imported.quality
    counted = summary(quality)

    def render() -> None:
        _render(sealed.manifest)
        if len(counted):
            table(list(counted.columns), counted.values.tolist(), "Data quality (nothing was changed)")

    emit(sealed.manifest | {"quality": quality.astype(str).to_dict("records")}, as_json, render)


def _pairs(columns: str | None) -> dict[str, str]:
    """Date=ts,Close=close as a mapping; InputError for anything else."""
    parts = [part.partition("=") for part in columns.split(",")] if columns else []
    wrong = next((part for part in parts if not (part[0].strip() and part[2].strip())), None)
    if wrong:
        raise InputError(f"--map is written Theirs=ours,..., and {''.join(wrong)!r} is not.")
    return {theirs.strip(): ours.strip() for theirs, _, ours in parts}


@snapshot.command("list")
@json_option
@click.pass_obj
def list_(project: Project, as_json: bool) -> None:
    """List the sealed snapshots. Example: ledger-pipeline snapshot list --json"""
    from ledger_pipeline.files import location
    from ledger_pipeline.market.snapshot import read_manifest, snapshot_ids

    manifests = [read_manifest(location(project.snapshots) / name) for name in snapshot_ids(project.snapshots)]
    rows = [
        [
            m["snapshot_id"],
            m["snapshot_hash"][:16],
            m["rows"]["bars"],
            len(m["symbols"]),
            m["first"][:10],
            m["last"][:10],
            m["sealed_at"],
        ]
        for m in manifests
    ]
    emit(manifests, as_json, lambda: table(["snapshot", "hash", "bars", "symbols", "first", "last", "sealed"], rows))


@snapshot.command()
@click.argument("snapshot_id")
@json_option
@click.pass_obj
def show(project: Project, snapshot_id: str, as_json: bool) -> None:
    """Show a snapshot's manifest and corporate actions. Example: ledger-pipeline snapshot show demo"""
    from ledger_pipeline.market.snapshot import open_snapshot

    opened = open_snapshot(snapshot_id, root=project.snapshots)

    def render() -> None:
        _render(opened.manifest)
        kinds = opened.actions.groupby(["symbol", "kind"], observed=True).size().reset_index(name="count")
        table(["symbol", "action", "count"], kinds.values.tolist(), "Corporate actions")

    emit(opened.manifest, as_json, render)


@snapshot.command()
@click.argument("snapshot_id")
@json_option
@click.pass_obj
def delete(project: Project, snapshot_id: str, as_json: bool) -> None:
    """Delete a snapshot that no run uses, to import it again under the same id, with another calendar say.

    Example: ledger-pipeline snapshot delete mine
    """
    from ledger_pipeline.defs.launch import forget_snapshot
    from ledger_pipeline.files import location
    from ledger_pipeline.market.snapshot import delete as delete_snapshot
    from ledger_pipeline.market.snapshot import read_manifest
    from ledger_pipeline.simulation.store import RunStore

    check_id("snapshot", snapshot_id)
    manifest = read_manifest(location(project.snapshots) / snapshot_id)
    users = RunStore(project.data).ids_over(manifest["snapshot_hash"])
    if users:
        raise RefusedError(
            f"snapshot {snapshot_id!r} is used by {len(users)} run{'s' if len(users) > 1 else ''} ({users[0][:10]}"
            f"{', ...' if len(users) > 1 else ''}), which could not be verified without it; import under another id."
        )
    delete_snapshot(snapshot_id, root=project.snapshots)
    forget_snapshot(project, snapshot_id)
    emit({"deleted": snapshot_id}, as_json, lambda: click.echo(f"{snapshot_id}: deleted; its id may be used again"))


@snapshot.command()
@click.argument("snapshot_id")
@json_option
@click.pass_obj
def verify(project: Project, snapshot_id: str, as_json: bool) -> None:
    """Read every byte again and compare it with the manifest; exit code 5 when anything differs.

    Example: ledger-pipeline snapshot verify demo
    """
    from ledger_pipeline.market.snapshot import verify as verify_snapshot

    sealed = verify_snapshot(snapshot_id, root=project.snapshots)
    emit(
        {"snapshot_id": sealed.id, "snapshot_hash": sealed.hash, "verified": True},
        as_json,
        lambda: click.echo(f"{sealed.id}: files and content are as sealed, {sealed.hash}"),
    )


def _render(manifest: dict[str, Any]) -> None:
    rows = [
        ["snapshot", manifest["snapshot_id"]],
        ["hash", manifest["snapshot_hash"]],
        ["bars", f"{manifest['rows']['bars']:,}"],
        [
            "symbols",
            f"{len(manifest['symbols'])}: {', '.join(manifest['symbols'][:12])}"
            + (", ..." if len(manifest["symbols"]) > 12 else ""),
        ],
        ["period", f"{manifest['first'][:10]} to {manifest['last'][:10]}"],
        ["actions", f"{manifest['rows']['actions']:,}"],
        ["sealed", manifest["sealed_at"]],
        [
            "source",
            manifest["source"].get("note")
            or ", ".join(f["name"] for f in manifest["source"].get("files", {}).values()),
        ],
    ]
    table(["", ""], rows)
