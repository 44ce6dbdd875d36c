"""Tags by which a run is found: what it works on, whoever launched it."""

from collections.abc import Iterable

import dagster as dg

_LISTED = 5  # names in one tag; more are counted


def label_run(context: dg.AssetExecutionContext | dg.OpExecutionContext, **labels: str | Iterable[str]) -> None:
    """Tag the run that is under way. Of several names in one label the first stand there, and how many they are."""
    tags = {}
    for name, value in labels.items():
        values = [value] if isinstance(value, str) else list(dict.fromkeys(value))
        more = f" and {len(values) - _LISTED} more" if len(values) > _LISTED else ""
        tags[name] = ", ".join(values[:_LISTED]) + more
    context.instance.add_run_tags(context.run.run_id, {name: text for name, text in tags.items() if text})
