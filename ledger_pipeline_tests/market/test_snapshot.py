"""Sealed snapshots: identity of the content, detection of any change, and sealing that is all or nothing."""

from __future__ import annotations

import ctypes
import gc
import json
import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from upath import UPath

from ledger_pipeline.core.errors import InputError, IntegrityError, NotFoundError, RefusedError, StorageError
from ledger_pipeline.core.identity import hash_json
from ledger_pipeline.market.bars import FIELDS
from ledger_pipeline.market.grid import grid
from ledger_pipeline.market.snapshot import open_snapshot, seal, snapshot_ids, verify
from ledger_pipeline_tests.market.frames import HEADER, actions, flat_bars, random_bars, seal_two

FORK = multiprocessing.get_context("fork")
FILES = ["actions.parquet", "bars.parquet", "instruments.parquet", "manifest.json"]
ACTIONS = actions(("A", "2024-01-03", "SPLIT", 2.0), ("B", "2024-01-04", "DIVIDEND", 0.25))


def hash_of(frame: pd.DataFrame | Path, directory: Path, **options) -> str:
    """snapshot_hash, sealed under a new root."""
    root = directory / f"root{len(list(directory.iterdir()))}"
    return seal(frame, snapshot_id="x", root=root, **options).hash


def writable(path: Path) -> Path:
    path.chmod(0o644)
    return path


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 0x01
    writable(path).write_bytes(bytes(data))


@pytest.fixture
def sealed(tmp_path):
    return seal(random_bars(), snapshot_id="demo", root=tmp_path / "s", actions=ACTIONS)


# identity


def test_the_hash_of_a_small_snapshot_is_known(tmp_path):
    """Content-addressed for good: this number may change only together with the format's name."""
    frame = flat_bars({"A": {"2024-01-02": 10.0, "2024-01-03": 10.5}, "B": {"2024-01-03": 20.0}})
    assert hash_of(frame, tmp_path) == "9b489020704b53ca75c4abb844bd8bb21cee5b6b1ed942b8b9c6f9d35b172055"


def test_csv_parquet_and_frame_give_one_hash_whatever_writer_and_order(tmp_path):
    frame = random_bars()
    text = frame.assign(ts=frame["ts"].dt.strftime("%Y-%m-%dT%H:%M:%SZ"))
    (tmp_path / "in").mkdir()
    names = [tmp_path / "in" / name for name in ("a.csv", "b.csv.gz", "c.parquet", "d.parquet", "e.parquet")]
    text.to_csv(names[0], index=False)
    text.iloc[::-1].to_csv(names[1], index=False, lineterminator="\r\n")
    frame.to_parquet(names[2])
    table = pa.Table.from_pandas(frame.sample(frac=1, random_state=1), preserve_index=False)
    pq.write_table(table, names[3], row_group_size=5, compression="gzip", use_dictionary=False, version="1.0")
    frame.assign(symbol=frame["symbol"].astype("category"), ts=frame["ts"].dt.as_unit("ns")).to_parquet(names[4])
    found = {hash_of(source, tmp_path) for source in [frame, *names]}
    assert len(found) == 1


def test_the_hash_knows_nothing_of_id_root_labels_or_time(tmp_path):
    first = seal(random_bars(), snapshot_id="one", root=tmp_path / "a", source={"note": "first"})
    second = seal(random_bars(), snapshot_id="two", root=tmp_path / "b", source={"note": "second"})
    assert first.hash == second.hash and first.id == "one" and second.id == "two"
    assert first.manifest["source"] == {"note": "first"}


@settings(max_examples=10, deadline=None)
@given(st.randoms(use_true_random=False), st.sampled_from(["as_is", "object", "category", "reversed", "ns", "zone"]))
def test_any_order_and_form_of_the_rows_gives_the_same_hash(tmp_path_factory, random, form):
    frame = random_bars("XAZ", 4)
    rows = list(range(len(frame)))
    random.shuffle(rows)
    other = frame.iloc[rows]
    change = {
        "as_is": {},
        "object": {"symbol": other["symbol"].astype(object)},
        "category": {"symbol": other["symbol"].astype("category")},
        "reversed": {"symbol": pd.Categorical(other["symbol"], categories=["Z", "X", "unused", "A"])},
        "ns": {"ts": other["ts"].dt.as_unit("ns")},
        "zone": {"ts": other["ts"].dt.tz_convert("Asia/Kathmandu")},
    }[form]
    base = tmp_path_factory.mktemp("hash")
    assert hash_of(other.assign(**change), base) == hash_of(frame, base)


def test_the_hash_changes_with_any_one_value(tmp_path):
    frame = random_bars("AB", 3)
    found = {hash_of(frame, tmp_path)}
    for row in (0, 5):
        for name in FIELDS:
            changed = frame.copy()
            changed.loc[row, name] = np.nextafter(changed.loc[row, name], changed.loc[row, "close"])
            if name == "close":
                changed.loc[row, name] = np.nextafter(frame.loc[row, name], frame.loc[row, "open"])
            if name == "volume":
                changed.loc[row, name] += 1
            found.add(hash_of(changed, tmp_path))
    later = frame.copy()
    later.loc[2, "ts"] += pd.Timedelta(1, "D")
    renamed = frame.assign(symbol=frame["symbol"].replace("B", "C"))
    swapped = frame.assign(symbol=frame["symbol"].map({"A": "B", "B": "A"}))
    for other in (later, renamed, swapped, frame.iloc[:-1]):
        found.add(hash_of(other, tmp_path))
    for row in (
        [("A", "2024-01-02", "SPLIT", 2.0)],
        [("A", "2024-01-03", "SPLIT", 2.0)],
        [("B", "2024-01-02", "SPLIT", 2.0)],
        [("A", "2024-01-02", "DIVIDEND", 2.0)],
        [("A", "2024-01-02", "SPLIT", 3.0)],
    ):
        found.add(hash_of(frame, tmp_path, actions=actions(*row)))
    instruments = open_snapshot("x", root=tmp_path / "root0").instruments
    for name, value in (("name", "Z"), ("currency", "EUR"), ("calendar", "XLON"), ("asset_class", "ETF")):
        found.add(hash_of(frame, tmp_path, instruments=instruments.assign(**{name: value})))
    assert len(found) == 1 + 2 * len(FIELDS) + 4 + 5 + 4


def test_symbols_of_every_script_keep_their_order_and_hash(tmp_path):
    names = ["z", "Ä", "ａ", "日", "é", "_", "A.B", "BRK/B", "ts", "symbol", "../x", "-", "Z" * 32]
    frame = pd.concat([random_bars("A", 3, seed=i).assign(symbol=name) for i, name in enumerate(names)])
    snapshot = seal(frame, snapshot_id="x", root=tmp_path / "s")
    assert list(snapshot.symbols) == sorted(names) == list(snapshot.instruments["symbol"])
    again = verify("x", root=tmp_path / "s")
    for i, name in enumerate(names):
        bars = again.bars[again.bars["symbol"] == name]
        np.testing.assert_array_equal(bars["close"], random_bars("A", 3, seed=i)["close"])
    assert hash_of(frame.iloc[::-1], tmp_path) == snapshot.hash


# what a snapshot gives back


def test_a_snapshot_gives_back_what_was_sealed(tmp_path):
    frame = random_bars()
    seal(frame.sample(frac=1, random_state=1), snapshot_id="demo", root=tmp_path / "s", actions=ACTIONS.iloc[::-1])
    snapshot = open_snapshot("demo", root=tmp_path / "s")
    assert snapshot.bars["symbol"].dtype == "category" and snapshot.bars["ts"].dtype == "datetime64[us, UTC]"
    pd.testing.assert_frame_equal(snapshot.bars.astype({"symbol": str}), frame.astype({"symbol": str}))
    pd.testing.assert_frame_equal(snapshot.actions, ACTIONS, check_dtype=False)
    assert snapshot.actions["ex_date"].dtype == "datetime64[us, UTC]"
    assert list(snapshot.instruments["symbol"]) == list(snapshot.symbols) == ["A", "B", "C"]
    assert snapshot.calendar == "XNYS" and snapshot.manifest["rows"] == {"bars": 24, "instruments": 3, "actions": 2}
    assert snapshot.manifest["first"] == "2024-01-01T00:00:00+00:00"
    assert snapshot.manifest["last"] == "2024-01-08T00:00:00+00:00"


def test_a_snapshot_without_actions_has_an_empty_table_of_them(tmp_path):
    seal(random_bars(), snapshot_id="demo", root=tmp_path / "s")
    found = open_snapshot("demo", root=tmp_path / "s").actions
    assert list(found.columns) == ["symbol", "ex_date", "kind", "value"] and len(found) == 0


def test_sealed_files_are_read_only_and_nothing_else_is_there(sealed):
    assert sorted(os.listdir(sealed.path)) == FILES
    assert os.listdir(sealed.path.parent) == ["demo"]
    assert all(os.stat(sealed.path / name).st_mode & 0o222 == 0 for name in FILES)


def test_ids_are_listed_sorted_and_only_what_is_sealed(tmp_path):
    root = tmp_path / "s"
    assert snapshot_ids(root) == []
    for name in ("b", "a", "c-1"):
        seal(random_bars(), snapshot_id=name, root=root)
    (root / ".a.0123.tmp").mkdir()
    (root / ".a.0123.tmp" / "manifest.json").write_text("{}")
    (root / "half").mkdir()
    (root / "file").write_text("x")
    assert snapshot_ids(root) == ["a", "b", "c-1"]


def test_a_snapshot_that_is_not_there_names_those_that_are(sealed):
    with pytest.raises(NotFoundError, match=r"no snapshot 'dem' .*sealed there: demo"):
        open_snapshot("dem", root=sealed.path.parent)
    with pytest.raises(NotFoundError, match="sealed there: none"):
        open_snapshot("demo", root=sealed.path.parent / "elsewhere")


@pytest.mark.parametrize("name", ["../demo", "Demo", "a" * 200, "", "démo", "/etc", "a/../demo", ".", "demo\n"])
def test_a_bad_id_is_refused_by_seal_open_and_verify_and_touches_nothing(sealed, name):
    root = sealed.path.parent
    before = sorted(str(path) for path in Path(str(root.parent)).rglob("*"))
    for call in (lambda: seal(random_bars(), snapshot_id=name, root=root), lambda: open_snapshot(name, root=root), lambda: verify(name, root=root)):  # noqa: E501  # fmt: skip
        with pytest.raises(InputError, match="snapshot id .* is not allowed"):
            call()
    assert sorted(str(path) for path in Path(str(root.parent)).rglob("*")) == before


# sealing again


def test_the_same_content_again_is_harmless_and_changes_no_byte(sealed):
    before = {name: (sealed.path / name).read_bytes() for name in FILES}
    root = sealed.path.parent
    again = seal(random_bars().iloc[::-1], snapshot_id="demo", root=root, actions=ACTIONS, source={"a": 1})
    assert again.hash == sealed.hash and again.manifest == sealed.manifest
    assert {name: (sealed.path / name).read_bytes() for name in FILES} == before


def test_other_content_under_a_sealed_id_is_refused_and_changes_no_byte(sealed):
    before = {name: (sealed.path / name).read_bytes() for name in FILES}
    for frame, posted in ((random_bars(seed=9), ACTIONS), (random_bars(), None)):
        with pytest.raises(RefusedError, match=r"'demo' is sealed with other content \(.*choose another id"):
            seal(frame, snapshot_id="demo", root=sealed.path.parent, actions=posted)
    assert {name: (sealed.path / name).read_bytes() for name in FILES} == before
    assert os.listdir(sealed.path.parent) == ["demo"]


def test_sealing_over_a_damaged_snapshot_is_an_integrity_error(sealed):
    flip(Path(sealed.path / "bars.parquet"), 50)
    with pytest.raises(IntegrityError, match="bars.parquet"):
        seal(random_bars(), snapshot_id="demo", root=sealed.path.parent, actions=ACTIONS)


@pytest.mark.parametrize("make", [lambda p: p.mkdir(), lambda p: p.write_text("x"), lambda p: (p.mkdir(), (p / "bars.parquet").write_text("x"))])  # noqa: E501  # fmt: skip
def test_something_else_under_the_name_is_left_alone(tmp_path, make):
    make(tmp_path / "demo")
    before = sorted(str(path) for path in tmp_path.rglob("*"))
    with pytest.raises(StorageError, match="demo exists and is no sealed snapshot; move it away or choose another id"):
        seal(random_bars(), snapshot_id="demo", root=tmp_path)
    assert sorted(str(path) for path in tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"bars": random_bars().assign(high=1.0)}, InputError),
        ({"bars": Path("/nowhere/bars.csv")}, NotFoundError),
        ({"actions": actions(("Z", "2024-01-02", "SPLIT", 2.0))}, InputError),
        ({"instruments": Path("/nowhere/instruments.csv")}, NotFoundError),
        ({"calendar": "NOWHERE"}, InputError),
        ({"source": {"files": {1, 2}}}, InputError),
        ({"source": {"value": float("nan")}}, InputError),
    ],
)
def test_refused_input_leaves_nothing_behind(tmp_path, options, error):
    given_ = {"bars": random_bars()} | options
    with pytest.raises(error):
        seal(given_.pop("bars"), snapshot_id="demo", root=tmp_path / "s", **given_)
    assert list(tmp_path.iterdir()) == []


def test_naive_frames_are_sealed_when_times_are_said_to_be_utc(tmp_path):
    frame = random_bars()
    naive = frame.assign(ts=frame["ts"].dt.tz_localize(None))
    posted = ACTIONS.assign(ex_date=ACTIONS["ex_date"].dt.tz_localize(None))
    assert hash_of(naive, tmp_path, actions=posted, assume_utc=True) == hash_of(frame, tmp_path, actions=ACTIONS)
    with pytest.raises(InputError, match="naive times"):
        hash_of(naive, tmp_path)


# any change is found


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("part", [0.0, 0.3, 0.5, 0.9, 1.0])
def test_one_flipped_bit_is_found_and_the_file_is_named(sealed, name, part):
    path = Path(sealed.path / name)
    flip(path, round((path.stat().st_size - 1) * part) - (name == "manifest.json" and part == 1.0))
    for look in (open_snapshot, verify):
        with pytest.raises(IntegrityError) as caught:
            look("demo", root=sealed.path.parent)
        assert str(path) in str(caught.value) and "restore" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", FILES[:3])
def test_a_change_after_opening_is_found_when_the_table_is_read(sealed, name):
    opened = open_snapshot("demo", root=sealed.path.parent)
    flip(Path(sealed.path / name), 40)
    with pytest.raises(IntegrityError, match=name):
        opened.load(name.removesuffix(".parquet"))
    if name == "bars.parquet":
        with pytest.raises(IntegrityError, match=name):
            grid(opened)


def test_a_change_is_found_although_the_time_stamp_was_put_back(sealed):
    path = Path(sealed.path / "bars.parquet")
    open_snapshot("demo", root=sealed.path.parent)
    before = path.stat()
    time.sleep(0.02)
    data = bytearray(path.read_bytes())
    data[60] ^= 1
    with open(writable(path), "r+b") as file:
        file.write(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(IntegrityError, match="bars.parquet"):
        open_snapshot("demo", root=sealed.path.parent)


@pytest.mark.parametrize("name", FILES[:3])
def test_a_file_that_was_removed_is_named(sealed, name):
    os.unlink(sealed.path / name)
    with pytest.raises(IntegrityError, match=f"{name} is missing; restore"):
        open_snapshot("demo", root=sealed.path.parent)


def test_a_file_of_another_snapshot_is_found(sealed):
    other = seal(random_bars(seed=5), snapshot_id="other", root=sealed.path.parent)
    shutil.copyfile(other.path / "bars.parquet", writable(Path(sealed.path / "bars.parquet")))
    with pytest.raises(IntegrityError, match="demo/bars.parquet is not as it was sealed"):
        open_snapshot("demo", root=sealed.path.parent)


def test_the_manifest_of_another_snapshot_is_found(sealed):
    root = sealed.path.parent
    seal(random_bars(seed=5), snapshot_id="other", root=root)
    shutil.copyfile(root / "other" / "manifest.json", writable(Path(sealed.path / "manifest.json")))
    with pytest.raises(IntegrityError, match="manifest.json is the manifest of snapshot 'other', not of 'demo'"):
        open_snapshot("demo", root=root)
    elsewhere = seal(random_bars(seed=5), snapshot_id="demo", root=root / "elsewhere")
    shutil.copyfile(elsewhere.path / "manifest.json", Path(sealed.path / "manifest.json"))
    with pytest.raises(IntegrityError, match="bars.parquet is not as it was sealed"):
        open_snapshot("demo", root=root)


def edited(manifest: dict, *path: str, value: object) -> dict:
    manifest = json.loads(json.dumps(manifest))
    place = manifest
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return manifest


@pytest.mark.parametrize(
    "change",
    [
        lambda m: edited(m, "symbols", value=["B", "A", "C"]),
        lambda m: edited(m, "symbols", value=["A", "B"]),
        lambda m: edited(m, "source", value={"note": "bought elsewhere"}),
        lambda m: edited(m, "sealed_at", value="1999-01-01T00:00:00+00:00"),
        lambda m: edited(m, "rows", "bars", value=1),
        lambda m: edited(m, "first", value="1999-01-01T00:00:00+00:00"),
        lambda m: edited(m, "snapshot_hash", value="0" * 64),
        lambda m: edited(m, "content", "bars", value="0" * 64),
        lambda m: edited(m, "files", "bars.parquet", "sha256", value="0" * 64),
        lambda m: edited(m, "files", "more.parquet", value={"sha256": "0" * 64}),
        lambda m: edited(m, "format", value="ledger_pipeline.snapshot/0"),
        lambda m: {key: value for key, value in m.items() if key != "snapshot_id"},
        lambda m: {key: value for key, value in m.items() if key != "manifest_hash"},
        lambda m: m | {"more": 1},
        lambda m: [m],
        lambda m: {},
        lambda m: None,
    ],
)
def test_an_edited_manifest_is_refused(sealed, change):
    path = Path(sealed.path / "manifest.json")
    writable(path).write_text(json.dumps(change(sealed.manifest)))
    with pytest.raises(IntegrityError, match="manifest.json is not a manifest of format .*restore"):
        open_snapshot("demo", root=sealed.path.parent)


@pytest.mark.parametrize("text", [b"", b"{", b"\xff\xfe", b"[]", b"1", b'"x"'])
def test_a_manifest_that_is_no_manifest_is_refused(sealed, text):
    writable(Path(sealed.path / "manifest.json")).write_bytes(text)
    with pytest.raises(IntegrityError, match="manifest.json is not a manifest"):
        open_snapshot("demo", root=sealed.path.parent)


def test_a_manifest_that_is_forged_as_a_whole_does_not_pass_for_the_same_content(sealed):
    """Whoever can rewrite all hashes makes another snapshot: its hash is another one, and the columns must match it."""
    table = pq.read_table(str(sealed.path / "bars.parquet"))
    changed = table.set_column(5, "close", pa.compute.multiply(table["close"], 1.0001))
    pq.write_table(changed, writable(Path(sealed.path / "bars.parquet")))
    data = (sealed.path / "bars.parquet").read_bytes()
    forged = edited(sealed.manifest, "files", "bars.parquet", value={"sha256": _sha256(data), "bytes": len(data)})
    forged["manifest_hash"] = hash_json({key: value for key, value in forged.items() if key != "manifest_hash"})
    writable(Path(sealed.path / "manifest.json")).write_text(json.dumps(forged))
    opened = open_snapshot("demo", root=sealed.path.parent)
    for read in (lambda: opened.bars, lambda: grid(opened), lambda: verify("demo", root=sealed.path.parent)):
        with pytest.raises(IntegrityError, match="states content .* for the bars"):
            read()


def _sha256(data: bytes) -> str:
    import hashlib

    return hashlib.sha256(data).hexdigest()


def _growth_while_opening(root, results):
    def resident() -> int:
        gc.collect()
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

    open_snapshot("s0", root=root)
    before = resident()
    for i in range(1, 16):
        open_snapshot(f"s{i}", root=root)
    results.put(resident() - before)


def test_verification_keeps_no_file_in_memory(tmp_path):
    frame = pd.concat([random_bars("A", 20_000, "1950-01-01", seed=i).assign(symbol=f"S{i}") for i in range(3)])
    first = seal(frame, snapshot_id="s0", root=tmp_path)
    for i in range(1, 16):
        shutil.copytree(first.path, tmp_path / f"s{i}")
        manifest = first.manifest | {"snapshot_id": f"s{i}"}
        manifest["manifest_hash"] = hash_json({key: value for key, value in manifest.items() if key != "manifest_hash"})
        writable(tmp_path / f"s{i}" / "manifest.json").write_text(json.dumps(manifest))
    size = os.path.getsize(first.path / "bars.parquet")
    assert size > 1_000_000
    results = FORK.Queue()
    worker = FORK.Process(target=_growth_while_opening, args=(tmp_path, results))
    worker.start()
    assert results.get(timeout=30) < 5 * size
    worker.join(30)


# processes and disks


def _seal(frame, root, barrier, results):
    barrier.wait()
    try:
        results.put(seal(frame, snapshot_id="race", root=root).hash)
    except Exception as error:
        results.put(f"{type(error).__name__}: {error}")


def race(frames: list[pd.DataFrame], root: Path) -> list[str]:
    barrier, results = FORK.Barrier(len(frames)), FORK.Queue()
    workers = [FORK.Process(target=_seal, args=(frame, root, barrier, results)) for frame in frames]
    for worker in workers:
        worker.start()
    told = [results.get(timeout=30) for _ in workers]
    for worker in workers:
        worker.join(30)
    assert os.listdir(root) == ["race"]
    verify("race", root=root)
    return told


def test_processes_that_seal_the_same_content_at_once_all_succeed(tmp_path):
    for attempt in range(3):
        told = race([random_bars(), random_bars().iloc[::-1], random_bars()], tmp_path / str(attempt))
        assert set(told) == {open_snapshot("race", root=tmp_path / str(attempt)).hash}


def test_of_processes_that_seal_other_content_at_once_exactly_one_wins(tmp_path):
    for attempt in range(4):
        root = tmp_path / str(attempt)
        told = race([random_bars(seed=10 * k) for k in range(3)], root)
        won = open_snapshot("race", root=root).hash
        assert told.count(won) == 1
        assert sum("RefusedError: snapshot id 'race' is sealed with other content" in line for line in told) == 2


def _seal_two_limited(root: Path, told: Path) -> None:
    with open(told, "w") as sys.stdout:
        resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, 150_000))
        seal_two(root)


def assert_storage_error(told: str) -> None:
    message, state = told.splitlines()
    assert message.startswith("could not write ") and message.endswith("; nothing was changed.") and "large" in message
    assert state == "['small'] ['small'] small"


def test_a_file_that_may_not_grow_leaves_nothing_behind(tmp_path):
    worker = FORK.Process(target=_seal_two_limited, args=(tmp_path / "s", tmp_path / "told"))
    worker.start()
    worker.join(60)
    assert worker.exitcode == 0
    assert_storage_error((tmp_path / "told").read_text())
    assert os.listdir(tmp_path / "s") == ["small"]


def _seal_two_on_a_full_disk(root: Path, told: Path) -> None:
    """On a file system of 200 kB in a namespace of its own; where the system forbids one, under a limit."""
    unshare, user, group = ctypes.CDLL(None).unshare, os.geteuid(), os.getegid()
    full = unshare(0x10000000 | 0x00020000) == 0  # CLONE_NEWUSER and CLONE_NEWNS
    if full:
        for name, text in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
            Path(f"/proc/self/{name}").write_text(text)
        mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(root)]
        full = subprocess.run(mount, capture_output=True).returncode == 0
    if not full:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    with open(told, "w") as sys.stdout:
        seal_two(root / "s")
        print("No space left on device" if full else "File too large")


def test_a_full_disk_leaves_nothing_behind(tmp_path):
    (tmp_path / "disk").mkdir()
    worker = FORK.Process(target=_seal_two_on_a_full_disk, args=(tmp_path / "disk", tmp_path / "told"))
    worker.start()
    worker.join(60)
    assert worker.exitcode == 0
    *told, why = (tmp_path / "told").read_text().splitlines()
    assert_storage_error("\n".join(told))
    assert why in told[0]


def _seal_until(root: Path, step: int) -> None:
    count, real = [0], os.fsync

    def fsync(handle: int) -> None:
        real(handle)
        count[0] += 1
        if count[0] == step:
            os.kill(os.getpid(), signal.SIGKILL)

    os.fsync = fsync
    seal(random_bars(), snapshot_id="demo", root=root)


@pytest.mark.parametrize("step", [1, 2, 3, 4, 5])
def test_a_process_that_is_killed_while_sealing_leaves_nothing_that_is_listed(tmp_path, step):
    """Killed after each file and, at last, after the directory was flushed but not yet renamed."""
    root = tmp_path / "s"
    worker = FORK.Process(target=_seal_until, args=(root, step))
    worker.start()
    worker.join(60)
    assert worker.exitcode == -signal.SIGKILL
    assert snapshot_ids(root) == []
    with pytest.raises(NotFoundError):
        open_snapshot("demo", root=root)
    assert seal(random_bars(), snapshot_id="demo", root=root).hash == verify("demo", root=root).hash
    assert snapshot_ids(root) == ["demo"]


# roots that are URLs


def test_a_root_may_be_a_url():
    root = "memory://snapshots-test/s"
    first = seal(random_bars(), snapshot_id="demo", root=root, actions=ACTIONS)
    assert snapshot_ids(root) == ["demo"]
    opened = open_snapshot("demo", root=root)
    pd.testing.assert_frame_equal(opened.bars.astype({"symbol": str}), random_bars().astype({"symbol": str}))
    assert verify("demo", root=root).hash == first.hash
    assert seal(random_bars(), snapshot_id="demo", root=root, actions=ACTIONS).hash == first.hash
    with pytest.raises(RefusedError):
        seal(random_bars(seed=4), snapshot_id="demo", root=root)
    with pytest.raises(NotFoundError):
        open_snapshot("other", root=root)
    assert snapshot_ids("memory://snapshots-test/none") == []
    data = bytearray(UPath(f"{root}/demo/bars.parquet").read_bytes())
    data[50] ^= 1
    UPath(f"{root}/demo/bars.parquet").write_bytes(bytes(data))
    with pytest.raises(IntegrityError, match="bars.parquet"):
        open_snapshot("demo", root=root)
    with pytest.raises(IntegrityError, match="bars.parquet"):
        opened.load("bars")


def test_a_root_may_be_a_file_url(tmp_path):
    seal(random_bars(), snapshot_id="demo", root=f"file://{tmp_path}/s")
    assert snapshot_ids(tmp_path / "s") == ["demo"] and open_snapshot("demo", root=f"file://{tmp_path}/s").id == "demo"


def test_a_csv_with_a_fault_is_told_once_and_nothing_is_sealed(tmp_path):
    path = tmp_path / "bars.csv"
    path.write_text(HEADER + "A,2024-01-02T00:00:00Z,10,9,8,11,5\n")
    with pytest.raises(InputError, match="A at 2024-01-02T00:00:00.00:00: high is below open, close or low"):
        seal(path, snapshot_id="demo", root=tmp_path / "s")
    assert os.listdir(tmp_path) == ["bars.csv"]


def test_names_that_a_terminal_would_obey_are_refused_where_they_enter_and_read_where_they_are_sealed(tmp_path):
    frame = random_bars("A", 3)
    names = pd.DataFrame(
        {"symbol": ["A"], "name": ["A\x1b[2J"], "currency": "USD", "calendar": "XNYS", "asset_class": "EQUITY"}
    )
    with pytest.raises(InputError, match="name of an instrument"):
        seal(frame, snapshot_id="x", root=tmp_path / "s", instruments=names)
    with pytest.MonkeyPatch.context() as patch:  # sealed before that was so
        patch.setattr("ledger_pipeline.market.snapshot.check_printable", lambda instruments: None)
        seal(frame, snapshot_id="x", root=tmp_path / "s", instruments=names)
    assert verify("x", root=tmp_path / "s").symbols == ("A",)
