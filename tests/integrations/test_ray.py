"""EmbedBatch, ChatBatch and RerankBatch add columns to the batches of any engine."""

import pickle
from typing import Any

import cloudpickle
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from nimclient import AsyncClient, Client
from nimclient.errors import ConfigurationError, ModelNotFoundError, NimError
from nimclient.integrations.ray import ChatBatch, EmbedBatch, RerankBatch
from nimclient.simulator import Simulator

TEXTS = ["the sky is blue", "grass is green", "snow is white"]


@pytest.fixture
def expected(nim_simulator_url: str) -> Any:
    with Client(base_url=nim_simulator_url) as client:
        return client.embeddings.embed_documents(TEXTS).numpy()


@pytest.fixture
def client(nim_simulator_url: str) -> Any:
    with Client(base_url=nim_simulator_url) as client:
        yield client


def test_a_mapping_of_columns_gets_a_matrix(client: Client, expected: Any) -> None:
    """Ray's and Daft's batches keep their columns and get a float32 matrix."""
    batch = {"id": np.arange(3), "text": np.array(TEXTS, dtype=object)}
    made = EmbedBatch(client)(batch)
    assert list(made) == ["id", "text", "embedding"]
    assert made["embedding"].dtype == np.float32
    assert np.array_equal(made["embedding"], expected)
    assert "embedding" not in batch


def test_a_data_frame_gets_a_column_of_arrays(client: Client, expected: Any) -> None:
    """Spark's and Dask's batches get one array a row."""
    frame = pd.DataFrame({"body": TEXTS}, index=[7, 8, 9])
    made = EmbedBatch(client, text="body", output="vector", batch_size=2)(frame)
    assert list(made.columns) == ["body", "vector"]
    assert np.array_equal(np.stack(made["vector"].to_list()), expected)
    assert list(made.index) == [7, 8, 9]


def test_a_table_gets_fixed_size_lists(client: Client, expected: Any) -> None:
    """Arrow's batches get fixed-size lists of float32."""
    made = EmbedBatch(client)(pa.table({"text": TEXTS}))
    assert made.schema.field("embedding").type == pa.list_(pa.float32(), expected.shape[1])
    assert np.array_equal(np.array(made["embedding"].to_pylist(), dtype=np.float32), expected)


def test_texts_alone_give_a_matrix(client: Client, expected: Any) -> None:
    """Engines that map columns call `embed`."""
    assert np.array_equal(EmbedBatch(client).embed(TEXTS), expected)


@pytest.mark.parametrize("missing", ["", None, float("nan")], ids=["empty", "None", "NaN"])
def test_a_text_that_cannot_be_embedded_fails_the_batch(client: Client, missing: Any) -> None:
    """By default the error reaches the engine, with the position of the text."""
    with pytest.raises(NimError) as caught:
        EmbedBatch(client)({"text": ["fine", missing]})
    assert caught.value.index == 1  # type: ignore[attr-defined]  # errors of many carry it


def test_with_null_such_a_text_gets_nan_and_the_reason(client: Client, expected: Any) -> None:
    """A mapping has NaN where there is no vector, and says why in a column of its own."""
    made = EmbedBatch(client, on_error="null")({"text": [TEXTS[0], "", TEXTS[2]]})
    assert np.isnan(made["embedding"][1]).all()
    assert np.array_equal(made["embedding"][[0, 2]], expected[[0, 2]])
    assert made["embedding_error"][0] is None
    assert "empty" in made["embedding_error"][1]


def test_with_null_frames_and_tables_have_nulls(client: Client) -> None:
    """pandas and Arrow have a null where there is no vector."""
    embed = EmbedBatch(client, on_error="null")
    frame = embed(pd.DataFrame({"text": [TEXTS[0], None]}))
    assert frame["embedding"][1] is None
    assert "empty" in frame["embedding_error"][1]
    table = embed(pa.table({"text": [TEXTS[0], None]}))
    assert table["embedding"].null_count == 1
    assert table["embedding_error"].to_pylist()[0] is None


def test_a_batch_without_any_vector_needs_to_have_seen_one(client: Client) -> None:
    """How long a row of NaN is comes from an earlier batch; in the first one the error is raised."""
    embed = EmbedBatch(client, on_error="null")
    with pytest.raises(NimError, match="empty"):
        embed({"text": [""]})
    width = embed({"text": TEXTS})["embedding"].shape[1]
    assert embed({"text": [""]})["embedding"].shape == (1, width)
    assert embed({"text": []})["embedding"].shape == (0, width)


def test_a_wrong_model_fails_the_batch_in_any_case(client: Client) -> None:
    """What is wrong with all texts is no text's failure."""
    with pytest.raises(ModelNotFoundError):
        EmbedBatch(client, on_error="null", model="no/such-model")({"text": TEXTS})


@pytest.mark.parametrize("dumps", [pickle.dumps, cloudpickle.dumps], ids=["pickle", "cloudpickle"])
def test_it_travels_to_a_worker_without_its_key(nim_simulator_url: str, dumps: Any, expected: Any) -> None:
    """It pickles before and after use, with its settings and without a literal key."""
    embed = EmbedBatch(Client(base_url=nim_simulator_url, api_key="nvapi-secret-secret"), text="t", batch_size=2)
    for _ in range(2):
        packed = dumps(embed)
        assert b"secret" not in packed
        assert np.array_equal(pickle.loads(packed)({"t": TEXTS})["embedding"], expected)
        embed({"t": TEXTS})


def test_without_a_client_the_environment_says_where(
    monkeypatch: pytest.MonkeyPatch, nim_simulator_url: str, expected: Any
) -> None:
    """NVIDIA_BASE_URL and the key are those of the worker."""
    monkeypatch.setenv("NVIDIA_BASE_URL", nim_simulator_url)
    assert np.array_equal(EmbedBatch().embed(TEXTS), expected)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EmbedBatch(AsyncClient(base_url="http://h")), "client takes a Client, not AsyncClient"),
        (lambda: EmbedBatch(on_error="ignore"), "on_error must be 'raise' or 'null', not 'ignore'"),
        (lambda: EmbedBatch(Client(base_url="http://h"))(TEXTS), "not list"),
        (lambda: EmbedBatch(Client(base_url="http://h"))({"body": TEXTS}), r"no column 'text' \(it has body\)"),
    ],
    ids=["client", "on_error", "batch", "column"],
)
def test_bad_input_is_named(make: Any, message: str) -> None:
    """What cannot work is a ConfigurationError before anything is sent."""
    with pytest.raises(ConfigurationError, match=message):
        make()


async def test_each_text_is_sent_once() -> None:
    """A batch is cut into slices of the given size."""
    from anyio import to_thread

    async with Simulator() as simulator:
        embed = EmbedBatch(Client(base_url=simulator.base_url), batch_size=2)
        await to_thread.run_sync(embed, {"text": TEXTS})
        sizes = [len(r.json["input"]) for r in simulator.requests if r.path.endswith("/embeddings")]
    assert sorted(sizes) == [1, 2]


QUESTIONS = ["Name a colour.", "Name a shape.", "Name a number."]


def test_chat_adds_texts_and_finish_reasons_to_a_mapping(client: Client) -> None:
    """Every row gets the answer that a plain call gives, and why it ended."""
    made = ChatBatch(client, temperature=0)({"prompt": np.array(QUESTIONS, dtype=object)})
    assert list(made["answer"]) == [client.chat.create(text, temperature=0).text for text in QUESTIONS]
    assert list(made["answer_finish_reason"]) == ["stop"] * 3


def test_chat_tells_an_answer_that_was_cut_off(client: Client) -> None:
    """An answer of one token is marked as what it is."""
    made = ChatBatch(client, max_tokens=1)(pd.DataFrame({"prompt": QUESTIONS}))
    assert made["answer_finish_reason"].to_list() == ["length"] * 3


def test_chat_takes_lists_of_messages_and_gives_arrow_strings(client: Client) -> None:
    """Arrow hands messages over as lists of structs; a row without a question is one error cell."""
    talk = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": QUESTIONS[0]}]
    made = ChatBatch(client, on_error="null", temperature=0)(pa.table({"prompt": [talk, None]}))
    assert made.schema.field("answer").type == pa.string()
    assert made["answer"].to_pylist() == [client.chat.create(talk, temperature=0).text, None]
    assert made["answer_error"].to_pylist() == [None, "row 1 of the batch has nothing in column 'prompt'"]


@pytest.mark.parametrize("batch", [ChatBatch, RerankBatch])
def test_one_bad_row_gives_one_error_cell_or_fails_the_batch(client: Client, batch: Any) -> None:
    """With "null" the other rows have their answers; with "raise" the error names the row."""
    rows = {"prompt": ["fine", None, "fine"], "query": ["fine", None, "fine"], "documents": [["a", "b"]] * 3}
    made = batch(client, on_error="null")(pd.DataFrame(rows))
    failed = made["answer_error" if batch is ChatBatch else "scores_error"]
    assert [isinstance(text, str) for text in failed] == [False, True, False]
    with pytest.raises(ConfigurationError, match="row 1") as caught:
        batch(client)(rows)
    assert caught.value.index == 1


@pytest.mark.parametrize("batch", [ChatBatch, RerankBatch])
def test_what_every_row_would_meet_fails_the_batch(client: Client, batch: Any) -> None:
    """A wrong model is no matter of a row."""
    rows = {"prompt": ["fine"], "query": ["fine"], "documents": [["a", "b"]]}
    with pytest.raises(ModelNotFoundError):
        batch(client, on_error="null", model="no/such-model")(rows)


def test_rerank_gives_scores_in_the_order_of_the_documents(client: Client) -> None:
    """Scores stand where their documents stand, however they rank."""
    documents = ["grass is green", "the sky is blue", "snow"]
    made = RerankBatch(client)(pa.table({"query": ["blue sky"], "documents": [documents]}))
    assert made.schema.field("scores").type == pa.list_(pa.float64())
    ranked = {result.index: result.score for result in client.rerank("blue sky", documents).results}
    assert made["scores"].to_pylist() == [[ranked[0], ranked[1], ranked[2]]]
    assert made["scores"].to_pylist()[0].index(max(ranked.values())) == 1


def test_rerank_takes_arrays_of_documents_of_unequal_length(client: Client) -> None:
    """Ray and pandas hand lists over as object arrays."""
    frame = pd.DataFrame({"query": ["sky", "grass"], "documents": [np.array(["a", "sky"], dtype=object), ["grass"]]})
    assert [len(scores) for scores in RerankBatch(client)(frame)["scores"]] == [2, 1]


def test_top_n_is_no_setting_of_a_batch(client: Client) -> None:
    """A document without a score would have no cell."""
    with pytest.raises(ConfigurationError, match="sort the scores"):
        RerankBatch(client, top_n=1)
