"""What is found by an audit."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """Something that is not as it was written: the file or folder, and what is wrong with it."""

    path: str
    problem: str
