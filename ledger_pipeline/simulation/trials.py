"""The trial register: every candidate that was ever evaluated, in an append-only chain under <data root>/trials/.

Who picks the best of many runs must know how many there were. A run is entered when it is stored, the candidates of a
sweep when they were evaluated, before their results are kept; so deleting runs or sweeps leaves the count. An entry is
one immutable object <seq>.json = {seq, prev_hash, hash, written_at, trials}, created exclusively as the commits of a
live book are, its hash the SHA-256 of the rest in canonical JSON. A gap, a changed byte or a broken chain is an
IntegrityError that names the seq. What is counted is distinct candidates, so the same candidate twice is one trial.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

import pandas as pd
from upath import UPath

from ledger_pipeline.book.log.store import open_store
from ledger_pipeline.core.errors import IntegrityError, StorageError
from ledger_pipeline.core.identity import hash_json
from ledger_pipeline.core.strict_json import load_json
from ledger_pipeline.files import Location, is_local, location, write_file

FIRST = "0" * 64  # what the first entry follows
_ATTEMPTS = 1000  # how often another writer may be first


@dataclass(frozen=True)
class Trials:
    """Candidates that were evaluated together, by run id. sweep: the sweep's id, None for a run of its own; start, end:
    sessions as ISO dates, None for those of the snapshot.
    """

    experiment: str
    strategy: str
    snapshot_id: str
    snapshot_hash: str
    start: str | None
    end: str | None
    candidates: tuple[str, ...]
    sweep: str | None = None

    def of(self, other: Mapping[str, Any]) -> bool:
        """Whether it has these values in these fields."""
        return all(getattr(self, name) == value for name, value in other.items())


class TrialRegister:
    """The register of one data root."""

    def __init__(self, root: Location = "data") -> None:
        place = location(root) / "trials"
        own = is_local(place) or place.protocol == "s3"
        self.store: _Entries = open_store(str(place)) if own else _PathEntries(place)

    def add(self, trials: Trials) -> None:
        """Enter candidates as evaluated. Any number of processes may do so at once. StorageError, IntegrityError."""
        for _ in range(_ATTEMPTS):
            last = self._last()
            document = {
                "seq": last[0] + 1,
                "prev_hash": last[1],
                "written_at": datetime.now(UTC).isoformat(timespec="seconds"),
                "trials": {**asdict(trials), "candidates": list(trials.candidates)},
            }
            entry = document | {"hash": hash_json(document)}
            if self.store.create(_key(last[0] + 1), json.dumps(entry, ensure_ascii=False).encode()):
                return
        raise StorageError(f"{self.store.place()} is written by too many others; run again.")

    def entries(self) -> Iterator[Trials]:
        """Every entry in order, the chain verified; IntegrityError naming the seq that does not follow."""
        seq, head = 0, FIRST
        for key in self.store.keys():
            seq += 1
            if key != _key(seq):
                raise IntegrityError(
                    f"the trial register has no entry {seq} ({self.store.place(_key(seq))}); restore it."
                )
            head, trials = self._read(seq, head)
            yield trials

    def count(self, **of: Any) -> int:
        """How many distinct candidates there were, those of a field's value where one is given: experiment, strategy,
        snapshot_id, snapshot_hash, start, end, sweep.
        """
        return len({one for entry in self.entries() if entry.of(of) for one in entry.candidates})

    def counts(self, *names: str) -> dict[tuple[Any, ...], int]:
        """How many distinct candidates there were, by the values of these fields."""
        groups: dict[tuple[Any, ...], set[str]] = {}
        for entry in self.entries():
            groups.setdefault(tuple(getattr(entry, name) for name in names), set()).update(entry.candidates)
        return {key: len(of) for key, of in groups.items()}

    def table(self) -> pd.DataFrame:
        """One row an experiment, snapshot, period and sweep: how many distinct candidates were evaluated."""
        names = ["experiment", "strategy", "snapshot_id", "snapshot_hash", "start", "end", "sweep"]
        rows = [[*key, count] for key, count in self.counts(*names).items()]
        return pd.DataFrame(rows, columns=[*names, "candidates"])

    def _last(self) -> tuple[int, str]:
        """Seq and hash of the last entry."""
        keys = list(self.store.keys())
        if not keys:
            return 0, FIRST
        seq = len(keys)
        if keys[-1] != _key(seq):
            raise IntegrityError(f"the trial register in {self.store.place()} has a gap before {keys[-1]}; restore it.")
        return seq, str(self._document(seq)["hash"])

    def _read(self, seq: int, follows: str) -> tuple[str, Trials]:
        document = self._document(seq)
        rest = {name: value for name, value in document.items() if name != "hash"}
        if document["hash"] != hash_json(rest) or document["prev_hash"] != follows or document["seq"] != seq:
            raise self._broken(seq)
        values = document["trials"]
        return str(document["hash"]), Trials(**{**values, "candidates": tuple(values["candidates"])})

    def _document(self, seq: int) -> dict[str, Any]:
        data = self.store.read(_key(seq))
        try:
            document = load_json(data or b"")
            return {name: document[name] for name in ("seq", "prev_hash", "written_at", "trials", "hash")}
        except (ValueError, KeyError, TypeError):
            raise self._broken(seq) from None

    def _broken(self, seq: int) -> IntegrityError:
        return IntegrityError(
            f"entry {seq} of the trial register ({self.store.place(_key(seq))}) is not what was written; restore it "
            "from a backup."
        )


class _Entries(Protocol):
    """What the register needs of a place; see book.log.store.ObjectStore."""

    def create(self, key: str, data: bytes) -> bool: ...

    def read(self, key: str) -> bytes | None: ...

    def keys(self) -> Iterator[str]: ...

    def place(self, key: str = "") -> str: ...


class _PathEntries:
    """Entries on a file system that cannot create exclusively: safe for one writer."""

    def __init__(self, root: UPath) -> None:
        self.root = root

    def create(self, key: str, data: bytes) -> bool:
        if (self.root / key).exists():
            return False
        write_file(self.root / key, data)
        return True

    def read(self, key: str) -> bytes | None:
        path = self.root / key
        return path.read_bytes() if path.exists() else None

    def keys(self) -> Iterator[str]:
        yield from sorted(path.name for path in self.root.glob("*.json"))

    def place(self, key: str = "") -> str:
        return str(self.root / key if key else self.root)


def _key(seq: int) -> str:
    return f"{seq:012d}.json"


def trials_of(provenance: Mapping[str, Any], candidates: Sequence[str], sweep: str | None = None) -> Trials:
    """The entry of candidates that differ from a run with this provenance in their params alone."""
    experiment, snapshot = provenance["experiment"], provenance["snapshot"]
    return Trials(
        experiment["name"], experiment["strategy"], snapshot["id"], snapshot["hash"], experiment.get("start"),
        experiment.get("end"), tuple(candidates), sweep,
    )  # fmt: skip
