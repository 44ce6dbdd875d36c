"""data fetch | simulate: prices of a broker, or of a market that never was, as files and a sealed snapshot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ledger_pipeline.cli.output import ErrorHandlingGroup, emit, json_option
from ledger_pipeline.core.errors import InputError, NotFoundError, RefusedError
from ledger_pipeline.core.identity import check_id
from ledger_pipeline.project import Project

if TYPE_CHECKING:
    import pandas as pd


@click.group(cls=ErrorHandlingGroup)
def data() -> None:
    """Get prices to research on."""


@data.command()
@click.option("--id", "snapshot_id", required=True, help="The name of the snapshot, and of the folder in sources/.")
@click.option("--symbols", required=True, help="Such as VTI,VXUS,BND.")
@click.option("--start", required=True, metavar="DATE", help="The first session.")
@click.option("--end", required=True, metavar="DATE", help="The last session; it must be over.")
@click.option(
    "--source",
    type=click.Choice(["alpaca", "exchange"]),
    default="alpaca",
    show_default=True,
    help="Alpaca with the paper keys of the environment, or the local exchange.",
)
@click.option("--feed", type=click.Choice(["sip", "iex"]), default="sip", show_default=True, help="Of Alpaca.")
@click.option("--exchange-url", metavar="URL", help="Where the local exchange is.")
@json_option
@click.pass_obj
def fetch(
    project: Project,
    snapshot_id: str,
    symbols: str,
    start: str,
    end: str,
    source: str,
    feed: str,
    exchange_url: str | None,
    as_json: bool,
) -> None:
    """Fetch raw daily bars, splits and dividends, keep them in sources/ID/, and seal them. Keys are those of the
    broker, in the environment, and go nowhere else.

    Example: ledger-pipeline data fetch --id etfs --symbols VTI,BND --start 2016-01-04 --end 2025-12-31
    """
    from ledger_pipeline.trading.connect import connect

    names = tuple(dict.fromkeys(name.strip() for name in symbols.split(",") if name.strip()))
    first, last = _date("--start", start), _date("--end", end)
    broker = connect("paper" if source == "alpaca" else "exchange", url=exchange_url, feed=feed)
    try:
        bars, record = broker.bars(names, first, last, feed=feed, calendar="XNYS", now=broker.clock().now)
        actions = broker.corporate_actions(names, first, last)
    finally:
        broker.close()
    absent = sorted(record.get("absent", ()))
    if absent:
        raise NotFoundError(f"there are no bars of {', '.join(absent)} from {first} to {last}; leave them out.")
    note = f"{source}, feed {record.get('feed', feed)}, raw prices, fetched {record.get('fetched_at', '')}"
    _keep(project, snapshot_id, {"bars": bars, "actions": actions}, note, as_json)


@data.command()
@click.option("--id", "snapshot_id", default="simulated", show_default=True, help="The name of the snapshot.")
@click.option("--symbols", type=click.IntRange(1, 2000), default=8, show_default=True, help="How many instruments.")
@click.option("--sessions", type=click.IntRange(20, 10_000), default=2520, show_default=True, help="How many each.")
@click.option("--seed", type=click.IntRange(0), default=7, show_default=True, help="Another seed, another market.")
@click.option("--start", default="2010-01-04", show_default=True, metavar="DATE", help="The first session.")
@click.option("--dense", is_flag=True, help="Without late listings, delistings and halts.")
@json_option
@click.pass_obj
def simulate(
    project: Project, snapshot_id: str, symbols: int, sessions: int, seed: int, start: str, dense: bool, as_json: bool
) -> None:
    """Make a market that never was, with splits, dividends, late listings, delistings and halts, and seal it: for a
    first try, and for strategies that must find nothing in it.

    Example: ledger-pipeline data simulate --id noise --symbols 20 --seed 3
    """
    from ledger_pipeline.market.simulated import simulate_market

    _date("--start", start)
    market = simulate_market(symbols, sessions, seed=seed, start=start, ragged=not dense)
    note = f"simulated: {symbols} symbols, {sessions} sessions from {start}, seed {seed}{', dense' if dense else ''}"
    frames = {"bars": market.bars, "instruments": market.instruments, "actions": market.actions}
    _keep(project, snapshot_id, frames, note, as_json)


def _date(option: str, text: str) -> Any:
    from datetime import date

    try:
        return date.fromisoformat(text)
    except ValueError:
        raise InputError(f"{option} is {text!r}; write a date such as 2026-01-05.") from None


def _keep(project: Project, snapshot_id: str, frames: dict[str, pd.DataFrame], note: str, as_json: bool) -> None:
    """Write the tables to sources/<id>/, import and seal them, and say what is sealed."""
    from ledger_pipeline.cli.lineage import report
    from ledger_pipeline.files import location, write_file
    from ledger_pipeline.market.importing import import_and_seal
    from ledger_pipeline.market.raw import RawSource

    check_id("snapshot", snapshot_id)
    folder = project.root / "sources" / snapshot_id
    written = {name: folder / f"{name}.csv" for name in frames}
    texts = {name: _csv(frame).encode() for name, frame in frames.items()}
    for name, path in written.items():
        if path.exists() and path.read_bytes() != texts[name]:
            raise RefusedError(f"{path} is there with other prices; give another --id, or move it away.")
    for name, path in written.items():
        write_file(location(path), texts[name])
    paths: dict[str, str | None] = {name: str(path) for name, path in written.items()}
    source = RawSource(str(written["bars"]), paths.get("instruments"), paths.get("actions"), assume_utc=True, note=note)
    sealed = import_and_seal(snapshot_id, source, root=project.data, snapshots=project.snapshots).snapshot
    report(project, "import", snapshot_id=snapshot_id)
    manifest = sealed.manifest

    def render() -> None:
        symbols = manifest["symbols"]
        shown = ", ".join(symbols[:8]) + (f" and {len(symbols) - 8} more" if len(symbols) > 8 else "")
        rows, first, last = manifest["rows"], manifest["first"][:10], manifest["last"][:10]
        click.echo(
            f"snapshot {snapshot_id}: {rows['bars']:,} bars of {shown}, {first} to {last}, {rows['actions']} actions"
        )
        click.echo(f"raw files: {folder}")

    emit(manifest | {"sources": str(folder)}, as_json, render)


def _csv(frame: pd.DataFrame) -> str:
    """A table as text: days as dates, numbers as they are."""
    days = {name: frame[name].dt.strftime("%Y-%m-%d") for name in ("ts", "ex_date") if name in frame}
    return frame.assign(**days).to_csv(index=False)
