"""A promoted strategy live: what it sees, what it owns, and what keeps it from trading."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import pandas as pd
import pytest

import ledger_pipeline as lp
from ledger_pipeline.core.errors import IntegrityError, NotFoundError, RefusedError
from ledger_pipeline.market.snapshot import open_snapshot
from ledger_pipeline.project import Project
from ledger_pipeline.trading.deployment.decision import record
from ledger_pipeline.trading.deployment.decision_replay import replay
from ledger_pipeline.trading.deployment.deployment import find_deployment, write_deployment
from ledger_pipeline.trading.deployment.live_bars import live_id, pulse_of
from ledger_pipeline.trading.deployment.promote import promote
from ledger_pipeline.trading.deployment.session_work import plan_session, work_session
from ledger_pipeline.trading.orders.execution_context import ExecutionContext, Pace
from ledger_pipeline.trading.planning.policy import Guardrails
from ledger_pipeline.trading.reconciliation.adopt import adopt
from ledger_pipeline.trading.reconciliation.reconcile import reconcile
from ledger_pipeline.trading.session_context import open_session, read_book
from ledger_pipeline_tests.exchange.server import Served, exchange
from ledger_pipeline_tests.projects import CHECKOUT
from ledger_pipeline_tests.small import bars

SESSIONS = pd.bdate_range("2026-01-05", "2026-01-16")  # ten sessions
PRICES = {
    "VTI": [250, 252, 251, 255, 130, 131, 129, 128, 133, 134],  # a split of 2 for 1 on the fifth day
    "VXUS": [60, 61, 60, 62, 61, 60, 63, 62, 61, 60],
}
HOLD = (
    "def strategy(ctx, params):\n"
    "    targets = ctx.hold()\n"
    "    for symbol in ctx.universe:\n"
    "        if symbol in params:\n"
    "            targets[symbol] = params[symbol]\n"
    "            targets.because(symbol, 'WANTED')\n"
    "    return targets\n"
)
EXPERIMENT = "strategy: keep\nparams: {params}\nopening: {{cash: 10000}}\ncosts: []\ncash_rounding: cents\n"
WIDE = Guardrails(priceCollarPct="1", maxPriceAgeSeconds=10_000_000)


@dataclass
class Studio:
    """A project whose strategies trade through an exchange that begins at the evening of the first session."""

    project: Project
    snapshot: lp.Snapshot
    served: Served

    def write(self, name: str, params: str) -> None:
        path = self.project.strategies / "experiments" / f"{name}.yaml"
        path.write_text(EXPERIMENT.format(params=params))

    def deploy(self, name: str, params: str = "{VTI: 4}", snapshot: lp.Snapshot | None = None, **options) -> None:
        """Write an experiment, run it, promote the run."""
        self.write(name, params)
        run = lp.run(lp.Catalogue(self.project.strategies).experiment(name), snapshot or self.snapshot)
        run.save(self.project.data)
        options = {"guardrails": WIDE, "by": "Ada Byron", "reason": "a test"} | options
        write_deployment(self.project, promote(self.project, run.run_id, **options))

    def work(self, name: str, **options):
        """The session that is on: reconcile, decide, send."""
        with open_session(self.project) as context:
            assert reconcile(context.book, context.broker).clean
            deployment = find_deployment(self.project, name)
            made = plan_session(self.project, context, deployment, **options).decision
            if made.status == "PLANNED" and not options.get("dry_run"):
                return made, work_session(
                    self.project,
                    context,
                    deployment,
                    made,
                    execution=ExecutionContext(root=self.project.root, pace=Pace(poll=0.02, resting_within=0.3)),
                )
            return made, None

    def positions(self) -> dict[tuple[str, str], Decimal]:
        return dict(read_book(self.project).state.positions)


@pytest.fixture
def studio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Studio]:
    root = tmp_path / "project"
    (root / "strategies" / "experiments").mkdir(parents=True)
    (root / "strategies" / "keep.py").write_text(HOLD)
    shutil.copy(CHECKOUT / "workspace.yaml", root)
    frame = bars({name: list(values) for name, values in PRICES.items()})
    days = sorted(frame["ts"].unique())
    frame["ts"] = frame["ts"].map(dict(zip(days, SESSIONS.tz_localize("UTC"), strict=True)))
    actions = pd.DataFrame(
        {"symbol": ["VTI"], "ex_date": [SESSIONS[4].tz_localize("UTC")], "kind": ["SPLIT"], "value": [2.0]}
    )
    snapshot = lp.seal(frame, snapshot_id="ten", root=root / "snapshots", actions=actions)
    with exchange(tmp_path / "exchange", snapshot=snapshot.path, at="2026-01-05T21:30:00Z", cash=10_000) as served:
        for name, value in served.environ.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("LEDGER_PIPELINE_EXCHANGE_URL", served.url)
        monkeypatch.setenv("LEDGER_PIPELINE_ROOT", str(root))
        project = Project(root)
        with open_session(project) as context:
            adopt(context.book, context.broker, by="Ada Byron", reason="first use")
        yield Studio(project, snapshot, served)


def test_it_decides_on_sealed_bars_up_to_the_last_session_that_is_over(studio) -> None:
    studio.deploy("keep")
    studio.served.admin.until("open")
    made, done = studio.work("keep")
    assert done.status == "DONE" and studio.positions() == {("keep", "VTI"): Decimal(4)}
    sealed = open_snapshot(live_id("keep", made.key.session), root=studio.project.live_snapshots)
    assert made.evidence["inputs"]["snapshot"] == {"id": "keep-20260106", "hash": sealed.hash}
    assert made.evidence["pulse"] == "2026-01-05" and str(sealed.bars["ts"].max())[:10] == "2026-01-05"
    assert sealed.manifest["source"]["promoted"] == {"id": "ten", "hash": studio.snapshot.hash}
    (fill,) = [event for event in read_book(studio.project).events() if event.kind == "FILLED"]
    assert (fill.price, fill.reasons) == (Decimal(252), ("WANTED",))  # the open of the next session
    studio.served.admin.until("close")
    studio.served.admin.until("open")
    again, _ = studio.work("keep")
    assert again.status == "NO_ACTION" and again.reasons == ("NO_ORDERS: what the strategy wants is what it holds",)
    base = open_snapshot("keep-20260107", root=studio.project.live_snapshots).manifest["source"]["base"]
    assert base == {"id": "keep-20260106", "hash": sealed.hash, "until": "2026-01-05"}


def test_it_is_decided_again_from_its_record_even_when_the_files_have_changed(studio) -> None:
    studio.deploy("keep")
    studio.served.admin.until("open")
    made, _ = studio.work("keep")
    told = json.loads(json.dumps(record(read_book(studio.project), made.key)))
    assert replay(studio.project, told).same
    (studio.project.strategies / "keep.py").write_text(HOLD.replace("params[symbol]", "2 * params[symbol]"))
    assert replay(studio.project, told).same  # from the source that was stored with the run
    shutil.rmtree(studio.project.data)
    with pytest.raises(RefusedError, match="not here as it was"):
        replay(studio.project, told)


def test_deployments_that_share_an_account_never_touch_each_others_shares(studio) -> None:
    studio.deploy("one", "{VTI: 4}", capital=Decimal(3000))
    studio.deploy("two", "{VTI: 6, VXUS: 5}")
    studio.served.admin.until("open")
    assert studio.work("one")[1].status == studio.work("two")[1].status == "DONE"
    assert studio.positions() == {("one", "VTI"): 4, ("two", "VTI"): 6, ("two", "VXUS"): 5}
    first, second = (lp.Catalogue(studio.project.strategies).experiment(name) for name in ("one", "two"))
    assert first.source.hash == second.source.hash
    studio.write("one", "{VTI: 0}")
    studio.served.admin.until("close")
    studio.deploy("one", "{VTI: 0}")
    studio.served.admin.until("open")
    made, done = studio.work("one")
    assert made.evidence["inputs"]["cash"] == "1992"  # 3,000 of its own less 4 x 252
    assert [(leg.side, leg.quantity) for leg in made.legs] == [("SELL", Decimal(4))]
    assert studio.positions() == {("two", "VTI"): 6, ("two", "VXUS"): 5}


def test_two_without_capital_on_one_book_are_refused(studio) -> None:
    studio.deploy("one", "{VTI: 4}")
    studio.deploy("two", "{VTI: 6}")
    studio.served.admin.until("open")
    with pytest.raises(lp.InputError, match="neither has capital of its own"):
        studio.work("one")


def test_code_or_params_that_changed_are_refused_until_promoted_again(studio) -> None:
    studio.deploy("keep")
    studio.served.admin.until("open")
    studio.write("keep", "{VTI: 40}")
    with pytest.raises(RefusedError, match="the params of experiment 'keep' changed since it was promoted"):
        studio.work("keep")
    studio.write("keep", "{VTI: 4}")
    source = studio.project.strategies / "keep.py"
    source.write_text(HOLD.replace("WANTED", "LIKED"))
    with pytest.raises(RefusedError, match="the source of experiment 'keep' changed"):
        studio.work("keep")
    source.write_text("import os\n" + HOLD.replace("return", "os.getcwd()\n    return"))
    with pytest.raises(RefusedError, match="tier 3"):
        studio.work("keep")
    assert studio.served.sent() == []
    source.write_text(HOLD)
    assert studio.work("keep")[1].status == "DONE"


def test_a_snapshot_that_is_another_one_is_refused(studio) -> None:
    studio.deploy("keep")
    studio.served.admin.until("open")
    path = studio.project.snapshots / "ten" / "bars.parquet"
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    with pytest.raises(IntegrityError, match="not as it was sealed"):
        studio.work("keep")


def test_a_split_before_the_pulse_is_in_the_bars(studio) -> None:
    studio.deploy("keep", "{VTI: 4}")
    for _ in range(4):
        studio.served.admin.until("close")
        studio.served.admin.until("open")
    made, _ = studio.work("keep", dry_run=True)
    assert made.evidence["pulse"] == "2026-01-09" and made.evidence["inputs"]["ratios"] == {}
    assert [leg.quantity for leg in made.legs] == [Decimal(4)] and made.prices["VTI"] == Decimal(130)


def test_a_split_on_the_day_doubles_the_leg(studio) -> None:
    studio.deploy("keep", "{VTI: 4}")
    for _ in range(3):
        studio.served.admin.until("close")
        studio.served.admin.until("open")
    with open_session(studio.project) as context:
        assert context.session.isoformat() == "2026-01-09"  # the ex-date
    made, done = studio.work("keep")
    assert made.evidence["pulse"] == "2026-01-08" and made.evidence["inputs"]["ratios"] == {"VTI": "2.0"}
    assert [leg.quantity for leg in made.legs] == [Decimal(8)] and made.prices["VTI"] == Decimal("127.5")
    assert done.status == "DONE" and studio.positions() == {("keep", "VTI"): Decimal(8)}


def test_a_split_while_it_is_held_is_no_reason_to_trade(studio) -> None:
    studio.deploy("keep", "{VXUS: 1}")
    studio.served.admin.until("open")
    studio.work("keep")
    studio.deploy("keep", "{}")
    for _ in range(3):
        studio.served.admin.until("close")
        studio.served.admin.until("open")
        made, _ = studio.work("keep")
        assert made.status == "NO_ACTION"


def test_bars_that_were_restated_block(studio) -> None:
    halved = studio.snapshot.bars.assign(symbol=lambda frame: frame["symbol"].astype(str))
    halved.loc[halved["symbol"] == "VTI", ["open", "high", "low", "close"]] /= 2
    studio.deploy("keep", snapshot=lp.seal(halved, snapshot_id="halved", root=studio.project.snapshots))
    studio.served.admin.until("open")
    made, done = studio.work("keep")
    assert made.status == "BLOCKED" and done is None
    assert made.reasons[0].startswith(
        "RESTATED: the close of VTI on 2026-01-05 was sealed as 125 and is 250 at the broker"
    )
    blocked = [event for event in read_book(studio.project).events() if event.kind == "BLOCKED"]
    assert [event.reasons for event in blocked] == [("RESTATED",)] and studio.served.sent() == []


def test_a_jump_in_a_new_bar_blocks_until_a_person_allows_it(studio) -> None:
    two = studio.snapshot.bars[studio.snapshot.bars["ts"] <= SESSIONS[1].tz_localize("UTC")]
    short = lp.seal(two.assign(symbol=two["symbol"].astype(str)), snapshot_id="short", root=studio.project.snapshots)
    studio.deploy("keep", snapshot=short)
    for _ in range(6):  # over the split, which is no jump
        studio.served.admin.until("close")
        studio.served.admin.until("open")
    write_deployment(studio.project, find_deployment(studio.project, "keep").model_copy(update={"max_jump": 0.01}))
    made, _ = studio.work("keep")
    assert made.status == "BLOCKED" and made.reasons[0].startswith("DATA_QUALITY: JUMP of VTI on 2026-01-08")
    write_deployment(studio.project, find_deployment(studio.project, "keep").model_copy(update={"max_jump": 0.06}))
    made, done = studio.work("keep")
    assert done.status == "DONE" and made.evidence["pulse"] == "2026-01-13"
    sealed = open_snapshot("keep-20260114", root=studio.project.live_snapshots)
    assert len(sealed.bars) == 14 and list(sealed.actions["value"]) == [2.0]  # told by the broker


def test_a_short_sale_is_blocked_and_nothing_is_sent(studio) -> None:
    studio.deploy("keep", "{VTI: 4}")
    studio.served.admin.until("open")
    studio.deploy("keep", "{VTI: -4}")
    made, _ = studio.work("keep")
    assert made.status == "BLOCKED" and made.reasons[0].startswith("SHORT: ")
    assert studio.served.sent() == []


def test_a_leg_below_the_brokers_minimum_is_left_out_and_said(studio) -> None:
    studio.deploy("keep", "{VTI: 0.001}")
    studio.served.admin.until("open")
    made, _ = studio.work("keep")
    assert made.status == "NO_ACTION" and made.reasons[0].startswith("BELOW_BROKER_MINIMUM: BUY VTI for 0.25")


LIMITED = (
    "def strategy(ctx, params):\n"
    "    targets = ctx.hold()\n"
    "    targets['VTI'] = params['VTI']\n"
    "    if 'limit' in params:\n"
    "        targets.limit('VTI', params['limit'], good=params.get('good', 'bar'))\n"
    "    if 'stop' in params:\n"
    "        targets.stop('VTI', params['stop'])\n"
    "    if 'close' in params:\n"
    "        targets.at_close('VTI')\n"
    "    if 'guard' in params:\n"
    "        targets.bracket('VTI', stop=params['guard'])\n"
    "    return targets\n"
)


@pytest.mark.parametrize(
    ("params", "filled"),
    [("{VTI: 4, limit: 252.509}", 252), ("{VTI: 4, limit: 251.509}", None), ("{VTI: 4, close: 1}", 252)],
)
def test_limits_and_orders_for_the_close_are_traded(studio, params, filled) -> None:
    (studio.project.strategies / "keep.py").write_text(LIMITED)
    studio.deploy("keep", params)
    studio.served.admin.until("open")
    made, _ = studio.work("keep")
    assert made.status == "PLANNED", made.reasons
    (sent,) = [request["doc"]["body"] for request in studio.served.sent()]
    if "limit" in params:
        assert (sent["type"], sent["limit_price"]) == ("limit", "252.5" if filled else "251.5")
    else:
        assert (sent["type"], sent["time_in_force"]) == ("market", "cls")
    studio.served.admin.until("close")
    with open_session(studio.project) as context:
        assert reconcile(context.book, context.broker).clean
    (order,) = read_book(studio.project).state.orders.values()
    fills = [event for event in read_book(studio.project).events() if event.kind == "FILLED"]
    assert [fill.price for fill in fills] == ([Decimal(filled)] if filled else [])
    assert order.status == ("FILLED" if filled else "EXPIRED")
    assert replay(studio.project, json.loads(json.dumps(record(read_book(studio.project), made.key)))).same


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ("{VTI: 4, stop: 260}", "uses a stop order, which is simulated only"),
        ("{VTI: 4, guard: 200}", "uses a bracket"),
        ("{VTI: 4, limit: 240, good: changed}", 'good until it is "changed"'),
    ],
)
def test_what_is_simulated_only_is_not_promoted(studio, params, says) -> None:
    (studio.project.strategies / "keep.py").write_text(LIMITED)
    with pytest.raises(RefusedError, match=says):
        studio.deploy("keep", params)


ENTRIES = (
    "def strategy(ctx, params):\n"
    "    targets = ctx.hold()\n"
    "    if ctx.position('VTI') == 0:\n"
    "        targets['VTI'] = params['VTI']\n"
    "    when = str(ctx.entry_time('VTI'))[:10]\n"
    "    seen = [ctx.entry_price('VTI'), ctx.unrealised('VTI'), ctx.bars_held('VTI'), when]\n"
    "    targets.remember({'seen': [repr(each) for each in seen]})\n"
    "    return targets\n"
)


def test_ctx_knows_live_what_a_position_cost_as_in_a_back_test(studio) -> None:
    """Bought at 252 on 6 January; on the 9th two shares are made of one, so that each cost 126."""
    (studio.project.strategies / "keep.py").write_text(ENTRIES)
    studio.deploy("keep", "{VTI: 4}", snapshot=studio.snapshot)
    seen = {}
    for _ in range(6):
        studio.served.admin.until("open")
        made, _ = studio.work("keep")
        assert made.status in ("PLANNED", "NO_ACTION"), made.reasons
        seen[made.evidence["pulse"]] = made.memory["seen"] if made.memory else None
        told = json.loads(json.dumps(record(read_book(studio.project), made.key)))
        assert replay(studio.project, told).same
        studio.served.admin.until("close")
    assert seen == {
        "2026-01-05": ["nan", "0.0", "0", "'None'"],
        "2026-01-06": ["252.0", "0.0", "1", "'2026-01-06'"],
        "2026-01-07": ["252.0", "-4.0", "2", "'2026-01-06'"],
        "2026-01-08": ["252.0", "12.0", "3", "'2026-01-06'"],
        "2026-01-09": ["126.0", "32.0", "4", "'2026-01-06'"],
        "2026-01-12": ["126.0", "40.0", "5", "'2026-01-06'"],
    }


def test_the_guardrails_of_a_deployment_block(studio) -> None:
    studio.deploy("keep", "{VTI: 4}", guardrails=WIDE.model_copy(update={"daily_spend_limit": Decimal(100)}))
    studio.served.admin.until("open")
    made, _ = studio.work("keep")
    assert made.status == "BLOCKED" and made.reasons[0].startswith("DAILY_SPEND: ")
    assert studio.served.sent() == []


def test_promotion_pins_what_was_researched(studio) -> None:
    studio.deploy("keep")
    made = find_deployment(studio.project, "keep")
    run = lp.run(lp.Catalogue(studio.project.strategies).experiment("keep"), studio.snapshot)
    told = run.provenance["experiment"]
    pinned = made.promoted
    assert (pinned.run, pinned.experiment_hash, pinned.source_hash, pinned.params_hash) == (
        run.run_id, told["hash"], told["strategy_hash"], told["params_hash"],
    )  # fmt: skip
    assert (pinned.by, pinned.reason, pinned.tier, pinned.snapshot.hash) == (
        "Ada Byron",
        "a test",
        1,
        studio.snapshot.hash,
    )
    with pytest.raises(NotFoundError):
        promote(studio.project, "0123456789abcdef0123", by="Ada", reason="test")
    studio.write("keep", "{VTI: 5}")
    with pytest.raises(RefusedError, match="the params of experiment 'keep' changed since it was made"):
        promote(studio.project, run.run_id, by="Ada", reason="test")
    with pytest.raises(lp.InputError, match="name of a person"):
        promote(studio.project, run.run_id, by=" ", reason="test")


@pytest.mark.parametrize(
    ("calendars", "hours", "says"),
    [
        (["XNYS", "24/7"], 0, "follows 2 calendars (24/7, XNYS)"),
        (["XNYS", "XNYS"], 15, "bars within the day"),
    ],
)
def test_what_cannot_be_followed_live_is_not_promoted(studio, calendars, hours, says) -> None:
    frame = studio.snapshot.bars.assign(symbol=lambda table: table["symbol"].astype(str))
    if hours:  # two bars a session, at 15:00 and 16:00 UTC
        twice = [frame.assign(ts=frame["ts"] + pd.Timedelta(hours=hour)) for hour in (hours, hours + 1)]
        frame = pd.concat(twice, ignore_index=True)
    instruments = pd.DataFrame(
        {"symbol": ["VTI", "VXUS"], "name": "fund", "currency": "USD", "calendar": calendars, "asset_class": "etf"}
    )
    other = lp.seal(frame, snapshot_id="other", root=studio.project.snapshots, instruments=instruments)
    with pytest.raises(RefusedError, match=re.escape(says)):
        studio.deploy("keep", snapshot=other)
    assert not (studio.project.strategies / "deployments").exists()


def test_promoting_again_keeps_what_was_set(studio) -> None:
    studio.deploy("keep", capital=Decimal(5000))
    studio.deploy("keep", "{VTI: 5}", guardrails=None)
    made = find_deployment(studio.project, "keep")
    assert made.capital == 5000 and made.guardrails == WIDE
    with pytest.raises(RefusedError, match="is there already"):
        studio.deploy("keep", "{VTI: 5}", book="another")


def test_the_pulse_is_the_session_before_over_weekends_and_holidays() -> None:
    from datetime import date

    assert pulse_of("XNYS", date(2026, 1, 5)) == date(2026, 1, 2)
    assert pulse_of("XNYS", date(2026, 1, 20)) == date(2026, 1, 16)  # Martin Luther King's day between
    assert pulse_of("XNYS", date(2026, 11, 27)) == date(2026, 11, 25)
