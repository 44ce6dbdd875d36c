"""One session of one deployment: plan, guardrails, orders. The same for policies and strategies.

`plan_session` decides (or finds what was decided) and says why nothing is to be done; `work_session` sends. Both read
where they are from the book, so a second scheduler, a re-execution or a restart after a crash does nothing twice:

    nothing in the book            decide; NO_ACTION and BLOCKED are recorded and do not use the period up
    decided, orders not settled    the same decision goes on
    decided, orders settled        done already; only a person, with a reason, has it decided again
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from ledger_pipeline.core.errors import BlockedError, IntegrityError, RefusedError
from ledger_pipeline.core.identity import hash_json
from ledger_pipeline.core.times import end_of
from ledger_pipeline.logs import get_logger
from ledger_pipeline.market.snapshot import open_snapshot
from ledger_pipeline.trading.deployment import decision as decisions
from ledger_pipeline.trading.deployment.account import plan_account, trades_evidence
from ledger_pipeline.trading.deployment.decision import BLOCKED, NO_ACTION, PLANNED, Decision, Key, Timeline, key_at
from ledger_pipeline.trading.deployment.decision_replay import replay
from ledger_pipeline.trading.deployment.deployment import Deployment, capitals, policy_of, schedule_of
from ledger_pipeline.trading.deployment.live_bars import LiveBars, live_bars, require_followable
from ledger_pipeline.trading.deployment.owned import moves, owned
from ledger_pipeline.trading.orders import halts
from ledger_pipeline.trading.orders.execution_context import ExecutionContext
from ledger_pipeline.trading.orders.executor import TIMEOUT, Execution, execute
from ledger_pipeline.trading.orders.funds import PRICE_MARGIN
from ledger_pipeline.trading.orders.legs import Leg
from ledger_pipeline.trading.orders.submit import append_once
from ledger_pipeline.trading.planning import plan as planned
from ledger_pipeline.trading.planning.facts import read_facts
from ledger_pipeline.trading.planning.guardrails import (
    Asked,
    Verdict,
    check,
    check_plan,
    guard,
    reasons_of,
    warn_once,
)
from ledger_pipeline.trading.planning.planner import plan
from ledger_pipeline.trading.planning.policy import Guardrails
from ledger_pipeline.trading.session_context import SessionContext

if TYPE_CHECKING:
    from ledger_pipeline.project import Project

_CODE = re.compile(r"[A-Z][A-Z_]+: ")


@dataclass(frozen=True)
class Planned:
    """A decision, and whether the book had it already. settled: whether nothing is left to do for it."""

    decision: Decision
    resumed: bool = False
    settled: bool = False


def default_granularity(project: Project, deployment: Deployment) -> str:
    """How often a deployment decides when nobody says otherwise: as often as its schedule does."""
    return {
        "session": decisions.DAILY,
        "week": decisions.WEEKLY,
        "month": decisions.MONTHLY,
        "quarter": decisions.QUARTERLY,
    }[schedule_of(project, deployment).every]


def plan_session(
    project: Project,
    context: SessionContext,
    deployment: Deployment,
    *,
    granularity: str | None = None,
    again: str | None = None,
    dry_run: bool = False,
    timeline: Timeline | None = None,
) -> Planned:
    """Decide for the session that is on, or find what was decided. again: a person's reason to decide once more in a
    period that is used up. dry_run: nothing is recorded, and a period that is used up is planned for all the same.

    RefusedError when the period was used up by another policy or experiment than that of now; InputError and
    NotFoundError for files that are not sound; BrokerError when the broker cannot be read. Nothing is recorded then.
    """
    clock = timeline or Timeline()
    every = granularity or default_granularity(project, deployment)
    key = key_at(deployment.name, context.session, every, context.now)
    if not dry_run:
        planned = _known(context, key, every, again, lambda: _identity(project, deployment))
        if isinstance(planned, Planned):
            return planned
        key = planned
    decision = _decide(project, context, deployment, key, every, clock)
    halted = halts.check(context.book.state, root=project.root, strategy=deployment.name)
    decision = replace(decision, timeline=tuple(clock.events), again=again, notes=(*decision.notes, *halted))
    if not dry_run and (decision.status != PLANNED or not decision.legs):
        _record(context, decision)
    log = get_logger("deployment").bind(decision=key.id, book=context.book.name, dry_run=dry_run)
    for verdict in decision.verdicts:
        log.log(logging.WARNING if verdict.blocks else logging.INFO, verdict.guardrail, says=verdict.sentence)
    level = logging.WARNING if decision.status == BLOCKED else logging.INFO
    log.log(
        level,
        "decided",
        status=decision.status,
        legs=len(decision.legs),
        hash=decision.hash,
        why=list(decision.reasons),
    )
    return Planned(decision)


def _known(
    context: SessionContext, key: Key, every: str, again: str | None, identity: Callable[[], str]
) -> Planned | Key:
    """The decision that the book has for the period of `key`, or the key to decide under."""
    orders = decisions.orders_by_decision(context.book.state, key.deployment)
    taken = [one.number for one in orders if (one.session, one.hour) == (key.session, key.hour)]
    free = replace(key, number=max(taken, default=0) + 1)
    period = key.period(every)
    in_period = [one for one, rows in orders.items() if one.uses_up(key, every) and decisions.used(rows)]
    if not in_period:
        return free
    latest = max(in_period, key=lambda one: (one.session, one.number))
    going_on = latest.session == key.session and any(not order.is_settled for order in orders[latest])
    if again and not going_on:
        return free
    decision = recorded(context, latest)
    if decision.identity != identity() and not going_on:
        raise RefusedError(
            f"deployment {key.deployment!r} was worked in {period} already ({latest.id}), and its policy or experiment "
            "has changed since; it decides once a period. To have it decide again now, give a reason with --again."
        )
    return Planned(decision, resumed=True, settled=not going_on)


def recorded(context: SessionContext, key: Key) -> Decision:
    """A decision as the book has it. RefusedError when orders were sent under its name by hand."""
    events = [
        event for owner, event in decisions.decided_events(context.book) if owner == key and event.kind == "DECIDED"
    ]
    document = decisions.document_of(events[-1]) if events else None
    if document is None:
        raise RefusedError(
            f"orders were sent by hand under {key.id}, the name of a deployment's decision; nothing is decided in this "
            "period. To have it decide all the same, give a reason with --again."
        )
    return decisions.from_json(document)


def _identity(project: Project, deployment: Deployment) -> str:
    """What decides, as a hash: the whole policy, or the experiment that was promoted."""
    return policy_of(project, deployment).hash if deployment.policy else deployment.pinned.experiment_hash


def _record(context: SessionContext, decision: Decision) -> None:
    """Record a decision that leads to no order, unless the last thing said of it is the same."""
    if decision.memory is None:
        append_once(context.book, decision.event())
    else:
        context.book.append([decision.event()])


def _decide(
    project: Project, context: SessionContext, deployment: Deployment, key: Key, every: str, clock: Timeline
) -> Decision:
    blank = Decision(key, context.book.name, every, BLOCKED, context.now, (), (), "", "", {})
    try:
        if deployment.policy:
            return _decide_policy(project, context, deployment, blank, clock)
        return _decide_strategy(project, context, deployment, blank, clock)
    except BlockedError as error:
        clock.note("blocked", context.now)
        reason = str(error) if _CODE.match(str(error)) else f"BLOCKED: {error}"
        return replace(blank, identity=_identity(project, deployment), reasons=(reason,))


def _decide_policy(
    project: Project, context: SessionContext, deployment: Deployment, blank: Decision, clock: Timeline
) -> Decision:
    clock.note("policy_load_start", context.now)
    policy = policy_of(project, deployment)
    clock.note("policy_load_complete", context.now)
    others = capitals(project, deployment)
    account, trades = plan_account(context.book, context.broker, deployment, policy, others, context.now)
    clock.note("allocation_start", context.now)
    outcome = plan(policy, account)
    clock.note("allocation_complete", context.now)
    evidence = {
        "policy": policy.document,
        "account": account.to_json(),
        "trades": trades_evidence(trades),
        "plan": outcome.to_json(),
    }
    legs = planned.legs_of(outcome, deployment.name)
    decision = replace(
        blank, identity=policy.hash, hash=outcome.hash, evidence=evidence, prices=dict(account.prices),
        notes=tuple(f"{note.code}: {note.sentence}" for note in outcome.notes), reasons=outcome.why,
    )  # fmt: skip
    if outcome.status != planned.PLANNED:
        return replace(decision, status=NO_ACTION if outcome.status == planned.NO_ACTION else BLOCKED)
    clock.note("safety_checks_start", context.now)
    facts = replace(_facts(context, deployment, legs), valued=trades)
    verdicts = check_plan(outcome, policy.limits, facts)
    clock.note("safety_checks_complete", context.now)
    return _judged(replace(decision, legs=legs), verdicts)


def _decide_strategy(
    project: Project, context: SessionContext, deployment: Deployment, blank: Decision, clock: Timeline
) -> Decision:
    # The simulator is 60 MB, which a process that trades policies does not need.
    from ledger_pipeline.strategy.catalogue import Catalogue
    from ledger_pipeline.trading.deployment.strategy import evaluate, promoted_experiment

    clock.note("strategy_load_start", context.now)
    experiment = promoted_experiment(Catalogue(project.strategies), deployment)
    clock.note("strategy_load_complete", context.now)
    bars = session_bars(project, context, deployment)
    clock.note("bars_sealed", context.now)
    others = capitals(project, deployment)
    own = owned(
        context.book.events(), deployment.name, until=end_of(bars.pulse), capital=deployment.capital, others=others
    )
    before = decisions.memory_of(context.book, deployment.name)
    clock.note("evaluation_start", context.now)
    evaluation = evaluate(
        experiment, bars.snapshot, deployment=deployment.name, seed=deployment.pinned.seed, cash=own.cash,
        positions=own.positions, memory=before, ratios=bars.ratios,
        moves=moves(context.book.events(), deployment.name, until=end_of(bars.pulse)),
    )  # fmt: skip
    clock.note("evaluation_complete", context.now)
    evidence = {
        "pulse": bars.pulse.isoformat(),
        "inputs": dict(evaluation.inputs),
        "orders": [dict(one) for one in evaluation.orders],
        "seen": dict(evaluation.seen),
        "seen_hash": hash_json(dict(evaluation.seen)),
        "deployment": hash_json(deployment.model_dump(mode="json")),
    }
    decision = replace(
        blank, identity=deployment.pinned.experiment_hash, hash=evaluation.hash, evidence=evidence,
        prices=dict(evaluation.prices), notes=evaluation.notes,
        memory=None if evaluation.memory == before else evaluation.memory,
    )  # fmt: skip
    if not evaluation.legs:
        why = "NO_ORDERS: what the strategy wants is what it holds"
        if evaluation.memory == before:
            return replace(decision, status=NO_ACTION, reasons=(*evaluation.notes, why))
        return replace(decision, status=PLANNED, reasons=(*evaluation.notes, why))
    clock.note("safety_checks_start", context.now)
    facts = _facts(context, deployment, evaluation.legs)
    asked = [
        Asked(leg.symbol, leg.side, _amount(leg, facts.trades or {}), evaluation.prices.get(leg.symbol))
        for leg in evaluation.legs
    ]
    verdicts = check(asked, limits_of(project, deployment), facts)
    clock.note("safety_checks_complete", context.now)
    codes = sorted({code for leg in evaluation.legs for code in leg.reasons})
    reason = f"TARGETS: {len(evaluation.legs)} orders lead to what the strategy wants "
    reason += f"({', '.join(codes) or 'no reasons given'})"
    return _judged(replace(decision, legs=evaluation.legs, reasons=(reason,)), verdicts)


def seal_session(project: Project, context: SessionContext, deployment: Deployment) -> LiveBars | Decision:
    """The bars of a strategy deployment for the session that is on, sealed; or the decision to trade nothing, which is
    recorded then, with the reason.
    """
    try:
        return session_bars(project, context, deployment)
    except BlockedError as error:
        every = default_granularity(project, deployment)
        key = key_at(deployment.name, context.session, every, context.now)
        blocked = Decision(key, context.book.name, every, BLOCKED, context.now, (str(error),), (), "", "", {})
        blocked = replace(blocked, identity=_identity(project, deployment))
        _record(context, blocked)
        return blocked


def session_bars(project: Project, context: SessionContext, deployment: Deployment) -> LiveBars:
    """The sealed bars that a strategy deployment decides on in the session that is on; see `bars.live_bars`."""
    from ledger_pipeline.strategy.catalogue import Catalogue
    from ledger_pipeline.trading.deployment.strategy import promoted_experiment

    promoted = deployment.pinned
    snapshot = open_snapshot(promoted.snapshot.id, root=project.snapshots)
    if snapshot.hash != promoted.snapshot.hash:
        raise RefusedError(
            f"deployment {deployment.name!r} was promoted on snapshot {promoted.snapshot.hash[:16]}, and "
            f"{snapshot.id!r} is {snapshot.hash[:16]}; promote a run on this one."
        )
    experiment = promoted_experiment(Catalogue(project.strategies), deployment)
    symbols = experiment.spec.universe or snapshot.symbols
    require_followable(snapshot, symbols)
    return live_bars(
        project.live_snapshots, snapshot, deployment.name, context.session, symbols,
        broker=context.broker, feed=deployment.feed, max_jump=deployment.max_jump, now=context.now,
    )  # fmt: skip


def limits_of(project: Project, deployment: Deployment) -> Guardrails:
    """The guardrails of a deployment."""
    return policy_of(project, deployment).limits if deployment.policy else deployment.guardrails


def _facts(context: SessionContext, deployment: Deployment, legs: tuple[Leg, ...]) -> Any:
    symbols = [leg.symbol for leg in legs]
    return read_facts(
        context.broker,
        context.book.state,
        context.broker.account(),
        symbols,
        strategy=deployment.name,
        session=context.session,
    )


def _amount(leg: Leg, trades: Mapping[str, Any]) -> Decimal | None:
    """Dollars that a leg may cost or bring at most; None without a price."""
    if leg.notional is not None:
        return leg.notional
    trade = trades.get(leg.symbol)
    return None if trade is None else leg.quantity * trade.price * PRICE_MARGIN


def _judged(decision: Decision, verdicts: tuple[Verdict, ...]) -> Decision:
    blocked = reasons_of(verdicts)
    if blocked:
        return replace(decision, verdicts=verdicts, status=BLOCKED, reasons=blocked)
    return replace(decision, verdicts=verdicts, status=PLANNED)


def verified(project: Project, context: SessionContext, decision: Decision) -> Decision:
    """The decision itself, after it was made again from its own record and came out the same; one that stands in the
    book is taken from there. IntegrityError when it is not what was decided.
    """
    known = decisions.orders_by_decision(context.book.state, decision.key.deployment).get(decision.key)
    stored = recorded(context, decision.key) if known else decision
    if stored.hash != decision.hash or not replay(project, stored.to_json()).same:
        raise IntegrityError(
            f"decision {decision.key.id} is not what was decided ({decision.hash[:16]}); decide again. Nothing was "
            "sent."
        )
    return stored


def work_session(
    project: Project,
    context: SessionContext,
    deployment: Deployment,
    decision: Decision,
    *,
    timeout: float = TIMEOUT,
    on_progress: Callable[[str], None] | None = None,
    execution: ExecutionContext | None = None,
) -> Execution:
    """Send the legs of a decision, each once, and follow them until their fills add up or time is up.

    Raises what `execute` raises; RefusedError for a decision that is not PLANNED.
    """
    if decision.status != PLANNED:
        raise RefusedError(
            f"decision {decision.key.id} is {decision.status}: {'; '.join(decision.reasons)}. Nothing was sent."
        )
    if not decision.legs:
        return Execution(decision.key.id, decision.key.session, (), decision.reasons, "NO_ACTION")
    tell = on_progress or (lambda text: None)
    limits = limits_of(project, deployment)
    done = execute(
        decision.legs, context.book, context.broker, policy=decision.key.policy, session=decision.key.session,
        decided=decision.event(),
        guards=(guard(limits, context.broker, decision.prices, warn_once(tell)),), timeout=timeout,
        on_progress=on_progress, context=execution or ExecutionContext(root=project.root),
    )  # fmt: skip
    log = get_logger("deployment").bind(decision=done.decision, book=context.book.name)
    level = logging.INFO if done.status == "DONE" else logging.WARNING
    log.log(
        level, "worked", status=done.status, orders=[order.order_id for order in done.orders], notes=list(done.notes)
    )
    return done
