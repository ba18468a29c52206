"""chat.parse_stream yields values of the type that only grow, for any division of the answer, and ends as `parse` does."""

import asyncio
import dataclasses
import datetime
import enum
import itertools
import json
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple, NotRequired, TypedDict

import attrs
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimclient import AsyncClient, Client, ParseStream, SyncParseStream
from nimclient.errors import (
    BadRequestError,
    ConfigurationError,
    ConnectionLostError,
    OutputInvalidError,
    OutputRefusedError,
    OutputTruncatedError,
    StreamInterruptedError,
)
from nimclient.testing import FakeTransport
from support.server import FaultServer
from support.wire import DONE, MODEL, STOP, error, stream, token


@attrs.frozen
class City:
    name: str
    districts: list[str]


class Color(enum.Enum):
    RED = "red"
    DARK_RED = "dark red"


@attrs.frozen
class Part:
    label: str
    count: int


@attrs.frozen
class Order:
    color: Color
    title: str
    parts: list[Part]
    note: str | None = None
    urgent: bool = False


@dataclasses.dataclass
class Trip:
    to: City
    days: dict[str, list[str]]


class Pair(NamedTuple):
    first: str
    second: tuple[str, ...]


class Movie(TypedDict, total=False):
    year: int
    title: str


class Event(TypedDict):
    title: str
    place: NotRequired[str]


@attrs.frozen
class Cat:
    kind: Literal["cat"]
    name: str


@attrs.frozen
class Dog:
    kind: Literal["dog"]
    name: str


class Article(pydantic.BaseModel):
    title: str
    body: str
    tags: list[str] = []
    author: str | None = None


class Visit(pydantic.BaseModel):
    on: datetime.date
    guests: int
    remark: str


def events(pieces: Iterable[str], finish: str = "stop") -> list[dict[str, Any]]:
    """The events of a chat stream with these pieces of text."""
    deltas = [{"choices": [{"index": 0, "delta": {"content": piece}}]} for piece in pieces]
    return [*deltas, {"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]}]


def client_of(*answers: Any) -> AsyncClient:
    """A client whose requests are answered like this."""
    return AsyncClient(base_url="http://fake", model=MODEL, transport=FakeTransport(answers))


async def streamed(pieces: Iterable[str], form: Any) -> list[Any]:
    """All values of an answer that arrives in these pieces; the last one is that of final(), and of parse."""
    text = "".join(pieces)
    whole = {"choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]}
    async with client_of(events(pieces), whole) as client:
        values: list[Any] = []
        async with client.chat.parse_stream("?", form) as answer:
            async for value in answer:
                values.append(value)
        assert (await answer.final()).value is values[-1]
        assert values[-1] == (await client.chat.parse("?", form)).value
    return values


def grows(one: Any, other: Any) -> bool:
    """Whether a value is a beginning of another one."""
    if isinstance(one, str) and isinstance(other, str):
        return other.startswith(one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) <= len(other) and all(map(grows, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return all(key in other and grows(item, other[key]) for key, item in one.items())
    return type(one) is type(other) and bool(one == other)


def assert_growing(values: Sequence[Any]) -> None:
    for one, other in itertools.pairwise(values):
        assert grows(one, other), (one, other)


def cut(text: str, places: Iterable[int]) -> list[str]:
    """The text, cut at these places."""
    edges = [0, *sorted({place % (len(text) + 1) for place in places}), len(text)]
    return [text[start:end] for start, end in itertools.pairwise(edges)]


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)
LAYOUTS = st.fixed_dictionaries({"ensure_ascii": st.booleans(), "indent": st.sampled_from([None, 1])})


@given(document=JSON, layout=LAYOUTS, places=st.lists(st.integers(0, 2**16), max_size=30))
def test_any_division_of_any_json_grows_to_the_whole(document: Any, layout: Any, places: list[int]) -> None:
    """Each value is a beginning of the next one, and the last is what json.loads gives."""
    values = asyncio.run(streamed(cut(json.dumps({"value": document}, **layout), places), Any))
    assert_growing(values)
    assert values[-1] == document


@pytest.mark.slow
@given(document=JSON, layout=LAYOUTS)
def test_character_by_character_it_grows_to_the_whole(document: Any, layout: Any) -> None:
    """The same for pieces of one character, below a key."""
    values = asyncio.run(streamed(list(json.dumps({"value": {"": document}}, **layout)), Any))
    assert_growing(values)
    assert values[0] == {}
    assert values[-1] == {"": document}


def shown(values: Iterable[Any]) -> list[Any]:
    """The values without repetitions."""
    result: list[Any] = []
    for value in values:
        if not result or value != result[-1]:
            result.append(value)
    return result


@pytest.mark.parametrize(
    ("text", "form", "expected"),
    [
        (
            '{"name":"Ul|m","dist|ricts":["A|lt"|,"|Neu"]|}',
            City,
            [City("Ul", []), City("Ulm", []), City("Ulm", ["A"]), City("Ulm", ["Alt"]), City("Ulm", ["Alt", ""])]
            + [City("Ulm", ["Alt", "Neu"])],
        ),
        (
            '{"color":"dark| red"|,"title":"T"|,"parts":[{"label":"a"|,"count":1|2}|],"note":"n|","urgent":true}',
            Order,
            [Order(Color.DARK_RED, "T", [Part("a", 12)], "n", True)],  # no bool is empty
        ),
        (
            '{"to":{"name":"U|lm","districts":[]},"days":{"M|o":["a|"]}}',
            Trip,
            [Trip(City("U", []), {}), Trip(City("Ulm", []), {}), Trip(City("Ulm", []), {"Mo": ["a"]})],
        ),
        ('{"first":"a|b","second":["x|"]}', Pair, [Pair("a", ()), Pair("ab", ("x",))]),
        ('{"year":19|99,"title":"M|"}', Movie, [{}, {"year": 1999, "title": "M"}]),
        ('{"title":"a|b","place":"c|"}', Event, [{"title": "a"}, {"title": "ab", "place": "c"}]),
        ('{"value":["a|b","c|d"]|}', set[str], [set(), {"ab"}, {"ab", "cd"}]),
        ('{"value":["a|",1|2]}', tuple[str, int], [("a", 12)]),
        ('{"value":["a|","b|"]}', tuple[str, str], [("a", ""), ("a", "b")]),
        ('{"value":"so|me| text"}', str, ["so", "some", "some text"]),
        ('{"value":"a\n|b\t\\"c|"}', str, ["a\n", 'a\nb\t"c']),
        ('{"value":"dark| red"}', Color, [Color.DARK_RED]),
        ('{"value":"no|ne"}', Literal["none", "some"], ["none"]),
        ('{"value":1|2}', int, [12]),
        ('{"value":"2026-11-2|6"}', datetime.date, [datetime.date(2026, 11, 26)]),
        ('{"value":"a|b"}', str | int, ["a", "ab"]),
        ('{"value":"2026-11-2|6x"}', datetime.date | str, ["2026-11-26x"]),
        ('{"value":{"kind":"do|g","name":"R|ex"}}', Cat | Dog, [Dog("dog", "R"), Dog("dog", "Rex")]),
        ('{"value":[{"kind":"cat","na|me":"T|om"},|{"ki|nd":"dog","name":"R|ex"}]}', list[Cat | Dog], "cats and dogs"),
        ('{"value":nu|ll}', str | None, [None]),
        ('{"title":"T|","body":"B|b","tags":["x|"],"author":"M|e"}', Article, "an article"),
        ('{"on":"2026-11-2|6","guests":1|2,"remark":"l|ate"}', Visit, "a visit"),
        (
            '{"a":"x|y","n":1|2,"c":{"d":[tru|e]}}',
            {"type": "object", "properties": {"a": {"type": "string"}}},
            [{"a": "x"}, {"a": "xy"}, {"a": "xy", "n": 12, "c": {"d": []}}, {"a": "xy", "n": 12, "c": {"d": [True]}}],
        ),
        (
            '{"a":"x|y","b":"z|"}',
            {"type": "object", "properties": {"a": {"enum": ["xy"]}, "b": {"type": ["string", "null"]}}},
            [{}, {"a": "xy", "b": "z"}],
        ),
    ],
)
async def test_what_is_yielded_of_each_form(text: str, form: Any, expected: Any) -> None:
    """A value comes when it can be one of its type, with empty values for what is missing; a bar is the end of a piece."""
    found = shown(await streamed(text.split("|"), form))
    tom, article = Cat("cat", "Tom"), Article(title="T", body="")
    named = {
        "cats and dogs": [[Cat("cat", "")], [Cat("cat", "T")], [tom], [tom, Dog("dog", "R")], [tom, Dog("dog", "Rex")]],
        "an article": [
            article,
            Article(title="T", body="B"),
            Article(title="T", body="Bb", tags=["x"]),
            Article(title="T", body="Bb", tags=["x"], author="M"),
            Article(title="T", body="Bb", tags=["x"], author="Me"),
        ],
        "a visit": [
            Visit(on=datetime.date(2026, 11, 26), guests=12, remark="l"),
            Visit(on=datetime.date(2026, 11, 26), guests=12, remark="late"),
        ],
    }
    assert found == (named[expected] if isinstance(expected, str) else expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('```json\n{"name":"U|lm","districts":[]}\n```', ["U", "Ulm"]),
        ('~~~\n{"name":"U|lm","districts":[]}|\n~~~', ["U", "Ulm"]),
        ('<think>{"name":"no|"}</think>{"name":"U|lm","districts":[]}', ["U", "Ulm"]),
        ('Is it {"name":"Bonn"|}?</th|ink>\n|{"name":"U|lm","districts":[]}', ["U", "Ulm"]),
        ('{not |JSON}</think>{"name":"U|lm","districts":[]}', ["U", "Ulm"]),
        ('Here it is: {"name":"U|lm","districts":[]}', ["Ulm"]),
        (' |\n|`|`|`|js|on| |{"name":"U|lm","districts":[]}```', ["U", "Ulm"]),
    ],
)
async def test_reasoning_and_fences_are_no_part_of_the_value(text: str, expected: list[str]) -> None:
    """Values come from the JSON behind them; among other words it is known at the end only."""
    values = await streamed(text.split("|"), City)
    assert shown(city.name for city in values) == expected


async def test_half_escapes_and_half_characters_are_held_back() -> None:
    """A backslash, a part of an escape and half a surrogate pair are no text; a half without its pair becomes U+FFFD."""
    text = r'{"value":"a|\|n|\u0|0e|4|\ud83d|\ude|00|\ud83d|x|\ude00|"}'
    values = shown(await streamed(text.split("|"), str))
    whole = "a\nä😀\ufffdx\ufffd"
    assert values == [whole[:end] for end in (1, 2, 3, 4, 6, 7)]


@pytest.mark.parametrize(
    "text",
    [r'{"path": "App\Http\Middleware"}', '{"path": "App", }', '{"path": "App", "b": True}', '{"path": "App" "b"}'],
)
async def test_what_is_no_json_takes_nothing_back_and_is_an_error_at_the_end(text: str) -> None:
    """Escapes of paths, commas behind the last item, Python's words: what came before stays, and nothing raw is raised."""
    found: list[Any] = []
    async with client_of(events(list(text))) as client:
        with pytest.raises(OutputInvalidError):
            async for value in client.chat.parse_stream("?", {"type": "object"}):
                found.append(value)
    assert found[-1] == {"path": "App"}


async def test_every_value_is_an_object_of_its_own() -> None:
    """Lists and dicts that were yielded open do not change afterwards."""
    values = await streamed(['{"value":[["a', '"],["b', '"]]}'], list[list[str]])
    assert values[0] == [["a"]]
    values[0][0].append("changed")
    assert values[-1] == [["a"], ["b"]]


async def test_the_stream_is_used_like_a_chat_stream() -> None:
    """Unopened, opened by await, entered, closed; it has the answer so far and the exchange."""
    answer = events(['{"name":"U', 'lm","districts":[]}'])
    async with client_of(answer, answer, answer) as client:
        unopened = client.chat.parse_stream("?", City)
        assert isinstance(unopened, ParseStream)
        assert (unopened.meta, unopened.partial) == (None, None)
        opened = await unopened
        assert await anext(opened) == City("U", [])
        assert opened.partial is not None
        assert opened.partial.text == '{"name":"U'
        assert opened.meta is not None
        await opened.aclose()
        assert (await client.chat.parse_stream("?", City).final()).value == City("Ulm", [])
        async with client.chat.parse_stream("?", City) as entered:
            async for _ in entered:
                break
            assert (await entered.final()).value == City("Ulm", [])
            with pytest.raises(RuntimeError, match="read to its end"):
                aiter(entered)
            assert await anext(entered, None) is None


@pytest.mark.parametrize(
    ("form", "text"), [(City, "[]"), (City, "```json\n[1]"), (int, "[1]"), (list[int], '{"a":1}'), (Color, "{")]
)
async def test_an_answer_that_begins_with_another_bracket(form: Any, text: str) -> None:
    """A list where an object is asked for (TensorRT #4855 ignores the schema) is invalid output, in whatever pieces."""
    for pieces in ([text], list(text)):
        async with client_of(events(pieces)) as client:
            with pytest.raises(OutputInvalidError):
                _ = [value async for value in client.chat.parse_stream("?", form)]


async def test_errors_of_the_answer_come_at_the_end_as_from_parse() -> None:
    """After the values so far: invalid, truncated or refused output."""
    refused = [{"choices": [{"index": 0, "delta": {"refusal": "no"}, "finish_reason": "stop"}]}]
    for answer, problem, count in (
        (events(['{"name":"U', 'lm"}']), OutputInvalidError, 1),
        (events(['{"name":"U', "lm"], "length"), OutputTruncatedError, 2),
        (events(['{"name":"U', 'lm","x":1}']), OutputInvalidError, 1),
        (refused, OutputRefusedError, 0),
    ):
        async with client_of(answer) as client:
            answered = client.chat.parse_stream("?", City)
            values: list[City] = []
            with pytest.raises(problem):
                async for value in answered:
                    values.append(value)
            assert len(values) == count
            with pytest.raises(problem):
                await answered.final()


async def test_an_interrupted_stream_has_its_partial_answer() -> None:
    """The error of a lost connection carries the answer so far."""
    lost = [*events(['{"name":"U'])[:1], ConnectionLostError("lost", phase="body")]
    async with client_of(lost) as client:
        with pytest.raises(StreamInterruptedError) as caught:
            async for city in client.chat.parse_stream("?", City):
                assert city == City("U", [])
    assert caught.value.partial is not None
    assert caught.value.partial.text == '{"name":"U'


async def test_a_rejected_form_is_followed_by_the_next_and_remembered(client: AsyncClient, server: FaultServer) -> None:
    """Opening the stream tries the forms of `parse`, and knows what either of them learned."""
    answer = stream(token('{"name":"Ulm","districts":[]}'), STOP, DONE)
    server.script(error(400, "not supported", param="response_format"), answer, answer, error(400, "no"))
    for _ in range(2):
        assert (await client.chat.parse_stream("?", City).final()).value == City("Ulm", [])
    forms = [request.json.keys() & {"response_format", "guided_json"} for request in server.requests]
    assert forms == [{"response_format"}, {"guided_json"}, {"guided_json"}]
    assert all(request.json["stream"] for request in server.requests)
    with pytest.raises(BadRequestError):
        await client.chat.parse_stream("?", City)


async def test_bad_input_raises_before_anything_is_sent(client: AsyncClient, server: FaultServer) -> None:
    """A type without a schema, an option that the output sets itself, unknown options and forms."""
    call: Any = client.chat.parse_stream
    with pytest.raises(ConfigurationError):
        call("?", complex)
    with pytest.raises(ConfigurationError, match="response_format"):
        call("?", City, response_format={})
    with pytest.raises(TypeError, match="retries"):
        call("?", City, retries=2)
    with pytest.raises((ConfigurationError, TypeError)):
        call("?", City, via="xml")
    with pytest.raises(ConfigurationError):
        call([], City)
    assert server.requests == []


async def test_the_value_of_an_answer_in_one_piece(client: AsyncClient, server: FaultServer) -> None:
    """A server that ignores `stream` gives the last value only."""
    from support.wire import chat

    server.script(chat('{"name":"Ulm","districts":[]}'))
    assert [city async for city in client.chat.parse_stream("?", City)] == [City("Ulm", [])]


def test_the_blocking_stream_yields_the_same() -> None:
    """Values, the end, and the types' constructors in the reading thread."""
    import threading

    made_in: set[str] = set()

    @attrs.frozen
    class Seen:
        name: str

        def __attrs_post_init__(self) -> None:
            made_in.add(threading.current_thread().name)

    transport = FakeTransport([events(['{"name":"U', 'lm"}'])] * 2)
    with Client(base_url="http://fake", model=MODEL, transport=transport) as client:
        with client.chat.parse_stream("?", Seen) as answer:
            assert isinstance(answer, SyncParseStream)
            assert [seen.name for seen in answer] == ["U", "Ulm"]
        assert answer.final().value == Seen("Ulm")
        assert answer.partial is not None
        assert answer.meta is not None
        assert client.chat.parse_stream(iter([("user", "?")]), Seen).final().value == Seen("Ulm")
    assert made_in == {threading.current_thread().name}
