"""Dagster's records, written with engines that are kept."""

from __future__ import annotations

import dagster as dg
import sqlalchemy

from ledger_pipeline.defs import event_storage
from ledger_pipeline.defs.event_storage import EventStorage
from ledger_pipeline.defs.launch import instance, run_experiments
from ledger_pipeline_tests.defs.records import materialized
from ledger_pipeline_tests.projects import EXPERIMENTS


def test_the_engine_of_a_file_is_made_once(small, monkeypatch) -> None:
    made = []
    create = sqlalchemy.create_engine
    monkeypatch.setattr(
        event_storage.sqlalchemy, "create_engine", lambda url, **kw: made.append(url) or create(url, **kw)
    )
    run_experiments(small, "small", list(EXPERIMENTS))
    assert made and len(made) == len(set(made))


def test_the_engines_kept_are_few_and_a_forgotten_one_is_made_again(fresh) -> None:
    with instance(fresh) as records:
        storage = records.event_log_storage
        for n in range(40):
            storage.get_logs_for_run(f"{n:08d}")
        assert len(storage._engines) <= event_storage._KEPT
        assert list(storage.get_logs_for_run("00000000")) == []


def test_what_it_wrote_is_read_by_dagsters_own_storage(small) -> None:
    with instance(small) as records:
        assert isinstance(records.event_log_storage, EventStorage)
        kept = materialized(records, "run_ledger")
    settings = (small.root / "dagster.yaml").read_text()
    (small.dagster_home / "dagster.yaml").unlink()
    (small.dagster_home / "dagster.yaml").write_text(settings.split("# The default files")[0])
    with dg.DagsterInstance.from_config(str(small.dagster_home)) as records:
        assert not isinstance(records.event_log_storage, EventStorage)
        assert materialized(records, "run_ledger") == kept == {f"{name}|small" for name in EXPERIMENTS}


def test_dagster_yaml_names_it_for_the_ui_and_the_daemon(small) -> None:
    with dg.DagsterInstance.get() as records:
        assert isinstance(records.event_log_storage, EventStorage)
        assert materialized(records, "run_ledger")


def test_without_any_variable_it_keeps_events_below_the_current_directory(tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    storage = EventStorage.from_config_value(None, {})
    assert storage._base_dir == str(tmp_path / ".dagster" / "history" / "runs")
    storage.dispose()
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    storage = EventStorage.from_config_value(None, {})
    assert storage._base_dir.startswith(str(tmp_path / "home"))
    storage.dispose()
