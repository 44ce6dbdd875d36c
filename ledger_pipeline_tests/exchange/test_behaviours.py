"""Where each behaviour of the exchange comes from, said in the help and in the README alike."""

from __future__ import annotations

from pathlib import Path

from ledger_pipeline.exchange.behaviours import ASSUMED, BEHAVIOURS, DOCUMENTED, OBSERVED
from ledger_pipeline_tests.cli.console import call


def test_help_and_readme_tell_every_behaviour_under_its_tag() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    section = readme.split("## What the local exchange does")[1].split("\n## ")[0]
    documented, rest = section.split("**Observed")
    observed, assumed = rest.split("**Assumed")
    helped = " ".join(call("exchange", "serve", "--help").output.split())
    for tag, what in BEHAVIOURS:
        assert f"- {what}\n" in {DOCUMENTED: documented, OBSERVED: observed, ASSUMED: assumed}[tag]
        assert what in helped
