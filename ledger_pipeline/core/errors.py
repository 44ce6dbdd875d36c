"""What can go wrong, as four kinds a caller can act on.

Each message is one sentence that names the thing at fault and says what to do. The command line turns the kind into an
exit code.
"""

from __future__ import annotations


class LedgerPipelineError(Exception):
    """Base of all errors that the product raises on purpose; `exit_code` is what the command line returns."""

    exit_code = 1


class InputError(LedgerPipelineError):
    """Something the user gave cannot be used as it is: a file, a value, a definition."""

    exit_code = 2


class RefusedError(LedgerPipelineError):
    """The input is well-formed and was refused by a rule: a tier 3 source, a sealed id, a non-causal indicator."""

    exit_code = 3


class NotFoundError(LedgerPipelineError):
    """The snapshot, experiment or run that was asked for does not exist."""

    exit_code = 4


class IntegrityError(LedgerPipelineError):
    """Stored data no longer matches its hash, or a result contradicts its own invariants."""

    exit_code = 5


class BlockedError(RefusedError):
    """Trading is not allowed now: a kill switch, a break, a guardrail, a closed market. Nothing was sent."""


class BrokerError(LedgerPipelineError):
    """The broker could not be reached or read, or refused its caller. What was sent is settled by looking it up."""

    exit_code = 6


class BreakError(LedgerPipelineError):
    """The book's record and the broker's differ; nothing was adjusted and trading is halted."""

    exit_code = 7


class StorageError(LedgerPipelineError):
    """The machine could not store or read a file: disk full, no permission. Nothing was changed."""

    exit_code = 1


def error_row(error: Exception) -> dict[str, str]:
    """An error as plain data: the kind of this module that it is, and its sentence. One that is not ours is
    unexpected, and its type is part of the sentence.
    """
    if isinstance(error, LedgerPipelineError):
        kind = next(base for base in type(error).__mro__ if base.__module__ == __name__)
        return {"kind": kind.__name__, "error": str(error)}
    return {"kind": "LedgerPipelineError", "error": f"unexpected {type(error).__name__}: {error}"}
