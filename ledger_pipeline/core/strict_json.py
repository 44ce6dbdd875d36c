"""JSON that comes from a file or a broker, read strictly."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

_LONGEST_NUMBER = 100  # characters


def load_json(data: bytes) -> Any:
    """JSON from a file or a broker, strictly: no NaN, no key twice, numbers as Decimal and no longer than anybody
    means, lists and objects no deeper than can be read; ValueError otherwise.
    """

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        members = dict(items)
        if len(members) != len(items):
            raise ValueError("a key is there twice")
        return members

    def refuse(text: str) -> Any:
        raise ValueError(f"{text} is no JSON number")

    def whole(text: str) -> int:
        if len(text) > _LONGEST_NUMBER:
            raise ValueError(f"a number of {len(text):,} digits")
        return int(text)

    def decimal(text: str) -> Decimal:
        if len(text) > _LONGEST_NUMBER:
            raise ValueError(f"a number of {len(text):,} characters")
        return Decimal(text)

    try:
        return json.loads(data, object_pairs_hook=pairs, parse_constant=refuse, parse_float=decimal, parse_int=whole)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
