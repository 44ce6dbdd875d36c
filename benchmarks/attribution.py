"""Attribution of 100,000 fills, beside beancount's booking of the same.

Seeded trades of five strategies in twenty symbols, whole shares at prices in cents, one a day (of one day beancount
merges lots of one price), about half of them sales that close lots. Ours is `attribute`: from the table of entries to
lots, matches, parts and trips as tables. beancount's is `booking.book`, which finds the lots of each sale. Both are
timed in CPU seconds, the best of a few runs in a process of its own, and must give the same gains to the last digit.
Exit code 1 when they do not, or ours takes a second or more.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from measure import calibration
from run import ONE_THREAD, BenchmarkError, interpreter

HERE = Path(__file__).resolve().parent
FILLS, LIMIT = 100_000, 1.0
START = datetime(1900, 1, 1, tzinfo=UTC)


def trades(count: int) -> list[list]:
    """[day, strategy, symbol, shares (signed), price] of each trade, in order."""
    rng, held, made = random.Random(7), {}, []
    for number in range(count):
        owner = rng.choice("ABCDE"), f"S{rng.randrange(20):02d}"
        shares = rng.randint(1, 20)
        if held.get(owner, 0) and rng.random() < 0.5:
            shares = -min(shares, held[owner])
        held[owner] = held.get(owner, 0) + shares
        made.append([number, *owner, str(shares), str(Decimal(rng.randint(9_000, 11_000)) / 100)])
    return made


def ours(path: Path, repeats: int, method: str) -> dict:
    """Attribute the trades of a file."""
    from ledger_pipeline.attribution.attribute import attribute
    from ledger_pipeline.attribution.entries import TradeEntry, table_of

    table = table_of(
        TradeEntry(
            event_id=f"b-{seq}",
            seq=seq,
            kind="FILLED",
            occurred_at=START + timedelta(days=day),
            account="acc",
            strategy=strategy,
            symbol=symbol,
            side="BUY" if shares[0] != "-" else "SELL",
            quantity=Decimal(shares.lstrip("-")),
            price=Decimal(price),
            fill_id=f"f{seq}",
        )
        for seq, (day, strategy, symbol, shares, price) in enumerate(json.loads(path.read_text()))
    )
    seconds, before = [], calibration()
    for _ in range(repeats):
        started = time.process_time()
        found = attribute(table, lots=method)
        seconds.append(time.process_time() - started)
    return {
        "cpu_s": min(seconds),
        "calibration_s": (before + calibration()) / 2,
        "realised": str(sum(found.matches.column("realised").to_pylist())),
    }


def measured(command: list[object]) -> dict:
    """What a process prints as JSON."""
    environment = {**os.environ, **ONE_THREAD, "PYTHONHASHSEED": "0"}
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environment, timeout=900)
    if done.returncode:
        raise BenchmarkError(f"{' '.join(map(str, command[:3]))} failed: {done.stderr.strip().splitlines()[-1:]}")
    return json.loads(done.stdout)


def main() -> int:
    """Measure both and print them; exit code 1 when they differ or ours is too slow."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fills", type=int, default=FILLS, help="how many (100,000)")
    parser.add_argument("--repeats", type=int, default=5, help="runs of ours in a process; a third of them theirs (5)")
    parser.add_argument("--python", default="python3.11", help="makes beancount's environment (python3.11)")
    parser.add_argument("--ours", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ours:
        print(json.dumps(ours(Path(options.ours[0]), options.repeats, options.ours[1])))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trades.json"
        path.write_text(json.dumps(trades(options.fills)))
        own = interpreter("ledger_pipeline", options.python)
        run = [own, __file__, "--repeats", options.repeats, "--ours", path]
        reports = {f"ours, {method}": measured([*run, method]) for method in ("FIFO", "LIFO", "HIFO")}
        theirs = interpreter("beancount", options.python)
        reports["beancount, FIFO"] = measured(
            [theirs, "-P", HERE / "peers" / "beancount.py", path, max(1, options.repeats // 3)]
        )
    first = reports["ours, FIFO"]
    print(f"{options.fills:,} fills, CPU seconds, best of each")
    for name, report in reports.items():
        print(f"  {name:16} {report['cpu_s']:6.2f} s  {report['cpu_s'] / first['cpu_s']:5.1f} x  {report['realised']}")
    print(f"  a fixed loop of plain Python took {first['calibration_s']:.3f} s: the pace of this core, then")
    faults = []
    if Decimal(first["realised"]) != Decimal(reports["beancount, FIFO"]["realised"]):
        faults.append("the gains are not the same")
    if first["cpu_s"] >= LIMIT:
        faults.append(f"ours took {first['cpu_s']:.2f} s, not under {LIMIT:g}")
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
