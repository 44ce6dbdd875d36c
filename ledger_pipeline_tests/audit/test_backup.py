"""A project kept elsewhere: what is lost comes back to the byte, and nothing newer is ever written over."""

from __future__ import annotations

import json
import shutil
import sqlite3

import pytest

import ledger_pipeline as lp
from ledger_pipeline.audit.backup import back_up, backups, restore
from ledger_pipeline.audit.verification import verify_project
from ledger_pipeline.book.book import open_book
from ledger_pipeline.core.errors import IntegrityError, NotFoundError, RefusedError
from ledger_pipeline.defs.launch import run_experiments
from ledger_pipeline.project import Project
from ledger_pipeline_tests.book.log import s3
from ledger_pipeline_tests.projects import command


@pytest.fixture
def project(small) -> Project:
    lp.halt(open_book(str(small.books / "paper"), account="A", environment="exchange"), "account", "Ada", "a test")
    return small


def files(project: Project) -> dict[str, bytes]:
    roots = [project.strategies, project.snapshots, project.data, project.books]
    paths = [path for root in roots for path in root.rglob("*") if path.is_file()]
    return {
        path.relative_to(project.root).as_posix(): path.read_bytes()
        for path in paths
        if "data/cache" not in str(path)
        and "/." not in path.relative_to(project.root).as_posix()
        and "__pycache__" not in str(path)
    }


def test_a_deleted_disk_comes_back_to_the_byte(project, tmp_path) -> None:
    before = files(project)
    done = back_up(project, tmp_path / "elsewhere")
    assert done.new_files and done.new_bytes <= done.bytes
    heads = open_book(str(project.books / "paper"), read_only=True).head
    back = Project(tmp_path / "fresh")
    restored = restore(back, tmp_path / "elsewhere")
    assert files(back) == before and restored.files == done.files
    assert open_book(str(back.books / "paper"), read_only=True).head == heads
    assert not [finding for one in verify_project(back) for finding in one.findings]
    run_id = lp.RunStore(back.data).ids()[0]
    assert lp.replay(run_id, root=back.data, snapshots=back.snapshots).same
    with sqlite3.connect(next((back.root / ".dagster").rglob("*.db"))) as database:
        assert database.execute("pragma integrity_check").fetchone() == ("ok",)


def test_a_second_one_copies_only_what_is_new(project, tmp_path) -> None:
    first = back_up(project, tmp_path / "elsewhere")
    again = back_up(project, tmp_path / "elsewhere")
    assert again.new_bytes < first.new_bytes / 2 and again.files == first.files
    run_experiments(project, "small", ["fast"], seed=7)
    third = back_up(project, tmp_path / "elsewhere")
    assert third.files > first.files
    assert len(backups(tmp_path / "elsewhere")) == len({first.name, again.name, third.name})


def test_an_older_one_by_its_name_and_what_is_there_is_left(project, tmp_path) -> None:
    first = back_up(project, tmp_path / "elsewhere")
    shutil.rmtree(project.data / "runs")
    done = restore(project, tmp_path / "elsewhere", first.name[:20])
    assert 0 < done.new_files < done.files and lp.RunStore(project.data).ids()


@pytest.mark.parametrize("what", ["object", "manifest"])
def test_what_is_not_as_it_was_written_is_not_restored(project, tmp_path, what) -> None:
    back_up(project, tmp_path / "elsewhere")
    folder = tmp_path / "elsewhere" / ("objects" if what == "object" else "backups")
    path = max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    path.write_bytes(path.read_bytes()[:-2] + b"x}")
    with pytest.raises(IntegrityError, match="is not as it was written; restore another one"):
        restore(Project(tmp_path / "fresh"), tmp_path / "elsewhere")


def test_a_damaged_object_is_not_taken_for_a_back_up(project, tmp_path) -> None:
    back_up(project, tmp_path / "elsewhere")
    path = max(
        (p for p in (tmp_path / "elsewhere" / "objects").rglob("*") if p.is_file()), key=lambda p: p.stat().st_size
    )
    path.write_bytes(b"x")
    with pytest.raises(lp.LedgerPipelineError, match="did not arrive"):
        back_up(project, tmp_path / "elsewhere")
    assert len(backups(tmp_path / "elsewhere")) == 1


def test_nothing_newer_is_written_over(project, tmp_path) -> None:
    back_up(project, tmp_path / "elsewhere")
    book = open_book(str(project.books / "paper"))
    lp.halt(book, "symbol:VTI", "Ada", "a test")
    with pytest.raises(RefusedError, match="book paper has commits that the back-up does not have"):
        restore(project, tmp_path / "elsewhere")
    fresh = Project(tmp_path / "fresh")
    experiment = fresh.strategies / "experiments" / "hold.yaml"
    experiment.parent.mkdir(parents=True)
    experiment.write_text("mine")
    with pytest.raises(RefusedError, match="is there with other bytes"):
        restore(fresh, tmp_path / "elsewhere")
    assert experiment.read_text() == "mine" and not fresh.data.exists()


def test_a_path_that_leads_out_is_refused(project, tmp_path) -> None:
    back_up(project, tmp_path / "elsewhere")
    (path,) = (tmp_path / "elsewhere" / "backups").glob("*.json")
    document = json.loads(path.read_bytes())
    document["files"]["../evil"] = next(iter(document["files"].values()))
    data = json.dumps(document).encode()
    path.unlink()
    from ledger_pipeline.core.identity import hash_bytes

    (path.parent / f"2030-{hash_bytes(data)}.json").write_bytes(data)
    with pytest.raises(IntegrityError, match="outside of the project"):
        restore(Project(tmp_path / "fresh"), tmp_path / "elsewhere")


def test_there_is_none(tmp_path) -> None:
    with pytest.raises(NotFoundError, match="there is no back-up"):
        restore(Project(tmp_path / "fresh"), tmp_path / "elsewhere")


def test_the_commands(project, tmp_path) -> None:
    done = command(project, "backup", str(tmp_path / "elsewhere"), "--json")
    assert done.returncode == 0, done.stderr
    (tmp_path / "fresh").mkdir()
    back = command(Project(tmp_path / "fresh"), "restore", str(tmp_path / "elsewhere"))
    assert back.returncode == 0 and "files written from" in back.stdout, back.stderr
    assert command(Project(tmp_path / "fresh"), "runs", "list").returncode == 0


def test_an_object_store_keeps_it_as_well(project, tmp_path) -> None:
    with s3.serve():
        place = f"s3://{s3.BUCKET}/backups/ledger"
        done = back_up(project, place)
        back = Project(tmp_path / "fresh")
        assert restore(back, place).files == done.files and files(back) == files(project)
        assert back_up(project, place).new_bytes < done.new_bytes
