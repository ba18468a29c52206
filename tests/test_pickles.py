"""What travels between processes: clients as their settings, records and errors with all they have; never a key."""

import copy
import inspect
import pickle
import ssl
from collections.abc import Mapping
from typing import Any

import attrs
import cloudpickle
import pytest

import nimclient
from nimclient import AsyncClient, Client, Limits, RetryPolicy, Timeouts, errors, jobs, records
from nimclient.records import Headers, Timings
from nimclient.records.chat import decode_chat
from support.leaks import settings_of

KEY = "nvapi-canary-0123456789abcdef"
WAYS = [*range(2, pickle.HIGHEST_PROTOCOL + 1), "cloudpickle"]
META = records.ResponseMeta(
    200, Headers([(b"X-Request-Id", b"r-1"), (b"Via", b"a")]), "http://h/v1/x", 3, Timings(0.1, 0.2, 0.3, 0.4, (0.5,))
)
EVENT = {"id": "c", "choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": None}], "new": [1]}
LIVE = {
    "AsCompleted",
    "ChatStream",
    "CompletionStream",
    "EmbedStream",
    "EventStream",
    "ParseStream",
    "SyncAsCompleted",
    "SyncChatStream",
    "SyncCompletionStream",
    "SyncEmbedStream",
    "SyncEventStream",
    "SyncParseStream",
}
ELSEWHERE = {
    "AsyncClient",
    "Client",
    "Conversation",
    "SyncConversation",
    "BatchJob",
    "EmbedJob",
    "MapJob",
    "NimError",
    "Sink",
}


def packed(value: Any, way: Any) -> bytes:
    return cloudpickle.dumps(value) if way == "cloudpickle" else pickle.dumps(value, way)


def flat(value: Any) -> Any:
    """Everything that a value consists of, as plain data: what == does not look at, too."""
    if isinstance(value, BaseException):
        return type(value), value.args, flat(value.__dict__)
    if attrs.has(type(value)):
        return type(value), {a.name: flat(getattr(value, a.name)) for a in attrs.fields(type(value))}
    if isinstance(value, Mapping):
        return type(value), {key: flat(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value), [flat(part) for part in value]
    if type(value).__module__.startswith("nimclient"):
        return type(value), flat(value.__reduce__()[1:])
    return value


SPECIAL: dict[str, Any] = {
    "meta": META,
    "extra": {"new": [1, {"a": None}]},
    "error": errors.RateLimitError("busy", status=429, request_id="r", retry_after=1.5, attempts=4),
    "vectors": records.Vectors(bytes(range(16)), 2, usage=records.Usage(3), model="m", meta=META),
    "messages": (records.Message("user", "hi"),),
    "completion": decode_chat({"choices": [{"message": {"content": "Hi"}}]}, META),
    "partial": decode_chat({"choices": [{"message": {"content": "Hi"}}]}, META),
    "timings": META.timings,
    "headers": META.headers,
}


def filled(kind: type[Any]) -> Any:
    """A record with something of its own in every field."""
    fields = attrs.fields(kind)
    return kind(**{a.alias: SPECIAL.get(a.name, f"some {a.name}") for a in fields if a.init})


def some_error(kind: type[errors.NimError]) -> errors.NimError:
    """An error with something of its own in every field."""
    names = [name for base in kind.__mro__ for name in vars(base).get("__annotations__", {})]
    return errors._rebuild(kind, "what went wrong", {name: SPECIAL.get(name, f"some {name}") for name in names})


BY_HAND = {
    "AttemptEvent": nimclient.AttemptEvent("POST", "http://h", 2, 429, SPECIAL["error"], 0.5),
    "Audio": records.Audio(b"RIFFabcdWAVE"),
    "ChatChunk": records.ChatChunk(EVENT, "Hi", META),
    "ChatPrompt": nimclient.ChatPrompt([("system", "Be {mood}."), ("user", "{input}")]),
    "CompletionChunk": records.CompletionChunk({"choices": [{"text": "Hi", "index": 0}]}, "Hi", META),
    "Headers": META.headers,
    "Image": records.Image(b"\x89PNG\r\n\x1a\nabc"),
    "Limits": Limits(concurrency=3),
    "Model": records.Model("m", kind="chat", meta=META),
    "ModelList": records.ModelList((records.Model("m", meta=META),), meta=META),
    "RetryPolicy": RetryPolicy(attempts=7, patience=3.0),
    "Timeouts": Timeouts(total=3.0, idle=None),
    "Vector": SPECIAL["vectors"][1],
    "Vectors": SPECIAL["vectors"],
    "Video": records.Video(b"\0\0\0\x18ftypmp42"),
}


def public() -> dict[str, type[Any]]:
    """Every class that has a public name, and is neither a set of options nor an error."""
    found: dict[str, type[Any]] = {}
    for module in (nimclient, records, jobs):
        for name in module.__all__:
            kind = getattr(module, name)
            if inspect.isclass(kind) and not (issubclass(kind, dict) or kind.__name__.endswith("Options")):
                found[name] = kind
    return found


PUBLIC = public()
RECORDS = sorted(PUBLIC.keys() - LIVE - ELSEWHERE)
ERRORS = sorted(
    (kind for kind in vars(errors).values() if inspect.isclass(kind) and issubclass(kind, errors.NimError)),
    key=lambda kind: kind.__name__,
)


@pytest.mark.parametrize("name", RECORDS)
def test_records(name: str) -> None:
    """A record comes back with everything in every field, what == leaves out included; a deep copy is as good."""
    record = BY_HAND.get(name) or filled(PUBLIC[name])
    for way in WAYS:
        twin = pickle.loads(packed(record, way))
        assert flat(twin) == flat(record)
        assert repr(twin) == repr(record)
    assert flat(copy.deepcopy(record)) == flat(record)


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_errors(kind: type[errors.NimError]) -> None:
    """An error comes back as what it was, with its words and every field: status, request id, attempts, partial answer."""
    error = some_error(kind)
    for way in WAYS:
        twin = pickle.loads(packed(error, way))
        assert flat(twin) == flat(error)
        assert str(twin) == str(error)


def settings() -> dict[str, Any]:
    return {
        "api_key": KEY,
        "base_url": "http://127.0.0.1:9/v1",
        "model": {"chat": "m"},
        "timeouts": Timeouts(total=5),
        "limits": Limits(concurrency=3),
        "headers": {"X-Team": "a", "Authorization": f"Bearer {KEY}", "Cookie": KEY},
        "proxy": f"http://user:{KEY}@proxy:3128",
        "dialect": "vllm",
    }


TRAVELLERS: dict[str, Any] = {
    "AsyncClient": lambda: AsyncClient(**settings()),
    "Client": lambda: Client(**settings()),
    "with_options": lambda: AsyncClient(**settings()).with_options(headers={"X-Api-Key": KEY}),
    "chat": lambda: AsyncClient(**settings()).chat,
    "embeddings": lambda: Client(**settings()).embeddings,
    "chat.create": lambda: Client(**settings()).chat.create,
    "Conversation": lambda: AsyncClient(**settings()).chat.conversation("Be brief."),
    "SyncConversation": lambda: Client(**settings()).chat.conversation("Be brief."),
}


@pytest.mark.parametrize("name", TRAVELLERS)
def test_clients(name: str) -> None:
    """A client, its namespaces and their methods travel as settings: no key, no credential header, no proxy password."""
    for way in WAYS:
        data = packed(TRAVELLERS[name](), way)
        assert KEY.encode() not in data
        assert b"X-Team" in data
        twin = pickle.loads(data)
        assert KEY not in repr(vars(getattr(twin, "__self__", twin)))


def test_what_a_client_carries() -> None:
    """All settings but the credentials; the key comes from the environment of where it is unpickled."""
    client = AsyncClient(**settings())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NVIDIA_NIM_API_KEY", "of-this-process")
        config = settings_of(pickle.loads(pickle.dumps(client)))
    assert config.credentials.everywhere.reveal() == "of-this-process"
    assert config.headers == {"X-Team": "a"}
    assert config.proxy == "http://proxy:3128"
    own = settings_of(client)
    assert attrs.evolve(config, credentials=own.credentials, headers=own.headers, proxy=own.proxy) == own


def key_of_this_program() -> str:
    return "asked-for"


def test_a_callable_key_travels_as_what_it_is() -> None:
    """api_key=function is carried by its name; cloudpickle carries any function."""
    client = AsyncClient(key_of_this_program, "http://127.0.0.1:9")
    twin = pickle.loads(pickle.dumps(client))
    assert settings_of(twin).credentials.everywhere.reveal() == "asked-for"
    client = AsyncClient(lambda: "asked-for", "http://127.0.0.1:9")
    twin = pickle.loads(cloudpickle.dumps(client))
    assert settings_of(twin).credentials.everywhere.reveal() == "asked-for"


def test_an_ssl_context_does_not_travel() -> None:
    """A client whose verify is an SSLContext says what to do instead of failing somewhere in the ssl module."""
    client = AsyncClient(base_url="https://127.0.0.1:9", verify=ssl.create_default_context())
    with pytest.raises(TypeError, match="path of a CA file"):
        pickle.dumps(client)


@pytest.mark.parametrize("name", sorted(LIVE - {"EventStream", "SyncEventStream"}))
def test_what_is_under_way_stays(name: str) -> None:
    """A stream or a batch in flight belongs to its process: pickling it is a TypeError that says so."""
    client: Any = Client(**settings()) if name.startswith("Sync") else AsyncClient(**settings())
    made = {
        "AsCompleted": lambda: client.chat.as_completed(["a"]),
        "ChatStream": lambda: client.chat.stream("a"),
        "CompletionStream": lambda: client.completions.stream("a"),
        "EmbedStream": lambda: client.embeddings.embed_stream(["a"]),
        "ParseStream": lambda: client.chat.parse_stream("a", str),
    }
    live = made[name.removeprefix("Sync")]()
    assert type(live) is PUBLIC[name]
    stays(live)


def test_open_events_stay(nim_simulator_url: str) -> None:
    """So does the stream of a route of one's own, which is open when there is one."""
    body = {"model": "meta/llama-3.1-8b-instruct", "messages": [{"role": "user", "content": "hi"}], "stream": True}
    route = f"{nim_simulator_url}/chat/completions"
    with Client(base_url=nim_simulator_url) as client, client.request("POST", route, json=body, stream=True) as events:
        stays(events)
        stays(events._async)


def stays(live: Any) -> None:
    for dumps in (pickle.dumps, cloudpickle.dumps):
        with pytest.raises(TypeError, match="tied to this process"):
            dumps(live)


def test_nothing_public_was_forgotten() -> None:
    """What is neither a record nor live nor a client has been thought of by name."""
    assert PUBLIC.keys() >= LIVE
    assert PUBLIC.keys() >= ELSEWHERE
    assert all(attrs.has(PUBLIC[name]) or BY_HAND.get(name) is not None for name in RECORDS)
