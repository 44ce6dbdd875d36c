"""The product's screen: `ledger-pipeline ui` in a real browser on the project that the demo made."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from ledger_pipeline_tests.projects import COMMAND, command, copied, environment, seal

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SHOWN = {
    "research": (
        ("market", "strategy", "features", "runs", "results", "reports"),
        ("raw_bars", "sealed_snapshot", "experiment", "feature_table", "run_ledger", "fills", "trades", "equity", "metrics",
         "result_shards", "comparison_report"),
    ),
    "live": (
        ("live",),
        ("deployment", "broker_account", "reconciliation", "session_orders", "live_ledger", "open_orders",
         "live_positions", "closing_reconciliation"),
    ),
    "decisions": (("decisions",), ("dca_plan", "dca_orders", "live_snapshot", "strategy_decision", "strategy_orders")),
    "attribution": (
        ("attribution",), ("trade_entries", "strategy_lots", "attribution_report", "strategy_performance"),
    ),
}  # fmt: skip
GROUPS = tuple(group for groups, _ in SHOWN.values() for group in groups)
RUN = "buy_and_hold|demo"


class Ui:
    """A running UI: its address, its project, and its GraphQL."""

    def __init__(self, project, port: int) -> None:
        self.project, self.address = project, f"http://127.0.0.1:{port}"

    def ask(self, query: str, **variables) -> dict:
        """The data that a GraphQL query gives."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(f"{self.address}/graphql", body, {"Content-Type": "application/json"})
        answer = json.load(urllib.request.urlopen(request, timeout=30))
        assert "errors" not in answer, answer
        return answer["data"]


def wait(what: str, condition, seconds: float):
    """Wait until `condition` gives something true, and return that."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if found := condition():
                return found
        except OSError:
            pass
        time.sleep(0.5)
    raise AssertionError(f"{what} did not happen in {seconds} s")


@pytest.fixture(scope="module")
def ui(demo, tmp_path_factory) -> Iterator[Ui]:
    project = copied(demo[0], tmp_path_factory.mktemp("ui") / "project")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = open(project.root / "ui.log", "w")
    process = subprocess.Popen(
        [str(COMMAND), "ui", "--port", str(port)],
        env=environment(project),
        cwd=project.root,
        stdout=log,
        stderr=log,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    running = Ui(project, port)
    try:
        loaded = "{repositoriesOrError{... on RepositoryConnection{nodes{name}}}}"
        wait("loading", lambda: running.ask(loaded)["repositoriesOrError"].get("nodes"), 180)
        yield running
    finally:
        stop(process)


def stop(process: subprocess.Popen) -> None:
    """Ctrl-C, as a person ends it; what is still there after a while is killed. Nothing of the group is left."""
    os.killpg(process.pid, signal.SIGINT)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        pass
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait(10)


@pytest.fixture(scope="module")
def page(ui) -> Iterator[Page]:
    assert CHROMIUM.exists(), f"{CHROMIUM} is missing; install the system package chromium (apt-get install chromium)."
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        opened = browser.new_page(viewport={"width": 1700, "height": 1100})
        opened.set_default_timeout(30_000)
        yield opened
        browser.close()


def shot(page: Page, ui: Ui, name: str) -> None:
    """Keep a picture of the page beside the project, for a person to look at."""
    page.screenshot(path=ui.project.root.parent / f"{name}.png")


def test_the_graph_shows_every_asset(ui, page) -> None:
    page.goto(f"{ui.address}/asset-groups")
    graph = page.locator("svg")
    for group in GROUPS:
        expect(graph.get_by_text(group, exact=True).first).to_be_visible()
    shot(page, ui, "groups")
    for name, (groups, assets) in SHOWN.items():  # all of it at once would be drawn too small to read
        page.goto(f"{ui.address}/asset-groups?expanded={','.join(f'global@global:{group}' for group in groups)}")
        for asset in assets:
            shortened = re.compile(f"^({asset}|{asset[:5]}.*{asset[-6:]})$")  # a long name has dots in its middle
            expect(graph.get_by_text(shortened).first).to_be_visible()
        shot(page, ui, f"graph_{name}")
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_a_session_of_a_book_is_read_in_the_browser(ui, page, served) -> None:
    legs = ui.project.root / "legs.json"
    legs.write_text('[{"symbol": "VTI", "side": "BUY", "strategy": "core", "notional": "676.00"}]')
    for words in (
        ["book", "adopt", "--by", "Ada Byron", "--reason", "first use"],
        ["orders", "submit", str(legs), "--execute"],
    ):
        done = command(ui.project, *words)
        assert done.returncode == 0, done.stderr
    page.goto(f"{ui.address}/assets/reconciliation?view=partitions&partition=local|2026-01-05")
    expect(page.get_by_text("Reconciliation of book local", exact=False).first).to_be_visible()
    expect(page.get_by_text("clean", exact=True).first).to_be_visible()
    shot(page, ui, "reconciliation")
    page.goto(f"{ui.address}/assets/session_orders?view=partitions&partition=local|2026-01-05")
    expect(page.get_by_text("2.704", exact=True).first).to_be_visible()
    expect(page.get_by_text("FILLED", exact=True).first).to_be_visible()
    shot(page, ui, "orders")
    page.goto(f"{ui.address}/assets/live_positions?view=partitions&partition=local|2026-01-05")
    expect(page.get_by_text("9324", exact=True).first).to_be_visible()


def test_a_policy_is_read_from_plan_to_attribution(ui, page, served) -> None:
    for words in (
        ["book", "adopt", "--by", "Ada Byron", "--reason", "first use", "--book", "savings"],
        ["dca", "run", "--policy", "core", "--execute", "--book", "savings"],
    ):
        done = command(ui.project, *words)
        assert done.returncode == 0, done.stderr
    key = "core|2026-01-05"
    page.goto(f"{ui.address}/assets/dca_plan?view=partitions&partition={key}")
    expect(page.get_by_text("PLANNED", exact=True).first).to_be_visible()
    assert picture_width(page, "weights") > 300
    shot(page, ui, "plan")
    page.goto(f"{ui.address}/assets/dca_plan?view=checks")
    for name in ("decided", "position_limit", "daily_spend", "price_collar"):
        expect(page.get_by_text(name, exact=True).first).to_be_visible()
    shot(page, ui, "guardrails")
    page.goto(f"{ui.address}/assets/dca_orders?view=partitions&partition={key}")
    expect(page.get_by_text("DONE", exact=True).first).to_be_visible()
    page.goto(f"{ui.address}/assets/strategy_performance?view=partitions&partition={key}")
    assert picture_width(page, "earned") > 300
    page.goto(f"{ui.address}/assets/attribution_report?view=partitions&partition={key}")
    assert picture_width(page, "shares") > 300
    shot(page, ui, "attribution")


def test_a_run_shows_its_picture_hashes_and_checks(ui, page, demo) -> None:
    told = next(
        row["provenance"] for row in demo[1]["runs"] if row["provenance"]["experiment"]["name"] == RUN.split("|")[0]
    )
    page.goto(f"{ui.address}/assets/run_ledger?view=partitions&partition={RUN}")
    expect(page.get_by_text(told["run_id"], exact=False).first).to_be_visible()
    for text in (
        told["ledger_head"],
        told["snapshot"]["hash"],
        told["experiment"]["hash"],
        told["experiment"]["strategy_hash"],
        told["experiment"]["params_hash"],
        told["platform"],
    ):
        expect(page.get_by_text(text).first).to_be_visible()
    assert picture_width(page, "equity and drawdown") > 300
    shot(page, ui, "run")
    page.goto(f"{ui.address}/assets/run_ledger?view=checks")
    for name in ("ledger_invariants", "truncation_replay", "determinism"):
        expect(page.get_by_text(name).first).to_be_visible()
    expect(page.get_by_text("Passed").first).to_be_visible()
    expect(page.get_by_text("Failed", exact=True)).to_have_count(0)
    page.wait_for_timeout(1000)
    shot(page, ui, "checks")


def picture_width(page: Page, name: str) -> int:
    """Open a picture in the metadata; its width in pixels, once it is drawn."""
    page.locator("tr", has_text=name).get_by_text("Show Markdown").first.click()
    picture = page.locator("img[src^='data:image']").first
    picture.wait_for(state="visible")
    page.wait_for_timeout(500)
    return picture.evaluate("image => image.decode().then(() => image.naturalWidth)")


def test_the_report_and_the_snapshot_can_be_looked_at(ui, page, demo) -> None:
    page.goto(f"{ui.address}/assets/comparison_report?view=partitions&partition=demo")
    assert picture_width(page, "overlaid equity") > 300
    shot(page, ui, "report")
    page.goto(f"{ui.address}/assets/sealed_snapshot?view=partitions&partition=demo")
    expect(page.get_by_text(demo[1]["snapshot"]["snapshot_hash"]).first).to_be_visible()
    shot(page, ui, "snapshot")


STALE = "query($key: AssetKeyInput!, $of: String) {assetNodeOrError(assetKey: $key) {... on AssetNode {staleStatus(partition: $of)}}}"  # fmt: skip # noqa: E501


def test_the_sensor_of_a_running_daemon_makes_a_changed_strategy_stale(ui) -> None:
    def stale(experiment: str) -> bool:
        told = ui.ask(STALE, key={"path": ["run_ledger"]}, of=f"{experiment}|demo")
        return told["assetNodeOrError"]["staleStatus"] == "STALE"

    assert not stale("dca_monthly") and not stale("buy_and_hold")
    path = ui.project.strategies / "dca.py"
    path.write_text(path.read_text() + "\n# changed\n")
    wait("a tick of the sensor", lambda: stale("dca_monthly"), 75)
    assert not stale("buy_and_hold")


START = "mutation($sensor: SensorSelector!) {startSensor(sensorSelector: $sensor) {__typename}}"
LOCATION = "{repositoriesOrError {... on RepositoryConnection {nodes {name location {name}}}}}"


@pytest.mark.campaign
def test_the_offer_runs_a_new_snapshot_when_it_is_switched_on(ui) -> None:
    repository = ui.ask(LOCATION)["repositoriesOrError"]["nodes"][0]
    sensor = {
        "sensorName": "backfill_new_snapshot",
        "repositoryName": repository["name"],
        "repositoryLocationName": repository["location"]["name"],
    }
    seal(ui.project, "fresh", days=400)
    assert ui.ask(START, sensor=sensor)["startSensor"]["__typename"] == "Sensor"
    runs = '{runsOrError(filter: {pipelineName: "research"}) {... on Runs {results {status}}}}'
    ended = ("SUCCESS", "FAILURE")
    wait("the run", lambda: any(r["status"] in ended for r in ui.ask(runs)["runsOrError"]["results"]), 180)
    assert [row["status"] for row in ui.ask(runs)["runsOrError"]["results"]] == ["FAILURE"]  # dca needs GOOG and MSFT
    from ledger_pipeline.defs.launch import instance
    from ledger_pipeline_tests.defs.records import materialized

    with instance(ui.project) as records:
        made = {key.split("|")[0] for key in materialized(records, "metrics") if key.endswith("|fresh")}
    assert {"buy_and_hold", "sma_long_flat_20", "equal_weights"} <= made and "dca_monthly" not in made
