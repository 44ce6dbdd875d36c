"""Where a number comes from: a chain of links, each with what it says and whether it still says so.

A link is recomputed where it can be: a book's commits are read anew, a decision is decided again, a run is run again, a
snapshot's bytes are hashed again. Only the files of the project are read; each link names its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ledger_pipeline.core.errors import LedgerPipelineError

SAME = "the same"


@dataclass(frozen=True)
class Link:
    """One step of a chain. kind: such as fill, order or run; title: which one, in a line; facts: what it says, by name;
    verdict: "the same" where it was recomputed, what differs, or empty where there is nothing to recompute; files: what
    it was read from; command: how to look at it more closely.
    """

    kind: str
    title: str
    facts: dict[str, Any] = field(default_factory=dict)
    verdict: str = ""
    files: tuple[str, ...] = ()
    command: str = ""

    def __post_init__(self) -> None:
        """Facts that say nothing are left out."""
        said = {name: _plain(value) for name, value in self.facts.items()}
        object.__setattr__(self, "facts", {k: v for k, v in said.items() if v is not None and v not in ("", [], {})})


@dataclass(frozen=True)
class Explanation:
    """The chain behind something, what is asked for first and what it all rests on last."""

    subject: str
    links: tuple[Link, ...]

    @property
    def sound(self) -> bool:
        """Whether everything that was recomputed is the same."""
        return all(link.verdict in ("", SAME) for link in self.links)

    def to_json(self) -> dict[str, Any]:
        """The chain as JSON."""
        return {"subject": self.subject, "sound": self.sound, "links": [asdict(link) for link in self.links]}

    def with_file_hashes(self) -> Explanation:
        """The chain with the SHA-256 of each file behind its name, to be compared with `sha256sum`."""
        links = [
            Link(**{**vars(link), "files": tuple(f"{name}  sha256 {_hash(Path(name))}" for name in link.files)})
            for link in self.links
        ]
        return Explanation(self.subject, tuple(links))

    def to_html(self) -> str:
        """The chain as a page: a picture of it, then each link in full."""
        from ledger_pipeline.analytics.page import render

        return render("explanation.html.j2", {}, subject=self.subject, links=self.links, sound=self.sound, same=SAME)

    def __str__(self) -> str:
        """The chain as text: a heading a link, its verdict at the end of the line, its facts below."""
        lines = []
        for link in self.links:
            lines.append(f"{link.kind}: {link.title}" + (f"   [{link.verdict}]" if link.verdict else ""))
            width = max((len(name) for name in link.facts), default=0)
            for name, value in link.facts.items():
                first, *rest = _rows(value)
                lines.append(f"    {name:<{width}}  {first}")
                lines += [f"    {'':<{width}}  {row}" for row in rest]
            lines += [f"    {name}" for name in link.files]
            lines += [f"    $ {link.command}"] if link.command else []
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from html import escape

        return f"<pre>{escape(str(self))}</pre>"


def verdict(check: Callable[[], str | None]) -> str:
    """What recomputing a link comes to: "the same", or what differs or failed. check: None where it is the same."""
    try:
        return check() or SAME
    except (LedgerPipelineError, OSError) as error:
        return str(error)


def _plain(value: Any) -> Any:
    """A fact as JSON has it."""
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return value.item()
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "-"


def _rows(value: Any) -> list[str]:
    """A fact as lines: a list has one an item."""
    return [_text(item) for item in value] if isinstance(value, list) and value else [_text(value)]


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(item)}" for name, item in value.items())
    if isinstance(value, list | tuple):
        return "; ".join(_text(item) for item in value)
    return f"{value:,.6g}" if isinstance(value, float) else str(value)
