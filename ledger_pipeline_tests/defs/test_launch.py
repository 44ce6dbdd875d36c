"""What the command line runs is in the records what the UI would have run: its job, its place, its tags."""

from __future__ import annotations

import dagster as dg
import pytest

from ledger_pipeline.defs.launch import compact_results, comparison, instance, report, run_experiments
from ledger_pipeline.defs.live_launch import reconcile_session, trade_deployment
from ledger_pipeline.strategy.catalogue import Catalogue
from ledger_pipeline.trading.deployment.promote import deploy_policy
from ledger_pipeline_tests.defs.test_runs import run_id
from ledger_pipeline_tests.trading.deployment.test_policy_session import write

LOCATION = "__repository__@ledger_pipeline.definitions"


def run_of(project, job: str) -> dg.DagsterRun:
    with instance(project) as records:
        run = records.get_runs(dg.RunsFilter(job_name=job), limit=1)[0]
    assert run.tags[".dagster/repository"] == LOCATION
    assert run.remote_job_origin.job_name == job
    assert run.tags["ledger_pipeline/launched_by"] == "command line"
    return run


def test_research_has_its_job_and_says_what_it_ran(small) -> None:
    run_experiments(small, "small", ["hold", "fast"])
    run = run_of(small, "research")
    assert (run.tags["snapshot"], set(run.tags["experiment"].split(", "))) == ("small", {"hold", "fast"})
    catalogue = Catalogue(small.strategies)
    assert set(run.tags["strategy_hash"].split(", ")) == {
        catalogue.experiment(name).source.hash for name in ("hold", "fast")
    }
    report(small, "small")
    assert run_of(small, "report").tags["dagster/partition"] == "small"
    comparison(small, [run_id(small, name) for name in ("hold", "fast")])
    assert run_of(small, "compare").is_success
    compact_results(small)
    assert run_of(small, "compact").is_success
    assert run_of(small, "import_snapshot").tags["dagster/partition"] == "small"


def test_many_experiments_are_counted_in_the_tag(small) -> None:
    text = (small.strategies / "experiments" / "hold.yaml").read_text()
    names = [f"hold_{letter}" for letter in "abcdefg"]
    for name in names:
        (small.strategies / "experiments" / f"{name}.yaml").write_text(text)
    run_experiments(small, "small", names)
    assert run_of(small, "research").tags["experiment"] == "hold_a, hold_b, hold_c, hold_d, hold_e and 2 more"


def test_trading_has_its_jobs_and_the_same_config_makes_it_again(traded, served) -> None:
    write(traded)
    deploy_policy(traded, "core")
    reconcile_session(traded)
    assert run_of(traded, "reconcile_session").tags["book"] == "local"
    trade_deployment(traded, "core", exchange_url=served.url)
    run = run_of(traded, "trade_policy")
    assert (run.tags["deployment"], run.tags["book"], run.tags["session"]) == ("core", "local", "2026-01-05")
    assert run.run_config["resources"]["trading"]["config"]["exchange_url"] == served.url
    assert run_of(traded, "attribute_session").is_success


@pytest.mark.parametrize("field", ["granularity", "untagged", "lots"])
def test_choices_are_offered_as_choices(field) -> None:
    from ledger_pipeline.attribution.attribute import UNTAGGED
    from ledger_pipeline.defs.attribution import AttributionConfig, LotOrder, Untagged
    from ledger_pipeline.defs.decisions import DecisionConfig, Granularity
    from ledger_pipeline.trading.deployment.decision import GRANULARITIES

    kinds = {"granularity": (DecisionConfig, Granularity, ("", *GRANULARITIES)),
             "untagged": (AttributionConfig, Untagged, UNTAGGED), "lots": (AttributionConfig, LotOrder, None)}  # fmt: skip
    config, words, told = kinds[field]
    assert told is None or {word.value for word in words} == set(told)
    offered = config.to_fields_dict()[field].config_type
    assert {value.config_value for value in offered.inner_type.enum_values} == set(words.__members__)
    assert all(one.description for one in config.to_fields_dict().values())
