"""Resources: where the project is, and DuckDB over its results."""

import dagster as dg
from dagster_duckdb import DuckDBResource

from ledger_pipeline.project import Project, find_project


class ProjectResource(dg.ConfigurableResource):
    """The directories that the assets read and write."""

    root: str

    @property
    def project(self) -> Project:
        """The project at the root."""
        return find_project(self.root)


def resources(project: Project) -> dict[str, dg.ConfigurableResource]:
    """The resources of a project by name; DuckDB is opened in memory, over the files."""
    return {"project": ProjectResource(root=str(project.root)), "duckdb": DuckDBResource(database=":memory:")}


@dg.definitions
def defs() -> dg.Definitions:
    """The resources under the names that assets ask for."""
    return dg.Definitions(resources=resources(find_project()))
