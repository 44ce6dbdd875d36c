"""Each fault, before and after its effect, as the unmodified alpaca-py client sees it."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
import requests
from alpaca.common.exceptions import APIError
from pydantic import ValidationError

from ledger_pipeline_tests.exchange.clients import activities, everything, limit, market, refused
from ledger_pipeline_tests.exchange.server import AdminError, Served, eventually


@pytest.fixture
def client(served: Served) -> Any:
    """A client that does not repeat by itself."""
    made = served.trading()
    made._retry = 0
    return made


def posts(served: Served, after: int) -> int:
    return len([row for row in served.admin.record("request", after=after) if row["key"] == "POST /v2/orders"])


@pytest.fixture
def since(served: Served) -> int:
    return int(served.admin.state()["record"])


@pytest.mark.parametrize("status", [429, 500, 503, 504])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_gateway_error_before_or_after_the_effect(
    served: Served, client: Any, since: int, status: int, when: str
) -> None:
    served.admin.fault("reply", "POST", "/v2/orders", when=when, status=status, body={"code": status, "message": "x"})
    assert refused(market, client, "VTI", "buy", qty=1, id_="once") == (status, {"code": status, "message": "x"})
    assert [order.client_order_id for order in everything(client)] == ([] if when == "before" else ["once"])
    assert posts(served, since) == 1
    if when == "before":
        assert market(client, "VTI", "buy", qty=1, id_="once").status == "pending_new"
    else:
        assert refused(market, client, "VTI", "buy", qty=1, id_="once")[1]["code"] == 40010001


def test_alpaca_py_repeats_a_post_by_itself(served: Served, since: int) -> None:
    """The danger that trading.alpaca must switch off: an accepted order is reported as a duplicate."""
    client = served.trading()
    client._retry_wait = 0
    served.admin.fault("reply", "POST", "/v2/orders", when="after", status=504)
    assert refused(market, client, "VTI", "buy", qty=1, id_="twice")[1]["code"] == 40010001
    assert posts(served, since) == 2 and len(everything(client)) == 1


def test_a_page_of_html(served: Served, client: Any) -> None:
    served.admin.fault("reply", "POST", "/v2/orders", when="after", status=502, body="<html>Bad Gateway</html>")
    with pytest.raises(APIError) as error:
        market(client, "VTI", "buy", qty=1)
    assert error.value.status_code == 502
    with pytest.raises(ValueError):
        _ = error.value.code
    assert len(everything(client)) == 1


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("then", ["continue", "drop"])
def test_a_hang_outlasts_the_client(served: Served, client: Any, when: str, then: str) -> None:
    served.admin.fault("hang", "POST", "/v2/orders", when=when, seconds=0.4, then=then)
    body = {
        "symbol": "VTI",
        "side": "buy",
        "type": "market",
        "time_in_force": "day",
        "qty": 1,
        "client_order_id": "slow",
    }
    headers = {"APCA-API-KEY-ID": served.key, "APCA-API-SECRET-KEY": served.secret}
    started = time.monotonic()
    with pytest.raises(requests.exceptions.ReadTimeout):
        requests.post(f"{served.url}/v2/orders", json=body, headers=headers, timeout=(1, 0.15))
    assert time.monotonic() - started < 0.4
    assert len(everything(client)) == (0 if when == "before" else 1)
    time.sleep(0.5)
    # one that continues is carried out late, though nobody waits for it any more
    assert len(everything(client)) == (0 if (when, then) == ("before", "drop") else 1)


def test_a_hang_that_is_waited_for(served: Served, client: Any) -> None:
    served.admin.fault("hang", "GET", "/v2/account", seconds=0.2)
    started = time.monotonic()
    assert client.get_account().cash == "10000" and time.monotonic() - started >= 0.2


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_reset_connection(served: Served, client: Any, since: int, when: str) -> None:
    served.admin.fault("reset", "POST", "/v2/orders", when=when)
    with pytest.raises(requests.exceptions.ConnectionError) as error:
        market(client, "VTI", "buy", qty=1)
    assert "reset" in str(error.value).lower()
    assert len(everything(client)) == (0 if when == "before" else 1) and posts(served, since) == 1


@pytest.mark.parametrize(
    ("do", "fields", "raised"),
    [
        ("truncate", {}, requests.exceptions.JSONDecodeError),
        ("truncate", {"keep": 1}, requests.exceptions.JSONDecodeError),
        ("length", {}, (requests.exceptions.ChunkedEncodingError, requests.exceptions.ConnectionError)),
        ("empty", {}, (requests.exceptions.JSONDecodeError, TypeError, ValidationError)),
        ("redirect", {"location": "http://127.0.0.1:9/"}, TypeError),
        ("reply", {"status": 200, "body": "<html>"}, requests.exceptions.JSONDecodeError),
        ("reply", {"status": 200, "body": []}, TypeError),
    ],
    ids=["half", "one-byte", "length", "empty", "redirect", "html", "list"],
)
def test_replies_that_are_no_order(served: Served, client: Any, do: str, fields: dict[str, Any], raised: Any) -> None:
    served.admin.fault(do, "POST", "/v2/orders", when="after", **fields)
    with pytest.raises(raised):
        market(client, "VTI", "buy", qty=1, id_="there")
    assert client.get_order_by_client_id("there").status == "filled"


def test_a_slow_reply_arrives_whole(served: Served, client: Any) -> None:
    served.admin.fault("drip", "GET", "/v2/clock", seconds=0.3)
    started = time.monotonic()
    assert client.get_clock().is_open and time.monotonic() - started >= 0.25


def test_an_order_is_invisible_for_a_while_after_it_was_accepted(served: Served, client: Any) -> None:
    served.admin.fault("invisible", "POST", "/v2/orders", seconds=0.4)
    order = market(client, "VTI", "buy", qty=1, id_="late")
    assert refused(client.get_order_by_client_id, "late")[0] == 404
    assert refused(client.get_order_by_id, order.id)[0] == 404 and everything(client) == []
    assert refused(market, client, "VTI", "buy", qty=1, id_="late")[1]["code"] == 40010001
    eventually(lambda: everything(client))
    assert client.get_order_by_client_id("late").status == "filled"


def test_stale_reads_show_what_was_when_the_fault_was_set(served: Served, client: Any) -> None:
    resting = limit(client, "VTI", "buy", 2, 240)
    served.admin.fault("stale", "GET", "/v2/(orders|positions|account).*", times=None)
    served.admin.order(str(resting.id), "fill")
    assert client.get_order_by_id(resting.id).status == "new"
    assert client.get_all_positions() == [] and activities(client, "FILL") == []
    assert client.get_account().cash == "10000"
    assert refused(client.cancel_order_by_id, resting.id)[0] == 422  # only reads are stale
    served.admin.clear_faults()
    assert client.get_order_by_id(resting.id).status == "filled" and len(activities(client, "FILL")) == 1


def test_a_cancel_that_comes_too_late(served: Served, client: Any) -> None:
    order = limit(client, "VTI", "buy", 2, 240)
    served.admin.fault("fill_first", "DELETE", "/v2/orders/.*")
    message = 'order is already in "filled" state'
    assert refused(client.cancel_order_by_id, order.id) == (422, {"code": 42210000, "message": message})
    assert client.get_order_by_id(order.id).filled_qty == "2"


def test_which_requests_a_fault_happens_to(served: Served, client: Any) -> None:
    served.admin.fault("reply", "GET", "/v2/account", nth=2, times=2, status=500)
    answers = []
    for _ in range(5):
        client.get_clock()
        try:
            answers.append(client.get_account().status)
        except APIError:
            answers.append("failed")
    assert answers == ["ACTIVE", "failed", "failed", "ACTIVE", "ACTIVE"]
    (fault,) = served.admin.faults()
    assert (fault["seen"], fault["fired"]) == (3, 2)
    served.admin.fault("reply", times=None, status=503)
    for _ in range(3):
        assert refused(client.get_clock)[0] == 503
    served.admin.clear_faults()
    assert client.get_clock().is_open


def test_the_record_says_which_fault_met_which_request(served: Served, client: Any, since: int) -> None:
    fault = served.admin.fault("reset", "POST", "/v2/orders", when="after")
    with pytest.raises(requests.exceptions.ConnectionError):
        market(client, "VTI", "buy", qty=1)
    replies = eventually(lambda: served.admin.record("reply", after=since))
    assert replies[0]["doc"] == {"status": 200, "fault": fault["id"]}


def test_faults_that_make_no_sense_are_refused(served: Served) -> None:
    for fields in (
        {"do": "explode"},
        {"do": "reset", "seconds": 3},
        {"do": "reply", "when": "later"},
        {"do": "reply", "path": "("},
    ):
        with pytest.raises(AdminError) as error:
            served.admin.call("POST", "/admin/faults", fields)
        assert error.value.status == 400
    with pytest.raises(AdminError):
        served.admin.stream(explode=True)
    with pytest.raises(AdminError):
        served.admin.settings(matchin="auto")
    assert served.admin.faults() == []


def test_set_behind_everybodys_back(served: Served, client: Any) -> None:
    served.admin.position("VTI", "3.000000001", price=200)
    served.admin.cash("9999.99")
    assert client.get_open_position("VTI").qty == "3.000000001"
    assert client.get_account().cash == "9999.99" and activities(client, "FILL") == []
    served.admin.account(account_blocked=True)
    assert json.loads(client.get_account().model_dump_json())["account_blocked"] is True


def test_a_long_backlog_is_made_in_one_go(served: Served, client: Any) -> None:
    started = time.monotonic()
    state = served.admin.backlog("VTI", "0.01", count=1000)
    assert state["orders"] == 1000 and state["positions"] == {"VTI": "1000"}
    assert time.monotonic() - started < 10
