"""Where runs are kept: one directory a run under <root>/runs/, found by the run's id.

provenance.json, strategy.py and ledger.parquet are the run (its fills are rows of the ledger); lots, trades and equity
(Parquet) and metrics (JSON) follow from it and can be made again; SHA256SUMS holds the hashes of all of them (see
file_hashes). metrics.json is of the experiment that made the run;
where another measures the same run against something else, its metrics are <root>/evaluations/<run id>-<key>.json. A
directory appears whole. Labels, tags and the
archive flag are mutable and live beside it, in <root>/labels/; they change no hash. Nothing here is opened for writing
by two processes: a run that exists is compared, not overwritten.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet
from upath import UPath

from ledger_pipeline.core.errors import InputError, IntegrityError, NotFoundError
from ledger_pipeline.core.identity import check_id, check_text
from ledger_pipeline.file_hashes import add_file, add_json, read_verified, with_hashes
from ledger_pipeline.files import Location, create_directory, location
from ledger_pipeline.ledger.schema import Ledger, read_ledger
from ledger_pipeline.market.snapshot import open_snapshot
from ledger_pipeline.simulation.evaluation import Evaluation, evaluation
from ledger_pipeline.simulation.run import Run, RunIdentity
from ledger_pipeline.simulation.trials import TrialRegister, trials_of
from ledger_pipeline.strategy.source import source_hash

DERIVED = ("lots", "trades", "equity")
PROVENANCE, METRICS = "provenance.json", "metrics.json"
_AGAIN = "run the experiment with --again to make it anew"


class RunStore:
    """The runs under one data root."""

    def __init__(self, root: Location = "data") -> None:
        self.root = location(root)
        self.runs = self.root / "runs"

    def ids(self) -> list[str]:
        """Ids of all stored runs, sorted."""
        if not self.runs.exists():
            return []
        return sorted(
            path.name
            for path in self.runs.iterdir()
            if not path.name.startswith(".") and (path / "provenance.json").exists()
        )

    def ids_over(self, snapshot_hash: str) -> list[str]:
        """Ids of the stored runs over the snapshot with this hash, sorted; raises what `provenance` raises."""
        return [run_id for run_id in self.ids() if self.provenance(run_id)["snapshot"]["hash"] == snapshot_hash]

    def exists(self, run_id: str) -> bool:
        """Whether the run is stored."""
        return (self.runs / check_id("run", run_id) / "provenance.json").exists()

    def write(self, run: Run) -> None:
        """Store a run with all that follows from it."""
        self._create(
            run, {name: to_parquet(getattr(run, name)) for name in DERIVED} | {"metrics.json": to_json(run.metrics)}
        )

    def write_ledger(self, run: Run) -> None:
        """Store a run's ledger and provenance only; what follows is added with `add_table` and `add_metrics`."""
        self._create(run, {})

    def _create(self, run: Run, derived: dict[str, bytes]) -> None:
        files = {
            "ledger.parquet": run.events.to_parquet(),
            **{name if "." in name else f"{name}.parquet": data for name, data in derived.items()},
            "strategy.py": run.provenance["strategy_text"].encode(),
        }
        provenance = to_json({key: value for key, value in run.provenance.items() if key != "strategy_text"})
        if not self.exists(run.run_id):
            TrialRegister(self.root).add(trials_of(run.provenance, [run.run_id]))
        if create_directory(self.runs / run.run_id, with_hashes(files | {PROVENANCE: provenance})):
            return
        stored = self.provenance(run.run_id)
        if stored["ledger_head"] != run.events.head:
            raise IntegrityError(
                f"run {run.run_id} is stored with ledger head {stored['ledger_head'][:16]}, but the same inputs now "
                f"give {run.events.head[:16]}: what decides is not only ctx and params. Look for what the strategy or "
                "an indicator reads or keeps beside them (`experiment check`)."
            )
        for name, data in derived.items():
            if name in DERIVED:
                add_file(self.runs / run.run_id / f"{name}.parquet", data)
            else:
                self.add_metrics(run, run.metrics)

    def add_table(self, run_id: str, name: str, frame: pd.DataFrame) -> None:
        """Store one derived table of a run."""
        add_file(self.runs / run_id / f"{name}.parquet", to_parquet(frame))

    def add_metrics(self, run: Run, metrics: dict[str, Any]) -> None:
        """Store the metrics of a run, beside those of other evaluations of it."""
        measured = evaluation(run.provenance["experiment"])
        if measured == self.evaluation(run.run_id):
            add_file(self.runs / run.run_id / METRICS, to_json(metrics))
        else:
            kept = {"run_id": run.run_id, "evaluation": asdict(measured), "metrics": metrics}
            add_json(self._evaluation_path(run.run_id, measured), kept)

    def evaluation(self, run_id: str) -> Evaluation:
        """What the run was measured against by the experiment that made it."""
        return evaluation(self.provenance(run_id)["experiment"])

    def evaluations(self, run_id: str) -> list[tuple[Evaluation, dict[str, Any] | None]]:
        """Every evaluation of a run with its metrics, that of the experiment that made it first."""
        folder = self.root / "evaluations"
        others = [read_evaluation(path) for path in sorted(folder.glob(f"{check_id('run', run_id)}-*.json"))]
        return [
            (self.evaluation(run_id), self.metrics(run_id)),
            *((Evaluation(**kept["evaluation"]), kept["metrics"]) for kept in others),
        ]

    def resolve(self, given: str) -> str:
        """A run id from a whole id, an unambiguous beginning of one (at least 4 characters), or a label."""
        ids = self.ids()
        if given in ids:
            return given
        labelled = [run_id for run_id in ids if self.label(run_id).get("label") == given]
        matches = labelled or ([run_id for run_id in ids if len(given) >= 4 and run_id.startswith(given)])
        if len(matches) > 1:
            raise InputError(f"{given!r} means {len(matches)} runs ({', '.join(matches[:4])}); give more of the id.")
        if not matches:
            raise NotFoundError(
                f"there is no run {given!r} under {self.runs}; `ledger-pipeline runs list` shows what there is."
            )
        return matches[0]

    def provenance(self, run_id: str) -> dict[str, Any]:
        """The provenance of a run, checked to be its own. NotFoundError, IntegrityError."""
        check_id("run", run_id)
        path = self.runs / run_id / "provenance.json"
        if not path.exists():
            raise NotFoundError(f"there is no run {run_id!r} under {self.runs}.")
        try:
            document = json.loads(path.read_bytes())
            identity = RunIdentity(
                document["snapshot"]["hash"],
                document["experiment"]["hash"],
                document["seed"],
                document["engine"],
                document.get("libraries", {}),
            )
        except (ValueError, KeyError, TypeError):
            raise IntegrityError(f"{path} is not readable as provenance; run the experiment again.") from None
        if identity.run_id != run_id or document["run_id"] != run_id:
            raise IntegrityError(f"{path} describes run {identity.run_id}, not {run_id}.")
        return document

    def source(self, run_id: str) -> str:
        """The stored text of a run's strategy, as data, verified against the hash in its provenance."""
        expected = self.provenance(run_id)["experiment"]["strategy_hash"]
        path = self.runs / run_id / "strategy.py"
        try:
            text = path.read_bytes().decode()
        except (FileNotFoundError, UnicodeDecodeError):
            raise IntegrityError(f"{path} is missing or not text; run the experiment again.") from None
        if source_hash(text) != expected:
            raise IntegrityError(
                f"{path} is not the source that its provenance states: the file was changed; "
                "move the run's directory away and run the experiment again."
            )
        return text

    def ledger(self, run_id: str) -> Ledger:
        """The ledger of a run, verified against the head in its provenance."""
        provenance = self.provenance(run_id)
        path = self.runs / run_id / "ledger.parquet"
        try:
            ledger = read_ledger(path.read_bytes(), str(path))
        except FileNotFoundError:
            raise IntegrityError(f"{path} is missing; run the experiment again.") from None
        if ledger.head != provenance["ledger_head"]:
            raise IntegrityError(
                f"{path} has head {ledger.head[:16]}, its provenance states {provenance['ledger_head'][:16]}: the "
                "file was changed; "
                "move the run's directory away and run the experiment again."
            )
        return ledger

    def open(self, run_id: str, snapshots: Location = "snapshots", measured: Evaluation | None = None) -> Run:
        """A stored run, its ledger and its snapshot verified; with `measured`, as another experiment measures it."""
        provenance = self.provenance(run_id)
        if measured is not None:
            provenance["experiment"] = measured.of(provenance["experiment"])
        snapshot = open_snapshot(provenance["snapshot"]["id"], root=snapshots)
        if snapshot.hash != provenance["snapshot"]["hash"]:
            raise IntegrityError(
                f"run {run_id} was made on snapshot {provenance['snapshot']['hash'][:16]}, {snapshot.id!r} is "
                f"{snapshot.hash[:16]}."
            )
        return Run(provenance | {"strategy_text": self.source(run_id)}, self.ledger(run_id), snapshot)

    def measured(self, given: str) -> tuple[str, Evaluation | None]:
        """A stored run by its id, or by run_id/key with the evaluation that has this key. NotFoundError."""
        run_id, _, key = given.partition("/")
        measured = {one.key: one for one, _ in self.evaluations(run_id)} if key else {"": None}
        if key not in measured:
            raise NotFoundError(f"run {run_id} has no evaluation {key!r}; it has {', '.join(measured)}.")
        return run_id, measured[key]

    def table(self, run_id: str, name: str) -> pd.DataFrame | None:
        """A stored derived table, None when it has not been made."""
        path = self.runs / check_id("run", run_id) / f"{name}.parquet"
        if not path.exists():
            return None
        data = read_verified(path, _AGAIN)
        try:
            return pyarrow.parquet.read_table(io.BytesIO(data)).to_pandas()
        except (pa.ArrowException, ValueError, OSError):
            raise IntegrityError(f"{path} is not readable; delete it and run the experiment again.") from None

    def metrics(self, run_id: str, measured: Evaluation | None = None) -> dict[str, Any] | None:
        """The stored metrics by the experiment that made the run, or by another one; None when they have not been
        made.
        """
        if measured is not None and measured != self.evaluation(run_id):
            path = self._evaluation_path(run_id, measured)
            return read_evaluation(path)["metrics"] if path.exists() else None
        path = self.runs / check_id("run", run_id) / METRICS
        if not path.exists():
            return None
        values = _read_json(path)
        read_verified(path, _AGAIN)
        return values

    def _evaluation_path(self, run_id: str, measured: Evaluation) -> UPath:
        return self.root / "evaluations" / f"{check_id('run', run_id)}-{measured.key}.json"

    def label(self, run_id: str) -> dict[str, Any]:
        """Mutable names of a run: label, tags, archived, reason."""
        path = self.root / "labels" / f"{check_id('run', run_id)}.json"
        return _read_json(path) if path.exists() else {}

    def give_label(self, run_id: str, label: str) -> list[str]:
        """Give a run a label, which names one run a snapshot; returns the runs that it was taken from."""
        on = self.provenance(run_id)["snapshot"]["id"]
        others = [
            other
            for other in self.ids()
            if other != run_id
            and self.label(other).get("label") == label
            and self.provenance(other)["snapshot"]["id"] == on
        ]
        for other in others:
            self.set_label(other, lambda names: {k: v for k, v in names.items() if k != "label"})
        self.set_label(run_id, lambda names: {**names, "label": label})
        return others

    def set_label(self, run_id: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
        """Change the mutable names of a run and return them."""
        names = change(self.label(run_id))
        for kind in ("label", "archive_reason"):
            check_text(kind, names.get(kind, ""))
        for tag in names.get("tags", ()):
            check_text("tag", tag)
        changed = names | {"changed_at": datetime.now(UTC).isoformat(timespec="seconds")}
        add_json(self.root / "labels" / f"{run_id}.json", changed)
        return changed


def read_evaluation(path: UPath) -> dict[str, Any]:
    """A file of evaluations/, compared with its hash. IntegrityError."""
    kept = _read_json(path)
    if not {"run_id", "evaluation", "metrics"} <= set(kept):
        raise IntegrityError(f"{path} is not as it was written; {_AGAIN}.")
    read_verified(path, _AGAIN)
    return kept


def _read_json(path: UPath) -> dict[str, Any]:
    try:
        document = json.loads(path.read_bytes())
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise IntegrityError(f"{path} is not readable; delete it to go on without it.")
    return document


def to_parquet(frame: pd.DataFrame) -> bytes:
    """A frame as the bytes of a Parquet file."""
    sink = pa.BufferOutputStream()
    table = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)
    names = [field.name for field in table.schema if pa.types.is_dictionary(field.type)]
    pyarrow.parquet.write_table(
        table, sink, compression="snappy", use_dictionary=names, write_statistics=False, store_schema=False
    )
    return sink.getvalue()


def to_json(value: Any) -> bytes:
    """JSON for people and machines: indented, keys as given, no NaN."""
    return (json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n").encode()
