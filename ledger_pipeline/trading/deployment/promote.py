"""Promotion: a researched run, or a policy, becomes a deployment that trades paper or live with the same function.

What is pinned is the run's own provenance: source, params and everything else that decides, by hash. The files it was
made from must still say the same, so that what trades is what was researched.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from ledger_pipeline.core.errors import LedgerPipelineError, NotFoundError, RefusedError
from ledger_pipeline.simulation.promotions import promotion_of
from ledger_pipeline.simulation.proof import prove
from ledger_pipeline.simulation.simulator import ENGINE_VERSION
from ledger_pipeline.simulation.store import RunStore
from ledger_pipeline.strategy.catalogue import Catalogue
from ledger_pipeline.trading.deployment.deployment import (
    Chosen,
    Deployment,
    Lineage,
    Promoted,
    capitals,
    check_name,
    deployments_of,
    pinned_hash,
    policy_of,
    read_deployment,
    write_deployment,
)
from ledger_pipeline.trading.deployment.instructions import require_live
from ledger_pipeline.trading.deployment.live_bars import require_followable
from ledger_pipeline.trading.deployment.strategy import differences
from ledger_pipeline.trading.planning.policy import Guardrails, Schedule
from ledger_pipeline.trading.reconciliation.override import named
from ledger_pipeline.trading.session_context import named_book, read_book

if TYPE_CHECKING:
    from pathlib import Path

    from ledger_pipeline.project import Project
    from ledger_pipeline.trading.deployment.deployment import Mode


def promote(
    project: Project,
    run_id: str,
    *,
    by: str,
    reason: str,
    book: str | None = None,
    mode: Mode | None = None,
    name: str | None = None,
    capital: Decimal | None = None,
    schedule: Schedule | None = None,
    guardrails: Guardrails | None = None,
    now: datetime | None = None,
) -> Deployment:
    """The deployment of a stored run; `write_deployment` keeps it. name: the experiment's when None. A deployment of
    that name that is there already keeps its schedule, guardrails, capital and feed unless they are given.

    The whole run is proven first (see simulation.proof). NotFoundError for no such run; RefusedError when its bars
    cannot be followed live, when it cannot be reproduced, when the experiment's files are not what the run was made
    from, for a tier 3 source, or when the deployment is a policy's or on another book; IntegrityError for damaged
    records.
    """
    by, reason = named(by, reason)
    store = RunStore(project.data)
    provenance = store.provenance(store.resolve(run_id))
    experiment = provenance["experiment"]
    store.source(provenance["run_id"])  # verified against its hash
    if provenance["tier"] > 2:
        raise RefusedError(f"run {provenance['run_id']} is of a tier 3 strategy, which is never deployed.")
    opened = store.open(provenance["run_id"], project.snapshots)
    if provenance["engine"] != ENGINE_VERSION:
        raise RefusedError(
            f"run {provenance['run_id']} was made by engine {provenance['engine']}, and this is engine "
            f"{ENGINE_VERSION}: run the experiment again and promote that run."
        )
    require_followable(opened.snapshot, opened.grid.symbols)
    require_live(opened)
    proof = prove([opened], everything=True)[0]
    if proof.difference is not None:
        raise RefusedError(
            f"run {provenance['run_id']} is not promoted, since it cannot be reproduced: {proof.difference}"
        )
    pinned = Promoted(
        run=provenance["run_id"],
        by=by,
        reason=reason,
        at=(now or datetime.now(UTC)).astimezone(UTC).isoformat(timespec="seconds"),
        experiment_hash=experiment["hash"],
        source_hash=experiment["strategy_hash"],
        params_hash=experiment["params_hash"],
        tier=provenance["tier"],
        engine=provenance["engine"],
        seed=provenance["seed"],
        snapshot=Lineage(**{key: provenance["snapshot"][key] for key in ("id", "hash")}),
        chosen_from=_chosen_from(project, provenance["run_id"]),
    )
    pinned = pinned.model_copy(update={"hash": pinned_hash(pinned)})
    named_experiment = _experiment_of(project, store, provenance)
    changed = differences(Catalogue(project.strategies).experiment(named_experiment), pinned)
    if changed:
        raise RefusedError(
            f"run {provenance['run_id']}: {', '.join(changed)} of experiment {named_experiment!r} changed since "
            "it was made; run the experiment again and promote that run."
        )
    _check_mode(project, book, mode)
    called = check_name(name or named_experiment)
    options: dict[str, Any] = {
        "book": book,
        "mode": mode,
        "capital": capital,
        "schedule": schedule,
        "guardrails": guardrails,
    }
    path = deployments_of(project) / f"{called}.yaml"
    if path.exists():
        before = read_deployment(path)
        if before.experiment != named_experiment or (book is not None and before.book != book):
            raise RefusedError(
                f"deployment {called!r} is there already, of {before.what} on book {before.book or 'local'}; what it "
                "owns goes with its name. Choose another name with --name."
            )
        kept = {key: getattr(before, key) for key in (*options, "feed", "max_jump")}
        options = kept | {key: value for key, value in options.items() if value is not None}
    options = {key: value for key, value in options.items() if value is not None}
    options.setdefault("book", named_book())
    return Deployment(name=called, experiment=named_experiment, promoted=pinned, **options)


def _experiment_of(project: Project, store: RunStore, provenance: Mapping[str, Any]) -> str:
    """The name of the user's experiment that a run is of: that of its label, or one of those it was measured for (a
    stitched run is stored before its experiment is written). The one it was stored under where no file is the same.
    """
    first = str(provenance["experiment"]["name"])
    catalogue = Catalogue(project.strategies)
    label = store.label(provenance["run_id"]).get("label")
    measured = [one.name for one, _ in store.evaluations(provenance["run_id"])]
    there = set(catalogue.experiment_names())
    for name in dict.fromkeys([*([label] if label else []), first, *measured]):
        try:
            if name in there and catalogue.experiment(name).hash == provenance["experiment"]["hash"]:
                return name
        except LedgerPipelineError:  # a file that cannot be read is not the one; the first of all is told
            continue
    return first


def _chosen_from(project: Project, run_id: str) -> Chosen | None:
    """The sweep that a run was a candidate of, None for any other run. IntegrityError."""
    kept = promotion_of(project.data, run_id)
    if kept is None:
        return None
    return Chosen(**{name: getattr(kept, name) for name in Chosen.model_fields})


def deploy_policy(
    project: Project,
    policy: str,
    *,
    name: str | None = None,
    book: str | None = None,
    mode: Mode | None = None,
    capital: Decimal | None = None,
) -> Path:
    """Write the deployment of a policy, which the schedule trades from then on; its file's path.

    InputError and NotFoundError for a policy that does not load, InputError when whose the book's cash is could not be
    told; RefusedError when the name is taken, or the book belongs to another environment.
    """
    book = named_book(book)
    deployment = Deployment(name=check_name(name or policy), policy=policy, book=book, mode=mode, capital=capital)
    policy_of(project, deployment)
    if (deployments_of(project) / f"{deployment.name}.yaml").exists():
        raise RefusedError(
            f"deployment {deployment.name!r} is there already; edit or delete its file, or choose a --name."
        )
    _check_mode(project, book, mode)
    capitals(project, deployment)
    return write_deployment(project, deployment)


def _check_mode(project: Project, book: str | None, mode: Mode | None) -> None:
    """RefusedError when a book that is there belongs to another environment than `mode`."""
    if mode is None:
        return
    try:
        bound = read_book(project, book).state.environment
    except NotFoundError:
        return  # it begins with that mode
    if bound and bound != mode:
        raise RefusedError(f"book {book or 'local'} belongs to environment {bound}, not {mode}; name another book.")
