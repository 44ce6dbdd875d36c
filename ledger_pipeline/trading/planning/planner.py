"""The plan: what a policy buys with the cash of an account, and why. One pure function, in a backtest as in live.

    total = cash + holdings          investable = min(cash - buffer, maximum)
    drift <= band: by weight         drift > band: by how many dollars each target is short of weight x total

Everything is computed in fractions and divided into whole units (cents, unless the policy rounds coarser) by largest
remainder, ties in the order of the policy: legs add up to the last cent and a plan never spends more than there is. It
only ever buys; what is above its weight is diluted, never sold. With every target priced, buying what is short takes no
target further than one unit past its weight.

Whatever the account looks like there is a plan: PLANNED with legs, NO_ACTION when there is nothing to buy, BLOCKED when
the account cannot be planned with. Every reason is a code, and a note under the same code says it in a sentence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from math import ceil, floor

from ledger_pipeline.core.amounts import EXACT
from ledger_pipeline.trading.orders.legs import MINIMUM_NOTIONAL
from ledger_pipeline.trading.planning.plan import (
    BLOCKED,
    NO_ACTION,
    PLANNED,
    PRO_RATA,
    UNDERWEIGHTS,
    Note,
    Plan,
    PlanAccount,
    PlanLeg,
)
from ledger_pipeline.trading.planning.policy import Policy

_WEIGHT_DIGITS = 9
_ZERO = Fraction(0)


def plan(policy: Policy, account: PlanAccount) -> Plan:
    """What `policy` buys with the cash of `account`. Pure: same inputs, same plan, same hash."""
    return _Planning(policy, account).result()


def apportion(units: int, scores: Sequence[Fraction]) -> list[int]:
    """Divide whole `units` in proportion to `scores` (none negative, some above zero) by largest remainder: each gets
    the whole part of its share, and what is left goes, one unit each, to the largest fractions, the first of equals.
    The parts add up to `units`; a score of zero gets none.
    """
    total = sum(scores)
    shares = [units * score / total for score in scores]
    parts = [floor(share) for share in shares]
    by_remainder = sorted(range(len(shares)), key=lambda index: (parts[index] - shares[index], index))
    for index in by_remainder[: units - sum(parts)]:
        parts[index] += 1
    return parts


class _Planning:
    """One plan in the making: the fields are results so far, notes are taken on the way."""

    def __init__(self, policy: Policy, account: PlanAccount) -> None:
        self.policy = policy
        self.account = account
        self.total = account.total
        self.unit = Fraction(policy.round_to_usd)
        self.smallest = max(policy.min_order_usd, MINIMUM_NOTIONAL)
        self.priced = [symbol for symbol in policy.weights if account.prices.get(symbol, 0) > 0]
        self.gaps = {symbol: policy.weights[symbol] * self.total - account.value(symbol) for symbol in self.priced}
        self.buffer = max(Fraction(policy.cash_buffer_pct) * self.total, Fraction(policy.cash_buffer_usd))
        self.investable = _ZERO
        self.mode: str | None = None
        self.notes: list[Note] = []

    def note(self, code: str, sentence: str, symbol: str | None = None) -> None:
        """Take a note."""
        self.notes.append(Note(code, sentence, symbol))

    def result(self) -> Plan:
        """The plan."""
        if self._blocked():
            return self._plan(BLOCKED, [note.code for note in self.notes])
        self._look()
        for step in (self._invest, self._choose_mode):
            reason = step()
            if reason:
                return self._plan(NO_ACTION, [reason])
        amounts = self._amounts()
        spent = sum(amounts.values(), _ZERO)
        if not amounts:
            self.note("NO_LEGS", "no leg is as large as the smallest order")
            return self._plan(NO_ACTION, ["NO_LEGS"])
        if spent < self.policy.min_invest_amount_usd:
            least = usd(self.policy.min_invest_amount_usd)
            self.note(
                "PLANNED_BELOW_MINIMUM", f"the legs add up to {usd(spent)}, and less than {least} is not invested"
            )
            return self._plan(NO_ACTION, ["PLANNED_BELOW_MINIMUM"])
        if spent < self.investable:
            self.note("LEFTOVER", f"{usd(self.investable - spent)} of {usd(self.investable)} stays in cash")
        return self._plan(PLANNED, ["CASHFLOW_REBALANCE" if self.mode == UNDERWEIGHTS else "DCA"], amounts)

    def _blocked(self) -> bool:
        """Whether the account cannot be planned with."""
        if self.account.cash < 0:
            self.note("NEGATIVE_CASH", f"cash is {usd(self.account.cash)}; nothing is bought on credit")
        for symbol, row in self.account.positions.items():
            if row.quantity < 0 or row.value < 0:
                self.note("SHORT_POSITION", f"{symbol} is held short, which a policy cannot be applied to", symbol)
        if not self.policy.allow_missing_prices:
            for symbol in self._unpriced():
                self.note("MISSING_PRICE", f"{symbol} has no price, and the policy does not allow that", symbol)
        return bool(self.notes)

    def _unpriced(self) -> list[str]:
        return [symbol for symbol in self.policy.weights if symbol not in self.gaps]

    def _look(self) -> None:
        for symbol in self._unpriced():
            self.note("SKIPPED_NO_PRICE", f"{symbol} has no price and is skipped; others get what it would", symbol)
        for symbol, row in self.account.positions.items():
            if symbol not in self.policy.weights and row.value:
                self.note(
                    "NOT_A_TARGET", f"{usd(row.value)} of {symbol} counts in the total and is not touched", symbol
                )

    def _invest(self) -> str | None:
        """How much may be spent; a reason when it is nothing."""
        spare = max(_ZERO, Fraction(self.account.cash) - self.buffer)
        if self.buffer:
            self.note("CASH_BUFFER", f"{usd(self.buffer)} of cash is kept, {usd(spare)} is left to invest")
        most = self.policy.max_invest_amount_usd
        if most is not None and spare > most:
            self.note("MAX_INVEST", f"{usd(spare)} could be invested and the policy caps it at {usd(most)}")
            spare = Fraction(most)
        spare = Fraction(floor(spare * 100), 100)
        least = self.policy.min_invest_amount_usd
        if spare < least:
            self.note("BELOW_MIN_INVEST", f"{usd(spare)} could be invested, and less than {usd(least)} is not")
            return "BELOW_MIN_INVEST"
        self.investable = spare
        if not spare:
            self.note("NO_CASH", "there is no cash to invest")
            return "NO_CASH"
        if not self.priced:
            self.note("NO_PRICES", "no target has a price")
            return "NO_PRICES"
        return None

    def _drifts(self) -> dict[str, Fraction]:
        """How far each target is from its weight. Where nothing is held, all weights are zero."""
        whole = self.account.invested if self.policy.drift_on == "invested" else self.total
        now = {symbol: self.account.value(symbol) / whole if whole else _ZERO for symbol in self.priced}
        return {symbol: abs(weight - self.policy.weights[symbol]) for symbol, weight in now.items()}

    def _choose_mode(self) -> str | None:
        """Whether cash goes to all by weight or to what is short; a reason when it goes nowhere."""
        rule = self.policy.drift
        self.mode = PRO_RATA
        if rule.kind == "none" or rule.max_abs_pct is None:
            return None
        furthest, drift = max(self._drifts().items(), key=lambda item: item[1])
        whole = "holdings" if self.policy.drift_on == "invested" else "cash and holdings"
        sentence = f"{furthest} is {percent(drift)} of {whole} from its weight"
        if drift <= rule.max_abs_pct:
            self.note("WITHIN_BAND", f"{sentence}, inside the band of {percent(rule.max_abs_pct)}")
            if self.policy.noop_if_within_band:
                self.mode = None
                return "WITHIN_BAND"
            return None
        self.note(
            "OUTSIDE_BAND", f"{sentence}, outside the band of {percent(rule.max_abs_pct)}; cash goes to what is short"
        )
        if any(gap > 0 for gap in self.gaps.values()):
            self.mode = UNDERWEIGHTS
        else:
            self.note("NO_GAPS", "no target with a price is short of its weight; cash goes to all of them by weight")
        return None

    def _amounts(self) -> dict[str, Fraction]:
        """Dollars by symbol that is bought."""
        weights = {symbol: self.policy.weights[symbol] for symbol in self.priced}
        short = {symbol: max(_ZERO, gap / self.unit) for symbol, gap in self.gaps.items()}
        scores = short if self.mode == UNDERWEIGHTS else weights
        units = floor(self.investable / self.unit)
        parts = _divide(units, scores)
        ranked = sorted((symbol for symbol in parts if parts[symbol]), key=lambda symbol: (-parts[symbol], symbol))
        smallest = ceil(Fraction(self.smallest) / self.unit)
        large = [symbol for symbol in ranked if parts[symbol] >= smallest]
        kept = large[: self.policy.max_orders or len(weights)]
        chosen = {symbol: parts[symbol] for symbol in kept}
        if self.policy.leftover == "redistribute" and len(kept) < len(ranked):
            spread = self._redistributed(units, scores, kept or ranked[:1])
            spread = {symbol: part for symbol, part in spread.items() if part >= smallest}
            more = sum(spread.values()) - sum(parts[symbol] for symbol in spread)
            if more > 0:
                chosen = spread
                self.note("REDISTRIBUTED", f"{usd(more * self.unit)} of dropped legs goes to the others")
        self._note_dropped(parts, [symbol for symbol in ranked if symbol not in chosen], large)
        return {symbol: part * self.unit for symbol, part in chosen.items()}

    def _redistributed(self, units: int, scores: Mapping[str, Fraction], kept: Sequence[str]) -> dict[str, int]:
        """Units by symbol that is kept: its share, and of what the others leave as much as its room is of all room."""
        whole = sum(scores.values())
        shares = {symbol: units * scores[symbol] / whole for symbol in kept}
        left = units - sum(shares.values())
        room = {symbol: scores[symbol] for symbol in kept}
        if self.mode == UNDERWEIGHTS:  # no further than to its weight
            room = {symbol: max(_ZERO, scores[symbol] - shares[symbol]) for symbol in kept}
            left = min(left, sum(room.values(), _ZERO))
        if left:
            spread = left / sum(room.values(), _ZERO)
            shares = {symbol: share + spread * room[symbol] for symbol, share in shares.items()}
        return _divide(floor(sum(shares.values())), shares)

    def _note_dropped(self, parts: dict[str, int], dropped: list[str], large: list[str]) -> None:
        for symbol in dropped:
            amount = usd(parts[symbol] * self.unit)
            if symbol in large:
                most = self.policy.max_orders
                self.note("OVER_MAX_ORDERS", f"{symbol} for {amount} is dropped: at most {most} orders", symbol)
            else:
                least = usd(self.smallest)
                self.note("BELOW_MIN_ORDER", f"{symbol} for {amount} is dropped: orders are at least {least}", symbol)

    def _plan(self, status: str, reasons: list[str], amounts: Mapping[str, Fraction] | None = None) -> Plan:
        drift = max(self._drifts().values(), default=None) if status != BLOCKED else None
        too_little = status == BLOCKED or "BELOW_MIN_INVEST" in reasons
        legs = tuple(self._leg(symbol, amount) for symbol, amount in (amounts or {}).items())
        legs = tuple(sorted(legs, key=lambda leg: (-leg.notional, leg.symbol)))
        if status == PLANNED:
            mode = "what is short of its weight" if self.mode == UNDERWEIGHTS else "all targets by weight"
            planned = sum(amounts.values(), _ZERO) if amounts else _ZERO
            self.note(reasons[0], f"{usd(planned)} goes to {mode}")
        return Plan(
            status=status,
            reasons=tuple(dict.fromkeys(reasons)),
            policy_name=self.policy.name,
            policy_hash=self.policy.hash,
            account=self.account,
            total=_decimal(self.total),
            buffer=_decimal(self.buffer),
            investable=_decimal(_ZERO if too_little else self.investable),
            planned=_decimal(sum((amounts or {}).values(), _ZERO)),
            mode=self.mode,
            drift=None if drift is None else weight_of(drift),
            legs=legs,
            notes=tuple(self.notes),
        )

    def _leg(self, symbol: str, amount: Fraction) -> PlanLeg:
        value, target = self.account.value(symbol), self.policy.weights[symbol]
        reasons = ["UNDERWEIGHT"] if value < target * self.total else []
        reasons += ["DCA", "CASHFLOW_REBALANCE"] if self.mode == UNDERWEIGHTS else ["DCA"]
        before, after = value / self.total, (value + amount) / self.total
        return PlanLeg(symbol, _decimal(amount), weight_of(before), weight_of(target), weight_of(after), tuple(reasons))


def _divide(units: int, scores: Mapping[str, Fraction]) -> dict[str, int]:
    if not any(scores.values()):
        return dict.fromkeys(scores, 0)
    return dict(zip(scores, apportion(units, list(scores.values())), strict=True))


def _decimal(value: Fraction) -> Decimal:
    """A sum or product of decimals, exactly."""
    return EXACT.divide(Decimal(value.numerator), Decimal(value.denominator))


def weight_of(value: Fraction) -> Decimal:
    """A weight to nine decimals, half to even."""
    return Decimal(round(value * 10**_WEIGHT_DIGITS)).scaleb(-_WEIGHT_DIGITS)


def usd(value: Fraction | Decimal) -> str:
    """Dollars for a sentence: $1,234.50."""
    cents = round(Fraction(value) * 100)
    return f"{'-' if cents < 0 else ''}${abs(cents) // 100:,}.{abs(cents) % 100:02d}"


def percent(value: Fraction | Decimal) -> str:
    """A weight for a sentence: 12.34%."""
    return f"{float(value) * 100:.2f}%"
