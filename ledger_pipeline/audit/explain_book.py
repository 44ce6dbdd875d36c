"""The links behind what a live book holds: fill, order, decision, what was seen, deployment."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ledger_pipeline.audit.explain_run import link_of_snapshot, links_of_run
from ledger_pipeline.audit.explanation import Link, verdict
from ledger_pipeline.core.errors import LedgerPipelineError, NotFoundError
from ledger_pipeline.core.identity import hash_json
from ledger_pipeline.trading.deployment import decision as decisions
from ledger_pipeline.trading.deployment.decision_replay import replay
from ledger_pipeline.trading.deployment.deployment import deployments_of, find_deployment
from ledger_pipeline.trading.rows import event_row, order_row
from ledger_pipeline.trading.session_context import read_book

if TYPE_CHECKING:
    from ledger_pipeline.book.book import Book
    from ledger_pipeline.core.events import Event
    from ledger_pipeline.project import Project


def chain_of_book(project: Project, subject: str, book: str | None) -> list[Link] | None:
    """The links behind an order, a fill or a decision of a book; None when no book has it."""
    for opened in _books(project, book):
        events = [event for event in opened.events() if subject in _names(event)]
        if events:
            return list(_links(project, opened, subject, events))
    return None


def _books(project: Project, book: str | None) -> Iterator[Book]:
    if book is not None:
        yield read_book(project, book)
        return
    for path in sorted(project.books.iterdir()) if project.books.is_dir() else []:
        if path.is_dir():
            yield read_book(project, path.name)


def _names(event: Event) -> set[str | None]:
    return {event.order_id, event.broker_order_id, event.fill_id, event.correlation_id, event.event_id}


def _links(project: Project, book: Book, subject: str, events: list[Event]) -> Iterator[Link]:
    fill = next((event for event in events if event.fill_id == subject or event.event_id == subject), None)
    order_id = (fill or events[0]).order_id if not _is_decision(subject) else None
    if fill is not None:
        yield _event(book, fill)
    if order_id is not None:
        yield _order(book, order_id, with_fills=fill is None)
    correlation = events[0].correlation_id
    key = decisions.key_of(correlation)
    if key is None:
        yield Link("asked for by", correlation or "nobody that the book knows", command="ledger-pipeline book show")
    else:
        yield from _decision(project, book, key)
    yield _book_link(book)


def _is_decision(subject: str) -> bool:
    return decisions.key_of(subject) is not None


def _event(book: Book, event: Event) -> Link:
    row = {name: value for name, value in event_row(event).items() if value not in (None, "")}
    title = f"{row.get('side', event.kind)} {row.get('amount', '')} {row.get('symbol', '')} at {row.get('price', '')}"
    facts = row | {"fill_id": event.fill_id, "broker_order_id": event.broker_order_id}
    return Link("fill" if event.fill_id else "event", title, facts)


def _order(book: Book, order_id: str, with_fills: bool) -> Link:
    row = order_row(book.state.orders[order_id])
    shown = ("seq", "occurred_at", "kind", "amount", "price")
    rows = [event_row(e) for e in book.events() if e.order_id == order_id and (with_fills or e.kind != "FILLED")]
    history = [{name: event[name] for name in shown if event[name]} for event in rows]
    title = f"{row['side']} {row['amount']} {row['symbol']} for {row['strategy']}, {row['status']}"
    return Link("order", title, {"order_id": order_id, "reasons": row["why"], "history": history})


def _decision(project: Project, book: Book, key: decisions.Key) -> Iterator[Link]:
    try:
        document = decisions.record(book, key)
    except NotFoundError as error:
        yield Link("decision", key.id, verdict=str(error))
        return
    evidence = document["evidence"]

    def again() -> str | None:
        replayed = replay(project, document)
        return None if replayed.same else f"decided again it is {replayed.replayed[:16]}, not {replayed.recorded[:16]}"

    yield Link(
        "decision",
        f"{key.id}: {document['status']} at {document['at']}",
        {
            "reasons": document["reasons"],
            "legs": [" ".join(str(v) for v in _leg(leg)) for leg in document["legs"]],
            "guardrails that did not pass": [row["sentence"] for row in document["verdicts"] if not row["passed"]],
            "hash": document["hash"],
            "seq": document["seq"],
        },
        verdict(again) if "inputs" in evidence or "policy" in evidence else "",
        command=f"ledger-pipeline dca replay {key.id}",
    )
    yield from _seen(project, evidence)
    yield from _decided_by(project, book, key.deployment, evidence)


def _leg(leg: dict[str, Any]) -> list[str]:
    amount = f"{leg['quantity']} shares" if leg.get("quantity") else f"${leg.get('notional')}"
    return [leg["side"], amount, leg["symbol"], f"({', '.join(leg['reasons'])})"]


def _seen(project: Project, evidence: dict[str, Any]) -> Iterator[Link]:
    """What the strategy saw, or the account that a policy planned over."""
    if "inputs" not in evidence:
        if "account" in evidence:
            account = evidence["account"]
            facts = {name: value for name, value in account.items() if not isinstance(value, dict | list)}
            facts |= {
                "prices": account.get("prices", {}),
                "holdings": account.get("holdings", account.get("positions", {})),
            }
            yield Link("what it was planned over", "the account as the broker stated it", facts)
        return
    inputs = evidence["inputs"]
    recorded = evidence.get("seen")

    def again() -> str | None:
        fresh = _seen_again(project, inputs)
        if recorded is None or fresh == recorded:
            return None
        symbol = next(name for name in fresh | recorded if fresh.get(name) != recorded.get(name))
        return f"{symbol} is now {fresh.get(symbol)}, and was {recorded.get(symbol)}"

    shown = recorded
    if shown is None:
        try:
            shown = _seen_again(project, inputs)
        except LedgerPipelineError:
            shown = {}
    yield Link(
        "what it saw",
        f"the bars up to {evidence.get('pulse', 'the pulse')}",
        {
            **{symbol: {name: float(value) for name, value in row.items()} for symbol, row in shown.items()},
            "positions": inputs["positions"] or "none",
            "cash": inputs["cash"],
            "memory": inputs["memory"],
            "hash": evidence.get("seen_hash")
            or f"{hash_json(shown)} (made now: the decision is older than its record)",
        },
        verdict(again),
    )
    yield link_of_snapshot(inputs["snapshot"]["id"], project.live_snapshots, inputs["snapshot"]["hash"], project)


def _seen_again(project: Project, inputs: dict[str, Any]) -> dict[str, Any]:
    from ledger_pipeline.market.snapshot import open_snapshot
    from ledger_pipeline.trading.deployment.decision_replay import recorded_experiment
    from ledger_pipeline.trading.deployment.strategy import seen_by

    snapshot = open_snapshot(inputs["snapshot"]["id"], root=project.live_snapshots)
    return seen_by(recorded_experiment(project, inputs), snapshot)


def _decided_by(project: Project, book: Book, name: str, evidence: dict[str, Any]) -> Iterator[Link]:
    path = deployments_of(project) / f"{name}.yaml"
    try:
        deployment = find_deployment(project, name, book.name)
    except LedgerPipelineError as error:
        yield Link("deployment", name, verdict=str(error))
        return
    pinned = deployment.promoted
    facts: dict[str, Any] = {"decides": deployment.what, "book": deployment.book, "capital": deployment.capital}
    if pinned is None:
        yield Link("deployment", name, facts, files=(str(path),) if path.exists() else ())
        yield from _policy(project, deployment.policy or name, evidence)
        return
    from ledger_pipeline.audit.verification import check_pinned

    facts |= {"promoted by": pinned.by, "reason": pinned.reason, "at": pinned.at, "run": pinned.run}
    checked = verdict(lambda: check_pinned(project, path))
    yield Link("deployment", name, facts, checked, (str(path),))
    yield from links_of_run(project, pinned.run)


def _policy(project: Project, name: str, evidence: dict[str, Any]) -> Iterator[Link]:
    from ledger_pipeline.trading.planning.policy import load_policy, parse_policy

    path = project.strategies / "policies" / f"{name}.json"

    def again() -> str | None:
        then, now = parse_policy(evidence["policy"], "the record"), load_policy(path)
        return None if then.hash == now.hash else f"it was {then.hash[:16]} when it decided, and is {now.hash[:16]} now"

    recorded = evidence.get("policy")
    facts = {"targets": recorded.get("targets") or recorded.get("assets")} if isinstance(recorded, dict) else {}
    yield Link("policy", name, facts, verdict(again) if recorded else "", (str(path),))


def _book_link(book: Book) -> Link:
    first = next(iter(book.events()), None)

    def again() -> str | None:
        book.verify()
        return None

    facts = {
        "account": book.state.account_id,
        "environment": book.state.environment,
        "events": book.state.seq,
        "head": book.head.hash,
    }
    if first is not None:
        facts |= {"begun": event_row(first)["occurred_at"], "why": event_row(first)["why"]}
    return Link("book", book.place, facts, verdict(again), command="ledger-pipeline book verify")
