"""verify: whether every byte of a project is as it was written."""

from __future__ import annotations

from dataclasses import asdict

import click

from ledger_pipeline.cli.output import emit, json_option, table
from ledger_pipeline.project import Project


@click.command()
@click.argument("kinds", nargs=-1, metavar="[KIND]...")
@click.option("--all", "everything", is_flag=True, help="Every kind; the same as naming none.")
@click.option("--heads", "source", metavar="FILE", help="Heads of books that were kept elsewhere (`book heads --to`).")
@json_option
@click.pass_obj
def verify(project: Project, kinds: tuple[str, ...], everything: bool, source: str | None, as_json: bool) -> None:
    """Verify snapshots, raw tables, runs, sweeps, walk-forwards, the trial register, books, deployments and every file
    under data/ by their hashes; exit code 5 when one is not as it was written, or is no file of this product.

    Example: ledger-pipeline verify --all

    Example: ledger-pipeline verify books --heads /mnt/elsewhere/heads.jsonl
    """
    from ledger_pipeline.audit.verification import verify_project
    from ledger_pipeline.core.errors import IntegrityError

    def tell(kind: str) -> None:
        if not as_json:
            click.echo(f"  {kind}", err=True)

    verified = verify_project(project, () if everything else kinds, heads=source, tell=tell)

    def render() -> None:
        rows = [[one.kind, f"{one.records:,}", len(one.findings), f"{one.seconds:.2f}"] for one in verified]
        table(["kind", "records", "findings", "seconds"], rows)
        for one in verified:
            for finding in one.findings:
                click.echo(f"{one.kind}: {finding.path}: {finding.problem}")

    emit([asdict(one) for one in verified], as_json, render)
    if any(one.findings for one in verified):
        raise SystemExit(IntegrityError.exit_code)
