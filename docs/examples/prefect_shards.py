"""A file embedded in shards by Prefect: a task with retries for each shard, and one that merges their manifests.

NVIDIA_BASE_URL=http://localhost:8000 python prefect_shards.py docs.jsonl vectors 4
"""

import sys
from typing import Any

from prefect import flow, task, unmapped

from nimclient import Client
from nimclient.jobs import EmbedJob, merge_shards


@task(retries=5, retry_delay_seconds=10)
def embed(source: str, output: str, index: int, count: int) -> int:
    """Embed one shard, resuming what an earlier attempt has left; returns how many rows failed for good."""
    with Client() as client:
        return EmbedJob(source, output, id="id", format="npy", shard=(index, count)).run_sync(client).failed


@task
def merge(output: str) -> dict[str, Any]:
    """One manifest for all shards."""
    return merge_shards(output).to_dict()


@flow
def embed_corpus(source: str, output: str, count: int) -> dict[str, Any]:
    """All shards, as many at the same time as the task runner allows, then the manifest."""
    shards = embed.map(unmapped(source), unmapped(output), range(count), unmapped(count))
    return merge(output, wait_for=shards)


if __name__ == "__main__":
    print(embed_corpus(sys.argv[1], sys.argv[2], int(sys.argv[3])))
