"""chat.parse: which requests it sends in what order, what it remembers, what it asks again, what it raises."""

import dataclasses
import enum
import json
import pickle
from typing import Any, Literal, NamedTuple, TypedDict

import attrs
import pytest

from nimclient import AsyncClient, Client
from nimclient.errors import (
    AuthenticationError,
    BadRequestError,
    ConfigurationError,
    OutputInvalidError,
    OutputRefusedError,
    OutputTruncatedError,
    RequestTimeoutError,
    ServerError,
)
from nimclient.simulator import Simulator
from support.server import FaultServer, Stall
from support.wire import MODEL, answer, chat, chat_body, error

GOOD = chat('{"name": "Ulm"}')
FORMS = ["json_schema", "guided_json", "nvext", "structured_outputs", "json_object"]


@attrs.frozen
class City:
    name: str


@dataclasses.dataclass
class Trip:
    to: City
    days: int = 1


class Pair(NamedTuple):
    a: int
    b: str


class Movie(TypedDict):
    title: str


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


def forms(server: FaultServer) -> list[str]:
    """The form of each request that came."""
    return [form_of(request.json) for request in server.requests]


def form_of(body: Any) -> str:
    if "response_format" in body:
        return str(body["response_format"]["type"])
    (found,) = body.keys() & {"guided_json", "nvext", "structured_outputs"}
    return str(found)


async def test_the_schema_goes_as_response_format(client: AsyncClient, server: FaultServer) -> None:
    """One request with json_schema, the caller's options beside it, and a value of the type."""
    server.script(GOOD)
    parsed = await client.chat.parse("where?", City, temperature=0)
    assert parsed.value == City("Ulm")
    assert parsed.completion.text == '{"name": "Ulm"}'
    assert parsed.meta is not None
    assert parsed.meta.status == 200
    (request,) = server.requests
    assert request.json == {
        "model": MODEL,
        "messages": [{"role": "user", "content": "where?"}],
        "temperature": 0,
        "response_format": {
            "type": "json_schema",
            "json_schema": {
                "name": "City",
                "strict": True,
                "schema": {
                    "type": "object",
                    "properties": {"name": {"type": "string"}},
                    "required": ["name"],
                    "additionalProperties": False,
                },
            },
        },
    }


@pytest.mark.parametrize("refusals", range(5))
async def test_a_form_that_is_refused_is_followed_by_the_next_and_remembered(
    client: AsyncClient, server: FaultServer, refusals: int
) -> None:
    """One request for each form that is rejected, and none for it from then on."""
    names = ["response_format", "guided_json", "nvext", "structured_outputs"]
    server.script(*[error(400, "not supported", param=name) for name in names[:refusals]], GOOD)
    assert (await client.chat.parse("where?", City)).value == City("Ulm")
    assert forms(server) == FORMS[: refusals + 1]
    assert (await client.chat.parse("where?", City)).value == City("Ulm")
    assert (await client.with_options(timeouts=5).chat.parse("where?", City)).value == City("Ulm")
    assert forms(server)[refusals + 1 :] == [FORMS[refusals]] * 2


async def test_memory_is_per_endpoint_and_model(make_client: Any, server: FaultServer) -> None:
    """What one model's endpoint rejects is tried at another's."""
    client = make_client()
    server.script(error(422, "response_format: Extra inputs are not permitted"), GOOD)
    for model in ("a", "a", "b"):
        await client.chat.parse("where?", City, model=model)
    assert [(r.json["model"], form_of(r.json)) for r in server.requests] == [
        ("a", "json_schema"),
        ("a", "guided_json"),
        ("a", "guided_json"),
        ("b", "json_schema"),
    ]


async def test_where_every_form_is_refused_the_last_refusal_is_raised(client: AsyncClient, server: FaultServer) -> None:
    """Each form is tried once; the next call tries the last one, which may be a matter of the model's."""
    body = "response_format guided_json nvext structured_outputs are unknown"
    server.script(error(400, body))
    with pytest.raises(BadRequestError):
        await client.chat.parse("where?", City)
    assert forms(server) == FORMS
    with pytest.raises(BadRequestError):
        await client.chat.parse("where?", City)
    assert forms(server)[5:] == ["json_object"]


@pytest.mark.parametrize(
    ("refusal", "kind", "requests"),
    [
        (error(400, "temperature is too high", param="temperature"), BadRequestError, 1),
        (error(400, "Invalid schema for response_format 'City'"), BadRequestError, 1),
        (error(401, "response_format"), AuthenticationError, 1),
        (error(403, "response_format"), AuthenticationError, 1),
        (error(500, "response_format"), ServerError, 2),
        (error(503, "response_format"), ServerError, 3),
    ],
)
async def test_no_other_error_leads_to_another_form(
    client: AsyncClient, server: FaultServer, refusal: bytes, kind: type[Exception], requests: int
) -> None:
    """A wrong key is not tried five times; only the ordinary retries of the engine take place."""
    server.script(refusal)
    with pytest.raises(kind):
        await client.chat.parse("where?", City)
    assert forms(server) == ["json_schema"] * requests


async def test_a_timeout_leads_to_no_other_form(client: AsyncClient, server: FaultServer) -> None:
    """The call is over then."""
    server.script([Stall()])
    with pytest.raises(RequestTimeoutError):
        await client.chat.parse("where?", City, timeout=0.2)
    assert forms(server) == ["json_schema"]


@pytest.mark.parametrize("via", FORMS)
async def test_via_names_one_form(client: AsyncClient, server: FaultServer, via: Any) -> None:
    """It is used alone, whatever is remembered; a rejection is raised."""
    server.script(GOOD, error(400, "response_format guided_json nvext structured_outputs"))
    assert (await client.chat.parse("where?", City, via=via)).value == City("Ulm")
    with pytest.raises(BadRequestError):
        await client.chat.parse("where?", City, via=via)
    assert forms(server) == [via, via]
    told = "JSON schema" in server.requests[0].json["messages"][0]["content"]
    assert told is (via == "json_object")


async def test_retries_tell_the_model_what_was_wrong(client: AsyncClient, server: FaultServer) -> None:
    """Each time the answer and the problem are added to the conversation."""
    server.script(chat("no idea"), chat('{"name": 5}'), GOOD)
    parsed = await client.chat.parse("where?", City, retries=2)
    assert parsed.value == City("Ulm")
    assert len(server.requests) == 3
    messages = server.requests[2].json["messages"]
    assert [m["role"] for m in messages] == ["user", "assistant", "user", "assistant", "user"]
    assert messages[0]["content"] == "where?"
    assert messages[1]["content"] == "no idea"
    assert "the output is not JSON" in messages[2]["content"]
    assert messages[3]["content"] == '{"name": 5}'
    assert "at name: expected a string, got 5" in messages[4]["content"]


async def test_when_the_retries_are_used_up_the_last_problem_is_raised(
    client: AsyncClient, server: FaultServer
) -> None:
    """It carries text and path, and pickles."""
    server.script(chat("no idea"), chat('{"name": 5}'))
    with pytest.raises(OutputInvalidError) as caught:
        await client.chat.parse("where?", City, retries=1)
    assert len(server.requests) == 2
    assert (caught.value.text, caught.value.path) == ('{"name": 5}', "name")
    assert pickle.loads(pickle.dumps(caught.value)).path == "name"


@pytest.mark.parametrize(
    ("message", "finish", "kind", "text"),
    [
        ({"content": '{"name": "U'}, "length", OutputTruncatedError, '{"name": "U'),
        ({"content": None, "refusal": "No."}, "stop", OutputRefusedError, "No."),
    ],
)
async def test_truncation_and_refusal_are_not_asked_again(
    client: AsyncClient, server: FaultServer, message: Any, finish: str, kind: Any, text: str
) -> None:
    """The same would come of it."""
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}
    server.script(answer(chat_body(choices=[choice])))
    with pytest.raises(kind) as caught:
        await client.chat.parse("where?", City, retries=3)
    assert caught.value.text == text
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        ((bytes,), {}, "bytes has no form in JSON"),
        ((City,), {"via": "xml"}, "via is 'xml'; choose one of json_schema"),
        ((City,), {"retries": -1}, "retries is -1"),
        ((City,), {"response_format": {"type": "text"}}, "sets response_format itself"),
    ],
)
async def test_bad_input_is_found_before_anything_is_sent(
    client: AsyncClient, server: FaultServer, arguments: Any, options: Any, words: str
) -> None:
    """A ConfigurationError, and no request."""
    with pytest.raises(ConfigurationError, match=words):
        await client.chat.parse("where?", *arguments, **options)
    with pytest.raises(TypeError, match=r"chat\.parse\(\) got an unexpected option 'temperatur'"):
        await client.chat.parse("where?", City, temperatur=1)  # type: ignore[call-arg]
    assert not server.requests


SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


@pytest.mark.parametrize(
    "form",
    [
        City,
        Trip,
        Pair,
        Movie,
        Color,
        Literal["x", "y"],
        City | Trip,
        int | None,
        list[City],
        dict[str, int],
        SCHEMA,
        str,
    ],
)
@pytest.mark.parametrize("via", [None, "json_schema", "structured_outputs"])
async def test_every_kind_of_type_is_answered_by_a_server_that_obeys_the_schema(form: Any, via: Any) -> None:
    """Against the simulator, which builds its answers from the schema alone."""
    async with Simulator() as simulator, AsyncClient(base_url=simulator.base_url) as client:
        parsed = await client.chat.parse("Which of the two, 7 or Ulm?", form, via=via)
    if isinstance(form, type) and form is not Movie:
        assert isinstance(parsed.value, form)
    assert json.dumps(parsed.to_dict())


async def test_json_object_works_as_an_option_too() -> None:
    """chat.create passes response_format on as it is."""
    async with Simulator() as simulator, AsyncClient(base_url=simulator.base_url) as client:
        reply = await client.chat.create("say it", response_format={"type": "json_object"})
    assert isinstance(json.loads(reply.text), dict)


async def test_a_cut_off_output_of_the_simulator() -> None:
    """max_tokens ends the JSON early."""
    model = "meta/llama-3.1-8b-instruct"  # the default model would still be reasoning
    async with Simulator() as simulator, AsyncClient(base_url=simulator.base_url, model=model) as client:
        with pytest.raises(OutputTruncatedError) as caught:
            await client.chat.parse("Ulm", City, max_tokens=2)
    assert caught.value.text.startswith("{")


def test_the_blocking_client_parses(nim_simulator_url: str) -> None:
    """The same without await."""
    with Client(base_url=nim_simulator_url) as client:
        assert isinstance(client.chat.parse("Ulm", City).value, City)
