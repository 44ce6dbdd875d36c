"""Rebuilds the bundled prices of this folder from the package bokeh_sampledata 2026.1.

Run by hand, in an environment of its own (the product neither imports this file nor depends on that package):

    python -m venv /tmp/demo-prices
    /tmp/demo-prices/bin/pip install --no-deps bokeh_sampledata==2026.1
    /tmp/demo-prices/bin/python sources/demo/build.py

Only the standard library is needed: the prices pass through as text, so no digit is changed by a conversion. The
same package gives the same bytes. README.md tells where the prices come from and why the dividends are exact.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import importlib.util
from decimal import Decimal
from pathlib import Path

SOURCE_SHA256 = "5abadf99b2d394f920120a27de6f0df129859d71d4cfb0bf661bcc99446ab1fd"
SPLITS = {("AAPL", "2000-06-21"): 2, ("AAPL", "2005-02-28"): 2, ("MSFT", "2003-02-18"): 2}
INSTRUMENTS = (
    ("AAPL", "Apple Inc."),
    ("FB", "Facebook Inc. Class A"),
    ("GOOG", "Google Inc. Class A"),
    ("IBM", "International Business Machines Corporation"),
    ("MSFT", "Microsoft Corporation"),
)
# Without an action the factor repeats to 1e-13 (its rounding in the source); the smallest real step is 1.1e-3.
FACTOR_NOISE = 1e-9
# All dividends of these companies are whole cents; the source gives each back to 1e-10 dollars.
CENT_TOLERANCE = 1e-6


def read_source() -> list[dict[str, str]]:
    """The rows of the package's stocks.csv.gz as text, by (symbol, date). Raises ValueError if it is another file."""
    spec = importlib.util.find_spec("bokeh_sampledata")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("bokeh_sampledata is not installed: see the top of this file")
    packed = (Path(spec.submodule_search_locations[0]) / "_data" / "stocks.csv.gz").read_bytes()
    found = hashlib.sha256(packed).hexdigest()
    if found != SOURCE_SHA256:
        raise ValueError(f"stocks.csv.gz has SHA-256 {found}, not {SOURCE_SHA256}: install bokeh_sampledata==2026.1")
    rows = csv.DictReader(gzip.decompress(packed).decode("utf-8").splitlines())
    return sorted(rows, key=lambda row: (row["Ticker"], row["Date"]))


def plain(number: str) -> str:
    """The same decimal number without trailing zeros or an exponent."""
    return f"{Decimal(number).normalize():f}"


def actions(rows: list[dict[str, str]]) -> list[tuple[str, str, str, str]]:
    """Splits (stated above, checked here) and dividends (solved for) as (symbol, ex_date, kind, value).

    The source builds its adjusted close so that the factor f = adj_close / close steps on an ex-date by
    f(t) / f(t-1) = ratio * (1 + dividend / close(t)). Raises ValueError where the prices contradict that.
    """
    found = []
    for before, row in zip(rows, rows[1:], strict=False):
        symbol, date = row["Ticker"], row["Date"]
        if before["Ticker"] != symbol:
            continue
        step = factor(row) / factor(before)
        ratio = SPLITS.get((symbol, date), 1)
        if ratio != 1:
            found.append((symbol, date, "SPLIT", str(ratio)))
        if abs(step / ratio - 1) <= FACTOR_NOISE:
            continue
        exact = float(row["Close"]) * (step / ratio - 1)
        cash = round(exact, 2)
        if cash <= 0 or abs(exact - cash) > CENT_TOLERANCE:
            raise ValueError(f"{symbol} {date}: a factor step of {step} is no known split and no dividend in cents")
        found.append((symbol, date, "DIVIDEND", plain(f"{cash:.2f}")))
    stated = {(symbol, date) for symbol, date, kind, _ in found if kind == "SPLIT"}
    if stated != set(SPLITS):
        raise ValueError(f"no bar on the ex-date of {sorted(set(SPLITS) - stated)}")
    return found


def factor(row: dict[str, str]) -> float:
    """Adjusted over raw close."""
    return float(row["Adj Close"]) / float(row["Close"])


def write(path: Path, header: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """One CSV file with LF line ends."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
    print(f"{path.name}: {len(rows)} rows, {path.stat().st_size} bytes")


def main() -> None:
    """Writes bars.csv, instruments.csv and actions.csv beside this file."""
    folder = Path(__file__).resolve().parent
    rows = read_source()
    write(
        folder / "bars.csv",
        ("symbol", "ts", "open", "high", "low", "close", "volume"),
        [
            (
                row["Ticker"],
                f"{row['Date']}T00:00:00Z",
                *(plain(row[name]) for name in ("Open", "High", "Low", "Close", "Volume")),
            )
            for row in rows
        ],
    )
    write(
        folder / "instruments.csv",
        ("symbol", "name", "currency", "calendar", "asset_class"),
        [(symbol, name, "USD", "XNYS", "EQUITY") for symbol, name in INSTRUMENTS],
    )
    write(
        folder / "actions.csv",
        ("symbol", "ex_date", "kind", "value"),
        [(symbol, f"{date}T00:00:00Z", kind, value) for symbol, date, kind, value in actions(rows)],
    )


if __name__ == "__main__":
    main()
