"""Bad input: one clear sentence on stderr, the exit code of its kind, and nothing changed."""

from __future__ import annotations

import json
import os
import shutil

import pandas as pd
import pytest

from ledger_pipeline.defs.launch import instance
from ledger_pipeline_tests.cli.console import call, refused, told
from ledger_pipeline_tests.projects import EXPERIMENTS, seal, unchanged, write_bars, write_experiment


def put(column: str, row: int, value: str):
    def change(frame: pd.DataFrame) -> pd.DataFrame:
        return frame.assign(**{column: frame[column].where(frame.index != row, value)})

    return change


def naive(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(ts=frame["ts"].str.slice(0, 10) + " 09:30")


FILES = {
    "a missing column": (lambda f: f.drop(columns="close"), ["close"]),
    "an extra column": (lambda f: f.assign(adjusted="1"), ["adjusted"]),
    "text in a price": (put("open", 4, "abc"), ["line 6", "abc"]),
    "an empty price": (put("open", 4, ""), ["open"]),
    "a negative price": (put("low", 4, "-1"), ["AAPL"]),
    "an infinite price": (put("high", 4, "inf"), ["AAPL"]),
    "high below low": (put("high", 4, "0.01"), ["AAPL", "2010-01-08"]),
    "a duplicate bar": (lambda f: pd.concat([f, f.iloc[[3]]]), ["AAPL", "2010-01-07"]),
    "naive times": (naive, ["--assume-utc"]),
    "text for a time": (put("ts", 4, "yesterday"), ["yesterday"]),
    "no rows": (lambda f: f.iloc[:0], ["bars"]),
    "no symbol": (put("symbol", 4, ""), ["symbol"]),
}


@pytest.mark.parametrize("case", FILES)
def test_a_bad_file_of_bars_leaves_nothing(fresh, tmp_path, case) -> None:
    change, words = FILES[case]
    path = write_bars(tmp_path / "bars.csv", change=change)
    with unchanged(fresh):
        sentence = refused(2, "snapshot", "import", str(path), "--id", "mine")
    assert all(word in sentence for word in words), sentence
    assert "Traceback" not in sentence and "dagster" not in sentence.lower()
    with instance(fresh) as records:
        assert records.get_dynamic_partitions("snapshots") == []


def test_a_bad_file_for_a_sealed_id_leaves_its_raw_tables(small, tmp_path) -> None:
    for change, code in ((FILES["a duplicate bar"][0], 2), (lambda f: f.iloc[:-1], 3)):
        path = write_bars(tmp_path / "bars.csv", change=change)
        with unchanged(small):
            refused(code, "snapshot", "import", str(path), "--id", "small")
    with instance(small) as records:
        assert records.get_dynamic_partitions("snapshots") == ["small"]
    assert told("snapshot", "import", str(small.root / "small.csv"), "--id", "small")["snapshot_id"] == "small"


def test_a_snapshot_is_deleted_when_no_run_uses_it(small, tmp_path) -> None:
    with unchanged(small):
        assert "is used by 3 runs" in refused(3, "snapshot", "delete", "small")
        assert "other" in refused(4, "snapshot", "delete", "other")
    first, second = (write_bars(tmp_path / f"{days}.csv", days=days) for days in (50, 40))
    told("snapshot", "import", str(first), "--id", "other")
    refused(3, "snapshot", "import", str(second), "--id", "other")
    assert told("snapshot", "delete", "other") == {"deleted": "other"}
    with instance(small) as records:
        assert records.get_dynamic_partitions("snapshots") == ["small"]
    assert told("snapshot", "import", str(second), "--id", "other")["snapshot_id"] == "other"
    assert told("snapshot", "verify", "small")


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("bars.csv", b"", ["empty"]),
        ("bars.csv", b"\xff\xfe\x00", ["bars.csv"]),
        ("bars.parquet", b"PAR1 no parquet", ["bars.parquet"]),
        ("bars.xlsx", b"PK", ["bars.xlsx is not a readable Excel file"]),
        ("bars.doc", b"PK", [".csv"]),
        ("bars.csv", b"symbol,ts,open,high,low,close,volume\nA,2010-01-04T00:00:00Z,1,1\n", ["bars.csv"]),
    ],
)
def test_a_file_that_is_no_table(fresh, tmp_path, name, data, words) -> None:
    (tmp_path / name).write_bytes(data)
    with unchanged(fresh):
        sentence = refused(2, "snapshot", "import", str(tmp_path / name), "--id", "mine")
    assert all(word in sentence for word in words), sentence
    with instance(fresh) as records:
        assert records.get_dynamic_partitions("snapshots") == []


def test_a_file_that_is_not_there_and_an_unknown_calendar(fresh, tmp_path) -> None:
    path = str(write_bars(tmp_path / "bars.csv"))
    with unchanged(fresh):
        assert "nowhere.csv" in refused(4, "snapshot", "import", "nowhere.csv", "--id", "mine")
        assert "actions.csv" in refused(4, "snapshot", "import", path, "--id", "mine", "--actions", "actions.csv")
        assert "MARS" in refused(2, "snapshot", "import", path, "--id", "mine", "--calendar", "MARS")
        (tmp_path / "actions.csv").write_text("symbol,ex_date,kind,value\nMSFT,2010-01-05T00:00:00Z,SPLIT,2\n")
        actions = str(tmp_path / "actions.csv")
        assert "MSFT" in refused(2, "snapshot", "import", path, "--id", "mine", "--actions", actions)
        assert refused(2, "snapshot", "import", str(tmp_path), "--id", "mine")


@pytest.mark.parametrize("name", ["../mine", "Mine", "x" * 200, "", "a b", "a|b", "-a", "mine\n", "é", ".."])
def test_names_that_may_not_be(small, tmp_path, name) -> None:
    path = str(write_bars(tmp_path / "bars.csv"))
    with unchanged(small):
        for arguments in (
            ["snapshot", "import", path, f"--id={name}"],
            ["snapshot", "show", "--", name],
            ["snapshot", "verify", "--", name],
            ["run", "hold", f"--snapshot={name}"],
            ["run", "--snapshot=small", "--", name],
        ):
            assert "lower-case" in refused(2, *arguments)
        for arguments in (["runs", "show", "--", name], ["replay", "--", name], ["extract", "--", name]):
            assert call(*arguments).exit_code in (2, 4)
        if name:
            assert "lower-case" in refused(2, "compare", "fast", "slow", f"--name={name}")
    with instance(small) as records:
        assert records.get_dynamic_partitions("snapshots") == ["small"]


def test_what_is_not_there(small) -> None:
    with unchanged(small):
        assert "nothere" in refused(4, "snapshot", "show", "nothere")
        assert "nothere" in refused(4, "snapshot", "verify", "nothere")
        assert "hold" in refused(4, "run", "nothere", "--snapshot", "small")
        assert "nothere" in refused(4, "run", "hold", "--snapshot", "nothere")
        for command in ("show", "archive"):
            assert "nothere" in refused(4, "runs", command, "nothere")
        assert "nothere" in refused(4, "runs", "label", "nothere", "x")
        assert "nothere" in refused(4, "runs", "tag", "nothere", "x")
        assert "nothere" in refused(4, "compare", "hold", "nothere")
        assert "nothere" in refused(4, "extract", "nothere")
        assert "nothere" in refused(4, "replay", "nothere")
        assert "nothere" in told("experiment", "check", "nothere", code=4)[0]["error"]
        assert "name at least one" in refused(2, "run")
        assert "more than once" in refused(2, "compare", "hold", "hold")
    with instance(small) as records:
        assert records.get_dynamic_partitions("snapshots") == ["small"]
        assert set(records.get_dynamic_partitions("experiments")) == set(EXPERIMENTS)


def test_an_error_is_an_object_with_json(small) -> None:
    assert told("runs", "show", "nothere", code=4) == {
        "error": f"there is no run 'nothere' under {small.data / 'runs'}; "
        "`ledger-pipeline runs list` shows what there is.",
        "kind": "NotFoundError",
        "exit_code": 4,
    }


BASE = "strategy: {strategy}\nopening: {{cash: 1000}}\ncosts: []\n"
EXPERIMENT_FAULTS = {
    "an unknown key": (2, BASE.format(strategy="buy_and_hold") + "colour: red\n", ["bad.yaml, line 4", "colour"]),
    "no costs": (2, "strategy: buy_and_hold\nopening: {cash: 1}\n", ["bad.yaml", "costs"]),
    "no yaml": (2, "strategy: [\n", ["bad.yaml, line"]),
    "a missing strategy": (4, BASE.format(strategy="nowhere"), ["nowhere"]),
    "a strategy with a syntax error": (2, BASE.format(strategy="syntax"), ["syntax.py:2"]),
    "a tier 3 source": (3, BASE.format(strategy="reader"), ["line 2", "open"]),
    "an unknown indicator": (2, BASE.format(strategy="buy_and_hold") + "features: {x: {indicator: smma}}\n", ["smma"]),
}


@pytest.mark.parametrize("case", EXPERIMENT_FAULTS)
def test_an_experiment_at_fault_is_told_before_anything_runs(small, case) -> None:
    code, text, words = EXPERIMENT_FAULTS[case]
    (small.strategies / "syntax.py").write_text("def strategy(ctx, params):\n    return ctx.flat(\n")
    (small.strategies / "reader.py").write_text("def strategy(ctx, params):\n    open('x')\n    return ctx.flat()\n")
    write_experiment(small.root, "bad", text)
    with unchanged(small):
        sentence = refused(code, "run", "hold", "bad", "--snapshot", "small")
        assert all(word in sentence for word in words), sentence
        [row] = told("experiment", "check", "bad", code=code)
        assert row["ok"] is False and all(word in row["error"] for word in words)
        assert call("experiment", "check").exit_code == code
        assert any("error" in row for row in told("experiment", "list"))


RUN_FAULTS = {
    "a feature that was never defined": ("ctx.feature('AAPL', 'sma')\n    return ctx.flat()", "", "sma"),
    "an unknown symbol in the universe": ("return ctx.flat()", "universe: [AAPL, ZZZ]\n", "ZZZ"),
    "a missing target": ("return {'AAPL': 1}", "", "IBM"),
    "a NaN target": ("return {'AAPL': float('nan'), 'IBM': 0}", "", "AAPL"),
    "an unknown target": ("t = ctx.flat()\n    t['ZZZ'] = 1\n    return t", "", "ZZZ"),
    "nothing returned": ("pass", "", "None"),
}


@pytest.mark.parametrize("case", RUN_FAULTS)
def test_a_run_that_fails_leaves_no_result(small, case) -> None:
    body, more, word = RUN_FAULTS[case]
    (small.strategies / "bad.py").write_text(f"def strategy(ctx, params):\n    {body}\n")
    write_experiment(small.root, "bad", BASE.format(strategy="bad") + more)
    with unchanged(small):
        done = call("run", "bad", "--snapshot", "small", "--json")
        assert done.exit_code == 2
        sentence = json.loads(done.stdout)["error"]
        assert word in sentence and "bad" in sentence and len(sentence.splitlines()) == 1


def test_a_changed_byte_of_a_snapshot_is_named(small) -> None:
    path = small.snapshots / "small" / "bars.parquet"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    os.chmod(path, 0o644)
    path.write_bytes(data)
    with unchanged(small):
        assert "bars.parquet" in refused(5, "snapshot", "verify", "small")
        assert "bars.parquet" in refused(5, "snapshot", "show", "small")
        assert "bars.parquet" in refused(5, "run", "hold", "--snapshot", "small")
        assert "bars.parquet" in refused(5, "replay", "hold")


def test_the_manifest_of_another_snapshot_is_named(small) -> None:
    seal(small, "other", days=30)
    path = small.snapshots / "small" / "manifest.json"
    os.chmod(path, 0o644)
    shutil.copy(small.snapshots / "other" / "manifest.json", path)
    with unchanged(small):
        assert "'other'" in refused(5, "snapshot", "verify", "small")
        assert "'other'" in refused(5, "run", "hold", "--snapshot", "small")


def test_the_machine_refusing_is_one_sentence(small, monkeypatch) -> None:
    def full(*_):
        raise OSError(28, "No space left on device")

    from ledger_pipeline import files

    (small.data / "labels").mkdir()
    monkeypatch.setattr(files, "_write_local", full)
    with unchanged(small):
        assert "No space left" in refused(1, "runs", "label", "hold", "x")
        assert "No space left" in refused(1, "run", "hold", "--snapshot", "small", "--seed", "3")
        assert "No space left" in refused(1, "snapshot", "import", str(small.root / "small.csv"), "--id", "full")
    with instance(small) as records:
        assert records.get_dynamic_partitions("snapshots") == ["small"]


def test_a_port_in_use_is_told(small) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert "--port" in refused(2, "ui", "--port", str(taken.getsockname()[1]))


def test_the_ui_listens_elsewhere_with_a_password_or_a_proxy_only(small, monkeypatch) -> None:
    monkeypatch.delenv("LEDGER_PIPELINE_UI_PASSWORD", raising=False)
    said = refused(2, "ui", "--host", "0.0.0.0")
    assert "LEDGER_PIPELINE_UI_PASSWORD" in said and "--behind-proxy" in said


def test_the_ui_needs_a_project(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("LEDGER_PIPELINE_ROOT", str(tmp_path))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / ".dagster"))
    assert "workspace.yaml" in refused(2, "ui")
    assert "bundled prices" in refused(4, "demo")
    assert list(tmp_path.iterdir()) == []
