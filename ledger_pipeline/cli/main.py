"""The command line. Each command does what a function of the Python API or an asset of the graph does."""

from __future__ import annotations

import importlib
import logging
import os
import signal
import sys
import threading
import warnings

import click

from ledger_pipeline import __version__
from ledger_pipeline.cli.output import EXIT_CODES, ErrorHandlingGroup
from ledger_pipeline.project import ROOT_VARIABLE, find_project

_COMMANDS = {
    "new": "ledger_pipeline.cli.new:new",
    "data": "ledger_pipeline.cli.data:data",
    "snapshot": "ledger_pipeline.cli.snapshots:snapshot",
    "experiment": "ledger_pipeline.cli.experiments:experiment",
    "indicators": "ledger_pipeline.cli.indicators:indicators",
    "run": "ledger_pipeline.cli.run:run",
    "runs": "ledger_pipeline.cli.runs:runs",
    "sweep": "ledger_pipeline.cli.sweeps:sweep",
    "walk-forward": "ledger_pipeline.cli.walk_forwards:walk_forward",
    "compare": "ledger_pipeline.cli.compare:compare",
    "report": "ledger_pipeline.cli.report:report",
    "extract": "ledger_pipeline.cli.compare:extract",
    "replay": "ledger_pipeline.cli.compare:replay",
    "explain": "ledger_pipeline.cli.explain:explain",
    "verify": "ledger_pipeline.cli.verify:verify",
    "backup": "ledger_pipeline.cli.backup:backup",
    "restore": "ledger_pipeline.cli.backup:restore",
    "sql": "ledger_pipeline.cli.sql:sql",
    "promote": "ledger_pipeline.cli.deployments:promote",
    "deployment": "ledger_pipeline.cli.deployments:deployment",
    "dca": "ledger_pipeline.cli.dca:dca",
    "attribution": "ledger_pipeline.cli.attribution:attribution",
    "exchange": "ledger_pipeline.cli.exchange:exchange",
    "book": "ledger_pipeline.cli.book:book",
    "reconcile": "ledger_pipeline.cli.live:reconcile",
    "orders": "ledger_pipeline.cli.live:orders",
    "positions": "ledger_pipeline.cli.live:positions",
    "halt": "ledger_pipeline.cli.live:halt",
    "resume": "ledger_pipeline.cli.live:resume",
    "demo": "ledger_pipeline.cli.demo:demo",
    "status": "ledger_pipeline.cli.status:status",
    "metrics": "ledger_pipeline.cli.metrics:metrics",
    "serve": "ledger_pipeline.cli.ui:serve",
    "ui": "ledger_pipeline.cli.ui:ui",
}


class LazyGroup(ErrorHandlingGroup):
    """Imports a command only when it is asked for, so that --help is quick."""

    def list_commands(self, context: click.Context) -> list[str]:
        """The commands, in the order of a first session."""
        return list(_COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """The command of this name."""
        if name not in _COMMANDS:
            return None
        module, attribute = _COMMANDS[name].split(":")
        return getattr(importlib.import_module(module), attribute)


def keep_interrupts() -> None:
    """See to it that one Ctrl-C is enough. Python drops what is raised inside a callback of the garbage collector, and
    a signal may arrive there; when it does, it is sent again a moment later.
    """
    usual = sys.unraisablehook

    def hook(lost: sys.UnraisableHookArgs) -> None:
        if issubclass(lost.exc_type, (Exception, SystemExit, GeneratorExit)):
            return usual(lost)
        again = threading.Timer(0.01, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT))
        again.daemon = True
        return again.start()

    sys.unraisablehook = hook


@click.group(
    cls=LazyGroup, epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(__version__, prog_name="ledger-pipeline")
@click.option(
    "--root", type=click.Path(file_okay=False), help="The project's directory; else found from where you are."
)
@click.pass_context
def main(context: click.Context, root: str | None) -> None:
    """From raw bars to compared, replayable runs.

    \b
    ledger-pipeline demo                                     the whole arc on real prices
    ledger-pipeline new my_strategies                        a project of your own
    ledger-pipeline snapshot import bars.csv --id mine       seal prices of your own
    ledger-pipeline run sma_long_flat_20 --snapshot mine     run an experiment
    ledger-pipeline compare sma_long_flat_20 buy_and_hold    compare
    ledger-pipeline dca plan --policy core                   what a policy would buy now
    ledger-pipeline promote sma_long_flat_20 --by ... --reason ...   trade what was researched
    ledger-pipeline ui                                       look at it all in a browser
    """
    warnings.simplefilter("ignore")
    keep_interrupts()
    logging.getLogger("dagster").setLevel(logging.CRITICAL)
    if context.invoked_subcommand not in ("serve", "ui"):  # a command prints what it logs as a warning
        os.environ.setdefault("LOG_LEVEL", "ERROR")
    project = find_project(root)
    os.environ[ROOT_VARIABLE] = str(project.root)
    context.obj = project


if __name__ == "__main__":
    main()
