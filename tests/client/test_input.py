"""Bad input is found before anything is sent, and says what is wrong with it."""

from typing import Any

import pytest

from nimclient import AsyncClient, Message
from nimclient.errors import ConfigurationError, NimError
from support.server import FaultServer
from support.wire import MODEL, chat

CYCLE: list[Any] = []
CYCLE.append(CYCLE)

CHATS: dict[str, tuple[tuple[Any, ...], dict[str, Any], type[Exception], str]] = {
    "no messages": (([],), {}, ConfigurationError, "messages is empty"),
    "an empty str": (("",), {}, ConfigurationError, "empty str"),
    "None": ((None,), {}, TypeError, "messages takes"),
    "bytes": ((b"hi",), {}, TypeError, "bytes"),
    "one dict": (({"role": "user", "content": "hi"},), {}, TypeError, "list of messages"),
    "one record": ((Message("user", "hi"),), {}, TypeError, "list of messages"),
    "a str in the list": ((["hi"],), {}, ConfigurationError, r"messages\[0\]"),
    "a role that is no str": (([{"role": 5, "content": "hi"}],), {}, ConfigurationError, r"messages\[0\]\.role"),
    "an empty role": (([("", "hi")],), {}, ConfigurationError, r"messages\[0\]\.role"),
    "no role": (([{"content": "hi"}],), {}, ConfigurationError, "has no role"),
    "three in a tuple": (([("user", "a", "b")],), {}, ConfigurationError, "3 elements"),
    "a later message": (([("user", "a"), 5],), {}, ConfigurationError, r"messages\[1\]"),
    "an unknown option": (("hi",), {"temprature": 1}, TypeError, "did you mean 'temperature'"),
    "an option of another call": (("hi",), {"input_type": "query"}, TypeError, "input_type"),
    "NaN": (("hi",), {"temperature": float("nan")}, ConfigurationError, r"temperature is nan"),
    "infinity": (("hi",), {"extra_body": {"a": [float("inf")]}}, ConfigurationError, r"a\[0\] is inf"),
    "a set": (("hi",), {"stop": {"a"}}, ConfigurationError, "stop"),
    "a large integer": (("hi",), {"seed": 2**70}, ConfigurationError, "seed"),
    "a key that is no str": (("hi",), {"logit_bias": {5: 1}}, ConfigurationError, "key of type int"),
    "a lone surrogate": (("a\ud83d",), {}, ConfigurationError, "surrogate"),
    "a cycle": (("hi",), {"extra_body": {"a": CYCLE}}, ConfigurationError, "contains itself"),
    "an extra body that is none": (("hi",), {"extra_body": [1]}, ConfigurationError, "extra_body"),
    "headers with a line break": (("hi",), {"extra_headers": {"a": "b\nc"}}, ConfigurationError, "extra_headers"),
    "a timeout that is none": (("hi",), {"timeout": "5"}, ConfigurationError, "timeout takes"),
    "an unknown tool": (("hi",), {"tool_choice": "f"}, ConfigurationError, "not among the tools"),
    "a tool choice that is none": (("hi",), {"tool_choice": 5}, ConfigurationError, "tool_choice"),
    "a model that is no str": (("hi",), {"model": 5}, ConfigurationError, "model must be"),
    "an empty model": (("hi",), {"model": ""}, ConfigurationError, "model must be"),
    "an embedding model": (("hi",), {"model": "nvidia/nv-embedqa-e5-v5"}, ConfigurationError, "of kind embedding"),
}


@pytest.mark.parametrize(("args", "options", "kind", "words"), CHATS.values(), ids=CHATS)
@pytest.mark.parametrize("how", ["create", "stream"])
async def test_bad_chats(
    server: FaultServer,
    client: AsyncClient,
    how: str,
    args: tuple[Any, ...],
    options: dict[str, Any],
    kind: type[Exception],
    words: str,
) -> None:
    """A chat call that cannot work raises before anything is sent, in one line that names the place."""
    with pytest.raises(kind, match=words) as caught:
        if how == "create":
            await client.chat.create(*args, **options)
        else:
            await client.chat.stream(*args, **options)
    assert isinstance(caught.value, NimError) == issubclass(kind, NimError)
    assert "\n" not in str(caught.value)
    assert server.connections == 0


async def test_a_bad_stream_raises_when_it_is_made(server: FaultServer, client: AsyncClient) -> None:
    """chat.stream() itself raises for bad input; nothing has to be opened."""
    with pytest.raises(ConfigurationError):
        client.chat.stream([])


EMBEDDINGS: dict[str, tuple[Any, dict[str, Any], type[Exception], str]] = {
    "a str": ("hello", {}, TypeError, "list of str"),
    "bytes": (b"hello", {}, TypeError, "list of str"),
    "a dict": ({"a": 1}, {}, TypeError, "list of str"),
    "None": (None, {}, TypeError, "list of str"),
    "a number": (5, {}, TypeError, "list of str"),
    "nothing": ([], {}, ConfigurationError, "texts is empty"),
    "an empty text": (["a", "b", ""], {}, ConfigurationError, r"texts\[2\] is empty"),
    "a number in the list": (["a", 5], {}, ConfigurationError, r"texts\[1\] must be a str, not int"),
    "None in the list": ([None], {}, ConfigurationError, r"texts\[0\]"),
    "an unknown option": (["a"], {"temperature": 1}, TypeError, "temperature"),
    "an unknown truncate": (["a"], {"truncate": "MIDDLE"}, ConfigurationError, "truncate"),
    "impossible dimensions": (["a"], {"dimensions": 0}, ConfigurationError, "dimensions"),
    "an unknown embedding_type": (["a"], {"embedding_type": "int4"}, ConfigurationError, "embedding_type"),
    "a prefix that is no str": (["a"], {"prefix": 5}, ConfigurationError, "prefix"),
    "a chat model": (["a"], {"model": "meta/llama-3.1-8b-instruct"}, ConfigurationError, "of kind chat"),
}


@pytest.mark.parametrize(("texts", "options", "kind", "words"), EMBEDDINGS.values(), ids=EMBEDDINGS)
@pytest.mark.parametrize("how", ["create", "embed_documents"])
async def test_bad_embeddings(
    server: FaultServer,
    client: AsyncClient,
    how: str,
    texts: Any,
    options: dict[str, Any],
    kind: type[Exception],
    words: str,
) -> None:
    """An embedding call that cannot work raises before anything is sent, naming the index of a bad text."""
    with pytest.raises(kind, match=words) as caught:
        await getattr(client.embeddings, how)(texts, **options)
    assert isinstance(caught.value, NimError) == issubclass(kind, NimError)
    assert server.connections == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [({"input_type": "document"}, "input_type"), ({"encoding_format": "hex"}, "encoding_format")],
)
async def test_bad_words_of_create(client: AsyncClient, options: dict[str, Any], words: str) -> None:
    """input_type and encoding_format are checked."""
    with pytest.raises(ConfigurationError, match=words):
        await client.embeddings.create(["a"], **options)


@pytest.mark.parametrize(
    ("text", "kind"), [(["a"], TypeError), (None, TypeError), (b"a", TypeError), ("", ConfigurationError)]
)
async def test_bad_queries(server: FaultServer, client: AsyncClient, text: Any, kind: type[Exception]) -> None:
    """embed_query takes one text."""
    with pytest.raises(kind):
        await client.embeddings.embed_query(text)
    assert server.connections == 0


@pytest.mark.parametrize(
    ("query", "documents", "options", "kind"),
    [
        ("q", "document", {}, TypeError),
        ("q", [], {}, ConfigurationError),
        ("q", ["a", ""], {}, ConfigurationError),
        ("", ["a"], {}, ConfigurationError),
        (5, ["a"], {}, ConfigurationError),
        ("q", ["a"], {"top_n": 0}, ConfigurationError),
        ("q", ["a"], {"truncate": "START"}, ConfigurationError),
        ("q", ["a"], {"batch_size": 0}, ConfigurationError),
        ("q", ["a"], {"temperature": 0}, TypeError),
        ("q", ["a"], {"model": "nvidia/nv-embedqa-e5-v5"}, ConfigurationError),
    ],
)
async def test_bad_rankings(
    server: FaultServer, client: AsyncClient, query: Any, documents: Any, options: dict[str, Any], kind: type[Exception]
) -> None:
    """A ranking call that cannot work raises before anything is sent."""
    with pytest.raises(kind) as caught:
        await client.rerank(query, documents, **options)
    assert isinstance(caught.value, NimError) == issubclass(kind, NimError)
    assert server.connections == 0


async def test_bad_input_is_found_before_models_are_listed(server: FaultServer, make_client: Any) -> None:
    """Without a model the server would be asked for its models: not so for input that cannot work."""
    client = make_client(model=None)
    for call in (
        client.chat.create([]),
        client.embeddings.create([""]),
        client.embeddings.embed_documents([5]),
        client.rerank("q", []),
    ):
        with pytest.raises(ConfigurationError):
            await call
    assert server.connections == 0


@pytest.mark.parametrize("id", ["", None, 5])
async def test_bad_model_ids(server: FaultServer, client: AsyncClient, id: Any) -> None:
    """models.get takes an id; models.list takes a kind that exists."""
    with pytest.raises(ConfigurationError):
        await client.models.get(id)
    with pytest.raises(ConfigurationError, match="kind"):
        await client.models.list("speech")
    assert server.connections == 0


async def test_what_is_none_is_not_sent(server: FaultServer, client: AsyncClient) -> None:
    """None means "not given"; null goes through extra_body."""
    server.script(chat())
    await client.chat.create("hi", temperature=None, tools=None, stop=None, extra_body={"seed": None, "x": 1})
    assert server.requests[0].json == {
        "model": MODEL,
        "messages": [{"role": "user", "content": "hi"}],
        "seed": None,
        "x": 1,
    }


async def test_the_callers_data_is_not_changed(server: FaultServer, client: AsyncClient) -> None:
    """Messages, tools and extra_body are the caller's, also when their contents are rewritten for the wire."""
    messages = [{"role": "user", "content": ["a", {"type": "text", "text": "b"}]}, ("ai", "c"), Message("user", "d")]
    extra = {"x": [1]}
    before = repr((messages, extra))
    server.script(chat())
    await client.chat.create(messages, extra_body=extra)
    assert repr((messages, extra)) == before
    assert server.requests[0].json["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": "c"},
        {"role": "user", "content": "d"},
    ]
