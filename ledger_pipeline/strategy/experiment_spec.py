"""The keys of an experiment, each with what it may be; the same for a YAML file and for Python. Unknown keys are
refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, Strict, field_validator, model_validator

from ledger_pipeline.core.errors import InputError
from ledger_pipeline.core.identity import check_symbol
from ledger_pipeline.strategy.terms import json_value, parse_costs, parse_risk

Number = Annotated[float, Strict()]  # a truth value or a text is no number


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Opening(_Strict):
    """What the book holds at the first pulse: cash, and quantities with what one share of each cost."""

    cash: Number = Field(ge=0)
    positions: dict[str, Number] = Field(default_factory=dict)
    cost_basis: dict[str, Annotated[Number, Field(ge=0)]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _costs_known(self) -> Opening:
        missing = sorted(set(self.positions) ^ set(self.cost_basis))
        if missing:
            raise ValueError(
                f"positions and cost_basis must name the same symbols; {missing[0]} is in only one of them"
            )
        return self


class Deposit(_Strict):
    """Cash that comes in from outside: an amount at the first bar of every period, or once at the first bar on or after
    a date.
    """

    amount: Number = Field(gt=0)
    every: Literal["week", "month", "quarter", "year"] | None = None
    start: date | None = None
    end: date | None = None
    at: date | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Deposit:
        if (self.every is None) == (self.at is None):
            raise ValueError("give either `every` (week, month, quarter, year) or `at` (a date)")
        if self.at is not None and (self.start or self.end):
            raise ValueError("`start` and `end` go with `every`, not with `at`")
        if self.start and self.end and self.end < self.start:
            raise ValueError(f"it ends on {self.end}, before it starts on {self.start}")
        return self


class RateSeries(_Strict):
    """An annual rate that changes: the closes of an instrument of the snapshot, as percent (5.25) or fraction
    (0.0525).
    """

    series: str
    unit: Literal["percent", "fraction"] = "percent"


class Borrow(_Strict):
    """What borrowed shares cost: basis points a year of what is short."""

    annual_bps: Annotated[Number, Field(ge=0)]


class Interest(_Strict):
    """Basis points a year: received on cash above zero, paid on cash below."""

    cash_bps: Number = 0.0
    debit_bps: Annotated[Number, Field(ge=0)] = 0.0


def checked_risk_free(value: Any) -> Any:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if number and value > -1:
        return float(value)
    if isinstance(value, RateSeries):
        return value
    if isinstance(value, Mapping) and set(value) <= {"series", "unit"} and isinstance(value.get("series"), str):
        unit = value.get("unit", "percent")
        if unit in ("percent", "fraction"):
            return RateSeries(series=value["series"], unit=unit)
        raise ValueError(f"its unit is {unit!r}; it is percent or fraction")
    raise ValueError(
        f"{value!r} is neither an annual rate above -1, such as 0.02, nor {{series: SYMBOL, unit: percent}}"
    )


def _currency(value: Any) -> Any:
    if not (isinstance(value, str) and len(value) == 3 and value.isalpha() and value.isupper() and value.isascii()):
        raise ValueError(f"{value!r} is no currency; write its three letters, such as USD")
    return value


RiskFree = Annotated[float | RateSeries, BeforeValidator(checked_risk_free)]


class ScheduledParams(_Strict):
    """Params from a session on, until the next entry. params: those that differ from the experiment's; None: nothing is
    held from then on. fresh: what is held then is sold first, and what was remembered is forgotten. features: as they
    are with these params; filled in where the experiment is assembled.
    """

    start: date
    params: dict[str, Any] | None = None
    fresh: bool = False
    features: dict[str, dict[str, Any]] = Field(default_factory=dict)

    @field_validator("params")
    @classmethod
    def _params(cls, params: dict[str, Any] | None) -> dict[str, Any] | None:
        return None if params is None else _refused(json_value, params)


_CHOSEN = {"borrow", "interest", "base_currency", "start", "end", "params_schedule"}


class ExperimentSpec(_Strict):
    """The keys of an experiment file. `strategy` and `costs` must be there. start, end: the first and the last session
    that the run trades in; bars before the start are known to indicators and history. params_schedule: other params
    from some sessions on. limit_fills: whether a limit is filled when it is touched, or when the market trades through
    it.
    """

    strategy: str
    params: dict[str, Any] = Field(default_factory=dict)
    features: dict[str, dict[str, Any]] = Field(default_factory=dict)
    opening: Opening = Opening(cash=100_000.0)
    deposits: tuple[Deposit, ...] = ()
    costs: list[Any]
    risk: list[Any] = Field(default_factory=list)
    universe: tuple[str, ...] | None = None
    cash_rule: Literal["require", "scale", "allow_negative"] = "require"
    cash_rounding: Literal["exact", "cents"] = "exact"
    limit_fills: Literal["touched", "through"] = "touched"
    borrow: Borrow | None = None
    interest: Interest | None = None
    base_currency: Annotated[str, BeforeValidator(_currency)] | None = None
    start: date | None = None
    end: date | None = None
    params_schedule: tuple[ScheduledParams, ...] = ()
    seed: Annotated[int, Strict()] = Field(default=0, ge=0, lt=2**53)
    benchmark: str | None = None
    risk_free: RiskFree = 0.0
    description: str | None = None

    @property
    def chosen(self) -> dict[str, Any]:
        """What affects results and has been added since: only what differs from its default, so that the hash of an
        experiment that does not use it stays as it was.
        """
        values: dict[str, Any] = {}
        for name in ("cash_rounding", "limit_fills"):
            if getattr(self, name) != type(self).model_fields[name].default:
                values[name] = getattr(self, name)
        given = self.model_dump(mode="json", include=_CHOSEN, exclude_none=True)
        if not self.params_schedule:
            del given["params_schedule"]
        return values | given

    @model_validator(mode="after")
    def _in_time(self) -> ExperimentSpec:
        if self.start and self.end and self.end < self.start:
            raise ValueError(f"it ends on {self.end}, before it starts on {self.start}")
        days = [entry.start for entry in self.params_schedule]
        if any(later <= earlier for earlier, later in zip(days, days[1:], strict=False)):
            raise ValueError("the entries of params_schedule must start one after the other")
        return self

    @field_validator("params")
    @classmethod
    def _params(cls, params: dict[str, Any]) -> dict[str, Any]:
        return _refused(json_value, params)

    @field_validator("costs")
    @classmethod
    def _costs(cls, costs: list[Any]) -> list[Any]:
        return list(_refused(parse_costs, costs))

    @field_validator("risk")
    @classmethod
    def _risk(cls, risk: list[Any]) -> list[Any]:
        return list(_refused(parse_risk, risk))

    @field_validator("universe")
    @classmethod
    def _universe(cls, universe: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if universe is not None and (not universe or len(set(universe)) != len(universe)):
            raise ValueError("it must list at least one symbol, each once; leave it out for all of the snapshot")
        for symbol in universe or ():
            _refused(check_symbol, symbol)
        return universe


def _refused(check: Callable[[Any], Any], value: Any) -> Any:
    """check(value), with its InputError as the ValueError that pydantic puts a place to."""
    try:
        return check(value)
    except InputError as error:
        raise ValueError(str(error)) from None
