"""chat.run_tools: the conversation it leads, errors on the way, concurrent calls, and its ends."""

import asyncio
import json
import pickle
import threading
from typing import Any

import anyio
import pytest

from nimclient import AsyncClient, Client, tool
from nimclient.errors import BadRequestError, ConfigurationError, DecodeError, RequestTimeoutError, ToolError
from nimclient.simulator import Simulator
from support.server import FaultServer, Stall
from support.wire import answer, chat, chat_body, error

pytestmark = pytest.mark.usefixtures("virtual_time")


def calling(*calls: tuple[str, Any], finish: str = "tool_calls", ids: bool = True, text: str | None = None) -> bytes:
    """An answer that calls these tools."""
    made = [
        {
            "id": f"id-{number}" if ids else "",
            "type": "function",
            "function": {"name": name, "arguments": arguments if isinstance(arguments, str) else json.dumps(arguments)},
        }
        for number, (name, arguments) in enumerate(calls)
    ]
    message = {"role": "assistant", "content": text, "tool_calls": made}
    return answer(chat_body(choices=[{"index": 0, "message": message, "finish_reason": finish}]))


def add(a: int, b: int) -> int:
    """Add."""
    return a + b


async def fail(why: str) -> None:
    """Fail."""
    raise LookupError(why)


async def test_the_model_hears_the_results_and_answers(client: AsyncClient, server: FaultServer) -> None:
    """Specs go with every request; the transcript is the whole conversation."""
    server.script(calling(("add", {"a": 1, "b": 2})), chat("three"))
    run = await client.chat.run_tools([("system", "count"), ("user", "1+2?")], [add], temperature=0)
    assert run.completion.text == "three"
    assert run.rounds == 2
    assert [(m.role, m.content) for m in run.messages] == [
        ("system", "count"),
        ("user", "1+2?"),
        ("assistant", None),
        ("tool", "3"),
        ("assistant", "three"),
    ]
    first, second = (request.json for request in server.requests)
    assert first["tools"] == second["tools"]
    assert first["tools"][0]["function"]["name"] == "add"
    assert first["temperature"] == second["temperature"] == 0
    assert second["messages"][2:] == [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "id-0", "type": "function", "function": {"name": "add", "arguments": '{"a": 1, "b": 2}'}}
            ],
        },
        {"role": "tool", "content": "3", "tool_call_id": "id-0"},
    ]
    server.script(chat("again"))
    assert (await client.chat.create([*run.messages, ("user", "sure?")])).text == "again"


async def test_an_answer_without_calls_is_the_end(client: AsyncClient, server: FaultServer) -> None:
    """One round, one request."""
    server.script(chat("no need"))
    run = await client.chat.run_tools("hi", [add])
    assert (run.rounds, run.completion.text, len(run.messages)) == (1, "no need", 2)


async def test_no_answer_at_all(client: AsyncClient, server: FaultServer) -> None:
    """An answer without a choice is an error, not a run that ended."""
    server.script(answer(chat_body(choices=[])))
    with pytest.raises(DecodeError, match="no choice"):
        await client.chat.run_tools("go", [add])


async def test_calls_of_one_answer_run_side_by_side(client: AsyncClient, server: FaultServer) -> None:
    """Coroutine functions on the loop, others in threads: each waits for the other to have begun. Order is kept."""
    barrier = threading.Barrier(2, timeout=60)
    here = threading.get_ident()
    first, second = asyncio.Event(), asyncio.Event()

    def threaded(n: int) -> str:
        barrier.wait()
        assert threading.get_ident() != here
        return f"thread {n}"

    async def on_loop(n: int) -> str:
        (first if n == 1 else second).set()
        await (second if n == 1 else first).wait()
        assert threading.get_ident() == here
        return f"loop {n}"

    calls = [("threaded", {"n": 1}), ("on_loop", {"n": 1}), ("threaded", {"n": 2}), ("on_loop", {"n": 2})]
    server.script(calling(*calls), chat("done"))
    run = await client.chat.run_tools("go", [threaded, on_loop])
    assert [m.text for m in run.messages if m.role == "tool"] == ["thread 1", "loop 1", "thread 2", "loop 2"]


async def test_a_plain_function_may_return_an_awaitable(client: AsyncClient, server: FaultServer) -> None:
    """It is awaited."""

    @tool(name="later")
    def give(n: int) -> Any:
        async def result() -> int:
            return n

        return result()

    server.script(calling(("later", {"n": 5})), chat("done"))
    run = await client.chat.run_tools("go", [give])
    assert run.messages[2].text == "5"


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (("fail", {"why": "no such page"}), "Error: the tool fail failed: LookupError: no such page"),
        (("subtract", {}), "Error: there is no tool 'subtract'; there are add, fail"),
        (("add", {"a": 1, "b": "two"}), "Error: argument b of add: expected an integer, got 'two'"),
        (("add", {"a": 1}), "Error: argument b of add: is missing"),
        (("add", '{"a": 1, '), "Error: the arguments of tool call 'add' are incomplete or not JSON"),
        (("add", "[1, 2]"), "Error: the arguments of tool call 'add' are not a JSON object"),
    ],
)
async def test_errors_are_told_to_the_model_or_raised(
    client: AsyncClient, server: FaultServer, call: Any, words: str
) -> None:
    """By default the model may mend its call; with on_tool_error="raise" there is a ToolError with the transcript."""
    server.script(calling(call), chat("sorry"))
    run = await client.chat.run_tools("go", [add, fail])
    assert run.messages[2].content == words
    json.loads(server.requests[1].json["messages"][1]["tool_calls"][0]["function"]["arguments"])
    server.script(calling(call), chat("sorry"))
    with pytest.raises(ToolError) as caught:
        await client.chat.run_tools("go", [add, fail], on_tool_error="raise")
    assert f"Error: {caught.value}" == words
    assert [m.role for m in caught.value.messages] == ["user", "assistant"]
    assert (caught.value.__cause__ is None) == (call[0] == "subtract" or call[1] == "[1, 2]")
    assert pickle.loads(pickle.dumps(caught.value)).messages == caught.value.messages


async def test_even_stop_iteration_is_an_error_of_the_tool(client: AsyncClient, server: FaultServer) -> None:
    """It must not stop anything of ours."""

    def stop() -> None:
        raise StopIteration("no more")

    server.script(calling(("stop", {})), chat("done"))
    run = await client.chat.run_tools("go", [stop])
    assert run.messages[2].text.startswith("Error: the tool stop failed: ")


async def test_the_first_error_cancels_the_other_calls(client: AsyncClient, server: FaultServer) -> None:
    """They are awaited, and no ExceptionGroup comes out."""
    ended = []

    async def slow() -> None:
        try:
            await anyio.sleep(30)
        finally:
            ended.append("slow")

    server.script(calling(("slow", {}), ("fail", {"why": "x"})), chat("done"))
    with pytest.raises(ToolError, match="LookupError: x"):
        await client.chat.run_tools("go", [slow, fail], on_tool_error="raise")
    assert ended == ["slow"]


async def test_cancellation_passes_through(client: AsyncClient, server: FaultServer) -> None:
    """A cancelled run is cancelled, not an error for the model."""

    async def slow() -> None:
        await anyio.sleep(30)

    server.script(calling(("slow", {}), ("slow", {})), chat("done"))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await client.chat.run_tools("go", [slow])
    assert len(server.requests) == 1


async def test_it_ends_after_max_rounds_with_the_transcript(client: AsyncClient, server: FaultServer) -> None:
    """The last answer's calls are not run: their results would be lost."""
    ran = []

    def again(n: int = 0) -> int:
        ran.append(n)
        return n

    server.script(calling(("again", "")))
    with pytest.raises(ToolError, match="still calls tools after 3 rounds") as caught:
        await client.chat.run_tools("go", [again], max_rounds=3)
    assert len(server.requests) == 3
    assert ran == [0, 0]
    assert [m.role for m in caught.value.messages] == ["user", "assistant", "tool", "assistant", "tool", "assistant"]


@pytest.mark.parametrize("on_tool_error", ["return", "raise"])
@pytest.mark.parametrize("arguments", ["", '{"a": 1, "b'])
async def test_arguments_that_were_cut_off_are_an_error(
    client: AsyncClient, server: FaultServer, arguments: str, on_tool_error: Any
) -> None:
    """Never an empty call, and never left to the model: it would be cut off again."""
    server.script(calling(("add", {"a": 1, "b": 1}), ("add", arguments), finish="length"), chat("done"))
    with pytest.raises(ToolError, match=r"token limit|incomplete") as caught:
        await client.chat.run_tools("go", [add], on_tool_error=on_tool_error)
    assert len(server.requests) == 1
    assert [m.role for m in caught.value.messages] == ["user", "assistant"]


async def test_complete_arguments_at_the_token_limit_are_good(client: AsyncClient, server: FaultServer) -> None:
    """The limit was reached right behind them."""
    server.script(calling(("add", {"a": 1, "b": 1}), finish="length"), chat("two"))
    assert (await client.chat.run_tools("go", [add])).messages[2].text == "2"


@pytest.mark.parametrize("finish", ["tool_calls", "function_call"])
async def test_an_answer_without_the_calls_that_it_announces(
    client: AsyncClient, server: FaultServer, finish: str
) -> None:
    """A server's parser that lost them makes no answer of an empty text (vLLM #54701)."""
    server.script(calling(("add", {"a": 1, "b": 2})), calling(finish=finish))
    with pytest.raises(ToolError, match=f"ends with '{finish}', but has no call") as caught:
        await client.chat.run_tools("go", [add])
    assert [m.role for m in caught.value.messages] == ["user", "assistant", "tool", "assistant"]


async def test_a_call_that_was_left_in_the_text(client: AsyncClient, server: FaultServer) -> None:
    """Without its parser a server shows calls as text: an answer, and one warning that names the parser."""
    server.script(chat('<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": 2}}\n</tool_call>'))
    with pytest.warns(UserWarning, match="--tool-call-parser") as warned:
        run = await client.chat.run_tools("go", [add])
    assert run.rounds == 1
    assert [w.filename for w in warned] == [__file__]
    await client.chat.run_tools("go", [add])


async def test_calls_without_ids_get_some(client: AsyncClient, server: FaultServer) -> None:
    """Results refer to calls by id, so old servers' calls are given one each."""
    server.script(calling(("add", {"a": 1, "b": 1}), ("add", {"a": 2, "b": 2}), ids=False), chat("done"))
    run = await client.chat.run_tools("go", [add])
    assert [call.id for call in run.messages[1].tool_calls] == ["call_1_0", "call_1_1"]
    assert [m.tool_call_id for m in run.messages[2:4]] == ["call_1_0", "call_1_1"]


async def test_ids_that_come_again_are_replaced(client: AsyncClient, server: FaultServer) -> None:
    """llama-server has one id for all calls, Kimi numbers those of a round (hermes-agent #70724, open-webui #28305)."""
    server.script(calling(("add", {"a": 1, "b": 1})), calling(("add", {"a": 2, "b": 2})), chat("done"))
    run = await client.chat.run_tools("go", [add])
    assert [m.tool_call_id for m in run.messages if m.role == "tool"] == ["id-0", "call_2_0"]
    server.script(calling(("add", {"a": 1, "b": 1}), ids=False), calling(("add", {"a": 1, "b": 1})), chat("done"))
    again = await client.chat.run_tools([*run.messages, ("user", "and?")], [add])
    answered = [m.tool_call_id for m in again.messages if m.role == "tool"]
    assert answered == ["id-0", "call_2_0", "call_1_0", "call_2_1"]
    assert [call.id for m in again.messages for call in m.tool_calls] == answered


async def test_a_server_that_wants_the_reasoning_back(client: AsyncClient, server: FaultServer) -> None:
    """The error of a server that requires it says how to send it (GitNexus #43, pi #3636)."""
    words = "The `reasoning_content` in the thinking mode must be passed back to the API."
    server.script(calling(("add", {"a": 1, "b": 1})), error(400, words))
    with pytest.raises(BadRequestError, match="pass echo_reasoning=True"):
        await client.chat.run_tools("go", [add])


@pytest.mark.parametrize(
    ("choice", "later"),
    [("required", "auto"), ("add", "auto"), (True, "auto"), ("auto", "auto"), (False, "none"), ("none", "none")],
)
async def test_a_forced_call_is_forced_once(client: AsyncClient, server: FaultServer, choice: Any, later: str) -> None:
    """Else the model could never answer."""
    server.script(calling(("add", {"a": 1, "b": 1})), chat("two"))
    await client.chat.run_tools("go", [add], tool_choice=choice)
    assert server.requests[1].json["tool_choice"] == later


async def test_reasoning_is_echoed_on_request(client: AsyncClient, server: FaultServer) -> None:
    """echo_reasoning holds for the answers of the run."""
    body = json.loads(calling(("add", {"a": 1, "b": 1})).partition(b"\r\n\r\n")[2])
    body["choices"][0]["message"]["reasoning"] = "hm"
    server.script(answer(body), chat("two"))
    await client.chat.run_tools("go", [add], echo_reasoning=True)
    assert server.requests[1].json["messages"][1]["reasoning"] == "hm"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tools": []}, "tools is empty"),
        ({"max_rounds": 0}, "max_rounds is 0"),
        ({"on_tool_error": "ignore"}, "on_tool_error is 'ignore'"),
    ],
)
async def test_bad_input_is_found_before_anything_is_sent(
    client: AsyncClient, server: FaultServer, options: Any, words: str
) -> None:
    """A ConfigurationError, and no request."""
    with pytest.raises(ConfigurationError, match=words):
        await client.chat.run_tools("go", **{"tools": [add], **options})
    with pytest.raises(TypeError, match=r"chat\.run_tools\(\) got an unexpected option"):
        await client.chat.run_tools("go", [add], temperatur=1)  # type: ignore[call-arg]
    assert not server.requests


async def test_a_time_limit_holds_for_each_request(client: AsyncClient, server: FaultServer) -> None:
    """Errors of the calls to the server are raised as they are."""
    server.script(calling(("add", {"a": 1, "b": 1})), [Stall()])
    with pytest.raises(RequestTimeoutError):
        await client.chat.run_tools("go", [add], timeout=0.3)


def weather(city: str) -> dict[str, Any]:
    """Tell the weather of a city.

    Args:
        city: its name
    """
    return {"city": city, "sky": "blue"}


async def test_a_run_against_the_simulator() -> None:
    """Tools in chat.create, chat.stream and run_tools; chosen by name; cut off by max_tokens."""
    model = "meta/llama-3.1-8b-instruct"  # the default model would still be reasoning
    async with Simulator() as simulator, AsyncClient(base_url=simulator.base_url, model=model) as client:
        run = await client.chat.run_tools("What is the weather in Ulm?", [weather])
        assert run.rounds == 2
        assert "blue" in run.completion.text
        reply = await client.chat.create("Ulm?", tools=[weather], tool_choice="weather")
        assert reply.tool_calls[0].parse() == {"city": "Ulm"}
        async with client.chat.stream("Ulm?", tools=[weather], tool_choice="required") as stream:
            final = await stream.final()
        assert final.tool_calls[0].parse() == {"city": "Ulm"}
        for cut in (
            await client.chat.create("Ulm?", tools=[weather], tool_choice="required", max_tokens=1),
            await client.chat.stream("Ulm?", tools=[weather], tool_choice="required", max_tokens=1).final(),
        ):
            assert cut.finish_reason == "length"
            with pytest.raises(ToolError):
                cut.tool_calls[0].parse()
        with pytest.raises(ToolError):
            await client.chat.run_tools("Ulm?", [weather], tool_choice="required", max_tokens=1)


def test_the_blocking_client_runs_tools_off_its_loop(nim_simulator_url: str) -> None:
    """A plain function runs in a worker thread, where it may use the blocking client itself."""
    threads = []
    with Client(base_url=nim_simulator_url) as client:

        def weather(city: str) -> str:
            """Tell the weather of a city."""
            threads.append(threading.current_thread().name)
            return client.chat.create(f"{city} is sunny").text

        run = client.chat.run_tools("What is the weather in Ulm?", [weather])
    assert run.rounds == 2
    assert threads
    assert "nimclient" not in threads
