"""What the table of models does for a caller: old names, models that will go, URLs of their own, entries of his own."""

import contextlib
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import pytest

from nimclient import AsyncClient, Client, RetryPolicy
from nimclient.errors import (
    APIStatusError,
    ConfigurationError,
    ModelDeprecationWarning,
    ModelNotFoundError,
    NotFoundError,
)
from nimclient.records import Model
from nimclient.simulator import Simulator
from support.server import FaultServer
from support.wire import HELLO, answer, chat, chat_body, embedded, error

MakeClient = Callable[..., AsyncClient]
HOSTED = "https://integrate.api.nvidia.com/v1"
CHAT = HOSTED + "/chat/completions"
OLD, NAME = "ai-mixtral-8x7b-instruct", "mistralai/mixtral-8x7b-instruct-v0.1"
GOING = "meta/llama3-70b-instruct"
RERANKER = "nvidia/llama-nemotron-rerank-1b-v2"
RERANK = "https://ai.api.nvidia.com/v1/retrieval/nvidia/llama-nemotron-rerank-1b-v2"


@pytest.fixture
def hosted(canned: Any) -> Any:
    """Canned answers of the hosted catalog's chat."""
    canned.post(CHAT, payload=chat_body("Hi"), repeat=True)
    return canned


# old names -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alias", [OLD, "playground_mixtral_8x7b", "mixtral_8x7b"])
async def test_an_old_name_is_sent_as_the_id(hosted: Any, alias: str) -> None:
    """On the hosted catalog an alias is resolved, with one warning, however often it is used."""
    async with AsyncClient("k", HOSTED, transport=hosted.transport) as client:
        with pytest.warns(UserWarning, match=f"'{alias}' is an old name; it is sent as '{NAME}'") as caught:
            await client.chat.create("hi", model=alias)
        assert len(caught) == 1
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            await client.chat.create("hi", model=alias)
            await client.with_options(model=alias).chat.batch(["hi", "ho"])
    assert all(f'"{NAME}"'.encode() in body for body in hosted.sent(CHAT))
    assert len(hosted.sent(CHAT)) == 4


async def test_each_old_name_has_its_warning(hosted: Any) -> None:
    """Another alias is another warning; of a deprecated model the same one says that too."""
    async with AsyncClient("k", HOSTED, transport=hosted.transport) as client:
        with pytest.warns(UserWarning, match="old name"):
            await client.chat.create("hi", model=OLD)
        with pytest.warns(
            UserWarning, match=f"'ai-llama3-70b' is an old name; .*'{GOING}', which is deprecated"
        ) as seen:
            await client.chat.create("hi", model="ai-llama3-70b")
    assert len(seen) == 1


async def test_an_old_name_of_a_model_with_a_url(canned: Any) -> None:
    """The URL is that of the model behind the alias."""
    url = "https://ai.api.nvidia.com/v1/retrieval/nvidia/embeddings"
    canned.post(url, payload=embedded(["1"]))
    async with AsyncClient("k", HOSTED, transport=canned.transport) as client:
        with pytest.warns(UserWarning, match="'NV-Embed-QA'"):
            await client.embeddings.embed_query("1", model="ai-embed-qa-4")
    assert b'"model":"NV-Embed-QA"' in canned.sent(url)[0]


async def test_a_name_on_a_server_of_ones_own(server: FaultServer, make_client: MakeClient) -> None:
    """A server of one's own may serve a model under any name: it is sent as it is, and nothing is warned of."""
    server.script(chat())
    client = make_client()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in (OLD, GOING, "phi2", "never/heard-of"):
            await client.chat.create("hi", model=name)
    assert [request.json["model"] for request in server.requests] == [OLD, GOING, "phi2", "never/heard-of"]


async def test_a_gateway_that_the_caller_calls_hosted(server: FaultServer, make_client: MakeClient) -> None:
    """With dialect="hosted" the rules of the catalog hold behind any URL, its own URLs aside."""
    server.script(chat())
    with pytest.warns(UserWarning, match="old name"):
        await make_client(dialect="hosted").chat.create("hi", model=OLD)
    assert server.requests[0].json["model"] == NAME


async def test_a_model_that_will_go(hosted: Any) -> None:
    """A deprecated model is used, with one warning per client."""
    async with AsyncClient("k", HOSTED, model=GOING, transport=hosted.transport) as client:
        with pytest.warns(ModelDeprecationWarning, match=f"model '{GOING}' is deprecated"):
            await client.chat.create("hi")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            await client.chat.create("hi")


@pytest.mark.parametrize("alias", [OLD, NAME])
async def test_getting_a_model_by_an_old_name(canned: Any, alias: str) -> None:
    """models.get asks for the id, with the warning."""
    canned.get(f"{HOSTED}/models/{NAME}", payload={"id": NAME, "owned_by": "mistralai"})
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        async with AsyncClient("k", HOSTED, transport=canned.transport) as client:
            model = await client.models.get(alias)
    assert (model.id, model.callable, model.listed) == (NAME, None, True)
    assert len(seen) == (alias == OLD)


# the list --------------------------------------------------------------------------------------------------------


async def test_the_hosted_list_is_merged_with_the_table(canned: Any) -> None:
    """What is listed comes first, then what the catalog has at URLs of its own; what the account may call is unknown."""
    listed = [{"id": NAME, "owned_by": "mistralai"}, {"id": "new/model", "owned_by": "new"}]
    canned.get(HOSTED + "/models", payload={"object": "list", "data": listed}, repeat=True)
    async with AsyncClient("k", HOSTED, transport=canned.transport) as client:
        models = await client.models.list()
        rerankers = await client.models.list("ranking")
    assert models.ids[:2] == (NAME, "new/model")
    assert {model.callable for model in models} == {None}
    assert [model.listed for model in models] == [True, True, *[False] * (len(models) - 2)]
    assert all(model.endpoint for model in models[2:])
    assert (models[0].kind, models[1].kind) == ("chat", "unknown")
    assert RERANKER in rerankers.ids
    assert {model.kind for model in rerankers} == {"ranking"}


async def test_a_gateway_that_turns_out_to_be_nvcf(server: FaultServer, client: AsyncClient) -> None:
    """A gateway of one's own that marks its answers as NVCF does not vouch for its list, and has none of NVIDIA's URLs."""
    server.script(answer({"data": [{"id": NAME}]}, 200, "NVCF-REQID: r-1"))
    models = await client.models.list()
    assert client.dialect == "hosted"
    assert [(model.id, model.callable) for model in models] == [(NAME, None)]


async def test_calls_tell_what_may_be_called(canned: Any) -> None:
    """What has answered is callable, what is not found for the account or gone is not; it is unknown for the others."""
    listed = [{"id": name} for name in ("a/ok", "a/refused", "a/gone", "a/busy", "a/new")]
    canned.get(HOSTED + "/models", payload={"data": listed})
    canned.post(CHAT, payload=chat_body("Hi"))
    canned.post(CHAT, status=404, payload={"status": 404, "detail": "Function 'f': Not found for account 'x'"})
    canned.post(CHAT, status=410, payload={"status": 410, "detail": "has reached its end of life"})
    canned.post(CHAT, status=429, payload={"status": 429, "title": "Too Many Requests"})
    canned.post(f"{RERANK}/reranking", payload={"rankings": [{"index": 0, "logit": 1.0}]})
    async with AsyncClient("k", HOSTED, retry=RetryPolicy(attempts=1), transport=canned.transport) as client:
        for name in ("a/ok", "a/refused", "a/gone", "a/busy"):
            with contextlib.suppress(APIStatusError):
                await client.chat.create("hi", model=name)
        await client.rerank("q", ["a"], model=RERANKER)
        models = {model.id: model.callable for model in await client.models.list()}
    assert [models[model["id"]] for model in listed] == [True, False, False, None, None]
    assert models[RERANKER] is True


async def test_adapters_of_a_vllm_server(server: FaultServer, make_client: MakeClient) -> None:
    """`parent` marks an adapter, which has its base model's kind and is no default; `root` is a path and marks nothing."""
    data = [
        {"id": "lora", "owned_by": "vllm", "root": "/adapters/x", "parent": "served"},
        {"id": "known-lora", "owned_by": "vllm", "root": "/adapters/y", "parent": NAME},
        {"id": "served", "owned_by": "vllm", "root": "/models/some-path", "parent": None, "max_model_len": 4096},
    ]
    server.script(answer({"data": data}), path="/v1/models")
    server.script(chat())
    client = make_client(model=None)
    models = await client.models.list()
    assert [(model.parent, model.kind, model.callable) for model in models] == [
        ("served", "unknown", True),
        (NAME, "chat", True),
        (None, "unknown", True),
    ]
    assert (models[1].aliases, models[1].endpoint) == ((), None)
    await client.chat.create("hi")
    assert server.requests[-1].json["model"] == "served"


# entries of the caller's own -------------------------------------------------------------------------------------


async def test_a_url_for_a_model_on_any_server(server: FaultServer, make_client: MakeClient) -> None:
    """endpoints= works beside a base URL of one's own (D27), for models that the table knows and for others."""
    server.script(chat())
    here = f"http://127.0.0.1:{server.port}"
    client = make_client("http://127.0.0.1:9", endpoints={"my/model": f"{here}/one", NAME: f"{here}/two"})
    await client.chat.create("hi", model="my/model")
    await client.chat.create("hi", model=NAME)
    assert [request.path for request in server.requests] == ["/one", "/two"]


async def test_an_entry_says_what_a_model_is(server: FaultServer, make_client: MakeClient) -> None:
    """A Model in endpoints= gives kind, aliases and switch for thinking: all that the table would, on any server."""
    mine = Model("my/ranker", "ranking", aliases=("ranker",), endpoint=f"http://127.0.0.1:{server.port}/x/rerank")
    thinker = Model("my/thinker", "chat", thinking_switch="thinking", supports_tools=True)
    client = make_client(endpoints={mine.id: mine, thinker.id: thinker}, model={"chat": "my/thinker"})
    with pytest.raises(ConfigurationError, match="'my/ranker' is of kind ranking; this call needs one of kind chat"):
        await client.chat.create("hi", model="ranker")
    with pytest.raises(ConfigurationError, match="accepts no images"):
        await client.rerank("q", [{"image": "data:image/png;base64,iVBORw0KGgo="}], model="my/ranker")
    server.script(answer({"results": [{"index": 0, "relevance_score": 0.5}]}), path="/x/rerank")
    server.script(chat())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        await client.rerank("q", ["a"], model="ranker")
        await client.chat.create("hi", thinking=True)
    assert server.requests[0].json["model"] == "my/ranker"
    assert server.requests[1].path == "/v1/chat/completions"
    assert server.requests[1].json["chat_template_kwargs"] == {"thinking": True}


async def test_entries_are_listed_and_found(server: FaultServer, make_client: MakeClient) -> None:
    """A model with a URL of its own is in the list after the server's, is the default of its kind, and can be got."""
    far = f"http://127.0.0.1:{server.port}/far"
    mine = Model("my/ranker", "ranking", endpoint=far)
    described = Model("served", "chat", supports_tools=True)
    client = make_client(model=None, endpoints={"my/ranker": mine, "served": described, "plain": far})
    server.script(answer({"data": [{"id": "served"}]}), path="/v1/models")
    server.script(answer({"rankings": [{"index": 0, "logit": 1}]}), path="/far")
    server.script(error(404))
    models = await client.models.list()
    assert [(m.id, m.kind, m.listed, m.callable) for m in models] == [
        ("served", "chat", True, True),
        ("my/ranker", "ranking", False, None),
        ("plain", "unknown", False, None),
    ]
    assert models[0].supports_tools
    assert (await client.rerank("q", ["a"])).results
    assert server.requests[-1].json["model"] == "my/ranker"
    assert (await client.models.get("my/ranker")).endpoint == far
    with pytest.raises(NotFoundError):
        await client.models.get("unheard-of")


async def test_a_model_that_nobody_lists_is_no_default(server: FaultServer, make_client: MakeClient) -> None:
    """A URL alone says nothing of the kind: it is not taken where the server has nothing that fits."""
    server.script(answer({"data": [{"id": RERANKER}]}))
    client = make_client(model=None, endpoints={"plain": f"http://127.0.0.1:{server.port}/far"})
    with pytest.raises(ConfigurationError, match="the server lists no model of kind chat"):
        await client.chat.create("hi")


async def test_an_entry_replaces_the_tables(hosted: Any) -> None:
    """What the caller says of a hosted model goes before what the table says, and is not warned of."""
    async with AsyncClient("k", HOSTED, endpoints={GOING: Model(GOING, "chat")}, transport=hosted.transport) as client:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            await client.chat.create("hi", model=GOING)


@pytest.mark.parametrize(
    ("endpoints", "words"),
    [
        ({"m": Model("other")}, r"endpoints\['m'\] is the Model of another id, 'other'"),
        ({"m": Model("m", "vision")}, "of kind 'vision'; the kinds are chat, vlm"),
        ({"m": Model("m", thinking_switch="think")}, "thinking_switch 'think'; there are enable_thinking"),
        ({"m": Model("m", endpoint="ftp://x")}, r"endpoints\['m'\] must look like"),
        ({"m": None}, r"endpoints\['m'\] must be a str, not NoneType"),
        ({"m": 5}, "must be a str, not int"),
        ({"": "http://h/x"}, "endpoints has the key ''"),
        ({5: "http://h/x"}, "endpoints has the key 5"),
        (["m"], "endpoints takes a mapping of models to URLs, not list"),
        ("m", "not str"),
    ],
)
def test_entries_that_are_none(endpoints: Any, words: str) -> None:
    """What cannot be an entry is found when the client is built."""
    with pytest.raises(ConfigurationError, match=words):
        AsyncClient(base_url="http://127.0.0.1:9", endpoints=endpoints)


def test_entries_are_pickled() -> None:
    """A client keeps its entries over pickling and in copies."""
    mine = Model("my/model", "ranking", aliases=("mine",), endpoint="http://far/x")
    client = AsyncClient(base_url="http://127.0.0.1:9", endpoints={"my/model": mine})
    for twin in (pickle.loads(pickle.dumps(client)), client.with_options(timeouts=3)):
        assert twin._engine.endpoint_of("my/model") == "http://far/x"
        assert twin.chat._resolved("mine") == "my/model"


def test_the_blocking_client_takes_entries(nim_simulator_url: str) -> None:
    """Client has the same endpoints=."""
    base = nim_simulator_url.removesuffix("/v1")
    entry = Model(RERANKER, "ranking", aliases=("best",), endpoint=f"{base}/v1/ranking")
    with Client(base_url="http://127.0.0.1:9", endpoints={RERANKER: entry}) as client:
        assert client.rerank("csv", ["csv"], model="best").results


async def test_an_unknown_model_costs_no_request(nim_simulator: Simulator) -> None:
    """An unknown name is sent at once: the server has the last word."""
    async with AsyncClient(base_url=nim_simulator.base_url) as client:
        with pytest.raises(ModelNotFoundError):
            await client.chat.create("hi", model="never/heard-of")
    assert [request.path for request in nim_simulator.requests] == ["/v1/chat/completions"]


async def test_an_old_name_in_a_stream(server: FaultServer, make_client: MakeClient) -> None:
    """A stream resolves and warns when it is made, not again when it is opened."""
    server.script(HELLO)
    client = make_client(dialect="hosted")
    with pytest.warns(UserWarning, match="old name") as seen:
        stream = client.chat.stream("hi", model=OLD)
    await stream.final()
    assert len(seen) == 1
    assert server.requests[0].json["model"] == NAME
