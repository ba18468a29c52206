"""A file embedded in shards by Dagster: an asset with a partition for each shard, and an asset that merges their manifests.

    NVIDIA_BASE_URL=http://localhost:8000 EMBED_SOURCE=docs.jsonl EMBED_OUTPUT=vectors dagster dev -f dagster_shards.py

or, without its user interface, `python dagster_shards.py`.
"""

import os

from dagster import (
    AssetExecutionContext,
    Backoff,
    Definitions,
    MaterializeResult,
    RetryPolicy,
    StaticPartitionsDefinition,
    asset,
    materialize,
)

from nimclient import Client
from nimclient.jobs import EmbedJob, merge_shards

SOURCE, OUTPUT = os.environ.get("EMBED_SOURCE", "docs.jsonl"), os.environ.get("EMBED_OUTPUT", "vectors")
COUNT = int(os.environ.get("EMBED_SHARDS", "4"))
shards = StaticPartitionsDefinition([str(index) for index in range(COUNT)])


@asset(partitions_def=shards, retry_policy=RetryPolicy(max_retries=5, delay=10, backoff=Backoff.EXPONENTIAL))
def vectors(context: AssetExecutionContext) -> MaterializeResult:
    """One shard of the file, resuming what an earlier attempt has left."""
    with Client() as client:
        job = EmbedJob(SOURCE, OUTPUT, id="id", format="npy", shard=(int(context.partition_key), COUNT))
        report = job.run_sync(client)
    return MaterializeResult(metadata={"rows": report.succeeded, "failed": report.failed, "requests": report.requests})


@asset(deps=[vectors])
def manifest() -> MaterializeResult:
    """One manifest for all shards."""
    report = merge_shards(OUTPUT)
    return MaterializeResult(metadata={"status": report.status, "rows": report.succeeded, "failed": report.failed})


definitions = Definitions(assets=[vectors, manifest])

if __name__ == "__main__":
    for key in shards.get_partition_keys():
        materialize([vectors], partition_key=key)
    print(materialize([manifest]).asset_materializations_for_node("manifest")[0].metadata)
