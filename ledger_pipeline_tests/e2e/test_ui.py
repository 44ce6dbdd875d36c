"""The product's screen: `ledger-pipeline ui` in a real browser on the project that the demo made."""

from __future__ import annotations

import functools
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
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
    "sweeps": (("sweeps",), ("sweep", "sweep_report", "promoted_run")),
    "account": (("account",), ("broker_account", "reconciliation")),
    "decide": (("decide",), ("deployed_policy", "deployed_strategy", "dca_plan", "live_snapshot", "strategy_decision")),
    "order": (("order",), ("dca_orders", "strategy_orders", "session_orders")),
    "ledger": (
        ("ledger",), ("live_ledger", "open_orders", "live_positions", "closing_reconciliation", "trading_status"),
    ),
    "attribute": (("attribute",), ("trade_entries", "strategy_lots", "attribution_report", "strategy_performance")),
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
        token = (self.project.dagster_home / "ui-token").read_text()
        headers = {"Content-Type": "application/json", "X-Ledger-Pipeline-Token": token}
        request = urllib.request.Request(f"{self.address}/graphql", body, headers)
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
        opened = browser.new_context(viewport={"width": 1700, "height": 1100}).new_page()
        opened.set_default_timeout(30_000)
        expect.set_options(timeout=30_000)  # a busy machine draws slowly
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
    key, account = "core|2026-01-05", "savings|2026-01-05"
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
    page.goto(f"{ui.address}/assets/strategy_performance?view=partitions&partition={account}")
    assert picture_width(page, "earned") > 300
    page.goto(f"{ui.address}/assets/attribution_report?view=partitions&partition={account}")
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


ATTACK = """
async ([ui, queries]) => {
  const opened = []
  for (const query of queries) {
    new Image().src = `${ui}/graphql?query=${encodeURIComponent(query)}`
    for (const type of ["text/plain", "application/json", "application/x-www-form-urlencoded"])
      fetch(`${ui}/graphql`, {method: "POST", mode: type === "application/json" ? "cors" : "no-cors",
        credentials: "include", headers: {"Content-Type": type}, body: JSON.stringify({query})}).catch(() => {})
  }
  const form = Object.assign(document.createElement("form"), {method: "POST", action: `${ui}/graphql`, target: "frame"})
  form.append(Object.assign(document.createElement("input"), {name: "query", value: queries[0]}))
  document.body.append(Object.assign(document.createElement("iframe"), {name: "frame", src: ui}), form)
  form.submit()
  const socket = new WebSocket(ui.replace("http", "ws") + "/graphql", "graphql-ws")
  socket.onopen = () => opened.push("socket")
  await new Promise(done => setTimeout(done, 4000))
  return opened
}
"""
SENSOR = "query($s: SensorSelector!) {sensorOrError(sensorSelector: $s) {... on Sensor {sensorState {status}}}}"


def test_a_page_of_another_site_can_change_and_read_nothing(ui, page, tmp_path) -> None:
    """Every mutation, in every way that a page can send one, from a browser that has the UI open; one of them would
    switch a sensor on.
    """
    fields = ui.ask("{__schema {mutationType {fields {name}}}}")["__schema"]["mutationType"]["fields"]
    assert {"launchRun", "launchPartitionBackfill"} <= {field["name"] for field in fields}
    repository = ui.ask(LOCATION)["repositoriesOrError"]["nodes"][0]
    sensor = {
        "sensorName": "poll_fills",
        "repositoryName": repository["name"],
        "repositoryLocationName": repository["location"]["name"],
    }
    given = ", ".join(f'{name}: "{value}"' for name, value in sensor.items())
    switch = f"mutation {{startSensor(sensorSelector: {{{given}}}) {{__typename}}}}"
    queries = [switch, *(f"mutation {{{field['name']} {{__typename}}}}" for field in fields)]

    def standing() -> tuple:
        status = ui.ask(SENSOR, s=sensor)["sensorOrError"]["sensorState"]["status"]
        return status, ui.ask("{runsOrError {... on Runs {count}}}")

    (tmp_path / "index.html").write_text("<p>a page that anybody may visit")
    handler = functools.partial(SimpleHTTPRequestHandler, directory=tmp_path)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        page.goto(ui.address)
        before = standing()
        assert before[0] == "STOPPED"
        visited = page.context.new_page()
        sent: list[tuple[str, str]] = []
        answers: list[tuple[str, int]] = []
        visited.on("request", lambda asked: sent.append((asked.method, asked.url)))
        visited.on("response", lambda got: answers.append((got.url, got.status)))
        visited.goto(f"http://localhost:{other.server_port}/")
        assert visited.evaluate(ATTACK, [ui.address, queries]) == []
        visited.close()
        other.shutdown()
    mine = [method for method, url in sent if url.startswith(f"{ui.address}/graphql")]
    assert mine.count("GET") == len(queries) and mine.count("POST") >= 2 * len(queries)
    assert not [row for row in answers if row[0].startswith(ui.address) and row[1] < 400]
    assert standing() == before
    assert ui.ask(switch)["startSensor"]["__typename"] == "Sensor"  # with the token it is done
    assert standing()[0] == "RUNNING"
    page.goto(f"{ui.address}/runs")
    expect(page.get_by_text("Runs").first).to_be_visible()  # and the person goes on


RUNS = """query($tags: [ExecutionTag!]) {runsOrError(filter: {tags: $tags}) {... on Runs {results {
  runId status tags {key value} assetMaterializations {partition assetKey {path}}}}}}"""
BACKFILL = "mutation($p: LaunchBackfillParams!) {launchPartitionBackfill(backfillParams: $p) {__typename ... on LaunchBackfillSuccess {backfillId} ... on PythonError {message}}}"  # fmt: skip # noqa: E501
LAUNCH = "mutation($p: ExecutionParams!) {launchRun(executionParams: $p) {__typename ... on LaunchRunSuccess {run {runId}} ... on PythonError {message}}}"  # fmt: skip # noqa: E501
ENDED = ("SUCCESS", "FAILURE", "CANCELED")
MEMBERS = ("feature_table", "run_ledger", "fills", "trades", "equity", "metrics")


@pytest.mark.campaign
def test_every_way_to_start_a_back_fill_makes_all_of_it(ui) -> None:
    """From a job's page, from an asset's page, as one run over a range, from the command line; over keys that are and
    that are not contiguous, and over two snapshots.
    """
    for name in ("one", "two"):
        seal(ui.project, name, days=40)
    made = ["buy_and_hold", "equal_weights", "inverse_volatility", "sma_crossover"]
    repository = ui.ask(LOCATION)["repositoriesOrError"]["nodes"][0]
    where = {"repositoryName": repository["name"], "repositoryLocationName": repository["location"]["name"]}

    def keys(snapshot: str, *names: str) -> list[str]:
        return [f"{name}|{snapshot}" for name in names]

    def of_job(partitions: list[str]) -> str:
        selector = {"partitionSetName": "research_partition_set", "repositorySelector": where}
        return launched({"selector": selector, "partitionNames": partitions})

    def of_asset(partitions: list[str]) -> str:
        return launched({"assetSelection": [{"path": [name]} for name in MEMBERS], "partitionNames": partitions})

    def launched(params: dict) -> str:
        found = ui.ask(BACKFILL, p=params)["launchPartitionBackfill"]
        assert found["__typename"] == "LaunchBackfillSuccess", found
        return found["backfillId"]

    both = [key for name in made for key in (f"{name}|one", f"{name}|two")]
    mixed = [f"{made[0]}|two", f"{made[1]}|one"]  # neighbours in the order of keys, and no two corners
    wanted = {
        "job, contiguous": (of_job, keys("one", *made)),
        "job, not contiguous": (of_job, [*keys("two", made[0]), *keys("two", made[2])]),
        "job, two snapshots": (of_job, both),
        "job, a corner cut": (of_job, mixed),
        "asset, contiguous": (of_asset, keys("one", *made)),
        "asset, not contiguous": (of_asset, [*keys("two", made[0]), *keys("two", made[3])]),
    }
    started = {
        what: ({"key": "dagster/backfill", "value": call(asked)}, asked) for what, (call, asked) in wanted.items()
    }
    neighbours = keys("two", made[1], made[2])
    tags = [
        {"key": "dagster/asset_partition_range_start", "value": neighbours[0]},
        {"key": "dagster/asset_partition_range_end", "value": neighbours[1]},
        {"key": "way", "value": "range"},
    ]
    launch = {"selector": {**where, "jobName": "research"}, "executionMetadata": {"tags": tags}, "runConfigData": "{}"}
    assert ui.ask(LAUNCH, p=launch)["launchRun"]["__typename"] == "LaunchRunSuccess"
    started["one run over a range"] = (tags[2], neighbours)

    def runs_of(tag: dict) -> list[dict]:
        return ui.ask(RUNS, tags=[tag])["runsOrError"]["results"]

    def made_by(runs: list[dict], asset: str = "metrics") -> list[str]:
        found = [m for run in runs for m in run["assetMaterializations"] if m["assetKey"]["path"] == [asset]]
        return sorted(m["partition"] for m in found)

    def ended() -> bool:
        found = {what: runs_of(tag) for what, (tag, _) in started.items()}
        return all(
            runs and all(run["status"] in ENDED for run in runs)
            and (set(made_by(runs)) >= set(started[what][1]) or any(run["status"] != "SUCCESS" for run in runs))
            for what, runs in found.items()
        )  # fmt: skip

    wait("the end of all back-fills", ended, 900)
    for what, (tag, asked) in started.items():
        runs = runs_of(tag)
        assert {run["status"] for run in runs} == {"SUCCESS"}, what
        for asset in MEMBERS:
            assert made_by(runs, asset) == sorted(asked), (what, asset)
    again = dict(environment(ui.project), DAGSTER_HOME=str(ui.project.dagster_home))
    line = ["asset", "materialize", "-m", "ledger_pipeline.definitions", "--select", ",".join(MEMBERS)]
    corners = f"{neighbours[0]}...{neighbours[1]}"
    done = subprocess.run(
        [str(COMMAND.with_name("dagster")), *line, "--partition-range", corners],
        env=again, cwd=ui.project.root, capture_output=True, text=True, timeout=180,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    newest = ui.ask(
        "{runsOrError(limit: 1) {... on Runs {results {assetMaterializations {partition assetKey {path}}}}}}"
    )
    assert made_by(newest["runsOrError"]["results"]) == sorted(neighbours)


@pytest.mark.campaign
def test_a_run_whose_process_was_killed_fails_within_a_minute(ui) -> None:
    repository = ui.ask(LOCATION)["repositoriesOrError"]["nodes"][0]
    tags = [
        {"key": "dagster/asset_partition_range_start", "value": "buy_and_hold|demo"},
        {"key": "dagster/asset_partition_range_end", "value": "sma_long_flat_20|demo"},
        {"key": "way", "value": "killed"},
    ]
    selector = {
        "repositoryName": repository["name"],
        "repositoryLocationName": repository["location"]["name"],
        "jobName": "research",
    }
    config = json.dumps({"ops": {"research_run": {"config": {"truncation_cuts": 50}}}})
    launch = {"selector": selector, "executionMetadata": {"tags": tags}, "runConfigData": config}
    run_id = ui.ask(LAUNCH, p=launch)["launchRun"]["run"]["runId"]
    events = "query($id: ID!) {runOrError(runId: $id) {... on Run {status eventConnection {events {... on MessageEvent {message}}}}}}"  # noqa: E501

    def process() -> int | None:
        told = ui.ask(events, id=run_id)["runOrError"]["eventConnection"]["events"]
        found = [re.search(r"Started process for run \(pid: (\d+)\)", event.get("message", "")) for event in told]
        return next((int(match[1]) for match in found if match), None)

    os.kill(wait("the start of the run", process, 60), signal.SIGKILL)
    wait("its failure", lambda: ui.ask(events, id=run_id)["runOrError"]["status"] == "FAILURE", 60)


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
    question = '{runsOrError(filter: {pipelineName: "research"}) {... on Runs {results {runId status}}}}'
    earlier = {row["runId"] for row in ui.ask(question)["runsOrError"]["results"]}

    def ended() -> list[str]:
        rows = [row for row in ui.ask(question)["runsOrError"]["results"] if row["runId"] not in earlier]
        return [row["status"] for row in rows if row["status"] in ("SUCCESS", "FAILURE")]

    seal(ui.project, "fresh", days=400)
    assert ui.ask(START, sensor=sensor)["startSensor"]["__typename"] == "Sensor"
    wait("the run", ended, 180)
    assert ended() == ["FAILURE"]  # dca needs GOOG and MSFT
    from ledger_pipeline.defs.launch import instance
    from ledger_pipeline_tests.defs.records import materialized

    with instance(ui.project) as records:
        made = {key.split("|")[0] for key in materialized(records, "metrics") if key.endswith("|fresh")}
    assert {"buy_and_hold", "sma_long_flat_20", "equal_weights"} <= made and "dca_monthly" not in made
