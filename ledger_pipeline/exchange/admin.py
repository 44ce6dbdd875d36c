"""The admin API, on a port of its own: the clock, the account, orders behind the broker's back, and every fault.

It is off unless asked for, has no keys and listens on 127.0.0.1 only: whoever reaches it owns the exchange.
"""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from ledger_pipeline.exchange import market_day, refusals, wire
from ledger_pipeline.exchange.engine import SETTINGS
from ledger_pipeline.exchange.faults import fault_of
from ledger_pipeline.exchange.interventions import INTERVENTIONS
from ledger_pipeline.exchange.operators import Operator, amount_of, note, object_of, operator_of, state_of
from ledger_pipeline.exchange.routes import reply, routes
from ledger_pipeline.exchange.stream import Disturbance

_DISTURBANCES = {item.name for item in fields(Disturbance)} - {"held"}


async def get_state(request: Request) -> Response:
    """now, session, cash, positions, counts and settings."""
    return reply(state_of(operator_of(request)))


async def post_clock(request: Request) -> Response:
    """to: a time; by: seconds; until: open or close. Answers with the state."""
    operator, body = operator_of(request), await object_of(request)
    exchange = operator.exchange
    if "to" in body:
        try:
            to = datetime.fromisoformat(str(body["to"]))
        except ValueError:
            raise refusals.malformed("to is no time") from None
        if to.tzinfo is None:
            raise refusals.malformed("to has no time zone")
    elif "by" in body:
        to = exchange.now + timedelta(seconds=float(amount_of(body, "by")))
    elif body.get("until") == "open":
        to = exchange.sessions.next_open(exchange.now).open
    elif body.get("until") == "close":
        to = exchange.sessions.next_close(exchange.now).close
    else:
        raise refusals.malformed("give to (a time), by (seconds) or until (open or close)")
    market_day.advance(exchange, to.astimezone(UTC))
    return reply(state_of(operator))


async def post_reset(request: Request) -> Response:
    """Begin again, without faults and disturbances; the record goes on and connections stay."""
    operator = operator_of(request)
    operator.exchange.refound()
    operator.gate.faults.clear()
    for item in fields(Disturbance):
        setattr(operator.stream.disturbance, item.name, getattr(Disturbance(), item.name))
    return reply(state_of(operator))


async def patch_settings(request: Request) -> Response:
    """Change SETTINGS."""
    exchange, body = operator_of(request).exchange, await object_of(request)
    unknown = set(body) - set(SETTINGS)
    if unknown:
        raise refusals.malformed(f"there are no settings {sorted(unknown)}; there are {', '.join(SETTINGS)}")
    plain = {name: str(value) if name == "collar" else value for name, value in body.items()}
    plain = {name: float(value) if isinstance(value, Decimal) else value for name, value in plain.items()}
    with exchange.transaction():
        exchange.store.put("settings", exchange.store.get("settings", {}) | plain)
        note(exchange, "settings", plain)
    return reply(exchange.settings)


async def patch_account(request: Request) -> Response:
    """Change flags of the account."""
    return reply(operator_of(request).exchange.set_flags(**await object_of(request)))


async def post_fault(request: Request) -> Response:
    """Set a fault: do, verb, path, nth, times, when, and the fields of its kind."""
    operator, body = operator_of(request), await object_of(request)
    fault = fault_of(body, len(operator.gate.faults) + 1, operator.exchange)
    operator.gate.faults.append(fault)
    with operator.exchange.transaction():
        note(operator.exchange, "fault", fault.json())
    return reply(fault.json())


async def get_faults(request: Request) -> Response:
    """All faults, with how often each was seen and happened."""
    return reply([fault.json() for fault in operator_of(request).gate.faults])


async def delete_faults(request: Request) -> Response:
    """End all faults."""
    operator = operator_of(request)
    for fault in operator.gate.faults:
        fault.times, fault.frozen = 0, None
    operator.exchange.hidden.clear()
    return reply([])


async def post_stream(request: Request) -> Response:
    """kick: a close code; send: a raw frame; or any field of Disturbance. Answers with what is set."""
    operator, body = operator_of(request), await object_of(request)
    now = operator.stream.disturbance
    unknown = set(body) - _DISTURBANCES - {"kick", "send"}
    if unknown:
        raise refusals.malformed(f"the stream has no {', '.join(sorted(unknown))}")
    for name in _DISTURBANCES & set(body):
        value = body[name]
        setattr(now, name, float(value) if name == "delay" else value)
    kicked = 0
    if "kick" in body:
        kicked = await operator.stream.kick(int(body["kick"]), operator.abort)
    if "send" in body:
        operator.stream.send_raw(body["send"] if isinstance(body["send"], str) else wire.dumps(body["send"]))
    shown = {name: getattr(now, name) for name in sorted(_DISTURBANCES)}
    return reply(shown | {"kicked": kicked, "connections": operator.stream.connected})


async def get_record(request: Request) -> Response:
    """after (a seq), kind (several by commas), limit: rows of the record, ascending."""
    query = request.query_params
    kinds = tuple(name for name in query.get("kind", "").split(",") if name)
    after, limit = int(query.get("after", "0")), int(query.get("limit", "100000"))
    return reply(operator_of(request).exchange.store.record(after, kinds, limit))


_TABLE = (
    ("GET", "/admin/state", get_state),
    ("POST", "/admin/clock", post_clock),
    ("POST", "/admin/reset", post_reset),
    ("PATCH", "/admin/settings", patch_settings),
    ("PATCH", "/admin/account", patch_account),
    ("GET", "/admin/faults", get_faults),
    ("POST", "/admin/faults", post_fault),
    ("DELETE", "/admin/faults", delete_faults),
    ("POST", "/admin/stream", post_stream),
    ("GET", "/admin/record", get_record),
)


def admin_app(operator: Operator) -> Starlette:
    """The ASGI application of the admin API."""
    app = Starlette(routes=routes(_TABLE + INTERVENTIONS))
    app.state.operator = operator
    return app
