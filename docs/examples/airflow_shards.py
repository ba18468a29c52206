"""A file embedded in shards by Airflow: a mapped task for each shard, and one that merges their manifests.

Put it into the folder of the DAGs of Airflow 3. EMBED_SOURCE, EMBED_OUTPUT, EMBED_SHARDS and NVIDIA_BASE_URL are read from
the workers' environment. `airflow dags test embed_corpus` runs it once, without scheduler and web server.
"""

import os
from datetime import timedelta
from typing import Any

from airflow.sdk import dag, task

from nimclient import Client
from nimclient.jobs import EmbedJob, merge_shards

SOURCE, OUTPUT = os.environ.get("EMBED_SOURCE", "docs.jsonl"), os.environ.get("EMBED_OUTPUT", "vectors")
COUNT = int(os.environ.get("EMBED_SHARDS", "4"))


@dag(schedule=None)
def embed_corpus() -> None:
    """All shards, as many at the same time as the pool has slots, then the manifest."""

    @task(retries=5, retry_delay=timedelta(seconds=10))
    def embed(index: int) -> int:
        """Embed one shard, resuming what an earlier attempt has left; returns how many rows failed for good."""
        with Client() as client:
            return EmbedJob(SOURCE, OUTPUT, id="id", format="npy", shard=(index, COUNT)).run_sync(client).failed

    @task
    def merge() -> dict[str, Any]:
        """One manifest for all shards."""
        report = merge_shards(OUTPUT)
        print(report)
        return {"status": report.status, "rows": report.succeeded, "failed": report.failed}

    embed.expand(index=list(range(COUNT))) >> merge()


embed_corpus()
