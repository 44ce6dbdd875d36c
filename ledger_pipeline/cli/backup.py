"""backup, restore: a project kept elsewhere, by the hashes of its files."""

from __future__ import annotations

from dataclasses import asdict

import click

from ledger_pipeline.cli.output import emit, json_option
from ledger_pipeline.cli.run import progress_bar
from ledger_pipeline.project import Project


@click.command()
@click.argument("url", metavar="PLACE")
@json_option
@click.pass_obj
def backup(project: Project, url: str, as_json: bool) -> None:
    """Copy strategies, snapshots, results and books to PLACE (a directory or an s3:// URL), each content once, and read
    it all again. What trades may go on meanwhile.

    Example: ledger-pipeline backup /mnt/elsewhere/ledger
    """
    from ledger_pipeline import progress
    from ledger_pipeline.audit.backup import back_up

    with progress_bar(not as_json):
        done = back_up(project, url, progress.report)
    sentence = (
        f"{done.files:,} files, {done.bytes / 1e6:,.1f} MB, of which {done.new_files:,} files and "
        f"{done.new_bytes / 1e6:,.1f} MB were new: {done.name}"
    )
    emit(asdict(done), as_json, lambda: click.echo(sentence))


@click.command()
@click.argument("url", metavar="PLACE")
@click.option("--backup", "name", help="Its name or the beginning of it, such as 2026-01-05; else the newest.")
@json_option
@click.pass_obj
def restore(project: Project, url: str, name: str | None, as_json: bool) -> None:
    """Write a back-up into this project, every byte compared. Nothing is written over: give an empty directory as
    --root, or a project that lost some of its files.

    Example: ledger-pipeline restore /mnt/elsewhere/ledger
    """
    from ledger_pipeline import progress
    from ledger_pipeline.audit.backup import restore as write_back

    with progress_bar(not as_json):
        done = write_back(project, url, name, progress.report)
    sentence = (
        f"{done.new_files:,} of {done.files:,} files written from {done.name}; now `ledger-pipeline verify --all`"
    )
    emit(asdict(done), as_json, lambda: click.echo(sentence))
