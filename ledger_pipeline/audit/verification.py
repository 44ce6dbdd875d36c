"""Whether every byte of a project is as it was written.

Each kind of record is verified in the way it was made verifiable: snapshots by their manifests, books and the trial
register by their chains, runs, sweeps and walk-forwards by their hashes and by what follows from them, and every file
under data/ by the hashes that stand beside it. A file of no kind is named too.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ledger_pipeline.audit.finding import Finding
from ledger_pipeline.audit.heads import against_heads, read_heads
from ledger_pipeline.core.errors import InputError, LedgerPipelineError
from ledger_pipeline.file_hashes import NAME as HASHES
from ledger_pipeline.file_hashes import differences, missing
from ledger_pipeline.files import json_bytes, location
from ledger_pipeline.project import Project


@dataclass(frozen=True)
class Verified:
    """A kind that was verified: how many records there were, the findings, and how long it took."""

    kind: str
    records: int
    findings: tuple[Finding, ...]
    seconds: float


Check = Iterator[Finding | None]  # one None a record that is sound
_NEEDED = ("provenance.json", "ledger.parquet", "strategy.py", "plan.json", "result.json")  # the rest is made again


def verify_project(
    project: Project,
    kinds: Sequence[str] = (),
    *,
    heads: str | None = None,
    tell: Callable[[str], None] = lambda kind: None,
) -> list[Verified]:
    """Verify these kinds, all of them where none is named, and the books against a file of heads (see audit.heads).
    `tell` is told each kind before it begins. InputError for an unknown kind, or a file that holds no heads.
    """
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        raise InputError(f"{unknown[0]!r} is no kind of record; the kinds are {', '.join(KINDS)}.")
    checks: dict[str, Callable[[], Check]] = {kind: partial(KINDS[kind], project) for kind in kinds or KINDS}
    if heads is not None:
        checks["heads of books"] = partial(against_heads, project, read_heads(heads))
    verified = []
    for kind, check in checks.items():
        tell(kind)
        started = time.perf_counter()
        rows = list(check())
        findings = tuple(row for row in rows if row is not None)
        records = len(rows) - len(findings) + len({finding.path for finding in findings})
        verified.append(Verified(kind, records, findings, round(time.perf_counter() - started, 2)))
    return verified


def _said(path: object, check: Callable[..., object], *arguments: object, **options: object) -> Finding | None:
    """What a check that raises finds of a record."""
    try:
        check(*arguments, **options)
    except (LedgerPipelineError, OSError, ValueError) as error:
        return Finding(str(path), str(error))
    return None


def snapshots(project: Project) -> Check:
    """Manifests, files and content of sealed snapshots, those of live decisions among them."""
    from ledger_pipeline.market.snapshot import TABLES, read_manifest, verify

    for root in (project.snapshots, project.live_snapshots):
        for path in _folders(root):
            if path == project.live_snapshots:
                continue
            finding = _said(path, verify, path.name, root=path.parent)
            if finding is None and (path / "manifest.json").read_bytes() != json_bytes(read_manifest(location(path))):
                finding = Finding(str(path / "manifest.json"), "is not as it was written")
            yield finding
            yield from _strangers(path, {*TABLES, "manifest.json"})
        yield from _strangers(root, set())


def raw(project: Project) -> Check:
    """Raw tables, which were imported and not sealed yet or since."""
    from ledger_pipeline.market.raw import read_raw

    for path in _folders(project.data / "raw"):
        yield _said(path, read_raw, path.name, project.data)


def runs(project: Project) -> Check:
    """Provenance, source and ledger of each run by their hashes; its tables and metrics are among the files."""
    from ledger_pipeline.simulation.store import RunStore

    store = RunStore(project.data)

    def check(run_id: str) -> None:
        store.source(run_id)
        store.ledger(run_id)

    for path in _folders(project.data / "runs"):
        yield _said(path, check, path.name)


def sweeps(project: Project) -> Check:
    """Plans, shards and the hash over all candidates of each sweep."""
    from ledger_pipeline.sweeps.sweep_store import SweepStore, rows_digest, shards_of

    store = SweepStore(project.data)

    def check(sweep_id: str) -> None:
        plan, result = store.plan(sweep_id), store.result(sweep_id)
        if result is None:
            return  # it goes on where it was stopped
        tables = [store.read(sweep_id, shard) for shard in shards_of(result["candidates"], plan["shard_size"])]
        if rows_digest(tables) != result["sweep_hash"]:
            raise InputError(f"{store.path(sweep_id) / 'result.json'} states another hash than its candidates have.")

    for path in _folders(project.data / "sweeps"):
        yield _said(path, check, path.name)


def walk_forwards(project: Project) -> Check:
    """Plan, choices and result of each walk-forward."""
    from ledger_pipeline.selection.walk_forward_store import WalkForwardStore

    store = WalkForwardStore(project.data)

    def check(walk_id: str) -> None:
        for number in range(len(store.plan(walk_id)["windows"])):
            store.choice(walk_id, number)
        store.result(walk_id)

    for path in _folders(project.data / "walk_forwards"):
        yield _said(path, check, path.name)


def trials(project: Project) -> Check:
    """The chain of the trial register, and each entry's bytes."""
    from ledger_pipeline.simulation.trials import TrialRegister

    register = TrialRegister(project.data)
    finding = _said(project.data / "trials", lambda: list(register.entries()))
    entries = _files(project.data / "trials")
    if finding is not None:
        yield finding
        return
    for path in entries:
        data = path.read_bytes()
        same = data == json.dumps(json.loads(data), ensure_ascii=False).encode()
        yield None if same else Finding(str(path), "is not as it was written")


def books(project: Project) -> Check:
    """The chain of each live book, and what follows from it."""
    for path in _folders(project.books):
        yield _said(path, _verify_book, project, path.name)
    yield from _strangers(project.books, set())


def _verify_book(project: Project, name: str) -> None:
    from ledger_pipeline.trading.session_context import read_book

    read_book(project, name).verify()


def deployments(project: Project) -> Check:
    """What each deployment says of the run that it was promoted from, beside that run and its own hash."""
    from ledger_pipeline.trading.deployment.deployment import deployments_of

    for path in sorted(deployments_of(project).glob("*.yaml")):
        yield _said(path, check_pinned, project, path)


def check_pinned(project: Project, path: Path) -> None:
    """InputError when what a deployment file says of its run is not what `promote` wrote, or not what the run is."""
    from ledger_pipeline.simulation.store import RunStore
    from ledger_pipeline.trading.deployment.deployment import pinned_hash, read_deployment

    pinned = read_deployment(path).promoted
    if pinned is None:
        return
    if pinned.hash is not None and pinned.hash != pinned_hash(pinned):
        raise InputError(f"{path}: what was promoted is not as `promote` wrote it; restore the file, or promote again.")
    stored = RunStore(project.data)
    if not stored.exists(pinned.run):
        raise InputError(f"{path} was promoted from run {pinned.run}, which is not stored any more.")
    provenance = stored.provenance(pinned.run)
    experiment = provenance["experiment"]
    stated = (pinned.experiment_hash, pinned.source_hash, pinned.params_hash, pinned.snapshot.hash, pinned.engine)
    kept = (
        experiment["hash"], experiment["strategy_hash"], experiment["params_hash"], provenance["snapshot"]["hash"],
        provenance["engine"],
    )  # fmt: skip
    if stated != kept:
        raise InputError(f"{path} states other hashes than run {pinned.run} has; restore the file, or promote again.")


def files(project: Project) -> Check:
    """Every file under data/ by the hashes beside it: derived tables, metrics, evaluations, labels, promotions,
    features, raw tables, shards, live tables and reports. What is a cache, and the exchange's own files, are left out.
    """
    yield from _hashed(project.data, {"cache", "trials", "demo_exchange", "exchange"})


def _hashed(folder: Path, left_out: set[str]) -> Check:
    if not folder.is_dir():
        return
    own = [path for path in _files(folder) if path.name != HASHES]
    if own or (folder / HASHES).exists():
        try:
            wrong = differences(location(folder))
            gone = [name for name in missing(location(folder)) if name in _NEEDED]
        except LedgerPipelineError as error:
            yield Finding(str(folder / HASHES), str(error))
        else:
            yield from (None for path in own if path.name not in wrong)
            yield from (Finding(str(folder / name), problem) for name, problem in wrong.items())
            yield from (Finding(str(folder / name), "is missing") for name in gone)
    for path in _folders(folder):
        if path.name not in left_out:
            yield from _hashed(path, set())


def _folders(root: Path) -> list[Path]:
    return sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith(".")) if root.is_dir() else []


def _files(root: Path) -> list[Path]:
    return sorted(p for p in root.iterdir() if p.is_file() and not p.name.startswith(".")) if root.is_dir() else []


def _strangers(folder: Path, known: set[str]) -> Check:
    """Files that nothing of this product puts there."""
    names = [path for path in _files(folder) if path.name not in known]
    yield from (Finding(str(path), "is no file of this product; move it away") for path in names)


KINDS: dict[str, Callable[[Project], Check]] = {
    "snapshots": snapshots,
    "raw": raw,
    "runs": runs,
    "sweeps": sweeps,
    "walk-forwards": walk_forwards,
    "trials": trials,
    "books": books,
    "deployments": deployments,
    "files": files,
}
