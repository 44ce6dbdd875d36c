"""Import and sealing of 1,260,000 daily bars from CSV and Parquet, next to what pandas and pyarrow need for less.

Each measurement is a process of its own, ways in turn (A B C, A B C), on all cores, since importing may use them. Two
wall times: of the call, and of the whole process with its start and imports. `ours` validates, sorts, hashes, and
writes a sealed snapshot durably. The reference points only convert: pandas `read_csv` + `to_parquet`; pyarrow's CSV
reader + Parquet writer + SHA-256 over the columns.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from workloads import WORKLOADS, days, generate, names

HERE = Path(__file__).resolve().parent
SIZE = WORKLOADS["W3"]
LIMIT_SECONDS, LIMIT_MB = 3.0, 600.0


def make_files(folder: Path) -> None:
    """Write `bars.csv` and `bars.parquet`: symbol, ts (UTC), open, high, low, close, volume; sorted."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    stamps = np.tile(days(SIZE.bars).astype("datetime64[us]"), SIZE.instruments)
    columns = {
        "symbol": pa.array(np.repeat(names(SIZE.instruments), SIZE.bars)),
        "ts": pa.array(stamps, pa.timestamp("us", tz="UTC")),
        **{name: pa.array(values.T.ravel()) for name, values in generate(SIZE.instruments, SIZE.bars).items()},
    }
    table = pa.table(columns)
    pa.parquet.write_table(table, folder / "bars.parquet")
    pa.csv.write_csv(table, folder / "bars.csv", pa.csv.WriteOptions(quoting_style="none"))


def ours(source: Path, target: Path) -> dict:
    import ledger_pipeline as lp

    started = time.perf_counter()
    lp.seal(source, snapshot_id="bars", root=target, calendar="24/7")
    return report(started, target / "bars" / "bars.parquet")


def pandas_way(source: Path, target: Path) -> dict:
    import pandas as pd

    started = time.perf_counter()
    bars = pd.read_csv(source, parse_dates=["ts"]) if source.suffix == ".csv" else pd.read_parquet(source)
    bars.to_parquet(target / "bars.parquet")
    return report(started, target / "bars.parquet")


def pyarrow_way(source: Path, target: Path) -> dict:
    import pyarrow.csv
    import pyarrow.parquet as pq

    started = time.perf_counter()
    table = pyarrow.csv.read_csv(source) if source.suffix == ".csv" else pq.read_table(source)
    digest = hashlib.sha256()
    for column in table.columns:
        for buffer in column.combine_chunks().buffers():
            if buffer is not None:
                digest.update(buffer)
    pq.write_table(table, target / "bars.parquet")
    return report(started, target / "bars.parquet")


def report(started: float, written: Path) -> dict:
    """Return wall seconds since `started`, peak memory in MB (10^6 bytes), and how many rows were written."""
    wall = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    import pyarrow.parquet as pq

    return {"call_s": wall, "peak_mb": peak, "rows": pq.read_metadata(written).num_rows}


WAYS = {"ours": ours, "pandas": pandas_way, "pyarrow": pyarrow_way}


def measured(way: str, source: Path, work: Path, timeout: float) -> dict:
    """Run one way in a fresh process and return its report with the process's wall seconds added."""
    target = Path(tempfile.mkdtemp(dir=work))
    command = [sys.executable, str(Path(__file__).resolve()), "--one", way, str(source), str(target)]
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    elapsed = time.perf_counter() - started
    shutil.rmtree(target, ignore_errors=True)
    if done.returncode:
        raise RuntimeError(f"{way} on {source.name}: {(done.stderr.strip() or 'no message').splitlines()[-1]}")
    result = json.loads(done.stdout.strip().splitlines()[-1])
    if result["rows"] != SIZE.rows:
        raise RuntimeError(f"{way} on {source.name}: {result['rows']:,} rows written instead of {SIZE.rows:,}")
    return {**result, "process_s": elapsed}


def main() -> int:
    """Measure all ways; exit code 1 when one failed or ours is over its limits."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: python benchmarks/import_seal.py --repeats 5",
    )
    parser.add_argument("--repeats", type=int, default=3, help="rounds (3)")
    parser.add_argument("--timeout", type=float, default=120, help="seconds for one process (120)")
    parser.add_argument("--ways", default=",".join(WAYS), help=f"of {', '.join(WAYS)}")
    parser.add_argument("--one", nargs=3, metavar=("WAY", "SOURCE", "TARGET"), help=argparse.SUPPRESS)
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.make:
        make_files(options.make)
        return 0
    if options.one:
        way, source, target = options.one
        print(json.dumps(WAYS[way](Path(source), Path(target))))
        return 0

    (HERE / "results").mkdir(exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="work-", dir=HERE / "results"))
    reports: dict[tuple[str, str], list[dict]] = {}
    failures: dict[tuple[str, str], str] = {}
    try:
        # In another process: a child's peak memory is never below what its parent held at its start.
        subprocess.run([sys.executable, str(Path(__file__).resolve()), "--make", str(work)], check=True)
        for _ in range(options.repeats):
            for kind in ("csv", "parquet"):
                for way in (way for way in options.ways.split(",") if (kind, way) not in failures):
                    try:
                        one = measured(way, work / f"bars.{kind}", work, options.timeout)
                        reports.setdefault((kind, way), []).append(one)
                    except (RuntimeError, subprocess.TimeoutExpired) as error:
                        failures[kind, way] = str(error)
        sizes = {kind: (work / f"bars.{kind}").stat().st_size / 1e6 for kind in ("csv", "parquet")}
    finally:
        shutil.rmtree(work, ignore_errors=True)

    files = ", ".join(f"{kind} {size:.0f} MB" for kind, size in sizes.items())
    print(f"{SIZE.rows:,} bars ({files}); medians of {options.repeats} processes; peak MB: whole process, 10^6 bytes")
    print(f"{'from':8} {'way':8} {'call s':>8} {'process s':>10} {'peak MB':>8}")
    over = []
    for (kind, way), measurements in reports.items():
        middle = {
            key: statistics.median(one[key] for one in measurements) for key in ("call_s", "process_s", "peak_mb")
        }
        print(f"{kind:8} {way:8} {middle['call_s']:8.2f} {middle['process_s']:10.2f} {middle['peak_mb']:8.0f}")
        if way == "ours" and (middle["call_s"] >= LIMIT_SECONDS or middle["peak_mb"] >= LIMIT_MB):
            over.append(f"ours from {kind} is over its limits of {LIMIT_SECONDS:g} s and {LIMIT_MB:g} MB")
    for sentence in [*failures.values(), *over]:
        print(sentence, file=sys.stderr)
    return 1 if failures or over else 0


if __name__ == "__main__":
    sys.exit(main())
