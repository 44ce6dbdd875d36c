"""What an asset came to: its version, its metadata and what its checks found, however it gets into the records."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import dagster as dg

from ledger_pipeline.defs.versions import version_tags


@dataclass(frozen=True)
class Content:
    """The content of one partition. version: hash of it. checks: by name, the keywords of an AssetCheckResult."""

    version: str
    metadata: Mapping[str, Any]
    checks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def result(self) -> dg.MaterializeResult:
        """It, as the result of the step that made it."""
        return dg.MaterializeResult(
            data_version=dg.DataVersion(self.version),
            metadata=self.metadata,
            check_results=[dg.AssetCheckResult(check_name=name, **options) for name, options in self.checks.items()],
        )

    def events(self, asset: str, partition: str, code: str) -> list[Any]:
        """It, as events about a partition of an asset that no step of its own made."""
        tags = version_tags(self.version, code, {})
        evaluations = [
            dg.AssetCheckEvaluation(asset_key=dg.AssetKey(asset), check_name=name, partition=partition, **options)
            for name, options in self.checks.items()
        ]
        return [dg.AssetMaterialization(asset, partition=partition, metadata=self.metadata, tags=tags), *evaluations]
