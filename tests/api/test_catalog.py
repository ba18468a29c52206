"""The model table is consistent, and what it adds to a server's list never contradicts the server."""

from operator import attrgetter
from urllib.parse import urlsplit

import pytest
from attrs import evolve

from nimclient import AsyncClient
from nimclient._api import catalog
from nimclient.errors import BadRequestError, ConfigurationError
from nimclient.records.models import Model, ModelList
from nimclient.testing import FakeTransport
from support.sent import sent

TABLE = catalog._table()
ENTRIES = TABLE["models"]
IDS = [entry["id"] for entry in ENTRIES]
ALIASES = [alias for entry in ENTRIES for alias in entry.get("aliases", ())]
PLAIN = catalog.Catalog()
FLAGS = ("deprecated", "tools", "structured_output", "images", "assets", "symmetric")


def test_ids_are_unique():
    """No model is listed twice."""
    assert len(set(IDS)) == len(IDS) == len(catalog.catalog())


def test_aliases_are_unique_and_no_ids():
    """An alias leads to one model and is the id of none."""
    assert len(set(ALIASES)) == len(ALIASES)
    assert not set(ALIASES) & set(IDS)


def test_entries_have_known_fields_of_the_right_types():
    """Only fields we read, kinds we know, flags that are true, names that are not empty."""
    for entry in ENTRIES:
        assert entry.keys() <= {"id", "kind", "aliases", "endpoint", "thinking", *FLAGS}, entry
        assert entry["kind"] in set(catalog.KINDS) - {"unknown"}, entry
        assert all(entry[flag] is True for flag in FLAGS if flag in entry), entry
        assert all(
            isinstance(name, str) and name.strip() == name != "" for name in [entry["id"], *entry.get("aliases", ())]
        )
        assert entry.get("aliases") != [], entry


def test_endpoints_are_on_nvidias_hosts():
    """The table sends no key to anyone else: https, *.api.nvidia.com, no port, no query."""
    endpoints = [urlsplit(entry["endpoint"]) for entry in ENTRIES if "endpoint" in entry]
    assert endpoints
    for url in endpoints:
        assert url.scheme == "https"
        assert url.netloc.endswith(".api.nvidia.com")
        assert "@" not in url.netloc
        assert url.path.startswith("/v1/")
        assert not url.query
        assert not url.fragment


@pytest.mark.parametrize("kind", ["chat", "embedding", "ranking"])
def test_defaults_exist_and_are_of_use(kind):
    """Each default is in the table, of the right kind, and not deprecated."""
    model = catalog.catalog()[catalog.hosted_default(kind)]
    assert model.kind == kind
    assert not model.deprecated
    PLAIN.check_kind(model.id, kind)


def test_defaults_are_for_known_kinds_only():
    """There is no default for a kind that no call needs, and None for one without."""
    assert set(TABLE["defaults"]) <= {"chat", "embedding", "ranking", "completions"}
    assert catalog.hosted_default("unknown") is None


def test_every_model_is_found_by_its_id_and_aliases():
    """lookup gives the same model under all its names, with its flags."""
    for entry in ENTRIES:
        model = catalog.lookup(entry["id"])
        assert all(catalog.lookup(alias) is model for alias in model.aliases)
        assert (model.id, model.kind, list(model.aliases)) == (entry["id"], entry["kind"], entry.get("aliases", []))
        assert model.supports_tools is entry.get("tools", False)
        assert model.supports_structured_output is entry.get("structured_output", False)
        assert model.supports_thinking is ("thinking" in entry)
        assert (model.deprecated, model.endpoint) == (entry.get("deprecated", False), entry.get("endpoint"))
        assert not model.listed


@pytest.mark.parametrize("name", ["", "no/such-model", "NVIDIA/NEMOTRON-3-NANO-30B-A3B"])
def test_unknown_names_are_none(name):
    """The table does not guess."""
    assert catalog.lookup(name) is None


def a_model(kind):
    return next(entry["id"] for entry in ENTRIES if entry["kind"] == kind)


@pytest.mark.parametrize(
    ("kind", "wanted", "fits"),
    [
        ("chat", "chat", True),
        ("vlm", "chat", True),
        ("embedding", "chat", False),
        ("ranking", "chat", False),
        ("completions", "chat", False),
        ("completions", "completions", True),
        ("chat", "completions", True),
        ("embedding", "completions", False),
        ("embedding", "embedding", True),
        ("chat", "embedding", False),
        ("ranking", "embedding", False),
        ("ranking", "ranking", True),
        ("embedding", "ranking", False),
    ],
)
def test_a_model_of_another_kind_is_refused(kind, wanted, fits):
    """A call may name models of its own kind; the error names both kinds."""
    name = a_model(kind)
    if fits:
        assert PLAIN.check_kind(name, wanted) is None
    else:
        with pytest.raises(ConfigurationError, match=f"of kind {kind}; this call needs one of kind {wanted}"):
            PLAIN.check_kind(name, wanted)


def test_unknown_models_may_be_of_any_kind():
    """A name that the table does not know is used as it is."""
    assert [PLAIN.check_kind("my/model", kind) for kind in ("chat", "embedding", "ranking", "completions")] == [
        None
    ] * 4


def test_described_adds_what_the_table_knows():
    """Kind, flags and endpoint come from the table; what the server says stays, unknown models stay as they are."""
    known = Model("nvidia/llama-nemotron-rerank-1b-v2", owned_by="x", max_model_len=5, listed=True, extra={"a": 1})
    unknown = Model("my/model", listed=True)
    models = PLAIN.described(ModelList([known, unknown], None, {"odd": 1}), hosted=False)
    assert models.ids == (known.id, unknown.id)
    assert models.extra == {"odd": 1}
    assert (models[0].kind, models[0].owned_by, models[0].max_model_len, models[0].extra) == (
        "ranking",
        "x",
        5,
        {"a": 1},
    )
    assert models[0].endpoint == catalog.catalog()[known.id].endpoint
    assert models[0].listed
    assert models[1] == evolve(unknown, callable=True)


EMBEDDER, RANKER, CHAT = (catalog.hosted_default(kind) for kind in ("embedding", "ranking", "chat"))


@pytest.mark.parametrize(
    ("models", "kind", "expected"),
    [
        ([], "chat", None),
        ([Model("a")], "chat", "a"),
        ([Model("a"), Model("b")], "chat", "a"),
        ([Model("a"), Model("b", "chat")], "chat", "b"),
        ([Model("a", "embedding"), Model("b")], "chat", "b"),
        ([Model("a", "embedding")], "chat", None),
        ([Model("a", "vlm")], "chat", "a"),
        ([Model("lora", parent="a"), Model("a")], "chat", "a"),
        ([Model("lora", "chat", parent="a")], "chat", None),
        ([Model("old", "chat", deprecated=True), Model("new", "chat")], "chat", "new"),
        ([Model("old", "chat", deprecated=True)], "chat", "old"),
        ([Model("a", "chat"), Model(CHAT, "chat")], "chat", CHAT),
        ([Model("a", "ranking"), Model(EMBEDDER, "embedding")], "embedding", EMBEDDER),
        ([Model("a", "chat")], "completions", "a"),
    ],
)
def test_the_default_among_a_servers_models(models, kind, expected):
    """The first base model of the kind, else the first unknown one; the hosted default and current ones are preferred."""
    listed = ModelList([evolve(model, listed=True) for model in models])
    assert PLAIN.first_of_kind(listed, kind) == expected


def test_the_switches_for_thinking_are_known_ones():
    """Each is one that can be thrown, and one that callers may name for a model of theirs."""
    used = {entry["thinking"] for entry in ENTRIES if "thinking" in entry}
    assert used == set(catalog.THINKING_SWITCHES)


def test_types_of_fields():
    """Lists of aliases, endpoints and switches are what they say."""
    for entry in ENTRIES:
        assert isinstance(entry.get("aliases", []), list)
        assert isinstance(entry.get("thinking", ""), str)
        assert isinstance(entry.get("endpoint", ""), str)
        assert "assets" not in entry or entry.get("images"), entry


def test_an_entry_of_the_callers_is_found_before_the_tables():
    """By id and by alias; what he gives a URL only keeps what the table knows."""
    own = catalog.Catalog(
        catalog.read_endpoints({EMBEDDER: "http://h/e", "mine": Model("mine", "vlm", aliases=("m",))})
    )
    assert own.get(EMBEDDER).kind == "embedding"
    assert own.get(EMBEDDER).endpoint == "http://h/e"
    assert (own.own_id("m"), own.own_id("mine"), own.own_id(CHAT)) == ("mine", "mine", None)
    assert own.get(CHAT) is catalog.catalog()[CHAT]
    own.check_kind("mine", "chat")
    with pytest.raises(ConfigurationError, match="of kind vlm"):
        own.check_kind("mine", "ranking")


def test_images_are_for_models_that_read_them():
    """A model that is known to read texts only is rejected, with the name of one that reads images."""
    PLAIN.check_images("my/model")
    PLAIN.check_images("nvidia/llama-nemotron-rerank-vl-1b-v2")
    with pytest.raises(ConfigurationError, match="rerank-vl-1b-v2"):
        PLAIN.check_images(RANKER)
    catalog.Catalog(catalog.read_endpoints({"mine": "http://h/x"})).check_images("mine")


def test_what_belongs_to_no_list_is_added_once():
    """Models with a URL of their own come after the server's; one that is listed is not repeated."""
    own = catalog.Catalog(catalog.read_endpoints({"a": "http://h/a", "b": Model("b", "chat")}))
    assert own.described(ModelList([Model("x", listed=True)]), hosted=False).ids == ("x", "a")
    hosted = own.described(ModelList([Model(RANKER, listed=True)]), hosted=True)
    assert hosted.ids[:2] == (RANKER, "a")
    assert len(set(hosted.ids)) == len(hosted.ids)


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("nvidia/new-2.5", "https://ai.api.nvidia.com/v1/retrieval/nvidia/new-2_5/reranking"),
        ("plain", None),
    ],
)
def test_where_hosted_rerankers_are(name, url):
    """NVIDIA's URLs of rerankers are made of the id, dots becoming underscores; every one of the table is one of these."""
    assert catalog.hosted_ranking_url(name) == url
    new = [m for m in catalog.catalog().values() if m.kind == "ranking" and "/" in m.id]
    assert all(catalog.hosted_ranking_url(model.id) == model.endpoint for model in new)


def test_symmetric_models():
    """Embedding models that make no difference between queries and passages, by id and by the name of their weights."""
    assert catalog.is_symmetric("baai/bge-m3")
    assert catalog.is_symmetric("BAAI/bge-m3")
    assert not catalog.is_symmetric(EMBEDDER)
    assert not catalog.is_symmetric("my/model")


@pytest.mark.parametrize("streamed", [False, True])
def test_every_switch_is_sent(streamed):
    """No model of the table has a switch that is not sent, and on is not off."""
    method = "chat.stream" if streamed else "chat.create"
    for model in catalog.catalog().values():
        if model.supports_thinking:
            plain, on, off = (
                sent(method, "hi", model=model.id, thinking=switch).fields for switch in (None, True, False)
            )
            assert plain != on != off
            assert plain != off


@pytest.mark.parametrize(
    ("kind", "method", "argument"),
    [("embedding", "embeddings.create", ["a"]), ("ranking", "rerank", "q")],
)
async def test_hosted_defaults(kind, method, argument):
    """The hosted catalog is never asked for its list: each kind has its default there."""
    transport = FakeTransport(lambda request: 400)
    call = attrgetter(method)(AsyncClient("some-key", transport=transport))
    with pytest.raises(BadRequestError):
        await (call(argument) if kind == "embedding" else call(argument, ["a"]))
    assert transport.requests[0].json["model"] == catalog.hosted_default(kind)
    assert "GET" not in {request.method for request in transport.requests}


async def test_an_endpoint_of_the_catalog():
    """A hosted model whose endpoint the catalog knows is called there."""
    known = next(model for model in catalog.catalog().values() if model.endpoint and model.kind == "ranking")
    transport = FakeTransport([{"rankings": [{"index": 0, "logit": 1.0}]}])
    ranking = await AsyncClient("some-key", transport=transport).rerank("q", ["a"], model=known.id)
    assert ranking.meta is not None
    assert ranking.meta.url == transport.requests[0].url == known.endpoint
