"""What commands cost: CPU seconds of a process, beside what loading Dagster and pandas alone costs in the same run.

    python benchmarks/commands.py [--repeats 3]

It makes a project of its own from this checkout, runs two experiments on the demo snapshot, and then measures: a second
run of what is stored, a comparison of two stored runs, an import of 71,000 bars, the list of runs, the version. The
least of the repeats counts; the ratio is to `import dagster, pandas`, so that it can be read on any machine.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

from ledger_pipeline import outbox

CHECKOUT = Path(__file__).resolve().parent.parent
ROWS = 71_000
PAIR = ("sma_long_flat_20", "sma_long_flat_200")


def cpu_seconds(command: list[str], folder: Path) -> float:
    """CPU seconds of a process and its children, all libraries on one thread."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed: {done.stderr[-500:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def bars(path: Path) -> None:
    """A CSV file of that many daily bars, from those of the demo."""
    demo = pd.read_parquet(CHECKOUT / "snapshots" / "demo" / "bars.parquet")
    demo["symbol"] = demo["symbol"].astype(str)
    copies = -(-ROWS // len(demo))
    frame = pd.concat([demo.assign(symbol=demo["symbol"] + (str(i) if i else "")) for i in range(copies)]).iloc[:ROWS]
    frame.assign(ts=frame["ts"].dt.strftime("%Y-%m-%d")).to_csv(path, index=False)


def reported(root: Path) -> None:
    """Wait until what a command made is in the lineage, so that it does not disturb the next measurement."""
    while any(outbox.folder(root / ".dagster").glob("*.json")):
        time.sleep(0.1)
    time.sleep(1.0)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    ours = [sys.executable, "-m", "ledger_pipeline.cli.main"]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        root = Path(folder)
        for name in ("strategies", "snapshots"):
            shutil.copytree(CHECKOUT / name, root / name)
        for name in ("dagster.yaml", "workspace.yaml"):
            shutil.copy(CHECKOUT / name, root / name)
        bars(root / "bars.csv")
        for name in PAIR:
            cpu_seconds([*ours, "run", name, "--snapshot", "demo"], root)
        rows: list[tuple[str, float]] = []
        for title, command in (
            ("import dagster, pandas", [sys.executable, "-c", "import dagster, pandas"]),
            ("a second run", [*ours, "run", PAIR[0], "--snapshot", "demo"]),
            ("compare two runs", [*ours, "compare", *PAIR]),
            (f"import {ROWS:,} bars", [*ours, "snapshot", "import", "bars.csv", "--id", "imported-{}"]),
            ("list of runs", [*ours, "runs", "list"]),
            ("version", [*ours, "--version"]),
        ):
            each = [cpu_seconds([part.format(i) for part in command], root) for i in range(repeats)]
            rows.append((title, min(each)))
            reported(root)
        outbox.put(root / ".dagster", outbox.Note("import", {"snapshot_id": "imported-0"}))
        reporter = [sys.executable, "-m", "ledger_pipeline.defs.reporter", str(root)]
        rows.append(("reporting an import, not waited for", cpu_seconds(reporter, root)))
    base = rows[0][1]
    print(f"{'command':<36} {'CPU s':>7} {'ratio':>6}")
    for title, seconds in rows:
        print(f"{title:<36} {seconds:>7.2f} {seconds / base:>6.2f}")


if __name__ == "__main__":
    main()
