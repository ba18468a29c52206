"""A file embedded in shards by Temporal: an activity with heartbeats for each shard, and one that merges their manifests.

    temporal server start-dev
    NVIDIA_BASE_URL=http://localhost:8000 python temporal_shards.py docs.jsonl vectors 4

The worker and the workflow's start are in one program here; workers may run anywhere that mounts the folder.
"""

import asyncio
import os
import sys
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from temporalio import activity, workflow
from temporalio.client import Client as Temporal
from temporalio.common import RetryPolicy
from temporalio.worker import Worker

with workflow.unsafe.imports_passed_through():
    from nimclient import AsyncClient
    from nimclient.jobs import EmbedJob, merge_shards

QUEUE = "embed"
ADDRESS = os.environ.get("TEMPORAL_ADDRESS", "localhost:7233")


@dataclass
class Shard:
    """Shard `index` of `count` of a file."""

    source: str
    output: str
    index: int
    count: int


@activity.defn
async def embed(shard: Shard) -> int:
    """Embed one shard, resuming what an earlier attempt has left; returns how many rows failed for good.

    The heartbeat tells the server that it lives, and brings it the cancellation of the workflow.
    """
    async with AsyncClient() as client:
        job = EmbedJob(shard.source, shard.output, id="id", format="npy", shard=(shard.index, shard.count))
        report = await job.run(client, on_progress=lambda progress: activity.heartbeat(progress.done))
    return report.failed


@activity.defn
async def merge(output: str) -> dict[str, Any]:
    """One manifest for all shards."""
    return merge_shards(output).to_dict()


@workflow.defn
class EmbedCorpus:
    """All shards, as many at the same time as there are workers for, then the manifest."""

    @workflow.run
    async def run(self, source: str, output: str, count: int) -> dict[str, Any]:
        """A heartbeat that stays away for a minute starts the shard again, on another worker."""
        limits: dict[str, Any] = {
            "start_to_close_timeout": timedelta(days=7),
            "heartbeat_timeout": timedelta(minutes=1),
            "retry_policy": RetryPolicy(maximum_attempts=10),
        }
        shards = [Shard(source, output, index, count) for index in range(count)]
        await asyncio.gather(*(workflow.execute_activity(embed, shard, **limits) for shard in shards))
        return await workflow.execute_activity(merge, output, start_to_close_timeout=timedelta(minutes=10))


async def main(source: str, output: str, count: int) -> None:
    """Run a worker, and one workflow on it."""
    temporal = await Temporal.connect(ADDRESS)
    async with Worker(temporal, task_queue=QUEUE, workflows=[EmbedCorpus], activities=[embed, merge]):
        print(
            await temporal.execute_workflow(
                EmbedCorpus.run, args=[source, output, count], id=f"embed {source}", task_queue=QUEUE
            )
        )


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
