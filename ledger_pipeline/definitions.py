"""The whole graph, assembled: everything in defs/, with steps in this process."""

from __future__ import annotations

from pathlib import Path

import dagster as dg


@dg.definitions
def defs() -> dg.Definitions:
    """All assets, checks, sensors, jobs and resources of the pipeline.

    Steps run in the run's own process: a step in a process of its own costs 1.7 s of imports.
    """
    loaded = dg.load_from_defs_folder(path_within_project=Path(__file__).parent)
    return dg.Definitions.merge(loaded, dg.Definitions(executor=dg.in_process_executor))
