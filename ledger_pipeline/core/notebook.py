"""How objects show themselves in a notebook: a title, a line, and a table of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape


def shown(title: str, line: str, rows: Sequence[Sequence[object]] = (), header: Sequence[str] = ()) -> str:
    """HTML of a title, a line below it, and a table; all text is escaped."""
    head = f"<tr>{''.join(f'<th>{escape(name)}</th>' for name in header)}</tr>" if header else ""
    body = "".join(f"<tr>{''.join(f'<td>{escape(str(cell))}</td>' for cell in row)}</tr>" for row in rows)
    table = f"<table>{head}{body}</table>" if rows else ""
    return f"<p><strong>{escape(title)}</strong><br>{escape(line)}</p>{table}"


def facts(title: str, line: str, values: Mapping[str, object]) -> str:
    """`shown` with a row a fact."""
    return shown(title, line, list(values.items()))
