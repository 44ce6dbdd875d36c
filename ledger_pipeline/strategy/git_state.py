"""Which commit of the user's repository the strategies stand at, and whether they were changed since."""

from __future__ import annotations

import subprocess
from pathlib import Path

_WAIT = 5.0  # seconds; a repository that takes longer is not asked


def git_state(folder: Path) -> dict[str, object] | None:
    """{"commit": its hash, "changed": whether something under `folder` differs from it}; None where there is no git, or
    no repository.
    """
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return None
    status = _git(folder, "status", "--porcelain", "--", ".")
    return {"commit": commit, "changed": bool(status)}


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=_WAIT)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
