"""A policy at a pulse: what the `dca` strategy does with `ctx`, by the planner that plans for the broker's account too.

    from ledger_pipeline.trading.dca import targets_of

    def strategy(ctx, params):
        return targets_of(ctx, params["policy"])

The policy is worked at the close of the session that its schedule names; the purchases fill at the next open. The hash
of the plan is remembered, so the ledger of a back-test names the plan behind each purchase as a live book does.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ledger_pipeline.core.identity import canonical_json
from ledger_pipeline.core.strict_json import load_json
from ledger_pipeline.strategy.terms import plain
from ledger_pipeline.trading.planning.plan import PLANNED, PlanAccount
from ledger_pipeline.trading.planning.planner import plan
from ledger_pipeline.trading.planning.policy import Policy, parse_policy
from ledger_pipeline.trading.planning.schedule import is_due

if TYPE_CHECKING:
    from ledger_pipeline.strategy.context import Context
    from ledger_pipeline.strategy.targets import Targets


def targets_of(ctx: Context, policy: Mapping[str, Any]) -> Targets:
    """What is held, and cash to invest as the policy (the JSON of a policy file) plans it when it is due.

    InputError for an unsound policy.
    """
    targets = ctx.hold()
    rules = _parsed(canonical_json(plain(policy)))
    if not is_due(rules.schedule, ctx.now.date()):
        return targets
    planned = plan(rules, account_of(ctx))
    if planned.status == PLANNED:
        targets.remember({"plan": planned.hash})
    for leg in planned.legs:
        targets.invest(leg.symbol, float(leg.notional))
        targets.because(leg.symbol, *leg.reasons)
    return targets


def account_of(ctx: Context) -> PlanAccount:
    """The account of a pulse: cash, and holdings valued at the close. A symbol without a bar has no price."""
    return PlanAccount.of_floats(
        ctx.now.to_pydatetime(),
        ctx.cash,
        {
            symbol: (ctx.position(symbol), ctx.position(symbol) * ctx.close(symbol))
            for symbol in ctx.universe
            if ctx.position(symbol)
        },
        {symbol: ctx.close(symbol) for symbol in ctx.universe},
    )


@functools.lru_cache(maxsize=32)
def _parsed(policy: bytes) -> Policy:
    return parse_policy(load_json(policy), "params.policy")
