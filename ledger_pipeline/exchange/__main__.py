"""`python -m ledger_pipeline.exchange`: the exchange without the rest of the command line, quick to start."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ledger_pipeline.core.errors import LedgerPipelineError
from ledger_pipeline.exchange.behaviours import as_text

DEFAULT_STATE = Path("data") / "exchange"
HELP = """A broker on this machine that speaks Alpaca's protocol: the unmodified alpaca-py clients talk to it.

Trading and data API: the url that is printed when it is ready. Stream: the stream URL. Keys: the environment variables
EXCHANGE_KEY and EXCHANGE_SECRET, else local and local-secret. Its clock stands still until it is advanced.

Example: ledger-pipeline exchange serve --snapshot demo --start 2012-01-05T15:00:00Z --port 8765 --admin-port 8766"""


def serve_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say what an exchange serves."""
    options = (
        click.option("--state", type=click.Path(path_type=Path, file_okay=False),
                     help="Where it keeps its state [data/exchange]; an existing one goes on where it stopped."),
        click.option("--port", default=0, show_default=True, help="Port on 127.0.0.1; 0 takes any."),
        click.option("--admin-port", type=int, help="Port of the admin API (clock, faults); without it there is none."),
        click.option("--snapshot", type=click.Path(path_type=Path), help="Directory of a sealed snapshot with prices."),
        click.option("--quotes", type=click.Path(path_type=Path), help="CSV with prices: symbol, ts, price."),
        click.option("--symbols", help="More symbols, by commas: VTI or VTI=250.10."),
        click.option("--calendar", default="XNYS", show_default=True, help="Exchange calendar, without a snapshot."),
        click.option("--seed", default=0, show_default=True, help="Ids and partial fills follow from it."),
        click.option("--start", help="The time of its clock: 2026-01-05T14:30:00Z; else the first price."),
        click.option("--cash", default="100000", show_default=True, help="Opening cash in dollars."),
        click.option("--multiplier", default="1", show_default=True, help="Buying power per dollar of equity."),
        click.option("--until-stdin-closes", is_flag=True, help="Stop when standard input ends."),
    )  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


@click.command(help=HELP, epilog="\b\nBehaviour: " + as_text().replace("\n\n", "\n"))
@serve_options
def main(**values: Any) -> None:
    """Serve; see HELP."""
    from ledger_pipeline.exchange.server import options_of, serve

    values["state"] = values["state"] or DEFAULT_STATE
    try:
        serve(options_of(values), lambda addresses: click.echo(json.dumps(addresses)))
    except LedgerPipelineError as error:
        click.echo(f"error: {error}", err=True)
        raise SystemExit(error.exit_code) from None


if __name__ == "__main__":
    main()
