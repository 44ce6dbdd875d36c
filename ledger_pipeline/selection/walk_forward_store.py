"""Where walk-forwards are kept: <root>/walk_forwards/<id>/, found by their id.

plan.json       what is walked over, by value and by hash, and its windows
windows/<n>.json   the choice of one window, written when its candidates are evaluated; they are a sweep of their own
result.json     once every window is there: the stitched run, the metrics of each test, and a hash over all of it

A window that is there is not chosen again, so a walk-forward goes on where it was stopped.
"""

from __future__ import annotations

from typing import Any

from ledger_pipeline.core.errors import InputError, IntegrityError, NotFoundError
from ledger_pipeline.core.identity import check_id, hash_json
from ledger_pipeline.file_hashes import add_json, with_hashes
from ledger_pipeline.files import Location, create_directory, json_bytes, location, read_document


class WalkForwardStore:
    """The walk-forwards under one data root."""

    def __init__(self, root: Location = "data") -> None:
        self.root = location(root) / "walk_forwards"

    def ids(self) -> list[str]:
        """Ids of all walk-forwards, those that are not finished among them, sorted."""
        if not self.root.exists():
            return []
        return sorted(p.name for p in self.root.iterdir() if not p.name.startswith(".") and (p / "plan.json").exists())

    def begin(self, walk_id: str, plan: dict[str, Any]) -> dict[str, Any]:
        """Keep the plan of a walk-forward, unless it is there already, and return the one that is kept."""
        written = plan | {"hash": hash_json(plan)}
        create_directory(self._path(walk_id), with_hashes({"plan.json": json_bytes(written)}))
        return self.plan(walk_id)

    def plan(self, walk_id: str) -> dict[str, Any]:
        """The plan. NotFoundError; IntegrityError when it is not the walk-forward's own."""
        plan = self._json(walk_id, "plan.json")
        if plan is None:
            raise NotFoundError(
                f"there is no walk-forward {walk_id!r} under {self.root}; `ledger-pipeline walk-forward list` shows "
                "what there is."
            )
        rest = {name: value for name, value in plan.items() if name != "hash"}
        whole = {"name", "identity", "windows", "begun_at"} <= set(plan) and plan.get("hash") == hash_json(rest)
        if not whole or hash_json(plan["identity"])[:20] != walk_id:
            raise IntegrityError(
                f"{self._path(walk_id) / 'plan.json'} does not describe walk-forward {walk_id}; restore it."
            )
        return plan

    def choice(self, walk_id: str, number: int) -> dict[str, Any] | None:
        """What was chosen for a window, None where it is not there yet. IntegrityError when it was changed."""
        kept = self._json(walk_id, f"windows/{number:04d}.json")
        if kept is not None and kept.get("hash") != hash_json({k: v for k, v in kept.items() if k != "hash"}):
            path = self._path(walk_id) / f"windows/{number:04d}.json"
            raise IntegrityError(f"{path} is not as it was written; delete it and run the walk-forward again.")
        return kept

    def keep_choice(self, walk_id: str, number: int, choice: dict[str, Any]) -> None:
        """Keep what was chosen for a window."""
        add_json(self._path(walk_id) / f"windows/{number:04d}.json", choice | {"hash": hash_json(choice)})

    def result(self, walk_id: str) -> dict[str, Any] | None:
        """The result of a finished walk-forward, None before. IntegrityError when it was changed."""
        kept = self._json(walk_id, "result.json")
        if kept is not None and kept.get("hash") != hash_json(kept.get("content")):
            raise IntegrityError(
                f"{self._path(walk_id) / 'result.json'} is not as it was written; delete it and run again."
            )
        return kept

    def finish(self, walk_id: str, content: dict[str, Any], **beside: Any) -> None:
        """Keep the result. beside: what is not part of its hash."""
        add_json(self._path(walk_id) / "result.json", {"content": content, "hash": hash_json(content), **beside})

    def delete(self, walk_id: str) -> None:
        """Delete a walk-forward. Its sweeps, its run and the trials that it counted stay."""
        self.plan(walk_id)
        path = self._path(walk_id)
        (path / "plan.json").unlink()  # first, so that what is left of it is no walk-forward
        path.fs.rm(path.path, recursive=True)

    def resolve(self, given: str) -> str:
        """The id of a walk-forward from itself, a beginning of it (4 characters or more), or its name: then the newest
        one that is finished, if any is.
        """
        ids = self.ids()
        if given in ids:
            return given
        starting = [one for one in ids if len(given) >= 4 and one.startswith(given)]
        if len(starting) > 1:
            raise InputError(f"{given!r} is the beginning of {len(starting)} walk-forwards; give more of the id.")
        if starting:
            return starting[0]
        named = [one for one in ids if self.plan(one)["name"] == given]
        finished = [one for one in named if self.result(one) is not None]
        if not named:
            raise NotFoundError(
                f"there is no walk-forward {given!r}; `ledger-pipeline walk-forward list` shows what there is."
            )
        return max(finished or named, key=lambda one: str(self.plan(one)["begun_at"]))

    def _path(self, walk_id: str) -> Any:
        return self.root / check_id("walk-forward", walk_id)

    def _json(self, walk_id: str, name: str) -> dict[str, Any] | None:
        advice = "restore it, or delete it and run the walk-forward again"
        return read_document(self._path(walk_id) / name, advice)
