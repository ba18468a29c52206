"""Batches of rows in real engines on this machine: Ray Data, Spark, Dask and Daft, each from its documentation."""

import os
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from nimclient import Client
from nimclient.integrations.ray import ChatBatch, EmbedBatch, RerankBatch

pytestmark = [
    pytest.mark.engines,
    pytest.mark.skipif("NIMCLIENT_TEST_ENGINES" not in os.environ, reason="only in `nox -s engines`"),
    pytest.mark.filterwarnings("default"),  # the engines' own
    pytest.mark.timeout(300),
]

ROWS = 600
TEXTS = [f"text number {number}" for number in range(ROWS)]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A simulator that lives as long as the engines need it."""
    from nimclient.simulator import SimulatorThread

    with SimulatorThread() as url:
        yield url


@pytest.fixture(scope="module")
def expected(url: str) -> Any:
    with Client(base_url=url) as client:
        return client.embeddings.embed_documents(TEXTS).numpy()


def same(rows: Any, expected: Any) -> bool:
    import numpy

    return bool(numpy.array_equal(numpy.array([list(row) for row in rows], numpy.float32), expected))


def test_ray_data_runs_it_in_two_actors(url: str, expected: Any) -> None:
    """map_batches takes the class as it is; two actors share the rows, and every row gets its own vector."""
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, ignore_reinit_error=True)
    try:
        rows = ray.data.from_items([{"id": i, "text": text} for i, text in enumerate(TEXTS)], override_num_blocks=8)
        done = rows.map_batches(
            EmbedBatch,
            fn_constructor_kwargs={"client": Client(base_url=url), "batch_size": 32},
            concurrency=2,
            batch_size=64,
            num_cpus=0.5,
        )
        found = sorted(done.take_all(), key=lambda row: row["id"])
        assert [row["text"] for row in found] == TEXTS
        assert same([row["embedding"] for row in found], expected)
    finally:
        ray.shutdown()


def test_ray_data_asks_and_reranks(url: str) -> None:
    """Answers are strings and scores lists of numbers; a row without a question is one error cell and fails nobody."""
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, ignore_reinit_error=True)
    try:
        rows = ray.data.from_items([{"id": i, "prompt": "Name a colour." if i else None} for i in range(8)])
        client = Client(base_url=url)
        asked = rows.map_batches(
            ChatBatch,
            fn_constructor_kwargs={"client": client, "on_error": "null", "model": "meta/llama-3.1-8b-instruct"},
            concurrency=1,
            batch_size=4,
            num_cpus=0.5,
        )
        found = sorted(asked.take_all(), key=lambda row: row["id"])
        assert found[0]["answer"] is None
        assert "nothing in column" in found[0]["answer_error"]
        assert all(row["answer"] and row["answer_error"] is None for row in found[1:])

        pairs = ray.data.from_items([{"query": "blue sky", "documents": ["grass", "the sky is blue"]}] * 4)
        ranked = pairs.map_batches(
            RerankBatch, fn_constructor_kwargs={"client": client}, concurrency=1, batch_size=2, num_cpus=0.5
        )
        assert all(row["scores"][1] > row["scores"][0] for row in ranked.take_all())
    finally:
        ray.shutdown()


def test_spark_maps_it_over_data_frames(url: str, expected: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """mapInPandas hands over an iterator of frames: `map` over it is all that is needed."""
    from pyspark.sql import SparkSession

    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    session = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
    try:
        embed = EmbedBatch(Client(base_url=url))
        frame = session.createDataFrame([(i, text) for i, text in enumerate(TEXTS)], "id long, text string")
        done = frame.repartition(4).mapInPandas(
            lambda frames: map(embed, frames), "id long, text string, embedding array<float>"
        )
        found = sorted(done.collect(), key=lambda row: row.id)
        assert [row.text for row in found] == TEXTS
        assert same([row.embedding for row in found], expected)
    finally:
        session.stop()


def test_dask_maps_it_over_partitions(url: str, expected: Any) -> None:
    """map_partitions calls the object with each partition."""
    import dask.dataframe as dd
    import pandas as pd

    frame = pd.DataFrame({"text": TEXTS})
    meta = frame.head(0).assign(embedding=pd.Series(dtype=object))
    done = dd.from_pandas(frame, npartitions=4).map_partitions(EmbedBatch(Client(base_url=url)), meta=meta)
    assert same(done.compute(scheduler="processes", num_workers=2)["embedding"], expected)


def test_daft_maps_it_over_columns(url: str, expected: Any) -> None:
    """A batch function of Daft hands a column over: `embed` takes it as a list."""
    import daft

    embed = EmbedBatch(Client(base_url=url))
    width = expected.shape[1]

    @daft.func.batch(return_dtype=daft.DataType.embedding(daft.DataType.float32(), width))
    def embedding(texts: daft.Series) -> Any:
        return embed.embed(texts.to_pylist())

    frame = daft.from_pydict({"text": TEXTS})
    found = frame.with_column("embedding", embedding(frame["text"])).to_pydict()
    assert found["text"] == TEXTS
    assert same(found["embedding"], expected)
