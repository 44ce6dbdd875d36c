"""exchange serve | advance | price | deposit | fault."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import click

from ledger_pipeline.cli.output import ErrorHandlingGroup, emit, json_option, table
from ledger_pipeline.core.errors import InputError, NotFoundError
from ledger_pipeline.exchange.__main__ import HELP, serve_options
from ledger_pipeline.exchange.behaviours import as_text
from ledger_pipeline.project import Project


@click.group(cls=ErrorHandlingGroup)
def exchange() -> None:
    """A broker on this machine that speaks Alpaca's protocol."""


@exchange.command(help=HELP, epilog="\b\n" + as_text())
@serve_options
@json_option
@click.pass_obj  # type: ignore[arg-type]  # what click hands over is not known to a checker
def serve(project: Project, as_json: bool, **values: Any) -> None:
    """Serve until it is interrupted; see HELP. A snapshot may be named by its id alone."""
    from ledger_pipeline.exchange.server import options_of
    from ledger_pipeline.exchange.server import serve as serve_exchange

    values["state"] = values["state"] or project.data / "exchange"
    snapshot = values["snapshot"]
    if snapshot is not None and not snapshot.exists() and (project.snapshots / snapshot).is_dir():
        values["snapshot"] = project.snapshots / snapshot

    def announce(ready: dict[str, Any]) -> None:
        if as_json:
            click.echo(json.dumps(ready))
        else:
            click.echo(f"exchange at {ready['url']} (stream {ready['stream']}, admin {ready['admin'] or 'off'})")

    serve_exchange(options_of(values), announce)


_where = (
    click.option("--admin", help="URL of the admin API; else that of the exchange whose state is in --state."),
    click.option("--state", type=click.Path(path_type=Path), help="State of a running exchange [data/exchange]."),
)


@exchange.command()
@click.option("--to", "to", help="A time: 2026-01-05T21:00:00Z.")
@click.option("--by", "by", type=float, help="So many seconds.")
@click.option("--until", type=click.Choice(["open", "close"]), help="The next open or close of the market.")
@_where[0]
@_where[1]
@json_option
@click.pass_obj
def advance(
    project: Project,
    to: str | None,
    by: float | None,
    until: str | None,
    admin: str | None,
    state: Path | None,
    as_json: bool,
) -> None:
    """Move the exchange's clock, through every open, close and price on the way.

    Example: ledger-pipeline exchange advance --until close
    """
    given = {name: value for name, value in (("to", to), ("by", by), ("until", until)) if value is not None}
    if len(given) != 1:
        raise InputError("give one of --to, --by and --until.")
    answer = _call(_admin(project, admin, state), "POST", "/admin/clock", given)
    rows = [[name, answer[name]] for name in ("now", "session", "cash", "open_orders")]
    rows += [[f"position {symbol}", quantity] for symbol, quantity in answer["positions"].items()]
    emit(answer, as_json, lambda: table(["", ""], rows))


@exchange.command()
@click.argument("prices", nargs=-1, required=True, metavar="SYMBOL=PRICE...")
@_where[0]
@_where[1]
@json_option
@click.pass_obj
def price(project: Project, prices: tuple[str, ...], admin: str | None, state: Path | None, as_json: bool) -> None:
    """Set last prices, from now on: those of an exchange without a snapshot stand still, and grow stale.

    Example: ledger-pipeline exchange price VTI=251.30 VXUS=60
    """
    url = _admin(project, admin, state)
    pairs = [text.partition("=")[::2] for text in prices]
    rows = [_call(url, "POST", "/admin/prices", {"symbol": symbol, "price": value}) for symbol, value in pairs]
    emit(rows, as_json, lambda: table(["symbol", "price"], [[symbol, value] for symbol, value in pairs]))


@exchange.command()
@click.argument("amount")
@_where[0]
@_where[1]
@json_option
@click.pass_obj
def deposit(project: Project, amount: str, admin: str | None, state: Path | None, as_json: bool) -> None:
    """Pay AMOUNT dollars into the account, as a bank transfer does.

    Example: ledger-pipeline exchange deposit 5000
    """
    answer = _call(_admin(project, admin, state), "POST", "/admin/activities", {"type": "CSD", "amount": amount})
    emit(answer, as_json, lambda: table(["", ""], [[name, str(value)] for name, value in answer.items()]))


@exchange.command()
@click.argument("do", required=False)
@click.option("--verb", default="*", show_default=True, help="Verb of the requests that it happens to.")
@click.option("--path", default=".*", show_default=True, help="Regular expression of their paths, in full.")
@click.option("--nth", default=1, show_default=True, help="The first of them that it happens to.")
@click.option("--times", default=1, show_default=True, help="To how many it happens; 0 for all.")
@click.option("--when", type=click.Choice(["before", "after"]), help="Before or after the effect of the request.")
@click.option("--set", "fields", multiple=True, metavar="NAME=VALUE", help="A field of the fault, such as status=504.")
@click.option("--clear", is_flag=True, help="End all faults.")
@_where[0]
@_where[1]
@json_option
@click.pass_obj
def fault(
    project: Project,
    do: str | None,
    verb: str,
    path: str,
    nth: int,
    times: int,
    when: str | None,
    fields: tuple[str, ...],
    clear: bool,
    admin: str | None,
    state: Path | None,
    as_json: bool,
) -> None:
    """Have something go wrong with requests to the exchange: DO is reply, hang, reset, truncate, length, empty,
    redirect, drip, stale, invisible or fill_first. Without DO the faults are listed.

    Example: ledger-pipeline exchange fault reply --verb POST --path /v2/orders --when after --set status=504
    """
    base = _admin(project, admin, state)
    if clear:
        _call(base, "DELETE", "/admin/faults")
    if do is not None:
        body: dict[str, Any] = {"do": do, "verb": verb, "path": path, "nth": nth, "times": times or None}
        body |= {"when": when} if when else {}
        _call(base, "POST", "/admin/faults", body | dict(_field(each) for each in fields))
    faults = _call(base, "GET", "/admin/faults")
    columns = ["id", "do", "when", "verb", "path", "nth", "times", "seen", "fired"]
    emit(faults, as_json, lambda: table(columns, [[row[name] for name in columns] for row in faults]))


def _field(text: str) -> tuple[str, Any]:
    name, given, value = text.partition("=")
    if not given or not name:
        raise InputError(f"--set {text!r} is no field: write it as status=504.")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _admin(project: Project, admin: str | None, state: Path | None) -> str:
    if admin is not None:
        return admin.rstrip("/")
    file = (state or project.data / "exchange") / "exchange.json"
    try:
        address = json.loads(file.read_text())["admin"]
    except (OSError, ValueError, KeyError):
        raise NotFoundError(f"no exchange was started on {file.parent}: give --state or --admin.") from None
    if address is None:
        raise NotFoundError("the exchange was started without --admin-port: start it again with one.")
    return address


def _call(base: str, verb: str, path: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        request = urllib.request.Request(base + path, data, {"Content-Type": "application/json"}, method=verb)
        with opener.open(request, timeout=60) as answer:
            return json.loads(answer.read())
    except urllib.error.HTTPError as error:
        raise InputError(f"the exchange refused: {json.loads(error.read()).get('message')}.") from None
    except (urllib.error.URLError, ValueError) as error:
        raise NotFoundError(f"no exchange answers at {base} ({getattr(error, 'reason', error)}): start it.") from None
