"""Options that a client gives to every call of a kind."""

import pickle
from array import array
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nimclient import AsyncClient, Client
from nimclient.errors import ConfigurationError
from nimclient.jobs import EmbedJob
from nimclient.testing import FakeRequest, FakeTransport

CHAT = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "{}"}, "finish_reason": "stop"}]}


def answer(request: FakeRequest) -> Any:
    """What each route says, in the forms of NIM."""
    if request.url.endswith("/chat/completions"):
        if not request.json.get("stream"):
            return CHAT
        return [{"choices": [{"index": 0, "delta": {"content": "x"}, "finish_reason": "stop"}]}]
    if request.url.endswith("/completions"):
        return {"choices": [{"index": 0, "text": "x", "finish_reason": "stop"}]}
    if request.url.endswith("/ranking"):
        return {"rankings": [{"index": i, "logit": -i} for i, _ in enumerate(request.json["passages"])]}
    row = b64encode(array("f", [0.5] * 4).tobytes()).decode()
    return {"model": "m", "data": [{"index": i, "embedding": row} for i, _ in enumerate(request.json["input"])]}


def make(defaults: Any, kind: Any = AsyncClient) -> tuple[Any, FakeTransport]:
    transport = FakeTransport(answer)
    return kind("k", "http://fake", model="m", transport=transport, defaults=defaults), transport


CHAT_CALLS: list[Callable[[AsyncClient], Any]] = [
    lambda client: client.chat.create("hi"),
    lambda client: client.chat.stream("hi").final(),
    lambda client: client.chat.parse("hi", dict[str, int]),
    lambda client: client.chat.run_tools("hi", [len_of]),
    lambda client: client.chat.batch(["hi"]),
    lambda client: client.chat.conversation().send("hi"),
    lambda client: client.chat.conversation().stream("hi").final(),
]


def len_of(text: str) -> int:
    """How long a text is."""
    return len(text)


@pytest.mark.parametrize("call", CHAT_CALLS)
async def test_a_default_of_chat_reaches_every_call_of_chat(call: Callable[[AsyncClient], Any]) -> None:
    """create, stream, parse, run_tools, batch and both turns of a conversation send it."""
    client, transport = make({"chat": {"temperature": 0.25, "max_tokens": 5}})
    await call(client)
    assert (transport.requests[-1].json["temperature"], transport.requests[-1].json["max_tokens"]) == (0.25, 5)


def test_the_blocking_client_has_the_same_defaults() -> None:
    """create, stream, batch and a conversation of Client send them, too."""
    client, transport = make({"chat": {"max_tokens": 5}}, Client)
    client.chat.create("hi")
    client.chat.stream("hi").final()
    client.chat.batch(iter(["hi"]))
    client.chat.conversation().send("hi")
    assert [request.json["max_tokens"] for request in transport.requests] == [5] * 4
    client.close()


async def test_a_call_comes_before_with_options_and_that_before_the_client() -> None:
    """Options are merged one by one, and the client that was copied keeps its own."""
    client, transport = make({"chat": {"temperature": 0.1, "max_tokens": 5, "seed": 1}})
    copy = client.with_options(defaults={"chat": {"max_tokens": 6, "seed": 2}})
    await copy.chat.create("hi", seed=3)
    sent = transport.requests[-1].json
    assert (sent["temperature"], sent["max_tokens"], sent["seed"]) == (0.1, 6, 3)
    await client.chat.create("hi")
    assert transport.requests[-1].json["max_tokens"] == 5


async def test_none_switches_a_default_off() -> None:
    """In a call, for options and for arguments that a method names, and in with_options."""
    client, transport = make({"chat": {"max_tokens": 5}, "embedding": {"truncate": "END", "user": "u"}})
    await client.chat.create("hi", max_tokens=None)
    assert "max_tokens" not in transport.requests[-1].json
    await client.embeddings.embed_query("a", truncate=None, user=None)
    assert not {"truncate", "user"} & set(transport.requests[-1].json)
    await client.with_options(defaults={"chat": {"max_tokens": None}}).chat.create("hi")
    assert "max_tokens" not in transport.requests[-1].json


async def test_the_defaults_of_embedding_reach_its_methods() -> None:
    """truncate, dimensions and options everywhere; input_type only where a method does not say it; batch_size in slices."""
    defaults = {"truncate": "END", "dimensions": 4, "user": "u", "input_type": "query", "batch_size": 2}
    client, transport = make({"embedding": defaults})
    await client.embeddings.create(["a"])
    await client.embeddings.embed_query("a")
    await client.embeddings.embed_documents(["a", "b", "c", "d"])
    async with client.embeddings.embed_stream(["a"]) as batches:
        assert [len(batch) async for batch in batches] == [1]
    sent = [request.json for request in transport.requests]
    assert {(body["truncate"], body["dimensions"], body["user"]) for body in sent} == {("END", 4, "u")}
    assert [body["input_type"] for body in sent] == ["query", "query", "passage", "passage", "passage"]
    assert [len(body["input"]) for body in sent] == [1, 1, 2, 2, 1]


async def test_a_job_has_the_defaults_of_its_client_and_knows_them_again(tmp_path: Path) -> None:
    """What the vectors depend on is part of the job, wherever it was said."""
    client, transport = make({"embedding": {"truncate": "END", "extra_headers": {"x-team": "a"}}})
    report = await EmbedJob(source=["a"], output=tmp_path, format="npy").run(client)
    assert (report.status, transport.requests[-1].json["truncate"]) == ("complete", "END")
    assert '"truncate":"END"' in (tmp_path / "manifest.json").read_text().replace(" ", "")
    again = await EmbedJob(source=["a"], output=tmp_path, format="npy", truncate="END").run(make({})[0])
    assert again.resumed == 1


async def test_a_job_refuses_a_default_that_it_cannot_keep(tmp_path: Path) -> None:
    """Its files hold float numbers."""
    client, _ = make({"embedding": {"embedding_type": "int8"}})
    with pytest.raises(ConfigurationError, match="float vectors"):
        await EmbedJob(source=["a"], output=tmp_path, format="npy").run(client)


async def test_the_defaults_of_completions_and_ranking() -> None:
    """Each kind has its own, and no other kind sends them."""
    client, transport = make(
        {"completions": {"max_tokens": 3}, "ranking": {"top_n": 1, "truncate": "END", "extra_body": {"x": 1}}}
    )
    await client.completions.create("a")
    assert transport.requests[-1].json["max_tokens"] == 3
    await client.completions.stream("a").aclose()
    ranking = await client.rerank("q", ["a", "b"])
    assert (len(ranking.results), transport.requests[-1].json["truncate"], transport.requests[-1].json["x"]) == (
        1,
        "END",
        1,
    )
    assert len((await client.rerank("q", ["a", "b"], top_n=None)).results) == 2
    await client.chat.create("hi")
    assert "max_tokens" not in transport.requests[-1].json


async def test_parse_leaves_out_a_default_for_the_form_of_the_output() -> None:
    """It sets that itself; beside a call's own response_format it is an error as before."""
    client, transport = make({"chat": {"response_format": {"type": "json_object"}}})
    await client.chat.parse("hi", dict[str, int])
    assert transport.requests[-1].json["response_format"]["type"] == "json_schema"
    with pytest.raises(ConfigurationError, match="sets response_format itself"):
        await client.chat.parse("hi", dict[str, int], response_format={"type": "json_object"})


@pytest.mark.parametrize(
    ("defaults", "kind", "words"),
    [
        (
            {"chat": {"temprature": 0}},
            TypeError,
            r"chat\.create\(\) got an unexpected option 'temprature' \(did you mean",
        ),
        ({"embedding": {"top_n": 3}}, TypeError, r"embeddings\.create\(\) got an unexpected option 'top_n'"),
        ({"ranking": {"temperature": 3}}, TypeError, r"rerank\(\) got an unexpected option 'temperature'"),
        ({"chat": {"model": "m"}}, TypeError, r"pass model=\{'chat': …\}"),
        ({"chats": {}}, ConfigurationError, "the kinds are chat, completions, embedding, ranking"),
        ({"chat": 5}, ConfigurationError, "takes a mapping of options, not int"),
        (5, ConfigurationError, "takes a mapping of kinds"),
        ({"chat": {"max_tokens": True}}, ConfigurationError, "max_tokens takes a number"),
        ({"chat": {"extra_headers": {"a b": "c"}}}, ConfigurationError, "invalid header name"),
    ],
)
def test_wrong_defaults_are_found_when_the_client_is_built(defaults: Any, kind: type[Exception], words: str) -> None:
    """An unknown option is the TypeError of the method, a wrong shape a ConfigurationError."""
    with pytest.raises(kind, match=words):
        make(defaults)
    with pytest.raises(kind, match=words):
        make(None)[0].with_options(defaults=defaults)


async def test_a_pickle_carries_defaults_without_credentials() -> None:
    """The options travel; of their headers those that hold a key stay behind, and no repr shows them."""
    headers = {"X-Auth-Token": "hush", "x-team": "a"}
    client = AsyncClient(
        "k",
        "http://fake",
        model="m",
        transport=FakeTransport(remembered),
        defaults={"chat": {"max_tokens": 5, "extra_headers": headers}},
    )
    data = pickle.dumps(client)
    assert b"hush" not in data
    assert "hush" not in repr(client)
    await pickle.loads(data).with_options(defaults={"chat": {"seed": 1}}).chat.create("hi")
    request = SEEN.pop()
    assert (request.json["max_tokens"], request.json["seed"]) == (5, 1)
    assert request.headers["x-team"] == "a"
    assert "X-Auth-Token" not in request.headers


SEEN: list[FakeRequest] = []


def remembered(request: FakeRequest) -> Any:
    """An answer, the request kept."""
    SEEN.append(request)
    return answer(request)


async def test_the_callers_mapping_may_change_later() -> None:
    """A client has its own copy of the defaults."""
    mine: dict[str, dict[str, Any]] = {"chat": {"max_tokens": 5}}
    client, transport = make(mine)
    mine["chat"]["max_tokens"] = 6
    await client.chat.create("hi")
    assert transport.requests[-1].json["max_tokens"] == 5


@pytest.mark.parametrize("kind", [AsyncClient, Client])
@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("max_tokens", r"defaults=\{'chat': \{'max_tokens': …\}\}"),
        ("temperature", r"defaults=\{'chat': \{'temperature': …\}\}"),
        ("truncate", r"defaults=\{'embedding': \{'truncate': …\}\}"),
        ("timeout", "timeouts="),
        ("max_retries", "retry="),
        ("default_headers", "headers="),
        ("http_client", "transport="),
        ("base_ulr", "did you mean 'base_url'"),
        ("colour", "there are api_key, base_url, model, "),
    ],
)
def test_an_unknown_setting_names_its_place_and_the_class(kind: Any, name: str, place: str) -> None:
    """A TypeError of the class that was called."""
    with pytest.raises(TypeError, match=rf"^{kind.__name__}\(\) got an unexpected setting '{name}'.*{place}"):
        kind("k", "http://fake", **{name: 1})


def test_with_options_says_where_an_option_of_calls_belongs() -> None:
    """It has fewer settings than a client."""
    client, _ = make(None)
    with pytest.raises(TypeError, match=r"^with_options\(\) got an unexpected setting 'temperature'.*defaults="):
        client.with_options(temperature=0)


@pytest.mark.parametrize(
    ("default", "given"), [("max_tokens", "max_completion_tokens"), ("max_completion_tokens", "max_tokens")]
)
async def test_a_limit_of_tokens_under_its_other_name(default: str, given: str) -> None:
    """That of a call replaces that of the client or the conversation: servers reject both at once."""
    client, transport = make({"chat": {default: 10}})
    await client.chat.create("hi", **{given: 20})
    await client.chat.parse("hi", dict, **{given: 20})
    await client.with_options(defaults={"chat": {given: 20}}).chat.create("hi")
    talk = client.chat.conversation(**{default: 15})
    await talk.send("hi", **{given: 20})
    await talk.stream("hi", **{given: 20}).final()
    blocking, sync_transport = make({}, Client)
    blocking.chat.conversation(**{default: 15}).stream("hi", **{given: 20}).final()
    for request in [*transport.requests, *sync_transport.requests]:
        assert {name: limit for name, limit in request.json.items() if name.startswith("max_")} == {given: 20}
