"""docs/verify.py, which knows only the page of formats, beside the product's own records."""

from __future__ import annotations

import random
import struct
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
import rfc8785

from ledger_pipeline.book.book import open_book
from ledger_pipeline.project import Project
from ledger_pipeline_tests.projects import CHECKOUT, copied

VERIFIER = CHECKOUT / "docs" / "verify.py"


@pytest.fixture(scope="module")
def project(demo, tmp_path_factory) -> Project:
    return copied(demo[0], tmp_path_factory.mktemp("verifier") / "project")


def verify(project: Project) -> tuple[int, list[str]]:
    done = subprocess.run(
        [sys.executable, "-I", str(VERIFIER), str(project.root)], capture_output=True, text=True, timeout=300
    )
    assert done.stderr == ""
    return done.returncode, done.stdout.splitlines()


def test_it_finds_everything_as_it_was_written(project) -> None:
    code, lines = verify(project)
    assert code == 0 and all(line.endswith(": as it was written") for line in lines)
    for kind, count in (("snapshot demo", 1), ("run ", 6), ("book demo", 1), ("snapshot demo_sma-", 21)):
        assert sum(line.startswith(kind) for line in lines) >= count


def test_it_reads_segments(project, tmp_path) -> None:
    whole = copied(project, tmp_path / "sealed")
    book = open_book(str(whole.books / "demo"))
    assert book.seal() > 0 and list((whole.books / "demo" / "segments").glob("*.jsonl.gz"))
    assert "book demo: as it was written" in verify(whole)[1]


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("snapshots/demo/bars.parquet", "snapshot demo: bars.parquet does not have the hash"),
        ("snapshots/demo/manifest.json", "snapshot demo: "),
        ("data/runs/*/ledger.parquet", "ledger.parquet does not have the hash"),
        ("data/runs/*/strategy.py", "strategy.py is not the source"),
        ("data/runs/*/metrics.json", "metrics.json does not have the hash"),
        ("data/runs/*/provenance.json", "provenance.json does not have the hash"),
        ("books/demo/2012/01/05/*.json", "commit "),
    ],
)
def test_an_altered_byte_is_named(project, pattern, said) -> None:
    path = sorted(project.root.glob(pattern))[0]
    data, mode = path.read_bytes(), path.stat().st_mode
    path.chmod(0o644)
    path.write_bytes(data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :])
    try:
        code, lines = verify(project)
    finally:
        path.write_bytes(data)
        path.chmod(mode)
    wrong = [line for line in lines if not line.endswith("as it was written") or "is not as" in line]
    assert code == 1 and len(wrong) == 1 and said in wrong[0], wrong


def test_its_numbers_are_those_of_the_standard() -> None:
    spec = spec_from_file_location("independent_verifier", VERIFIER)
    verifier = module_from_spec(spec)
    spec.loader.exec_module(verifier)
    draw = random.Random(7)
    for i in range(50_000):
        value = (
            struct.unpack("<d", draw.getrandbits(64).to_bytes(8, "little"))[0]
            if i % 2
            else draw.uniform(-1e6, 1e6) * 10.0 ** draw.randrange(-30, 30)
        )
        if abs(value) < float("inf"):
            assert verifier.canonical(value) == rfc8785.dumps(value)
    text = {"b": [1, True, None, "é\n\u2028"], "a": -0.0, "€": 1e21, "\U0001f600": 1e-7}
    assert verifier.canonical(text) == rfc8785.dumps(text)


def test_it_imports_nothing_of_the_product() -> None:
    assert "import ledger_pipeline" not in VERIFIER.read_text() and "from ledger_pipeline" not in VERIFIER.read_text()
    assert Path(VERIFIER).parent.name == "docs"
