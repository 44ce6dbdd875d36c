"""Side by side with peers: the same work, on the same machine, in one go; no table unless all agree on the answer.

Each measurement is a process of its own (`measure.py`) in the engine's own environment, pinned to one core, one thread
for every library. Rounds go through all engines in turn (A B C, A B C), so that a machine that slows down hits all
alike. CPU seconds are the figure to compare: unlike wall time they hardly depend on what else the machine does.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workloads import WORKLOADS

HERE = Path(__file__).resolve().parent
ENVIRONMENTS, RESULTS = HERE / ".envs", HERE / "results"
OUR_PEER = "ledger_pipeline"
OURS = ("ours-compiled", "ours-loop", "ours-vector")
ONE_THREAD = {
    f"{library}_NUM_THREADS": "1"
    for library in ("OMP", "OPENBLAS", "MKL", "BLIS", "NUMBA", "RAYON", "ARROW", "NUMEXPR")
} | {"ARROW_IO_THREADS": "1", "POLARS_MAX_THREADS": "1", "VECLIB_MAXIMUM_THREADS": "1"}


@dataclass(frozen=True)
class Entry:
    """An engine: its peer file, which compiles at first use, and the workloads that take it too long.

    once: workloads measured once, whatever --repeats says. left_out: workloads measured (once) only with --all.
    equity: whether it can express ten shares at all, so that its equity can be compared.
    """

    name: str
    peer: str
    compiles: bool = False
    once: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    equity: bool = True


ENGINES = {
    entry.name: entry
    for entry in (
        Entry("ours-loop", OUR_PEER, compiles=True),
        Entry("ours-compiled", OUR_PEER, compiles=True),
        Entry("ours-vector", OUR_PEER, compiles=True),
        Entry("vectorbt-numba", "vectorbt", compiles=True),
        Entry("vectorbt-rust", "vectorbt", compiles=True),
        Entry("raptorbt", "raptorbt", equity=False),
        Entry("bt", "bt"),
        Entry("backtesting", "backtesting", once=("W3",)),
        Entry("backtrader", "backtrader", once=("W2",), left_out=("W3",)),
        Entry("nautilus", "nautilus", once=("W2",), left_out=("W3",)),
    )
}


class BenchmarkError(Exception):
    """A measurement that cannot be had: no environment, a crash, a timeout. The message says which engine and why."""


# Environments ------------------------------------------------------------


def interpreter(peer: str, python: str) -> Path:
    """Return the Python of a peer's environment, made anew when it is missing or its requirements have changed."""
    if peer == OUR_PEER:
        own = HERE.parent / ".venv" / "bin" / "python"
        return own if own.exists() else Path(sys.executable)
    home, requirements = ENVIRONMENTS / peer, HERE / "peers" / f"{peer}.txt"
    stamp = home / "installed.txt"
    if not stamp.exists() or stamp.read_text() != requirements.read_text():
        say(f"making the environment of {peer} (once) ...")
        shutil.rmtree(home, ignore_errors=True)
        checked([python, "-m", "venv", str(home)], f"the environment of {peer} could not be made")
        pip = [str(home / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check"]
        checked([*pip, "-r", str(requirements)], f"the packages of {peer} could not be installed")
        stamp.write_text(requirements.read_text())
    return home / "bin" / "python"


def checked(command: list[str], failure: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        raise BenchmarkError(f"{failure}: {error}") from error
    if done.returncode:
        raise BenchmarkError(f"{failure}: {last_line(done.stderr)}")


def last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no message"


# Measurements ------------------------------------------------------------


def measured(entry: Entry, workload: str, python: Path, work: Path, core: int, timeout: float) -> dict[str, Any]:
    """Run `measure.py` for one engine and workload in a fresh process and return its JSON line."""
    command = [str(python), str(HERE / "measure.py"), entry.peer, entry.name, workload, "--core", str(core)]
    command += ["--data", str(work / f"{workload}.npz"), "--scratch", str(work / entry.peer)]
    (work / entry.peer).mkdir(exist_ok=True)
    environment = {**os.environ, **ONE_THREAD, "PYTHONHASHSEED": "0", "MPLBACKEND": "Agg"}
    # A session of its own, so that a timeout also ends whatever the engine started.
    process = subprocess.Popen(
        command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    try:
        out, errors = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        raise BenchmarkError(f"{entry.name} on {workload}: no answer within {timeout:g} s") from None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if process.returncode:
        raise BenchmarkError(f"{entry.name} on {workload}: {last_line(errors)}")
    return json.loads(last_line(out))


def disagreement(entry: Entry, workload: str, report: dict[str, Any]) -> str | None:
    """Return a sentence when an answer differs from the reference (equity to a cent, fills exactly), else None."""
    expected = WORKLOADS[workload]
    differences = []
    if report["fills"] != expected.fills:
        differences.append(f"{report['fills']:,} fills instead of {expected.fills:,}")
    if entry.equity and (report["equity"] is None or not abs(report["equity"] - expected.equity) < 0.005):
        got = "none" if report["equity"] is None else f"{report['equity']:,.4f}"
        differences.append(f"final equity {got} instead of {expected.equity:,.2f}")
    return f"{entry.name} on {workload}: {' and '.join(differences)}" if differences else None


Step = tuple[str, str]  # engine, workload
Reports = dict[Step, list[dict[str, Any]]]


def plan(engines: list[str], workloads: list[str], repeats: int, all_of_it: bool) -> tuple[list[Step], list[str]]:
    """Return the measurements in order, as (engine, workload), and a sentence for each one that is left out."""
    left_out = [
        f"{name} on {workload} is left out because it takes minutes (--all measures it)"
        for workload in workloads
        for name in engines
        if workload in ENGINES[name].left_out and not all_of_it
    ]
    steps = []
    for workload in workloads:
        for turn in range(repeats):
            for name in engines:
                entry = ENGINES[name]
                slow = workload in entry.left_out
                if (slow and not all_of_it) or (turn and (slow or workload in entry.once)):
                    continue
                steps.append((name, workload))
    return steps, left_out


def collect(
    steps: list[Step], pythons: dict[str, Path], work: Path, core: int, timeout: float
) -> tuple[Reports, list[str]]:
    """Carry out the plan; return the reports of each engine and workload, and the failures, one sentence each.

    An engine that failed on a workload is not tried on it again.
    """
    reports: Reports = {}
    failures: dict[Step, str] = {}
    for number, (name, workload) in enumerate(steps, 1):
        if (name, workload) in failures:
            continue
        say(f"[{number}/{len(steps)}] {workload} {name}")
        try:
            report = measured(ENGINES[name], workload, pythons[ENGINES[name].peer], work, core, timeout)
            reports.setdefault((name, workload), []).append(report)
        except BenchmarkError as error:
            failures[name, workload] = str(error)
            say(f"  {error}")
    return reports, list(failures.values())


def summary(reports: Reports) -> list[dict[str, Any]]:
    """Return one row an engine and workload: medians over processes, bars per CPU second, ratio to ours."""
    rows = []
    for (name, workload), measurements in reports.items():
        middle = {
            key: statistics.median(m[key] for m in measurements)
            for key in ("cpu_s", "wall_s", "setup_s", "cold_s", "peak_mb")
        }
        rate = WORKLOADS[workload].rows / middle["cpu_s"]
        rows.append({"workload": workload, "engine": name, "bars_per_cpu_s": rate, **middle, "n": len(measurements)})
        rows[-1] |= {"equity": measurements[0]["equity"], "fills": measurements[0]["fills"]}
    rates = {(row["workload"], row["engine"]): row["bars_per_cpu_s"] for row in rows}
    for row in rows:
        for ours in OURS:
            rate = rates.get((row["workload"], ours))
            row[f"{ours}_times_as_fast"] = rate and rate / row["bars_per_cpu_s"]
    return sorted(rows, key=lambda row: (row["workload"], -row["bars_per_cpu_s"]))


# Output ------------------------------------------------------------------

HEADINGS = (
    "work",
    "engine",
    "bars/CPU s",
    "ours-compiled is",
    "ours-loop is",
    "ours-vector is",
    "CPU s",
    "wall s",
    "cold CPU s",
)
HEADINGS += ("peak MB", "equity", "fills", "n")


LEGEND = """
bars/CPU s: instruments x bars / CPU seconds of the timed section, warm; cold: the first run of a process.
ours-... is: how many times as fast ours is as the row's engine. Medians of n processes.
peak MB: resident memory of the whole process, 10^6 bytes.
In every row the final equity equals the reference to the cent, and the fills exactly; raptorbt cannot hold a number
of shares, so of it only the fills are compared."""


def cells(row: dict[str, Any]) -> list[str]:
    ratios = [row[f"{ours}_times_as_fast"] for ours in OURS]
    return [
        row["workload"],
        row["engine"],
        f"{row['bars_per_cpu_s']:,.0f}",
        *("-" if ratio is None else f"{ratio:.3g} x" for ratio in ratios),
        *(f"{row[key]:.4g}" for key in ("cpu_s", "wall_s", "cold_s")),
        f"{row['peak_mb']:.0f}",
        "not comparable" if row["equity"] is None else f"{row['equity']:,.2f}",
        f"{row['fills']:,}",
        str(row["n"]),
    ]


def table(rows: list[dict[str, Any]], markdown: bool) -> str:
    """Return the rows as text with aligned columns, or as a Markdown table."""
    lines = [list(HEADINGS), *map(cells, rows)]
    if markdown:
        lines.insert(1, ["---"] * 2 + ["---:"] * (len(HEADINGS) - 2))
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    row = "  ".join(f"{{:{'<' if i < 2 else '>'}{width}}}" for i, width in enumerate(widths))
    aligned = [row.format(*line) for line in lines]
    return "\n".join([aligned[0], "-" * len(aligned[0]), *aligned[1:]])


def machine() -> dict[str, Any]:
    """Return what the figures depend on: processor, kernel, Python, load."""
    models = [line.split(":")[1].strip() for line in lines_of("/proc/cpuinfo") if line.startswith("model name")]
    return {
        "processor": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "load": os.getloadavg(),
    }


def lines_of(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []


def say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""examples:
  python benchmarks/run.py                                      all engines on W1, W2, W3, three rounds
  python benchmarks/run.py --workloads W2 --repeats 5           one size, more rounds
  python benchmarks/run.py --engines ours-loop,ours-vector,bt   some engines
  python benchmarks/run.py --all --timeout 900                  with those that take minutes on W3
  python benchmarks/run.py --prepare                            only make the environments

exit codes: 0 all agree
            1 an engine disagrees with the reference (then no table is printed), or failed (then its row is missing)
            2 bad option""",
    )
    parser.add_argument("--engines", type=names_of(ENGINES), default=list(ENGINES), help=f"of {', '.join(ENGINES)}")
    workloads = list(WORKLOADS)
    parser.add_argument("--workloads", type=names_of(WORKLOADS), default=workloads, help=f"of {', '.join(workloads)}")
    parser.add_argument("--repeats", type=positive, default=3, help="rounds; slow engines are in the first only (3)")
    parser.add_argument("--timeout", type=positive, default=300, help="seconds for one process (300)")
    parser.add_argument("--all", action="store_true", help="also backtrader and nautilus on W3")
    last_core = max(os.sched_getaffinity(0))
    parser.add_argument("--core", type=int, default=last_core, help="the core to pin to (the last one)")
    parser.add_argument("--python", default="python3.11", help="makes the environments (python3.11)")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    parser.add_argument("--prepare", action="store_true", help="make the environments and stop")
    return parser.parse_args()


def names_of(known):
    def parse(text: str) -> list[str]:
        chosen = list(dict.fromkeys(name.strip() for name in text.split(",")))
        unknown = [name for name in chosen if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"no such name: {', '.join(unknown)}; choose from {', '.join(known)}")
        return chosen

    return parse


def positive(text: str) -> int:
    if not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above zero")
    return int(text)


def main() -> int:
    """Measure, compare with the reference, and print; see the module's docstring and `--help`."""
    options = arguments()
    pythons, failures, engines = {}, [], []
    for name in options.engines:
        peer = ENGINES[name].peer
        try:
            pythons[peer] = pythons.get(peer) or interpreter(peer, options.python)
            engines.append(name)
        except BenchmarkError as error:
            failures.append(f"{name}: {error}")
    if options.prepare or not engines:
        for failure in failures:
            say(f"failed: {failure}")
        return 1 if failures else 0

    RESULTS.mkdir(exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="work-", dir=RESULTS))
    try:
        # The arrays are made by another process: a child's peak memory is never below what its parent held at its
        # start.
        maker = str(interpreter(OUR_PEER, options.python) if OUR_PEER in pythons else next(iter(pythons.values())))
        for workload in {*options.workloads, "W1"}:
            make = [maker, str(HERE / "workloads.py"), workload, str(work / f"{workload}.npz")]
            checked(make, f"the data of {workload} could not be made")
        compiling = [(name, "W1") for name in engines if ENGINES[name].compiles]
        if compiling:
            say("not measured: engines that compile do so once, into their caches on disk")
            collect(compiling, pythons, work, options.core, options.timeout)
            say("measured:")
        steps, left_out = plan(engines, options.workloads, options.repeats, options.all)
        load = os.getloadavg()
        reports, failed = collect(steps, pythons, work, options.core, options.timeout)
    except BenchmarkError as error:
        say(str(error))
        return 1
    finally:
        shutil.rmtree(work, ignore_errors=True)
    failures += failed

    wrong = [
        sentence
        for (name, workload), measurements in reports.items()
        for sentence in {disagreement(ENGINES[name], workload, m) for m in measurements}
        if sentence
    ]
    if wrong:
        say("No table: engines disagree with the reference, so their speeds compare different work.")
        for sentence in wrong:
            say(f"  {sentence}")
        return 1

    rows = summary(reports)
    calibrations = [m["calibration_s"] for measurements in reports.values() for m in measurements]
    if rows:
        print(table(rows, options.markdown))
        print(LEGEND)
        print(f"A fixed loop of plain Python took {min(calibrations):.4f} to {max(calibrations):.4f} CPU s meanwhile.")
    for sentence in left_out:
        print(f"left out: {sentence}")
    for failure in failures:
        say(f"failed: {failure}")
    stored = RESULTS / f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}.json"
    record = {
        "machine": {**machine(), "load": load},
        "summary": rows,
        "left_out": left_out,
        "failures": failures,
        "measurements": {f"{workload} {name}": measurements for (name, workload), measurements in reports.items()},
    }
    stored.write_text(json.dumps(record, indent=1))
    print(f"all measurements: {os.path.relpath(stored)}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
