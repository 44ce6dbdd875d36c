"""From a source to a sealed snapshot in one go, or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from ledger_pipeline.core.errors import InputError
from ledger_pipeline.core.identity import check_id
from ledger_pipeline.files import locked
from ledger_pipeline.market.quality import quality_errors, quality_report, quality_sentence
from ledger_pipeline.market.raw import RawSource, import_raw
from ledger_pipeline.market.snapshot import Snapshot, seal


@dataclass(frozen=True)
class Imported:
    """A snapshot that was sealed, and the quality report of its raw tables."""

    snapshot: Snapshot
    quality: pd.DataFrame = field(repr=False)


def import_and_seal(snapshot_id: str, source: RawSource, *, root: Path, snapshots: Path) -> Imported:
    """Read a source, keep it as raw tables under `root`, check its quality and seal it under `snapshots`.

    Raises InputError for what cannot be read or has errors of quality, NotFoundError for a missing file, RefusedError
    for an id that is sealed with other content; the raw tables are then as they were before.
    """
    check_id("snapshot", snapshot_id)
    with _raw_tables_kept(root, snapshot_id):
        raw = import_raw(snapshot_id, source, root, snapshots=snapshots)
        report = quality_report(raw.bars, raw.instruments, raw.actions)
        if quality_errors(report):
            raise InputError(f"the check data_quality failed: {quality_sentence(report, len(raw.bars))}")
        sealed = seal(
            raw.bars,
            snapshot_id=snapshot_id,
            root=snapshots,
            instruments=raw.instruments,
            actions=raw.actions,
            source=raw.described,
        )
    return Imported(sealed, report)


@contextmanager
def _raw_tables_kept(root: Path, snapshot_id: str) -> Iterator[None]:
    """Put the raw tables of a snapshot back as they were if what follows fails. One import at a time, so that the
    tables of two are not mixed.
    """
    raw = root / "raw" / snapshot_id
    missing = [path for path in (raw.parent, root) if not path.exists()]
    raw.parent.mkdir(parents=True, exist_ok=True)
    before = raw.with_name(f".{snapshot_id}.before")
    with locked(raw.parent):
        if raw.exists():
            shutil.rmtree(before, ignore_errors=True)
            os.rename(raw, before)
        try:
            yield
        except BaseException:
            shutil.rmtree(raw, ignore_errors=True)
            if before.exists():
                os.rename(before, raw)
            for path in missing:
                if path.is_dir() and not any(path.iterdir()):
                    path.rmdir()
            raise
        shutil.rmtree(before, ignore_errors=True)
