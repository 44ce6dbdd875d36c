"""A commit as bytes: what went in comes out, and nothing can change unnoticed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger_pipeline.book.log.commits import GENESIS_HASH, Commit, Pointer, as_read, decode, decode_any, encode
from ledger_pipeline.core.errors import InputError, IntegrityError
from ledger_pipeline.core.events import Deposited
from ledger_pipeline.core.identity import canonical_json
from ledger_pipeline_tests.book.log import samples

SAMPLE = Commit(1, GENESIS_HASH, "", "a1", "b2", samples.NOON, tuple(samples.given([samples.deposit()], "paper")))
POINTER = Pointer(1, GENESIS_HASH, "", "2026/01/05")


def test_the_bytes_by_hand():
    rest = (
        '{"events":[{"book":"paper","cash_delta":"1","event_id":"paper-1","kind":"DEPOSITED",'
        '"occurred_at":"2026-01-05T12:00:00.000000Z","payload":{"activity_id":"d1"},"schema_version":1,"seq":1}],'
        '%s"nonce":"b2","prev_hash":"'
        + "0" * 64
        + '","seq":1,"writer":"a1","written_at":"2026-01-05T12:00:00.000000Z"}'
    )
    digest = hashlib.sha256((rest % "").encode()).hexdigest()
    assert encode(SAMPLE).decode() == rest % f'"hash":"{digest}",' + "\n"


@settings(max_examples=60, deadline=None)
@given(st.lists(samples.EVENT, min_size=1, max_size=4), st.sampled_from(["0" * 64, "ab" * 32]))
def test_events_come_back_as_they_went_in(events, prev_hash):
    commit = Commit(7, prev_hash, "", "w", "n", samples.NOON, tuple(samples.given(events, "paper")))
    data = encode(commit)
    found = decode(data, "key")
    assert found.events == commit.events
    assert (found.seq, found.prev_hash, found.written_at) == (7, prev_hash, samples.NOON)
    assert encode(found) == data
    assert as_read(commit, data, "key") == found
    row = json.loads(data)
    stated = row.pop("hash")
    assert stated == found.hash == hashlib.sha256(canonical_json(row)).hexdigest()


def test_what_json_changes_is_returned_as_it_reads_back():
    payload = {"list": (1, 2), "whole": 1.0, "part": 0.5, "deep": {"tuple": ((),)}}
    event = replace(samples.deposit(), payload=Deposited(extra=payload))
    commit = Commit(1, GENESIS_HASH, "", "w", "n", samples.NOON, tuple(samples.given([event], "paper")))
    data = encode(commit)
    found = as_read(commit, data, "key")
    assert found == decode(data, "key")
    assert found.events[0].payload.extra == {"list": [1, 2], "whole": 1, "part": 0.5, "deep": {"tuple": [[]]}}


@pytest.mark.parametrize("payload", [{"\uffff": 1, "\U00010000": 2}, {"x": 1e21}, {"\x7f\x01": "\u2028"}, {"x": -0.0}])
def test_the_form_is_that_of_rfc_8785(payload):
    event = replace(samples.deposit(), payload=Deposited(extra=payload))
    commit = Commit(1, GENESIS_HASH, "", "w", "n", samples.NOON, tuple(samples.given([event], "paper")))
    row = json.loads(encode(commit))
    stated = row.pop("hash")
    assert stated == hashlib.sha256(canonical_json(row)).hexdigest()


@pytest.mark.parametrize(
    "payload", [{1: "x"}, {"x": 2**53}, {"x": float("nan")}, {"x": "\ud800"}, {"x": {1}}, {"x": b""}]
)
def test_what_json_cannot_hold_is_refused(payload):
    event = replace(samples.deposit(), payload=Deposited(extra=payload))
    commit = Commit(1, GENESIS_HASH, "", "w", "n", samples.NOON, tuple(samples.given([event], "paper")))
    with pytest.raises(InputError, match="cannot be stored as JSON"):
        encode(commit)


def test_members_of_a_payload_are_not_taken_for_the_commits_own():
    event = samples.deposit()
    members = {"hash": "0" * 64, "nonce": "x", "prev_hash": "y", "seq": 9, "a": {"nonce": "z"}}
    event = replace(event, payload=Deposited(activity_id="d1", extra=members))
    commit = Commit(1, GENESIS_HASH, "", "w", "n", samples.NOON, tuple(samples.given([event], "paper")))
    assert decode(encode(commit), "key").events == commit.events


@pytest.mark.parametrize("item", [SAMPLE, POINTER], ids=["commit", "pointer"])
def test_every_flipped_bit_is_found(item):
    data = encode(item)
    for position in range(len(data)):
        for bit in range(8):
            flipped = bytearray(data)
            flipped[position] ^= 1 << bit
            with pytest.raises(IntegrityError, match="2026/01/05/000000000001.json"):
                decode_any(bytes(flipped), "2026/01/05/000000000001.json")


@pytest.mark.parametrize("item", [SAMPLE, POINTER], ids=["commit", "pointer"])
def test_every_cut_is_found(item):
    data = encode(item)
    for length in range(len(data)):
        with pytest.raises(IntegrityError, match="000000000001"):
            decode_any(data[:length], "000000000001.json")
    with pytest.raises(IntegrityError):
        decode_any(data + b"\n", "000000000001.json")


def _resealed(**changed) -> bytes:
    row = json.loads(encode(SAMPLE)) | changed
    row = {name: value for name, value in row.items() if value is not None and name != "hash"}
    row["hash"] = hashlib.sha256(canonical_json(row)).hexdigest()
    return canonical_json(row) + b"\n"


@pytest.mark.parametrize(
    "changed",
    [
        {"events": None},
        {"events": 5},
        {"events": [5]},
        {"events": [{"kind": "DEPOSITED"}]},
        {"events": [{"kind": "NONE", "occurred_at": "2026-01-05T12:00:00.000000Z"}]},
        {"events": [{"kind": "FILLED", "occurred_at": "2026-01-05T12:00:00.000000Z", "price": 1}]},
        {"events": [{"kind": "FILLED", "occurred_at": "2026-01-05T12:00:00.000000Z", "price": "NaN"}]},
        {"events": [{"kind": "FILLED", "occurred_at": "2026-01-05"}]},
        {"written_at": "yesterday"},
        {"writer": None},
        {"more": 1},
    ],
    ids=lambda changed: json.dumps(changed)[:60],
)
def test_a_commit_of_another_form_is_refused_though_its_hash_is_right(changed):
    with pytest.raises(IntegrityError, match="the key"):
        decode(_resealed(**changed), "the key")


def test_a_pointer_is_no_commit():
    with pytest.raises(IntegrityError, match="pointer"):
        decode(encode(POINTER), "key")
