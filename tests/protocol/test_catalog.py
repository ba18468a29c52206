"""The model table is consistent, and what it adds to a server's list never contradicts the server."""

from urllib.parse import urlsplit

import pytest
from attrs import evolve

from nimclient._protocol import catalog
from nimclient._protocol.catalog import KINDS, Catalog, hosted_default, lookup
from nimclient.errors import ConfigurationError
from nimclient.records.models import Model, ModelList

TABLE = catalog._table()
ENTRIES = TABLE["models"]
IDS = [entry["id"] for entry in ENTRIES]
ALIASES = [alias for entry in ENTRIES for alias in entry.get("aliases", ())]
PLAIN = Catalog()
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
        assert entry["kind"] in set(KINDS) - {"unknown"}, entry
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
    model = catalog.catalog()[hosted_default(kind)]
    assert model.kind == kind
    assert not model.deprecated
    PLAIN.check_kind(model.id, kind)


def test_defaults_are_for_known_kinds_only():
    """There is no default for a kind nobody asks for, and None for one without."""
    assert set(TABLE["defaults"]) <= {"chat", "embedding", "ranking", "completions"}
    assert hosted_default("unknown") is None


@pytest.mark.parametrize("entry", ENTRIES, ids=IDS)
def test_every_model_is_found_by_its_id_and_aliases(entry):
    """lookup gives the same model under all its names, with its flags."""
    model = lookup(entry["id"])
    assert all(lookup(alias) is model for alias in model.aliases)
    assert (model.id, model.kind, list(model.aliases)) == (entry["id"], entry["kind"], entry.get("aliases", []))
    assert model.supports_tools is entry.get("tools", False)
    assert model.supports_structured_output is entry.get("structured_output", False)
    assert model.supports_thinking is ("thinking" in entry)
    assert (model.deprecated, model.endpoint) == (entry.get("deprecated", False), entry.get("endpoint"))
    assert not model.listed


@pytest.mark.parametrize("name", ["", "no/such-model", "NVIDIA/NEMOTRON-3-NANO-30B-A3B"])
def test_unknown_names_are_none(name):
    """The table does not guess."""
    assert lookup(name) is None


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


EMBEDDER, RANKER, CHAT = (hosted_default(kind) for kind in ("embedding", "ranking", "chat"))


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
