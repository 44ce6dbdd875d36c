"""What the broker's words for activities mean where the book cannot take the row in by itself, and what to do then.

A row with such a word changes nothing in the book: it halts its scope, and a person says with an override what it did
to cash and positions. The words are those of Alpaca's list of activity types. A word that is not in the list halts just
the same, with a sentence that asks for more care.
"""

from __future__ import annotations

from typing import NamedTuple


class Meaning(NamedTuple):
    """What a row is, and what a person is to do about it; two sentences without their full stops."""

    what: str
    advice: str


_OVERRIDE = "ledger-pipeline book override"
_POSITION = f"`{_OVERRIDE} position:SYMBOL --position SYMBOL STRATEGY CHANGE`"
_CASH = f"`{_OVERRIDE} cash --cash CHANGE`"
_ANSWER = "then answer this break as well with the same command and no amount, naming yourself and the reason"
_CORRECTED = "a fill that was taken back or corrected is recorded with `ledger-pipeline book bust` or `book correct`"

_TRANSFER = Meaning(
    "shares moved between accounts without an order",
    f"say whose they are, with `--price` for what a share cost: {_POSITION}; {_ANSWER}",
)
_MERGER = Meaning(
    "a merger or an acquisition: shares of one company became cash or shares of another",
    f"when all its rows are there, take the old shares out and put the new ones in: {_POSITION} for each symbol, and "
    f"{_CASH} for what was paid; {_ANSWER}",
)
_SPIN_OFF = Meaning(
    "a spin-off: shares of a new company for those that are held",
    f"give the new shares to the strategies that hold the old ones: {_POSITION}; {_ANSWER}",
)
_SPLIT_OF_NOTHING = Meaning(
    "a split of a symbol of which the book holds nothing",
    f"see why the broker holds it: {_POSITION}; {_ANSWER}",
)
_RENAMED = Meaning(
    "a symbol or name change: the same shares under another symbol",
    f"take the old symbol out and put the new one in, with `--price` for what a share had cost: {_POSITION} for each; "
    f"{_ANSWER}, and write the new symbol in the policy or the experiment",
)
_IN_SHARES = Meaning(
    "a dividend paid in shares or put into shares",
    f"give the new shares to the strategies that hold the symbol: {_POSITION}; {_ANSWER}",
)
_FRACTION = Meaning(
    "cash for fractions of shares",
    f"take the fraction out and the cash in: {_POSITION} and {_CASH}; {_ANSWER}",
)
_OPTION = Meaning(
    "an option was exercised, assigned or expired, and options are not traded here",
    f"close what is left of it at the broker, then book what it did: {_POSITION} and {_CASH}; {_ANSWER}",
)
_COIN_FEE = Meaning(
    "a fee that was taken in coins, so that the position is smaller",
    f"take the coins out: {_POSITION}; {_ANSWER}",
)
_OFFER = Meaning(
    "a voluntary offer",
    f"see at the broker what was elected, then book what it did: {_POSITION} and {_CASH}; {_ANSWER}",
)
_CORRECTION = Meaning(
    "a correction by the broker",
    f"see which earlier row it corrects: {_CORRECTED}, anything else with {_POSITION} or {_CASH}; {_ANSWER}",
)
_OTHER_MONEY = Meaning(
    "money in another currency or a conversion, and the book is in US dollars",
    f"change it into dollars at the broker, then book them: {_CASH}; {_ANSWER}",
)
_OTHER = Meaning(
    "a kind of activity that has no meaning here",
    f"see what it did to cash and positions: {_CORRECTED}, anything else with {_POSITION} or {_CASH}; {_ANSWER}",
)

_WORDS: dict[Meaning, tuple[str, ...]] = {
    _TRANSFER: ("ACATS", "JNLS", "FOPT"),
    _MERGER: ("MA", "REORG"),
    _SPIN_OFF: ("SPIN", "SSO"),
    _SPLIT_OF_NOTHING: ("SPLIT", "SSP"),
    _RENAMED: ("SC", "NC"),
    _IN_SHARES: ("SDIV", "DRIP", "DIV SDIV", "DIV DRIP", "DIV SPD"),
    _FRACTION: ("CIL",),
    _OPTION: ("OPASN", "OPCA", "OPCSH", "OPEXC", "OPXRC", "OPEXP", "OPTRD"),
    _COIN_FEE: ("CFEE",),
    _OFFER: ("VOF",),
    _CORRECTION: ("CORR", "FILL trade_bust", "FILL trade_correct"),
    _OTHER_MONEY: ("FXTRD", "FXCNV"),
}
_MEANINGS = {word: meaning for meaning, words in _WORDS.items() for word in words}


def meaning_of(word: str) -> Meaning:
    """What a row with the broker's `word` is and what to do; with its sub-type after a blank where that says more."""
    return _MEANINGS.get(word, _OTHER)
