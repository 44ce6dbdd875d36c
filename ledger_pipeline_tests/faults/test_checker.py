"""The checker finds what it is there for: a sound day, and each way in which it could have been unsound.

The book's objects and the exchange's record of one real day are changed, one fact at a time, and the chain of hashes is
made whole again, so that only the rule in question can notice.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from ledger_pipeline_tests.faults import checker
from ledger_pipeline_tests.faults.checker import Exchange, check, read_exchange, snapshot
from ledger_pipeline_tests.faults.stage import Stage, theatre

Events = list[dict[str, Any]]


@dataclass(frozen=True)
class Sound:
    """A day on which nothing went wrong: its book, as a list of commits, and the exchange's record."""

    commits: list[dict[str, Any]]
    exchange: Exchange

    def objects(self, change: Callable[[Events], Events | None] = lambda events: None) -> dict[str, bytes]:
        """The objects of the book with its events changed, renumbered where they are, and the chain made whole."""
        commits = deepcopy(self.commits)
        events = [event for commit in commits for event in commit["events"]]
        kept = change(events)
        kept = events if kept is None else kept
        found, previous = {}, "0" * 64
        for seq, commit in enumerate(commits, 1):
            commit["events"] = [
                event for event in kept if event.get("commit", event["seq"]) in _seqs(self.commits, seq)
            ]
            previous, found[f"{seq:012d}.json"] = _sealed(commit | {"seq": seq, "prev_hash": previous})
        return found


def _seqs(commits: list[dict[str, Any]], seq: int) -> set[int]:
    return {event["seq"] for event in commits[seq - 1]["events"]}


def _sealed(commit: dict[str, Any]) -> tuple[str, bytes]:
    for event in commit["events"]:
        event.pop("commit", None)
    form = {name: value for name, value in commit.items() if name != "hash"}
    digest = hashlib.sha256(json.dumps(form, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    return digest, json.dumps(form | {"hash": digest}).encode()


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Sound:
    with theatre(tmp_path_factory.mktemp("checker")) as both:
        stage = Stage(*both, tmp_path_factory.mktemp("stage")).begin()
        stage.finish()
        rows = [json.loads(data) for data in snapshot(stage.book_dir).values()]
        return Sound(
            sorted((row for row in rows if "events" in row), key=lambda row: row["seq"]), read_exchange(both[0])
        )


def found(monkeypatch: pytest.MonkeyPatch, sound: Sound, change: Callable[..., Any], **changed: Any) -> set[str]:
    """The invariants that the checker finds broken."""
    monkeypatch.setattr(checker, "read_exchange", lambda served: replace(sound.exchange, **changed))
    return {sentence.partition(":")[0] for sentence in check(None, sound.objects(change))}  # type: ignore[arg-type]


def nothing(events: Events) -> None:
    """The book as it was."""


def first(events: Events, kind: str) -> dict[str, Any]:
    return next(event for event in events if event["kind"] == kind)


def without(kind: str) -> Callable[[Events], Events]:
    """The book without the first event of a kind; the numbers go on without a gap."""

    def change(events: Events) -> Events:
        lost = first(events, kind)
        left = [event | {"commit": event["seq"]} for event in events if event is not lost]
        return [event | {"seq": seq} for seq, event in enumerate(left, 1)]

    return change


def doubled(kind: str, /, **fields: Any) -> Callable[[Events], Events]:
    """The book with one more event like the first of a kind, at its end."""

    def change(events: Events) -> Events:
        last = events[-1]
        commit = last.get("commit", last["seq"])
        return [*events, {**first(events, kind), "commit": commit, "seq": last["seq"] + 1, **fields}]

    return change


def told(kind: str, /, **fields: Any) -> Callable[[Events], None]:
    """The book with other fields in the first event of a kind."""
    return lambda events: first(events, kind).update(fields)


def before(kind: str, added: dict[str, Any]) -> Callable[[Events], Events]:
    """The book with one more event right before the first of a kind."""

    def change(events: Events) -> Events:
        place = events.index(first(events, kind))
        rows = [event | {"commit": event["seq"]} for event in events]
        rows.insert(place, {"commit": rows[place]["commit"], **added})
        return [event | {"seq": seq} for seq, event in enumerate(rows, 1)]

    return change


HALTED = {"kind": "HALTED", "payload": {"scope": "strategy:UNATTRIBUTED", "by": "ada", "reason": "a test"}}
BROKEN = {"kind": "BREAK_OPENED", "payload": {"break_id": "cash", "scope": "account", "what_to_do": "Look."}}
UNCLEAN = {"kind": "RECONCILED", "payload": {"clean": False, "scopes": ["symbol:BND"]}}
OPENED = {"kind": "OPENED", "payload": {"account_id": "another", "environment": "exchange"}}

UNSOUND = {
    "never intended": (without("ORDER_INTENDED"), "I1"),
    "never submitted": (without("ORDER_SUBMITTED"), "I1"),
    "intended twice": (doubled("ORDER_INTENDED"), "I2"),
    "another symbol": (told("ORDER_INTENDED", symbol="VXUS"), "I2"),
    "another amount": (told("ORDER_INTENDED", quantity="2.4"), "I2"),
    "a fill is missing": (without("FILLED"), "I3"),
    "a fill is there twice": (doubled("FILLED"), "I3"),
    "a fill nobody made": (told("FILLED", fill_id="nobody's"), "I4"),
    "another price": (told("FILLED", price="72.51"), "I4"),
    "another strategy": (told("FILLED", strategy="core"), "I5"),
    "cash that is not explained": (told("FILLED", cash_delta="181.27"), "I6"),
    "a gap in the numbers": (told("FILLED", seq=99, commit=9), "I7"),
    "ended twice": (doubled("ORDER_ACKNOWLEDGED", kind="ORDER_EXPIRED"), "I10"),
    "sent again after its answer": (doubled("ORDER_SUBMITTED"), "I8"),
    "ended in two ways": (
        lambda events: doubled("FILLED", kind="ORDER_EXPIRED")(doubled("FILLED", kind="ORDER_CANCELED")(events)), "I8"
    ),
    "sent while halted": (before("ORDER_SUBMITTED", HALTED), "I9"),
    "sent while a break was open": (before("ORDER_SUBMITTED", BROKEN), "I9"),
    "sent after an unclean reconciliation": (before("ORDER_SUBMITTED", UNCLEAN), "I9"),
    "clean with an open break": (before("RECONCILED", BROKEN), "I10"),
    "never reconciled": (lambda events: [event for event in events if event["kind"] != "RECONCILED"], "I10"),
    "sent past its deadline": (
        lambda events: first(events, "ORDER_INTENDED")["payload"].update(deadline="2026-01-05T16:00:00.000000Z"), "I9"
    ),
    "another account": (doubled("OPENED", **OPENED), "I12"),
}  # fmt: skip


def test_a_sound_day(monkeypatch: pytest.MonkeyPatch, sound: Sound) -> None:
    assert found(monkeypatch, sound, nothing) == set()


@pytest.mark.parametrize("name", UNSOUND)
def test_a_book_that_is_not_sound(monkeypatch: pytest.MonkeyPatch, sound: Sound, name: str) -> None:
    change, broken = UNSOUND[name]
    assert broken in found(monkeypatch, sound, change)


def test_an_account_that_is_not_as_the_book_says(monkeypatch: pytest.MonkeyPatch, sound: Sound) -> None:
    positions = sound.exchange.positions | {"BND": sound.exchange.positions["BND"] + Decimal("1e-9")}
    assert found(monkeypatch, sound, nothing, positions=positions) == {"I5"}
    assert found(monkeypatch, sound, nothing, cash=sound.exchange.cash + Decimal("0.02")) == {"I6"}


def test_what_the_exchange_saw_too_often(monkeypatch: pytest.MonkeyPatch, sound: Sound) -> None:
    posts = [row for row in sound.exchange.record if row["key"] == "POST /v2/orders"]
    orders = [row for row in sound.exchange.record if row["kind"] == "order"]
    again = sound.exchange.record + posts[:1]
    assert found(monkeypatch, sound, nothing, record=again) == {"I1"}
    other = deepcopy(orders[0]) | {"key": "another order"}
    assert found(monkeypatch, sound, nothing, record=[*sound.exchange.record, other]) >= {"I2"}
    early = [row | {"wall": "0"} if row in posts else row for row in sound.exchange.record]
    assert found(monkeypatch, sound, nothing, record=early) == {"I1"}


def test_objects_that_have_changed(sound: Sound) -> None:
    objects = sound.objects()
    last = max(objects)
    damaged = objects | {last: objects[last].replace(b"BND", b"VTI", 1)}
    lost = {key: data for key, data in objects.items() if key != last}
    gap = {key: data for key, data in objects.items() if key != min(objects)}
    for now in (damaged, lost, gap):
        wrong, _ = checker._log_breaches(now, objects)
        assert any(sentence.startswith("I7") for sentence in wrong)
    assert checker._log_breaches({"000000000001.json": b"{"}, {})[1] is None
    assert checker._log_breaches(objects, {})[0] == []


def test_files_of_the_log_are_told_from_others(tmp_path: Path) -> None:
    for name in ("000000000001.json", "2026/01/05/000000000001.json", "checkpoints/000000000001.json", ".x.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}")
    assert list(snapshot(tmp_path)) == ["000000000001.json", "2026/01/05/000000000001.json"]
