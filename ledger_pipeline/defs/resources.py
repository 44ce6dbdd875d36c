"""Resources: where the project is, and DuckDB over its results."""

import dagster as dg

from ledger_pipeline.project import Project, find_project


class ProjectResource(dg.ConfigurableResource):
    """The directories that the assets read and write."""

    root: str

    @property
    def project(self) -> Project:
        """The project at the root."""
        return find_project(self.root)


@dg.definitions
def defs() -> dg.Definitions:
    """The resources under the names that assets ask for."""
    from dagster_duckdb import DuckDBResource

    return dg.Definitions(
        resources={
            "project": ProjectResource(root=str(find_project().root)),
            "duckdb": DuckDBResource(database=":memory:"),
        }
    )
