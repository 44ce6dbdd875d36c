"""Tell Dagster what commands made (see ledger_pipeline.outbox): `python -m ledger_pipeline.defs.reporter ROOT`."""

from __future__ import annotations

import sys

from ledger_pipeline.defs.launch import instance
from ledger_pipeline.project import find_project


def main() -> None:
    """Open the instance of the project, which delivers what is waiting."""
    with instance(find_project(sys.argv[1])):
        pass


if __name__ == "__main__":
    main()
