"""chat.conversation: history per session in a mapping, of completed turns only."""

import asyncio
import contextlib
import gc
import json
from collections.abc import Callable, Iterator, MutableMapping
from typing import Any
from unittest.mock import patch

import anyio
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from nimclient import AsyncClient, Conversation, Message, RetryPolicy
from nimclient.errors import (
    BadRequestError,
    ConfigurationError,
    ConnectionLostError,
    DecodeError,
    NimError,
    StreamFaultError,
    StreamInterruptedError,
)
from nimclient.testing import FakeTransport
from support.server import FaultServer, Pause, Stall
from support.wire import DONE, END, HELLO, ROLE, STOP, answer, chat, chat_body, chunk, error, head, stream, token

pytestmark = pytest.mark.usefixtures("virtual_time")

MakeClient = Callable[..., AsyncClient]


def said(messages: Any) -> list[tuple[str, Any]]:
    return [(m.role, m.content) if isinstance(m, Message) else (m["role"], m["content"]) for m in messages]


CALLING = {
    **chat_body(),
    "choices": [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}},
                    {"id": "c2", "type": "function", "function": {"name": "f", "arguments": "{}"}},
                ],
            },
            "finish_reason": "tool_calls",
        }
    ],
}


async def test_turns_build_on_each_other(server: FaultServer, client: AsyncClient) -> None:
    """Each turn sends what was said before it; messages has completed turns with the system message first."""
    server.script(chat("one"), chat("two"))
    talk = client.chat.conversation(system="be brief", temperature=0.5)
    assert said(talk.messages) == [("system", "be brief")]
    assert (await talk.send("a")).text == "one"
    assert (await talk.send("b", temperature=0.1)).text == "two"
    assert said(server.requests[1].json["messages"]) == [
        ("system", "be brief"),
        ("user", "a"),
        ("assistant", "one"),
        ("user", "b"),
    ]
    assert [r.json["temperature"] for r in server.requests] == [0.5, 0.1]
    assert said(talk.messages)[3:] == [("user", "b"), ("assistant", "two")]
    assert isinstance(talk.messages, tuple)


async def test_what_a_turn_may_begin_with(server: FaultServer, client: AsyncClient) -> None:
    """A turn begins with a str, one message as a record or a dict, or a list of messages."""
    server.script(chat("ok"))
    talk = client.chat.conversation(model="m2")
    await talk.send("a")
    await talk.send(Message("user", "b"))
    await talk.send({"role": "user", "content": "c"}, model="m3")
    await talk.send([("user", "d"), ("user", "e")])
    assert [m.content for m in talk.messages if m.role == "user"] == ["a", "b", "c", "d", "e"]
    assert [r.json["model"] for r in server.requests] == ["m2", "m2", "m3", "m2"]


async def test_tool_calls_and_results_are_part_of_it(server: FaultServer, client: AsyncClient) -> None:
    """An answer with tool calls is kept with them, and results are sent like any messages."""
    server.script(answer(CALLING), chat("done"))
    talk = client.chat.conversation()
    reply = await talk.send("go")
    await talk.send([Message("tool", "1", tool_call_id=call.id) for call in reply.tool_calls])
    assert [m["role"] for m in server.requests[1].json["messages"]] == ["user", "assistant", "tool", "tool"]
    assert server.requests[1].json["messages"][1]["tool_calls"][0]["id"] == "c1"
    assert talk.messages[1].tool_calls[0].name == "f"


async def test_reasoning_is_kept_where_it_is_echoed(server: FaultServer, client: AsyncClient) -> None:
    """The history has the reasoning of answers with echo_reasoning=True only."""
    body = chat_body("4")
    body["choices"][0]["message"]["reasoning"] = "2+2"
    server.script(answer(body))
    for echo, expected in ((None, None), (True, "2+2")):
        talk = client.chat.conversation(echo_reasoning=echo)
        await talk.send("a")
        await talk.send("b")
        assert talk.messages[1].reasoning == expected
        assert server.requests[-1].json["messages"][1].get("reasoning") == expected


# streams --------------------------------------------------------------------------------


async def by_chunks(talk: Conversation) -> str:
    async with talk.stream("hi") as stream:
        return "".join([chunk.text async for chunk in stream])


async def by_text(talk: Conversation) -> str:
    return "".join([piece async for piece in talk.stream("hi").text_stream])


async def by_final(talk: Conversation) -> str:
    return (await talk.stream("hi").final()).text


@pytest.mark.parametrize("read", [by_chunks, by_text, by_final])
async def test_a_stream_that_is_read_to_its_end_is_a_turn(
    server: FaultServer, client: AsyncClient, read: Callable[[Conversation], Any]
) -> None:
    """However it is read, the completed answer of a stream is appended, once."""
    server.script(HELLO)
    talk = client.chat.conversation()
    assert await read(talk) == "Hello"
    assert said(talk.messages) == [("user", "hi"), ("assistant", "Hello")]


async def test_final_twice_is_one_turn(server: FaultServer, client: AsyncClient) -> None:
    """Asking for the final answer after reading it all changes nothing."""
    server.script(HELLO)
    talk = client.chat.conversation()
    async with talk.stream("hi") as stream:
        assert len([chunk async for chunk in stream])
        assert (await stream.final()).text == (await stream.final()).text == "Hello"
    assert len(talk.messages) == 2


async def test_a_stream_begins_when_it_is_opened(server: FaultServer, client: AsyncClient) -> None:
    """A stream that is made before another turn and opened after it continues that one."""
    server.script(chat("one"), HELLO)
    talk = client.chat.conversation()
    later = talk.stream("b")
    await talk.send("a")
    await later.final()
    assert said(server.requests[1].json["messages"]) == [("user", "a"), ("assistant", "one"), ("user", "b")]
    assert len(talk.messages) == 4


async def test_an_unread_stream_is_no_turn(server: FaultServer, client: AsyncClient) -> None:
    """Closed early, broken off, faulty or cut off, a stream leaves the history as it was, and the next turn may come."""
    begun = head() + chunk(ROLE) + chunk(token("Hel"))
    fault = chunk(b'data: {"error": {"message": "boom", "code": 500}}\n\n') + chunk(DONE) + END
    server.script([begun, Stall()], [begun, Pause(0.02), END], [begun, Pause(0.02), fault], HELLO)
    talk = client.chat.conversation(system="s")
    async with talk.stream("a") as opened:
        await anext(opened)
    with pytest.raises(StreamInterruptedError):
        await talk.stream("b").final()
    with pytest.raises(StreamFaultError):
        async for _ in talk.stream("c"):
            pass
    assert said(talk.messages) == [("system", "s")]
    assert (await talk.stream("d").final()).text == "Hello"
    assert said(server.requests[-1].json["messages"]) == [("system", "s"), ("user", "d")]


async def test_a_stream_that_does_not_open_is_no_turn(server: FaultServer, client: AsyncClient) -> None:
    """A rejected stream leaves the history as it was; it may be opened again."""
    server.script(error(400, "no"), HELLO)
    talk = client.chat.conversation()
    stream = talk.stream("a")
    with pytest.raises(BadRequestError):
        await stream
    assert talk.messages == ()
    assert (await stream.final()).text == "Hello"
    assert len(talk.messages) == 2


async def test_a_dropped_stream_blocks_nothing(server: FaultServer, client: AsyncClient) -> None:
    """After a stream was opened and forgotten the next turn may begin."""
    server.script([head() + chunk(ROLE) + chunk(token("Hel")), Stall()], chat("ok"))
    talk = client.chat.conversation()
    with pytest.warns(ResourceWarning, match="not closed"):  # noqa: PT031  # by the collector
        async for _ in talk.stream("a"):
            break
        gc.collect()
    await talk.send("b")
    assert said(talk.messages) == [("user", "b"), ("assistant", "ok")]


async def test_bad_input_of_a_stream_raises_at_once(client: AsyncClient) -> None:
    """What cannot be sent raises where the stream is made."""
    talk = client.chat.conversation()
    with pytest.raises(ConfigurationError):
        talk.stream([])
    with pytest.raises(TypeError, match="temperatur"):
        talk.stream("a", temperatur=1)  # type: ignore[call-arg]


# one at a time --------------------------------------------------------------------------------


async def test_failed_turns_leave_the_history_as_it_was(server: FaultServer, client: AsyncClient) -> None:
    """A rejection, an answer without a choice, bad input and a cancellation are no turns."""
    server.script(
        chat("one"), error(400, "no"), answer({**chat_body(), "choices": []}), [Pause(5), chat()], chat("two")
    )
    talk = client.chat.conversation()
    await talk.send("a")
    with pytest.raises(BadRequestError):
        await talk.send("b")
    assert (await talk.send("c")).choices == ()
    with pytest.raises(ConfigurationError):
        await talk.send([])
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await talk.send("d")
    assert said(talk.messages) == [("user", "a"), ("assistant", "one")]
    await talk.send("e")
    assert len(talk.messages) == 4


async def test_two_turns_at_once_are_refused(server: FaultServer, client: AsyncClient) -> None:
    """While a turn is in flight, another one and trimming are a RuntimeError; other conversations are free."""
    server.script([Pause(0.1), chat("ok")])
    talk = client.chat.conversation()
    first = asyncio.ensure_future(talk.send("a"))
    await asyncio.sleep(0.02)
    with pytest.raises(RuntimeError, match="in flight"):
        await talk.send("b")
    with pytest.raises(RuntimeError, match="in flight"):
        await talk.stream("b")
    with pytest.raises(RuntimeError, match="in flight"):
        talk.trim(1)
    await client.chat.conversation().send("c")
    await first
    assert said(talk.messages) == [("user", "a"), ("assistant", "ok")]


async def test_an_open_stream_is_a_turn_under_way(server: FaultServer, client: AsyncClient) -> None:
    """Until a stream is read to its end or closed, no other turn begins; reading it in two tasks does not end it."""
    server.script(stream(ROLE, token("Hel"), token("lo"), STOP, DONE), chat("ok"))
    talk = client.chat.conversation()
    async with talk.stream("a") as opened:
        with pytest.raises(RuntimeError, match="close that"):
            await talk.send("b")
    await talk.send("c")
    assert said(talk.messages) == [("user", "c"), ("assistant", "ok")]
    assert opened.partial is not None


async def test_two_readers_of_one_stream_do_not_end_the_turn(server: FaultServer, client: AsyncClient) -> None:
    """A second reader is rejected and the turn of the first continues, while opening and while reading."""
    server.script([Pause(0.05), head() + chunk(ROLE) + chunk(token("Hello")), Pause(0.1), chunk(STOP, DONE), END])
    talk = client.chat.conversation()
    stream = talk.stream("a")
    reader = asyncio.ensure_future(stream.final())
    await asyncio.sleep(0.02)
    with pytest.raises(RuntimeError, match="opened by another"):
        await stream
    await asyncio.sleep(0.08)
    with pytest.raises(RuntimeError, match="read by another"):  # once what is there is read
        while True:
            await anext(stream)
    await reader
    assert said(talk.messages) == [("user", "a"), ("assistant", "Hello")]


# stores --------------------------------------------------------------------------------


class Recorder(MutableMapping[str, list[dict[str, Any]]]):
    """A store like one on disk: values are copied in and out, only whole ones."""

    def __init__(self) -> None:
        self.data: dict[str, str] = {}
        self.writes = 0

    def __getitem__(self, key: str) -> list[dict[str, Any]]:
        value: list[dict[str, Any]] = json.loads(self.data[key])
        return value

    def __setitem__(self, key: str, value: list[dict[str, Any]]) -> None:
        self.writes += 1
        self.data[key] = json.dumps(value)

    def __delitem__(self, key: str) -> None:
        del self.data[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.data)

    def __len__(self) -> int:
        return len(self.data)


async def test_a_store_holds_many_sessions(server: FaultServer, client: AsyncClient) -> None:
    """Several sessions share one mapping as lists of wire messages, and continue in another conversation."""
    server.script(chat("ok"))
    store: dict[str, list[dict[str, Any]]] = {}
    await client.chat.conversation("s", store, "ann").send("a")
    before = store["ann"]
    await client.chat.conversation(store=store, session_id="bob").send("b")
    again = client.chat.conversation(store=store, session_id="ann")
    await again.send("c")
    assert said(store["ann"]) == [
        ("system", "s"),
        ("user", "a"),
        ("assistant", "ok"),
        ("user", "c"),
        ("assistant", "ok"),
    ]
    assert said(store["bob"]) == [("user", "b"), ("assistant", "ok")]
    assert len(before) == 3  # lists are replaced, not changed
    assert again.session_id == "ann"


async def test_a_store_may_be_on_disk(server: FaultServer, client: AsyncClient) -> None:
    """A store gets one write a completed turn, and none for anything else."""
    server.script(chat("ok"), error(400, "no"))
    store = Recorder()
    talk = client.chat.conversation("s", store, "x")
    assert store.writes == 0
    await talk.send("a")
    with pytest.raises(BadRequestError):
        await talk.send("b")
    assert store.writes == 1
    assert len(client.chat.conversation(store=store, session_id="x").messages) == 3


async def test_a_given_system_message_stands_for_the_stored_one(server: FaultServer, client: AsyncClient) -> None:
    """A session continues under a new system message, or under its own where none is given."""
    server.script(chat("ok"))
    store: dict[str, list[dict[str, Any]]] = {"x": [{"role": "user", "content": "a"}]}
    await client.chat.conversation("one", store, "x").send("b")
    await client.chat.conversation("two", store, "x").send("c")
    await client.chat.conversation(None, store, "x").send("d")
    assert [m["content"] for m in store["x"] if m["role"] == "system"] == ["two"]
    assert said(store["x"])[0] == ("system", "two")


def test_each_conversation_has_a_session_of_its_own(client: AsyncClient) -> None:
    """Without a session_id a new one is made up."""
    store: dict[str, list[dict[str, Any]]] = {}
    first, second = client.chat.conversation(store=store), client.chat.conversation(store=store)
    assert first.session_id != second.session_id
    assert first.session_id in repr(first)


def test_arguments_are_checked(client: AsyncClient) -> None:
    """Wrong arguments raise where the conversation is made."""
    conversation: Any = client.chat.conversation
    with pytest.raises(ConfigurationError, match="system"):
        conversation("")
    with pytest.raises(ConfigurationError, match="system"):
        conversation(5)
    with pytest.raises(TypeError, match="store"):
        conversation(store=[])
    with pytest.raises(TypeError, match="session_id"):
        conversation(session_id=5)
    with pytest.raises(TypeError, match="temperatur"):
        conversation(temperatur=1)


# trimming and saving --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "kept"),
    [
        (0, ["s"]),
        (1, ["s", "4"]),
        (2, ["s", "3", "4"]),
        (3, ["s", "2", "3", "4"]),
        (4, ["s", "1", "2", "3", "4"]),
        (9, ["s", "1", "2", "3", "4"]),
    ],
)
def test_trimming_keeps_the_last_messages(client: AsyncClient, count: int, kept: list[str]) -> None:
    """trim(n) keeps n messages beside the system message."""
    roles = ["user", "assistant", "user", "assistant"]
    store = {"x": [{"role": role, "content": str(n + 1)} for n, role in enumerate(roles)]}
    talk = client.chat.conversation("s", store, "x")
    talk.trim(count)
    assert [m.content for m in talk.messages] == kept


def test_trimming_never_orphans_a_tool_result(client: AsyncClient) -> None:
    """Results whose call is cut off go with it."""
    calls = [{"id": f"c{n}", "type": "function", "function": {"name": "f", "arguments": "{}"}} for n in range(2)]
    history = [
        {"role": "developer", "content": "s"},
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "content": "1", "tool_call_id": "c0"},
        {"role": "tool", "content": "2", "tool_call_id": "c1"},
        {"role": "assistant", "content": "b"},
    ]
    for count, kept in ((5, 6), (4, 5), (3, 2), (2, 2), (1, 2)):
        talk = client.chat.conversation(store={"x": list(history)}, session_id="x")
        talk.trim(count)
        assert len(talk.messages) == kept
        assert talk.messages[1].role != "tool"
    talk = client.chat.conversation(store={"x": history[:5]}, session_id="x")
    talk.trim(1)
    assert [m.role for m in talk.messages] == ["developer"]


@pytest.mark.parametrize("count", [-1, 1.5, True])
def test_trimming_takes_a_number(client: AsyncClient, count: Any) -> None:
    """A number of messages is a whole one."""
    with pytest.raises(ConfigurationError):
        client.chat.conversation().trim(count)


async def test_json_and_back(server: FaultServer, client: AsyncClient) -> None:
    """A conversation saved as JSON continues over another client, with its session id and messages."""
    server.script(answer(CALLING), chat("done"))
    talk = client.chat.conversation("s", session_id="x", temperature=0.5)
    await talk.send("go")
    text = talk.to_json()
    store: dict[str, list[dict[str, Any]]] = {}
    copy = Conversation.from_json(text, client, store=store, model="m2", temperature=0.1)
    assert (copy.session_id, copy.messages) == ("x", talk.messages)
    assert copy.to_json() == text
    assert list(store) == ["x"]
    await copy.send([Message("tool", "1", tool_call_id="c1"), Message("tool", "2", tool_call_id="c2")])
    assert (server.requests[1].json["model"], server.requests[1].json["temperature"]) == ("m2", 0.1)
    assert len(copy.messages) == 6
    assert len(talk.messages) == 3


def test_an_empty_conversation_is_saved_too(client: AsyncClient) -> None:
    """Nothing said is nothing saved but the session id."""
    text = client.chat.conversation(session_id="x").to_json()
    assert json.loads(text) == {"session_id": "x", "messages": []}
    assert Conversation.from_json(text, client).messages == ()


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("no json", DecodeError),
        ("[]", ConfigurationError),
        ('{"session_id": 1, "messages": []}', ConfigurationError),
        ('{"session_id": "x", "messages": {}}', ConfigurationError),
        ('{"session_id": "x", "messages": [{"content": "a"}]}', ConfigurationError),
    ],
)
def test_other_text_is_no_conversation(client: AsyncClient, text: str, kind: type[Exception]) -> None:
    """Text that to_json did not write is rejected."""
    with pytest.raises(kind):
        Conversation.from_json(text, client)


@pytest.mark.parametrize(
    ("arguments", "sent"),
    [
        ('{"path": "a', "{}"),
        ("{", "{}"),
        ("", "{}"),
        ("null", "{}"),
        ("[1]", "{}"),
        ('{"a":1}', '{"a":1}'),
        ('"{\\"a\\":1}"', '{"a":1}'),
    ],
)
async def test_unusable_arguments_do_not_end_a_conversation(arguments: str, sent: str) -> None:
    """Arguments that a server would reject in the history go back as `{}`; the record keeps what the model wrote."""
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": arguments}}
    reply = {"choices": [{"message": {"content": None, "tool_calls": [call]}, "finish_reason": "tool_calls"}]}
    transport = FakeTransport(lambda request: reply)
    client = AsyncClient(base_url="http://fake", model="m", transport=transport)
    talk = client.chat.conversation()
    first = await talk.send("hi")
    assert first.tool_calls[0].arguments == arguments
    result = {"role": "tool", "tool_call_id": "a", "content": "none"}
    await talk.send(result)
    assert first.message is not None
    await client.chat.create([("user", "hi"), first.message, result])
    for request in transport.requests[1:]:
        assert request.json["messages"][1]["tool_calls"][0]["function"]["arguments"] == sent


# in any order --------------------------------------------------------------------------------


class Talking(RuleBasedStateMachine):
    """Turns that succeed, fail, break and are cancelled, trims and crashes, in any order; `model` is what was completed."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: list[Any] = []
        transport = FakeTransport(lambda request: self.answers.pop(0))
        retry = RetryPolicy(attempts=1)
        self.client = AsyncClient(base_url="http://fake", model="m", transport=transport, retry=retry)
        self.transport = transport
        self.store = Recorder()
        self.model: list[tuple[str, Any]] = []
        self.turns = 0

    @initialize(system=st.none() | st.just("be brief"))
    def begin(self, system: str | None) -> None:
        self.system = system
        self.talk = self.client.chat.conversation(system, self.store, "x")
        self.model = [("system", system)] if system else []

    def text(self) -> str:
        self.turns += 1
        return f"{self.turns}"

    def completed(self, text: str) -> None:
        self.model += [("user", text), ("assistant", f"re {text}")]

    @rule(streaming=st.booleans())
    def turn(self, streaming: bool) -> None:
        text = self.text()
        events = [event(part) for part in ("re ", text)]
        self.answers = [[*events, event(None, "stop")] if streaming else chat_body(f"re {text}")]
        reply = self.talk.stream(text).final() if streaming else self.talk.send(text)
        anyio.run(lambda: reply)
        sent = self.transport.requests[-1].json
        assert said(sent["messages"]) == [*self.model, ("user", text)]
        self.completed(text)

    @rule(how=st.sampled_from([400, 500, ConnectionLostError("gone", phase="body")]), streaming=st.booleans())
    def failing_turn(self, how: Any, streaming: bool) -> None:
        self.answers = [how]
        text = self.text()
        reply = self.talk.stream(text).final() if streaming else self.talk.send(text)
        with pytest.raises(NimError):
            anyio.run(lambda: reply)

    @rule(read=st.integers(0, 3))
    def broken_stream(self, read: int) -> None:
        """A stream that breaks, or that its reader leaves, after so many chunks."""
        self.answers = [[event("a"), event("b"), event("c"), ConnectionLostError("gone", phase="body")]]

        async def leave() -> None:
            async with self.talk.stream(self.text()) as stream:
                for _ in range(read):
                    await anext(stream)
                if read == 3:
                    await stream.final()

        with contextlib.nullcontext() if read < 3 else pytest.raises(StreamInterruptedError):
            anyio.run(leave)

    @rule()
    def cancelled_turn(self) -> None:
        async def give_up() -> None:
            with anyio.move_on_after(0):
                await self.talk.send(self.text())

        self.answers = [anyio.sleep_forever()]
        anyio.run(give_up)

    @rule()
    def full_disk(self) -> None:
        """Where the store cannot take a turn, its error is raised, and the history is as it was."""
        self.answers = [chat_body("unheard")]
        with patch.object(Recorder, "__setitem__", side_effect=OSError("full")), pytest.raises(OSError, match="full"):
            anyio.run(lambda: self.talk.send(self.text()))

    @rule(count=st.integers(0, 6))
    def trim(self, count: int) -> None:
        self.talk.trim(count)
        head = 1 if self.system else 0
        self.model = self.model[:head] + self.model[max(head, len(self.model) - count) :]

    @rule(by_json=st.booleans())
    def crash(self, by_json: bool) -> None:
        """Another process continues with what is on disk, or with what was saved as JSON."""
        if by_json:
            text = self.talk.to_json()
            self.store = Recorder()
            self.talk = Conversation.from_json(text, self.client, store=self.store)
        else:
            self.talk = self.client.chat.conversation(self.system, self.store, "x")

    @invariant()
    def the_history_is_the_model(self) -> None:
        if hasattr(self, "talk"):
            assert said(self.talk.messages) == self.model
            assert said(self.store.get("x", [])) in (self.model, [])


def event(text: str | None, finish: str | None = None) -> dict[str, Any]:
    delta = {} if text is None else {"content": text}
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


TestTalking = Talking.TestCase
TestTalking.settings = settings(max_examples=max(settings().max_examples // 4, 10), stateful_step_count=15)
