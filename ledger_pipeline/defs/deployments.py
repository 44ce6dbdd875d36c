"""What trades by itself, as files that the user wrote: deployed policies and deployed strategies."""

import dagster as dg

from ledger_pipeline.defs.live import OWNERS
from ledger_pipeline.defs.partitions import POLICIES, STRATEGIES, policies, strategies
from ledger_pipeline.defs.resources import ProjectResource
from ledger_pipeline.defs.versions import written

ASSETS = {POLICIES: "deployed_policy", STRATEGIES: "deployed_strategy"}

deployed_policy = dg.AssetSpec(
    "deployed_policy",
    partitions_def=policies,
    group_name="decide",
    kinds={"yaml", "json"},
    owners=OWNERS,
    tags={"layer": "written"},
    description="A policy that trades by itself: strategies/deployments/<name>.yaml and the policy that it names. The "
    "data version is the hash of all that decides.",
)
deployed_strategy = dg.AssetSpec(
    "deployed_strategy",
    partitions_def=strategies,
    deps=[dg.AssetDep("run_ledger", partition_mapping=dg.AllPartitionMapping())],
    group_name="decide",
    kinds={"yaml"},
    owners=OWNERS,
    tags={"layer": "written"},
    description="A promoted strategy that trades by itself: strategies/deployments/<name>.yaml pins the run that it "
    "was researched with. The data version is the hash of all that decides.",
)


@dg.sensor(
    name="deployments_follow_files",
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=30,
    description="Keeps the deployment partitions and their versions equal to the files under strategies/deployments/.",
)
def deployments_follow_files(context: dg.SensorEvaluationContext, project: ProjectResource) -> dg.SensorResult:
    """Add partitions, and materialise the deployments that changed. A policy that merely lies there is nobody's
    deployment and no partition; one that was traded by its name is.
    """
    import json

    from ledger_pipeline.core.errors import LedgerPipelineError
    from ledger_pipeline.trading.deployment.deployment import (
        deployment_names,
        describe,
        find_deployment,
        scheduled_names,
    )

    known: dict[str, str] = json.loads(context.cursor or "{}")
    traded = {name: set(context.instance.get_dynamic_partitions(name)) for name in (POLICIES, STRATEGIES)}
    written_down = scheduled_names(project.project)
    by_hand = [name for name in deployment_names(project.project) if name in traded[POLICIES]]
    new: dict[str, list[str]] = {POLICIES: [], STRATEGIES: []}
    changed = []
    for name in dict.fromkeys([*written_down, *by_hand]):
        try:
            kind = POLICIES if find_deployment(project.project, name).policy else STRATEGIES
            summary = describe(project.project, name)
        except LedgerPipelineError as error:
            context.log.error(f"deployment {name}: {error}")
            continue
        if name not in traded[kind]:
            new[kind].append(name)
        if known.get(name) != summary["hash"]:
            known[name] = summary["hash"]
            metadata = {"what": summary["what"], "deployment": dg.MetadataValue.json(summary)}
            changed += written(ASSETS[kind], name, summary["hash"], metadata)
    asked = [definition.build_add_request(new[str(definition.name)]) for definition in (policies, strategies)]
    return dg.SensorResult(
        asset_events=changed,
        cursor=json.dumps(known, sort_keys=True),
        dynamic_partitions_requests=[request for request in asked if request.partition_keys],
        skip_reason=None if changed or any(new.values()) else dg.SkipReason("the partitions are equal to the files"),
    )


@dg.definitions
def defs() -> dg.Definitions:
    """The external assets and what follows their files."""
    return dg.Definitions(assets=[deployed_policy, deployed_strategy], sensors=[deployments_follow_files])
