"""Where each behaviour of the exchange comes from, said in the help and in the documentation alike."""

from __future__ import annotations

from pathlib import Path

from ledger_pipeline.exchange.behaviours import ASSUMED, BEHAVIOURS, DOCUMENTED, OBSERVED
from ledger_pipeline_tests.cli.console import call


def test_help_and_documentation_tell_every_behaviour_under_its_tag() -> None:
    section = (Path(__file__).parents[2] / "docs/exchange.md").read_text()
    documented, rest = section.split("**Observed")
    observed, assumed = rest.split("**Assumed")
    helped = " ".join(call("exchange", "serve", "--help").output.split())
    for tag, what in BEHAVIOURS:
        assert f"- {what}\n" in {DOCUMENTED: documented, OBSERVED: observed, ASSUMED: assumed}[tag]
        assert what in helped
