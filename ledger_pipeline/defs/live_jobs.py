"""When the live assets are made: around each session, when the broker did something, and when somebody asks."""

import dagster as dg

from ledger_pipeline.defs.live import (
    broker_account,
    live_ledger,
    live_positions,
    open_orders,
    reconciliation,
    session_orders,
)
from ledger_pipeline.defs.partitions import SESSIONS
from ledger_pipeline.defs.resources import TradingResource

# Once only is the book's work, not Dagster's; a retry of a run that sends orders would only delay what stopped it.
_TAGS = {"dagster/max_retries": "0", "dagster/max_runtime": "3600"}
_NEW_YORK = "America/New_York"

reconcile_session = dg.define_asset_job(
    "reconcile_session",
    selection=dg.AssetSelection.assets(broker_account, reconciliation, live_ledger, open_orders, live_positions),
    description="Compare the book with the broker, and read what the broker did. Sends nothing.",
    tags=_TAGS,
)
collect_fills = dg.define_asset_job(
    "collect_fills",
    selection=dg.AssetSelection.assets(live_ledger, open_orders, live_positions),
    description="Append what the broker did to the book. Sends nothing.",
    tags=_TAGS,
)
submit_orders = dg.define_asset_job(
    "submit_orders",
    selection=dg.AssetSelection.assets(
        broker_account, reconciliation, session_orders, live_ledger, open_orders, live_positions
    ),
    description="Reconcile, then send the legs in the config of session_orders, once, and follow them to the end.",
    tags=_TAGS,
)


@dg.schedule(
    job=reconcile_session,
    cron_schedule=["0 9 * * 1-5", "15 13 * * 1-5", "15 16 * * 1-5"],
    execution_timezone=_NEW_YORK,
    default_status=dg.DefaultScheduleStatus.STOPPED,
    description="Half an hour before the open and a quarter of an hour after the close of every session of the "
    "exchange calendar, early closes and holidays honoured.",
)
def reconcile_around_sessions(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """The reconciliation that is due at this tick, if one is."""
    from ledger_pipeline.trading.sessions import reconciliation_due

    tick = context.scheduled_execution_time
    due, why_not = reconciliation_due("XNYS", tick)
    if not due:
        return dg.SkipReason(why_not)
    session = tick.date().isoformat()
    context.instance.add_dynamic_partitions(SESSIONS, [session])
    return dg.RunRequest(run_key=f"{session} {due}", partition_key=session, tags={"due": due.replace(" ", "_")})


@dg.sensor(
    job=collect_fills,
    name="poll_fills",
    default_status=dg.DefaultSensorStatus.STOPPED,
    minimum_interval_seconds=30,
    description="Asks the broker for fills and other activities that the book does not have, and has them appended: at "
    "least once in, once in the book.",
)
def poll_fills(context: dg.SensorEvaluationContext, trading: TradingResource) -> dg.SensorResult | dg.SkipReason:
    """A run when the broker did something that the book does not know."""
    from ledger_pipeline.errors import LedgerPipelineError
    from ledger_pipeline.identity import hash_json
    from ledger_pipeline.trading.ingest import news_events
    from ledger_pipeline.trading.readings import read_news

    try:
        with trading.desk() as desk:
            state, session = desk.book.state, desk.session.isoformat()
            news = list(news_events(state, read_news(state, desk.broker)))
    except LedgerPipelineError as error:
        return dg.SkipReason(f"cannot ask: {error}")
    if not news:
        return dg.SkipReason("the book has everything that the broker did")
    key = hash_json([state.seq, [[event.kind, event.order_id, event.fill_id] for group in news for event in group]])
    return dg.SensorResult(
        run_requests=[dg.RunRequest(run_key=key, partition_key=session)],
        dynamic_partitions_requests=[dg.AddDynamicPartitionsRequest(SESSIONS, [session])],
    )
