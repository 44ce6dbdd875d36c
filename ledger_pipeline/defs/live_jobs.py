"""When the live assets are made: around each session, when a deployment is due, when the broker did something, and when
somebody asks.
"""

import functools
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg

from ledger_pipeline.defs.partitions import BOOKS, POLICIES, SESSIONS, STRATEGIES, account_key, add_partitions, live_key
from ledger_pipeline.defs.resources import TradingResource

if TYPE_CHECKING:
    from ledger_pipeline.trading.deployment.deployment import Deployment
    from ledger_pipeline.trading.session_context import SessionContext

# Once only is the book's work, not Dagster's; a retry of a run that sends orders would only delay what stopped it.
_TAGS = {"dagster/max_retries": "0", "dagster/max_runtime": "3600"}
_NEW_YORK = "America/New_York"
ASKED_AT = "ledger_pipeline/asked_at"  # the broker's time at which a schedule asked for a run
ATTEMPTS = 20  # of one deployment in one session
PAUSE, LONGEST_PAUSE = timedelta(minutes=5), timedelta(minutes=30)
_ACCOUNT = ("broker_account", "reconciliation")
_BOOK = ("live_ledger", "open_orders", "live_positions")
POLICY_STEPS = ("dca_plan", "dca_orders")
STRATEGY_STEPS = ("live_snapshot", "strategy_decision", "strategy_orders")
_ATTRIBUTION = ("trade_entries", "strategy_lots", "attribution_report", "strategy_performance")


def _job(name: str, description: str, *assets: str) -> Any:
    return dg.define_asset_job(name, dg.AssetSelection.assets(*assets), description=description, tags=_TAGS)


reconcile_session = _job(
    "reconcile_session",
    "Compare the book with the broker, and read what the broker did. Sends nothing.",
    *_ACCOUNT, *_BOOK,
)  # fmt: skip
collect_fills = _job("collect_fills", "Append what the broker did to the book. Sends nothing.", *_BOOK)
attribute_session = _job(
    "attribute_session",
    "The book of a session as tables: its events, what is open and held, who owns which lot and what each strategy "
    "earned. Sends nothing.",
    *_BOOK, *_ATTRIBUTION,
)  # fmt: skip
submit_orders = _job(
    "submit_orders",
    "Reconcile, then send the legs in the config of session_orders, once, and follow them to the end.",
    *_ACCOUNT, "session_orders", *_BOOK,
)  # fmt: skip
trade_policy = _job(
    "trade_policy",
    "One session of a policy: reconcile the account, plan, check, send once, follow, reconcile again. The tables of "
    "the account are made by attribute_session.",
    *POLICY_STEPS,
)
trade_strategy = _job(
    "trade_strategy",
    "One session of a promoted strategy: seal its bars, reconcile the account, decide, check, send once, follow, "
    "reconcile again. The tables of the account are made by attribute_session.",
    *STRATEGY_STEPS,
)


def _contexts(
    context: Any, name: str, opened: "Callable[[], AbstractContextManager[SessionContext]]"
) -> "Iterator[SessionContext]":
    """The context of a session, if it can be opened; why it cannot is logged."""
    from ledger_pipeline.core.errors import LedgerPipelineError

    try:
        with opened() as live:
            yield live
    except LedgerPipelineError as error:
        context.log.warning(f"{name}: {error}")


def _books(trading: TradingResource) -> list[str]:
    from ledger_pipeline.trading.deployment.deployment import books_of

    return list(books_of(trading.project))


def _add(context: Any, definition: str, name: str, session: str) -> None:
    add_partitions(context.instance, definition, name)
    add_partitions(context.instance, SESSIONS, session)


@dg.schedule(
    job=reconcile_session,
    cron_schedule=["0 9 * * 1-5", "15 13 * * 1-5", "15 16 * * 1-5"],
    execution_timezone=_NEW_YORK,
    default_status=dg.DefaultScheduleStatus.STOPPED,
    description="Every book, half an hour before the open and a quarter of an hour after the close of every session of "
    "the exchange calendar, early closes and holidays honoured.",
)
def reconcile_around_sessions(
    context: dg.ScheduleEvaluationContext, trading: TradingResource
) -> list[dg.RunRequest] | dg.SkipReason:
    """The reconciliations that are due at this tick, if they are."""
    from ledger_pipeline.trading.session_hours import reconciliation_due

    tick = context.scheduled_execution_time
    due, why_not = reconciliation_due("XNYS", tick)
    if not due:
        return dg.SkipReason(why_not)
    session, books = tick.date().isoformat(), _books(trading)
    if not books:
        return dg.SkipReason("there is no book yet; `ledger-pipeline book adopt` begins one")
    for name in books:
        _add(context, BOOKS, name, session)
    return [
        dg.RunRequest(
            run_key=f"{name} {session} {due}",
            partition_key=account_key(name, session),
            tags={"due": due.replace(" ", "_"), "book": name},
        )
        for name in books
    ]


def _trading_schedule(name: str, job: Any, kind: str) -> dg.ScheduleDefinition:
    """The schedule that has the deployments of a kind trade when they are due."""

    @dg.schedule(
        name=name,
        job=job,
        cron_schedule="*/5 9-16 * * 1-5",
        execution_timezone=_NEW_YORK,
        default_status=dg.DefaultScheduleStatus.STOPPED,
        description=f"Every deployed {kind} from the session of its schedule on, ten minutes after the open or as many "
        "as it says, by the broker's clock and the exchange calendar, until it has bought or decided to buy nothing. "
        "What was missed, blocked or interrupted is tried again, at growing intervals.",
    )
    def schedule(
        context: dg.ScheduleEvaluationContext, trading: TradingResource
    ) -> list[dg.RunRequest] | dg.SkipReason:
        from ledger_pipeline.trading.deployment.deployment import scheduled_names
        from ledger_pipeline.trading.deployment.due import due

        requests, reasons = [], []
        for name in scheduled_names(trading.project):
            deployment = _deployed(trading, context, name)
            if deployment is None or (deployment.policy is not None) != (kind == "policy"):
                continue
            for live in _contexts(context, name, functools.partial(trading.open_session, deployment.name)):
                asked = due(trading.project, deployment, live.book, live.now, live.session)
                session, at = live.session.isoformat(), live.now.isoformat()
                attempt, wait = _attempts(context.instance, name, session, live.now) if asked.now else (0, asked.why)
                if wait:
                    reasons.append(f"{name}: {wait}")
                    continue
                _add(context, POLICIES if kind == "policy" else STRATEGIES, name, session)
                tags = {
                    "deployment": name,
                    "session": session,
                    "book": live.book.name,
                    ASKED_AT: at,
                    "why": asked.why,
                }
                requests.append(
                    dg.RunRequest(
                        run_key=f"{name} {session} {attempt} {context.scheduled_execution_time:%H:%M}",
                        partition_key=live_key(name, session),
                        tags=tags | {"attempt": str(attempt)},
                    )
                )
        return requests or dg.SkipReason("; ".join(reasons) or f"there is no deployed {kind} whose book can be opened")

    return schedule


def _deployed(trading: TradingResource, context: Any, name: str) -> "Deployment | None":
    """A deployment, None when its file is not sound; a faulty one keeps no other from trading."""
    from ledger_pipeline.core.errors import LedgerPipelineError

    try:
        return trading.deployment(name)
    except LedgerPipelineError as error:
        context.log.error(f"{name}: {error}")
        return None


def _attempts(instance: dg.DagsterInstance, name: str, session: str, now: datetime) -> tuple[int, str]:
    """The number of the next attempt of a deployment in a session, and why it is not made now (empty when it is).

    The pause after an attempt grows by five minutes with each, to half an hour at most; an attempt that is under way
    is waited for.
    """
    runs = instance.get_runs(dg.RunsFilter(tags={"deployment": name, "session": session}), limit=ATTEMPTS + 1)
    runs = [_freed(instance, run, now) for run in runs if ASKED_AT in run.tags]
    if any(not run.is_finished for run in runs):
        return len(runs) + 1, f"{session}: attempt {len(runs)} is under way"
    if len(runs) >= ATTEMPTS:
        return len(runs) + 1, f"{session}: {ATTEMPTS} attempts were made; the next session goes on"
    last = max((datetime.fromisoformat(run.tags[ASKED_AT]) for run in runs), default=None)
    again = None if last is None else last + min(len(runs) * PAUSE, LONGEST_PAUSE)
    if again is not None and now < again:
        return len(
            runs
        ) + 1, f"{session}: attempt {len(runs)} was made at {last:%H:%M}, the next is at {again:%H:%M} UTC"
    return len(runs) + 1, ""


def _freed(instance: dg.DagsterInstance, run: dg.DagsterRun, now: datetime) -> dg.DagsterRun:
    """The run, failed when the process that made it ended before it was handed on: nothing else would ever begin it."""
    age = now - datetime.fromisoformat(run.tags[ASKED_AT])
    if run.status != dg.DagsterRunStatus.NOT_STARTED or age < PAUSE:
        return run
    instance.report_run_failed(run, "The process that made this run ended before it was begun.")
    return instance.get_run_by_id(run.run_id) or run


trade_policies = _trading_schedule("trade_policies", trade_policy, "policy")
trade_strategies = _trading_schedule("trade_strategies", trade_strategy, "strategy")


@dg.sensor(
    job=collect_fills,
    name="poll_fills",
    default_status=dg.DefaultSensorStatus.STOPPED,
    minimum_interval_seconds=30,
    description="Asks the broker of every book for fills and other activities that the book does not have, and has "
    "them appended: at least once in, once in the book.",
)
def poll_fills(context: dg.SensorEvaluationContext, trading: TradingResource) -> dg.SensorResult | dg.SkipReason:
    """A run for every book whose broker did something that the book does not know."""
    from ledger_pipeline.core.errors import LedgerPipelineError
    from ledger_pipeline.core.identity import hash_json
    from ledger_pipeline.trading.reconciliation.ingest import news_events
    from ledger_pipeline.trading.reconciliation.readings import read_news

    requests, reasons = [], []
    try:
        books = _books(trading)
    except LedgerPipelineError as error:
        return dg.SkipReason(f"cannot ask: {error}")
    for name in books:
        try:
            with trading.account(name) as live:
                state, session = live.book.state, live.session.isoformat()
                news = list(news_events(state, read_news(state, live.broker)))
        except LedgerPipelineError as error:
            reasons.append(f"cannot ask: {error}")
            continue
        if not news:
            reasons.append(f"{name}: the book has everything that the broker did")
            continue
        news_key = [name, state.seq, [[event.kind, event.order_id, event.fill_id] for group in news for event in group]]
        _add(context, BOOKS, name, session)
        requests.append(
            dg.RunRequest(run_key=hash_json(news_key), partition_key=account_key(name, session), tags={"book": name})
        )
    return dg.SensorResult(requests) if requests else dg.SkipReason("; ".join(reasons) or "there is no book yet")


@dg.sensor(
    job=attribute_session,
    name="attribute_fills",
    default_status=dg.DefaultSensorStatus.STOPPED,
    minimum_interval_seconds=30,
    description="Has the tables of a session and the attribution made when something has arrived in a book.",
)
def attribute_fills(context: dg.SensorEvaluationContext, trading: TradingResource) -> dg.SensorResult | dg.SkipReason:
    """A run for every book with events that are in no table yet; the cursor holds the seq of each."""
    from ledger_pipeline.core.errors import LedgerPipelineError

    seen: dict[str, int] = json.loads(context.cursor or "{}")
    requests = []
    for name in _books(trading):
        try:
            book = trading.read_book(name)
        except LedgerPipelineError as error:
            context.log.warning(f"{name}: {error}")
            continue
        fresh = [event for event in book.events(seen.get(name, 0)) if event.kind != "RECONCILED"]
        if not fresh:
            continue
        seen[name] = fresh[-1].seq
        session = max(event.occurred_at for event in fresh).date().isoformat()
        _add(context, BOOKS, name, session)
        key = account_key(name, session)
        requests.append(dg.RunRequest(run_key=f"{name} {seen[name]}", partition_key=key, tags={"book": name}))
    if not requests:
        return dg.SkipReason("nothing arrived that is in no table yet")
    return dg.SensorResult(requests, cursor=json.dumps(seen, sort_keys=True))


@dg.sensor(
    name="alert",
    default_status=dg.DefaultSensorStatus.STOPPED,
    minimum_interval_seconds=60,
    description="Tells of BLOCKED, breaks, halts, refused orders and missed sessions: in the log, and to the webhook "
    "in LEDGER_PIPELINE_WEBHOOK when it is set.",
)
def alert(context: dg.SensorEvaluationContext, trading: TradingResource) -> dg.SensorResult | dg.SkipReason:
    """Alerts of every book since the cursor; it moves only when they were told."""
    from ledger_pipeline.core.errors import LedgerPipelineError
    from ledger_pipeline.trading.deployment.alerts import alerts, missed_sessions, post, webhook

    seen: dict[str, Any] = json.loads(context.cursor or '{"seq": {}, "missed": []}')
    items = []
    for name in _books(trading):
        try:
            book = trading.read_book(name)
        except LedgerPipelineError as error:
            context.log.error(f"{name}: {error}")
            continue
        items += alerts(book, seen["seq"].get(name, 0))
        missing = []
        # without its broker only the book is told of
        for live in _contexts(context, name, functools.partial(trading.account, name)):
            missing = missed_sessions(trading.project, book, live.session, seen["missed"])
        items += missing
        seen["seq"][name] = book.state.seq
        seen["missed"] = [*seen["missed"], *(item.text for item in missing)][-200:]
    for item in items:
        context.log.error(f"book {item.book}: {item.text}")
    try:
        url = webhook()
        if url:
            post(items, url)
    except LedgerPipelineError as error:
        context.log.error(str(error))
        return dg.SkipReason(f"{len(items)} alerts are kept: {error}")
    return dg.SensorResult(
        cursor=json.dumps(seen, sort_keys=True),
        skip_reason=dg.SkipReason("; ".join(item.text for item in items)[:2000] or "all is well"),
    )
