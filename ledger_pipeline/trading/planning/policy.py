"""Policies: the rules that an automatic purchase follows, as one checked, frozen value with one hash.

A policy is a JSON file. Version 1 is the format of LedgerRun, whose files work unchanged, with further keys that all
have a default: schedule, cashBufferUsd, noopIfWithinBand, roundToUsd, leftover, driftOn and guardrails. What could
only be a mistake (a key that is not known, a limit that no purchase can keep) is refused when the file is read, so that
nothing has to be guessed when money is about to move.

Numbers are exact: 0.7 in the file is the Decimal 0.7. Weights may miss one by 0.0005 in all, and are then divided by
their sum as fractions, so they add up to exactly one and a plan never spends more than there is.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.alias_generators import to_camel

from ledger_pipeline.core.amounts import decimal_text
from ledger_pipeline.core.errors import InputError, NotFoundError
from ledger_pipeline.core.identity import hash_json
from ledger_pipeline.core.strict_json import load_json
from ledger_pipeline.files import read_regular
from ledger_pipeline.trading.orders.legs import SYMBOL
from ledger_pipeline.trading.planning.names import GUARDRAILS

LARGEST = 1_000_000  # bytes of a policy file
WEIGHT_TOLERANCE = Fraction("0.0005")
POSITION_ROOM = Decimal("0.05")  # above the largest target, where a policy sets no position limit itself
POSITION_LIMIT = Decimal("0.5")
DAILY_SPEND = Decimal(10_000)
WARN_ONLY = ("large_order",)


def _number(value: Any) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal | str):
        raise ValueError(f"is {_shown(value)}; it should be a number")
    try:
        number = Decimal(repr(value) if isinstance(value, float) else value)
    except InvalidOperation:
        raise ValueError(f"is {_shown(value)}; it should be a number") from None
    if not number.is_finite() or abs(number.adjusted()) > 15 or len(number.as_tuple().digits) > 28:
        raise ValueError(f"is {_shown(value)}; it should be a finite number of ordinary size")
    return number


def _shown(value: Any) -> str:
    if value is None:
        return "null (leave the key out instead)"
    return str(value) if isinstance(value, Decimal) else repr(value)


def _symbol(value: Any) -> str:
    if not isinstance(value, str) or not SYMBOL.fullmatch(value):
        hint = f"such as {value.upper()}" if isinstance(value, str) and SYMBOL.fullmatch(value.upper()) else "as VTI"
        raise ValueError(f"is {_shown(value)}; write a symbol in capitals, {hint}")
    return value


Number = Annotated[Decimal, BeforeValidator(_number)]
Share = Annotated[Number, Field(ge=0, le=1)]
Limit = Annotated[Number, Field(gt=0)]
Dollars = Annotated[Number, Field(ge=0)]
Whole = Annotated[int, Strict()]
Flag = Annotated[bool, Strict()]
Symbol = Annotated[str, BeforeValidator(_symbol)]


class _Part(BaseModel):
    # A default of None means that the key was left out; null in the file is no value, and refused.
    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel)

    @field_validator("*", mode="before")
    @classmethod
    def _no_null(cls, value: Any) -> Any:
        if value is None:
            raise ValueError(f"is {_shown(value)}")
        return value


class Target(_Part):
    """One symbol and its weight, above 0 and at most 1."""

    symbol: Symbol
    target_weight: Annotated[Number, Field(gt=0, le=1)]


class Drift(_Part):
    """When cash goes to what is short of its weight, rather than to all by weight: never (none), or when the weight of
    some target is further than `maxAbsPct` from it (band).
    """

    kind: Literal["none", "band"]
    max_abs_pct: Share | None = None

    @model_validator(mode="after")
    def _band(self) -> Drift:
        if self.kind == "band" and self.max_abs_pct is None:
            raise ValueError('is a band without maxAbsPct; write {"kind": "band", "maxAbsPct": 0.03} or so')
        return self


class Schedule(_Part):
    """When a policy is worked: in the `nth` session of every period, the last one where a period has fewer, so many
    minutes after the open of the exchange `calendar`.
    """

    every: Literal["session", "week", "month", "quarter"] = "session"
    nth: Annotated[Whole, Field(ge=1, le=66)] = 1
    minutes_after_open: Annotated[Whole, Field(ge=0, le=180)] = 10
    calendar: str = "XNYS"

    def period(self, session: date) -> str:
        """The period that a session belongs to: 2026-01-05, 2026-W02, 2026-01 or 2026-Q1."""
        if self.every == "session":
            return session.isoformat()
        if self.every == "week":
            return f"{session.isocalendar().year}-W{session.isocalendar().week:02d}"
        return f"{session:%Y-%m}" if self.every == "month" else f"{session.year}-Q{(session.month + 2) // 3}"

    def is_due(self, session: date, sessions: Sequence[date]) -> bool:
        """Whether the policy is worked in this session. sessions: those of the exchange, over its whole period."""
        period = sorted(day for day in sessions if self.period(day) == self.period(session))
        return bool(period) and period[min(self.nth, len(period)) - 1] == session


class Guardrails(_Part):
    """What is never done, whatever a plan says. A limit that is None is not checked; a policy fills in its defaults.

    maxPositionPct: of one holding in cash and holdings. maxConcentration: Herfindahl index of the holdings (1 is one
    holding, 0.5 two equal ones). dailySpendLimit, monthlySpendLimit: cash, by session date, reserved orders included.
    largeOrderThreshold: one order's part of cash and holdings. maxOrdersPerDay: orders of one session. priceCollarPct:
    how far the last trade may be from the price that was planned with. maxPriceAgeSeconds: of the last trade.
    requireOpenMarket, requireBuyingPower. allowSymbols: all that may be bought or sold. warnOnly: guardrails that warn
    and do not block, by name; what cannot be computed blocks even so.
    """

    max_position_pct: Annotated[Share, Field(gt=0)] | None = None
    max_concentration: Annotated[Share, Field(gt=0)] | None = None
    daily_spend_limit: Limit | None = None
    monthly_spend_limit: Limit | None = None
    large_order_threshold: Annotated[Share, Field(gt=0)] | None = Decimal("0.10")
    max_orders_per_day: Annotated[Whole, Field(ge=1)] | None = None
    price_collar_pct: Annotated[Share, Field(gt=0)] | None = Decimal("0.05")
    max_price_age_seconds: Annotated[Whole, Field(ge=1)] | None = 900
    require_open_market: Flag = True
    require_buying_power: Flag = True
    allow_symbols: tuple[Symbol, ...] | None = None
    warn_only: tuple[str, ...] = WARN_ONLY

    @field_validator("warn_only")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in GUARDRAILS:
                raise ValueError(f"names {name!r}, which is no guardrail; they are {', '.join(GUARDRAILS)}")
        return names


class Policy(_Part):
    """A checked policy; `parse_policy` and `load_policy` make one. All amounts are Decimal, in dollars.

    cashBufferPct, cashBufferUsd: cash to keep, as a part of cash and holdings and as an amount; the larger counts.
    minInvestAmountUsd: less is not invested; maxInvestAmountUsd: more is not, None for no limit. minOrderUsd: smaller
    legs are dropped. maxOrders: legs of a plan at most, None for as many as targets. driftOn: drift is measured in
    weights of cash and holdings (total) or of holdings alone (invested). noopIfWithinBand: buy nothing inside the
    band. roundToUsd: amounts are multiples of it. leftover: what dropped legs leave stays in cash (keep) or goes to the
    others (redistribute). allowMissingPrices: a target without a price is skipped; else nothing is bought.
    description and metadata are for people and change nothing.
    """

    version: Literal[1]
    name: str | None = None
    description: str | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)
    targets: tuple[Target, ...] = Field(min_length=1)
    cash_buffer_pct: Share = Decimal(0)
    cash_buffer_usd: Dollars = Decimal(0)
    min_invest_amount_usd: Dollars = Decimal(1)
    max_invest_amount_usd: Dollars | None = None
    min_order_usd: Dollars = Decimal(1)
    max_orders: Annotated[Whole, Field(ge=1)] | None = None
    drift: Drift
    drift_on: Literal["total", "invested"] = "total"
    noop_if_within_band: Flag = False
    allow_missing_prices: Flag = False
    round_to_usd: Limit = Decimal("0.01")
    leftover: Literal["keep", "redistribute"] = "keep"
    schedule: Schedule = Schedule()
    guardrails: Guardrails = Guardrails()

    @field_validator("version", mode="before")
    @classmethod
    def _version(cls, value: Any) -> Any:
        if type(value) is not int or value != 1:
            raise ValueError(f"is {_shown(value)}; this reads version 1")
        return value

    @field_validator("targets")
    @classmethod
    def _targets(cls, targets: tuple[Target, ...]) -> tuple[Target, ...]:
        seen: set[str] = set()
        for target in targets:
            if target.symbol in seen:
                raise ValueError(f"has {target.symbol} twice; give each symbol one weight")
            seen.add(target.symbol)
        total = sum((Fraction(target.target_weight) for target in targets), Fraction(0))
        if abs(total - 1) > WEIGHT_TOLERANCE:
            raise ValueError(f"has weights that add up to {_decimal(total)}; they must add up to 1 within 0.0005")
        return targets

    @field_validator("round_to_usd")
    @classmethod
    def _cents(cls, value: Decimal) -> Decimal:
        if value % Decimal("0.01"):
            raise ValueError(f"is {value}; it should be a multiple of 0.01, since the broker takes whole cents")
        return value

    @functools.cached_property
    def weights(self) -> dict[str, Fraction]:
        """The weight of each target, in the order of the file; they add up to exactly one."""
        total = sum(Fraction(target.target_weight) for target in self.targets)
        return {target.symbol: Fraction(target.target_weight) / total for target in self.targets}

    @functools.cached_property
    def limits(self) -> Guardrails:
        """The guardrails with the defaults that follow from this policy: the position limit is 0.5 or the largest
        target and 0.05 (or the band) above it, the daily spend 10,000 or maxInvestAmountUsd if that is more, and only
        targets may be bought.
        """
        room = max(POSITION_ROOM, (self.drift.max_abs_pct or Decimal(0)) if self.drift.kind == "band" else Decimal(0))
        largest = _decimal(max(self.weights.values()))
        defaults: dict[str, Any] = {
            "max_position_pct": min(Decimal(1), max(POSITION_LIMIT, largest + room)),
            "daily_spend_limit": max(DAILY_SPEND, self.max_invest_amount_usd or Decimal(0)),
            "allow_symbols": tuple(self.weights),
        }
        missing = {name: value for name, value in defaults.items() if getattr(self.guardrails, name) is None}
        return self.guardrails.model_copy(update=missing)

    @functools.cached_property
    def document(self) -> dict[str, Any]:
        """The whole policy as JSON, defaults filled in and amounts as decimal texts; `parse_policy` reads it back."""
        return _plain(self)

    @functools.cached_property
    def hash(self) -> str:
        """SHA-256 (hex) of all that the policy decides by. Keys that have their default count as left out, so a key
        that is added to the format changes the hash of no policy that does not use it.
        """
        fields = _plain(self, defaults=False)
        return hash_json({key: value for key, value in fields.items() if key not in ("description", "metadata")})


def _plain(value: Any, defaults: bool = True) -> Any:
    """A policy as JSON with camelCase keys, with or without those that have their default."""
    if isinstance(value, BaseModel):
        pairs = ((field, getattr(value, name)) for name, field in type(value).model_fields.items())
        shown = ((field, item) for field, item in pairs if item is not None and (defaults or item != field.default))
        return {str(field.alias): _plain(item, defaults) for field, item in shown if item != {}}
    if isinstance(value, Decimal):
        return decimal_text(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items() if item is not None}
    return [_plain(item, defaults) for item in value] if isinstance(value, list | tuple) else value


def _decimal(value: Fraction) -> Decimal:
    return Decimal(value.numerator) / Decimal(value.denominator)


def load_policy(path: Path | str) -> Policy:
    """The policy of a JSON file. NotFoundError when there is no such file, InputError, with file, field and reason,
    when it is not a sound policy.
    """
    place = Path(path)
    try:
        data = read_regular(place, LARGEST)
    except FileNotFoundError:
        others = ", ".join(sorted(other.stem for other in place.parent.glob("*.json"))) or "none"
        raise NotFoundError(f"there is no policy file {place}; the policies there are: {others}.") from None
    except OSError as error:
        raise InputError(f"the policy file {place} cannot be read: {error.strerror or error}.") from None
    try:
        document = load_json(data)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{place} is no JSON file: {error}.") from None
    return parse_policy(document, str(place))


def parse_policy(document: Any, source: str = "policy") -> Policy:
    """The policy of a JSON object, as read from a file or of `document`; `source` names it in errors.

    InputError, with source, field and reason.
    """
    if not isinstance(document, Mapping):
        raise InputError(f"{source} is no policy: it should be a JSON object with version, targets and drift.")
    try:
        policy = Policy.model_validate(dict(document))
    except ValidationError as error:
        place, reason = _first(error)
        raise _refused(source, place, reason) from None
    for place, reason in _nonsense(policy):
        raise _refused(source, place, reason)
    return policy


def _refused(source: str, place: str, reason: str) -> InputError:
    return InputError(f"{source}: {place} {reason if reason.endswith(('?', '.')) else reason + '.'}")


def _nonsense(policy: Policy) -> Iterator[tuple[str, str]]:
    """The fields, with reasons, that are sound alone and that no purchase could satisfy together."""
    least, most, rails = policy.min_invest_amount_usd, policy.max_invest_amount_usd, policy.guardrails
    for field, amount in (("minInvestAmountUsd", least), ("minOrderUsd", policy.min_order_usd)):
        if most is not None and amount > most:
            yield field, f"is {amount}, above maxInvestAmountUsd {most}, so nothing would ever be bought"
    symbol, largest = max(policy.weights.items(), key=lambda item: item[1])
    if rails.max_position_pct is not None and rails.max_position_pct < largest:
        yield (
            "guardrails.maxPositionPct",
            f"is {rails.max_position_pct}, below the target {_decimal(largest):.6g} of {symbol}; raise it above that",
        )
    spread = sum((weight * weight for weight in policy.weights.values()), Fraction(0))
    if rails.max_concentration is not None and rails.max_concentration < spread:
        yield (
            "guardrails.maxConcentration",
            f"is {rails.max_concentration}, below the {_decimal(spread):.4f} of the targets themselves; raise it",
        )
    for field, limit in (("daily", rails.daily_spend_limit), ("monthly", rails.monthly_spend_limit)):
        if limit is not None and limit < least:
            why = f"is {limit}, below minInvestAmountUsd {least}, so nothing would ever be bought"
            yield f"guardrails.{field}SpendLimit", why
    for symbol in policy.weights:
        if rails.allow_symbols is not None and symbol not in rails.allow_symbols:
            yield "guardrails.allowSymbols", f"does not hold the target {symbol}; add it"
    if policy.schedule.calendar != "XNYS":
        from ledger_pipeline.market.calendars import calendar_name

        try:
            calendar_name(policy.schedule.calendar)
        except InputError as error:
            yield "schedule.calendar", f"is not known: {error}"


def warnings(policy: Policy) -> tuple[str, ...]:
    """What is allowed and still worth a second look, as sentences."""
    lines = []
    if policy.max_invest_amount_usd is None or policy.max_invest_amount_usd > 100_000:
        setting = "is not set" if policy.max_invest_amount_usd is None else f"is {policy.max_invest_amount_usd}"
        lines.append(f"maxInvestAmountUsd {setting}: one plan may invest more than 100,000")
    for symbol, weight in policy.weights.items():
        if weight > Fraction(4, 5):
            lines.append(f"{symbol} has a target of {_decimal(weight):.2%}: most of the money is in one fund")
    if policy.min_order_usd > 1000:
        lines.append(f"minOrderUsd is {policy.min_order_usd}: smaller legs are dropped")
    return tuple(lines)


_MODELS: dict[str, type[BaseModel]] = {
    "targets": Target,
    "drift": Drift,
    "schedule": Schedule,
    "guardrails": Guardrails,
}


def _first(error: ValidationError) -> tuple[str, str]:
    """The field and the reason, in our words, of the error to tell: an unknown key before what is missing for it."""
    errors = error.errors()
    first = next((one for one in errors if one["type"] == "extra_forbidden"), errors[0])
    parts = first["loc"]
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts).lstrip(".")
    if first["type"] == "extra_forbidden":
        model = _MODELS.get(str(parts[0]), Policy) if len(parts) > 1 else Policy
        keys = [field.alias or name for name, field in model.model_fields.items()]
        near = difflib.get_close_matches(str(parts[-1]), keys, n=1)
        return place, "is no known key; " + (f"did you mean {near[0]}?" if near else f"the keys are {', '.join(keys)}")
    if first["type"] == "missing":
        return place, "is missing"
    if first["type"] == "value_error":
        return place, str(first["msg"]).removeprefix("Value error, ")
    kinds = {"model_type": "an object", "tuple_type": "a list", "dict_type": "an object", "string_type": "a text"}
    kinds |= {"bool_type": "true or false", "int_type": "a whole number", "too_short": "a list of at least one"}
    said = kinds.get(first["type"], str(first["msg"]).removeprefix("Input should be "))
    return place, f"is {_shown(first['input'])}; it should be {said}"
