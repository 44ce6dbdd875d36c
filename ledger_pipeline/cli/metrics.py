"""metrics: live trading as Prometheus reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ledger_pipeline.cli.output import emit, json_option
from ledger_pipeline.core.errors import InputError
from ledger_pipeline.project import Project

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry


@click.command()
@click.option(
    "--listen", metavar="HOST:PORT", help="Answer GET /metrics there until it is stopped, instead of printing."
)
@click.option("--schedulers", is_flag=True, help="With the daemon, schedules and sensors; takes a second more.")
@json_option
@click.pass_obj
def metrics(project: Project, listen: str | None, schedulers: bool, as_json: bool) -> None:
    """Print the metrics of live trading in the text format of Prometheus: decisions, orders, latency to the first fill,
    breaks, halts, heads, and when each book was reconciled. Nothing is asked of a broker, and nothing of it is an
    amount of money.

    \b
    Examples:
    ledger-pipeline metrics > /var/lib/node_exporter/ledger_pipeline.prom
    ledger-pipeline metrics --listen 127.0.0.1:9464
    """
    from prometheus_client import generate_latest

    from ledger_pipeline.trading.telemetry import registry

    rows = None
    if schedulers:
        from ledger_pipeline.defs.live_launch import schedulers as known

        rows = lambda: known(project)  # noqa: E731
    kept = registry(project, rows)
    if listen is None:
        samples = [
            {"name": sample.name, "labels": sample.labels, "value": sample.value}
            for family in kept.collect()
            for sample in family.samples
        ]
        emit({"samples": samples}, as_json, lambda: click.echo(generate_latest(kept).decode(), nl=False))
        return
    host, _, port = listen.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise InputError(f"--listen is {listen!r}; write it as 127.0.0.1:9464.")
    _serve(kept, host.strip("[]"), int(port))


def _serve(kept: CollectorRegistry, host: str, port: int) -> None:
    from prometheus_client import start_http_server

    try:
        server, thread = start_http_server(port, addr=host, registry=kept)
    except OSError as error:
        raise InputError(f"cannot listen on {host}:{port} ({error.strerror or error}); name another port.") from None
    click.echo(f"metrics at http://{host}:{port}/metrics")
    try:
        thread.join()
    except KeyboardInterrupt:
        server.shutdown()
