"""What a stored run was chosen from: the sweep that it was a candidate of, its rank, and the number of trials.

<data root>/promotions/<run id>.json  what a person decided: it changes no hash, and a deployment of the run carries it
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from ledger_pipeline.core.errors import InputError, IntegrityError
from ledger_pipeline.core.identity import check_id, check_text
from ledger_pipeline.file_hashes import add_json, read_verified
from ledger_pipeline.files import Location, location
from ledger_pipeline.strategy.terms import plain


@dataclass(frozen=True)
class Promotion:
    """What a run was chosen from, and by whom. candidate: its number in the sweep; ranks: by each metric, 1 for the
    highest value; trials: distinct candidates of the strategy on the snapshot that had been evaluated by then;
    snapshot_trials: those of all strategies on it; gates: each gate of the sweep with what it asked for, the value and
    whether it was met; against_gates: why it was promoted although one was not; walk_forward: whether it is the
    stitched run of a walk-forward, whose id, name and hash `sweep`, `sweep_name` and `sweep_hash` are then.
    """

    run_id: str
    sweep: str
    sweep_name: str
    sweep_hash: str
    candidate: int
    candidates: int
    params: dict[str, Any]
    ranks: dict[str, int]
    trials: int
    snapshot_trials: int
    label: str
    by: str
    reason: str
    at: str
    gates: tuple[dict[str, Any], ...] = ()
    against_gates: str | None = None
    walk_forward: bool = False


def checked_decision(label: str, by: str, reason: str) -> tuple[str, str]:
    """Who decides on a promotion, and why, without spaces around. InputError for a label that is no id, and where
    either is missing.
    """
    check_id("label", label)
    by, reason = check_text("name", by).strip(), check_text("reason", reason).strip()
    if not by or not reason:
        raise InputError("a promotion needs the name of who decides (by) and a reason.")
    return by, reason


def promotion_of(root: Location, run_id: str) -> Promotion | None:
    """What a run was chosen from; None for a run that was not promoted from a sweep. IntegrityError."""
    path = location(root) / "promotions" / f"{check_id('run', run_id)}.json"
    if not path.exists():
        return None
    try:
        document = json.loads(read_verified(path, "restore it, or promote the candidate again"))
        return Promotion(**{**document, "gates": tuple(document.get("gates", ()))})
    except (ValueError, TypeError):
        raise IntegrityError(f"{path} is not readable; promote the candidate again.") from None


def keep_promotion(root: Location, promotion: Promotion) -> None:
    """Keep what a run was chosen from; a later promotion of the same run takes its place."""
    add_json(location(root) / "promotions" / f"{promotion.run_id}.json", plain(asdict(promotion)))
