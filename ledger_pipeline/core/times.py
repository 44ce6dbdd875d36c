"""Times as text: UTC, with microseconds, always of the same length."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta


def time_text(moment: datetime) -> str:
    """An aware datetime as UTC text with microseconds, such as 2026-01-05T14:40:00.000000Z."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_time(text: str) -> datetime:
    """The aware UTC datetime of `time_text`; ValueError for other text."""
    if not isinstance(text, str) or len(text) != 27 or text[-1] != "Z" or text[10] != "T":
        raise ValueError(f"{text!r} is no time such as 2026-01-05T14:40:00.000000Z")
    return datetime.fromisoformat(text)


def end_of(session: date) -> datetime:
    """The moment (UTC) before which the events of a session occurred: the midnight after it. Its fills come earlier,
    and what a broker dates by the day alone stands at 00:00 UTC of its day.
    """
    return datetime.combine(session + timedelta(days=1), time(), UTC)
