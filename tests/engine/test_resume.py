"""A chat stream that is interrupted after content is finished by another request, and equals an uninterrupted one."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import pytest

from nimclient import AsyncClient, ChatCompletion, Client, RetryPolicy, Timeouts
from nimclient.errors import ConfigurationError, ConnectionLostError, NimError, StreamFaultError, StreamInterruptedError
from nimclient.simulator import Simulator, SimulatorThread
from nimclient.testing import FakeRequest, FakeTransport
from support.slow import mostly_slow

pytestmark = pytest.mark.usefixtures("virtual_time")

QUESTION = "Oslo is the capital of Norway. It lies on a fjord 🙂, they say. What is the capital of Norway?"
KINDS = ("reset", "end", "error", "stall")
LOST = ConnectionLostError("the cable")
LIMITS = Timeouts(idle=1.0, first_event=1.0)
HEAD = {"id": "chat-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
BROKEN = {"error": {"message": "the engine died", "type": "InternalServerError", "code": 500}}
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}


def said(text: str, *ids: int, **choice: Any) -> dict[str, Any]:
    """An event of a chat."""
    return {
        **HEAD,
        "choices": [{"index": 0, "delta": {"content": text}, **({"token_ids": ids} if ids else {}), **choice}],
    }


def written(text: str, *ids: int, **choice: Any) -> dict[str, Any]:
    """An event of a text completion."""
    known = {"token_ids": ids} if ids else {}
    return {"id": "cmpl-2", "object": "text_completion", "choices": [{"index": 0, "text": text, **known, **choice}]}


def counted(prompt: int, tokens: int) -> dict[str, Any]:
    usage = {"prompt_tokens": prompt, "completion_tokens": tokens, "total_tokens": prompt + tokens}
    return {"id": "x", "choices": [], "usage": usage}


START = {**said(""), "prompt_token_ids": [1, 2, 3]}
END = {"finish_reason": "stop", "stop_reason": None}


def facts(reply: ChatCompletion) -> tuple[Any, ...]:
    """What must be equal."""
    choice, usage = reply.choices[0], reply.usage
    assert usage is not None
    counts = (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens)
    return reply.text, choice.finish_reason, choice.stop_reason, counts, choice.extra.get("token_ids")


class Fake:
    """A client whose server gives these answers; `.requests` are the bodies, `.paths` where they went."""

    def __init__(self, *answers: Any, **settings: Any) -> None:
        self.transport = FakeTransport(answers)
        given: dict[str, Any] = {"base_url": "http://fake", "model": "m", "dialect": "vllm", **settings}
        self.client = AsyncClient(transport=self.transport, **given)

    @property
    def requests(self) -> list[Any]:
        return [request.json for request in self.transport.requests]

    @property
    def paths(self) -> list[str]:
        return [request.url.partition("/v1")[2] for request in self.transport.requests]

    async def final(self, **options: Any) -> ChatCompletion:
        async with self.client:
            return await self.client.chat.stream("hi", **{"resume": 1, "max_tokens": 20, **options}).final()

    async def error(self, **options: Any) -> NimError:
        with pytest.raises(NimError) as caught:
            await self.final(**options)
        return caught.value


# at every token, of the simulator --------------------------------------------------------------------------------


async def streamed(simulator: Simulator, options: dict[str, Any], **settings: Any) -> tuple[ChatCompletion, str]:
    """The answer of a stream, and its text as it came."""
    async with AsyncClient("k", simulator.base_url, model="m", timeouts=LIMITS, **settings) as client:
        stream = client.chat.stream(QUESTION, **options)
        text = "".join([piece async for piece in stream.text_stream])
        return await stream.final(), text


CASES = [(kind, dialect, way) for kind in KINDS for dialect in ("vllm", "nim") for way in ("ids", "text", "tools")]
OPTIONS: dict[str, dict[str, Any]] = {
    "ids": {},
    "text": {"return_token_ids": False},
    "tools": {"tools": [TOOL], "tool_choice": "none"},
}


PATHS = ({"/v1/chat/completions"}, {"/v1/completions", "/v1/models", "/detokenize"})


@pytest.mark.parametrize("case", mostly_slow(CASES, ("reset", "vllm", "ids"), ("stall", "nim", "text")), ids="-".join)
@pytest.mark.parametrize("limits", [{}, {"max_tokens": 12}, {"stop": " fj"}], ids=["whole", "limit", "stop"])
async def test_a_stream_interrupted_at_any_token(case: tuple[str, str, str], limits: dict[str, Any]) -> None:
    """Text, token ids, finish_reason and usage equal those of an uninterrupted stream, wherever it was interrupted."""
    kind, dialect, way = case
    options = {**OPTIONS[way], **limits}
    async with Simulator(models=["m"], dialect=dialect) as simulator:
        whole, _ = await streamed(simulator, {**options, "return_token_ids": way != "text"})
    assert whole.usage is not None
    for tokens in range(1, whole.usage.completion_tokens + 1):
        async with Simulator(models=["m"], dialect=dialect, faults=f"{kind}@{tokens}=1") as simulator:
            reply, text = await streamed(simulator, {**options, "resume": 1}, dialect=dialect)
            assert facts(reply) == facts(whole), tokens
            assert text == whole.text
            assert reply.meta is not None
            assert (reply.meta.resumed, len(reply.meta.timings.gaps)) == (1, 1)
            assert reply.meta.attempts == len(
                [request for request in simulator.requests if "completions" in request.path]
            )
            assert {request.path for request in simulator.requests[1:]} <= PATHS[way == "ids"]


@pytest.mark.parametrize("way", ["ids", "text"])
async def test_a_stream_interrupted_after_each_token(way: str) -> None:
    """Each response brings one token; together they are the answer."""
    async with Simulator(models=["m"]) as simulator:
        whole, _ = await streamed(simulator, {"return_token_ids": way == "ids", "max_tokens": 9})
    async with Simulator(models=["m"], faults="reset@1=9") as simulator:
        reply, _ = await streamed(simulator, {**OPTIONS[way], "max_tokens": 9, "resume": 9}, dialect="nim")
    assert facts(reply) == facts(whole)
    assert reply.meta is not None
    assert reply.meta.resumed == len(reply.meta.timings.gaps) == 9


# which request continues it --------------------------------------------------------------------------------------


async def test_the_exact_way_is_taken_where_there_are_token_ids() -> None:
    """The ids of prompt and answer are the prompt of a text completion for the rest of the tokens; its user sees one chat."""
    rest = [written(" is", 12, prompt_token_ids=[1]), written(" blue", 13), written("", 14, **END), counted(5, 3)]
    fake = Fake([START, said("The", 10), said(" sky", 11), LOST], rest, dialect=None)
    async with fake.client as client:
        stream = client.chat.stream("hi", resume=1, max_tokens=20, min_tokens=4, temperature=0, request_id="mine")
        chunks = [chunk async for chunk in stream]
        reply = await stream.final()
    assert facts(reply) == ("The sky is blue", "stop", None, (3, 5, 8), [10, 11, 12, 13, 14])
    assert {(chunk.extra["id"], chunk.extra["object"]) for chunk in chunks} == {("chat-1", "chat.completion.chunk")}
    assert [chunk.text for chunk in chunks if chunk.text] == ["The", " sky", " is", " blue"]
    assert reply.extra["prompt_token_ids"] == [1, 2, 3]
    assert fake.paths == ["/chat/completions", "/completions"]
    assert fake.requests[0]["return_token_ids"] is True
    assert fake.requests[1] == {
        "model": "m",
        "prompt": [1, 2, 3, 10, 11],
        "max_tokens": 18,
        "min_tokens": 2,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
        "return_token_ids": True,
    }


async def test_without_a_limit_the_rest_of_the_context_is_asked_for() -> None:
    """A text completion without a limit ends after 16 tokens, so the context length comes from the list of models."""
    models = {"data": [{"id": "m", "owned_by": "vllm", "max_model_len": 100}]}
    fake = Fake([START, said("The", 10), LOST], models, [written(" sky", 11, **END), counted(4, 1)])
    assert (await fake.final(max_tokens=None)).text == "The sky"
    assert fake.requests[2]["max_tokens"] == 96


async def test_text_continues_the_last_message() -> None:
    """Without token ids the answer so far is the last message, with both fields, and the rest of the tokens."""
    fake = Fake([said("The"), said(" sky"), LOST], [said(" is"), said("", **END), counted(5, 2)])
    assert facts(await fake.final(max_completion_tokens=9)) == ("The sky is", "stop", None, (3, 4, 7), None)
    sent = fake.requests[1]
    assert sent["messages"] == [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "The sky"}]
    assert (sent["continue_final_message"], sent["add_generation_prompt"]) == (True, False)
    assert (sent["max_completion_tokens"], sent["max_tokens"]) == (7, 18)


async def test_a_server_without_text_completions_continues_the_text() -> None:
    """A rejection of the exact request is not the end."""
    fake = Fake([START, said("The", 10), LOST], 404, [said(" sky", 11), said("", 12, **END), counted(4, 2)])
    assert facts(await fake.final()) == ("The sky", "stop", None, (3, 3, 6), [10, 11, 12])
    assert fake.paths == ["/chat/completions", "/completions", "/chat/completions"]


async def test_reasoning_that_has_ended() -> None:
    """By token ids the text after it continues; before its end the error comes."""
    thinking = {"chat_template_kwargs": {"enable_thinking": True}, "max_tokens": 90}
    async with Simulator(models=["m"]) as simulator:
        whole, _ = await streamed(simulator, {**thinking, "return_token_ids": True})
    assert whole.reasoning is not None
    first = len(whole.choices[0].extra["token_ids"]) - 9
    async with Simulator(models=["m"], faults=f"reset@{first}=1") as simulator:
        reply, _ = await streamed(simulator, {**thinking, "resume": 1}, dialect="nim")
        assert (facts(reply), reply.reasoning) == (facts(whole), whole.reasoning)
    async with Simulator(models=["m"], faults="reset@5=1") as simulator:
        with pytest.raises(StreamInterruptedError, match="still reasoning"):
            await streamed(simulator, {**thinking, "resume": 1}, dialect="nim")


async def test_images_are_sent_again() -> None:
    """They are not in the token ids, so the text continues."""
    content = [
        {"type": "text", "text": "what?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
    ]
    fake = Fake([START, said("A", 10), LOST], [said(" cat", 11, **END), counted(4, 1)])
    async with fake.client as client:
        reply = await client.chat.stream([{"role": "user", "content": content}], resume=1, max_tokens=9).final()
    assert reply.text == "A cat"
    assert fake.requests[1]["messages"][0]["content"] == content


@pytest.mark.parametrize("ways", ["ids", "text"])
async def test_an_answer_whose_last_token_came(ways: str) -> None:
    """At the limit of tokens only the end is missing: nothing is asked for, or only how long the prompt is."""
    if ways == "ids":
        fake = Fake([START, said("a", 10), said(" b", 11), LOST])
    else:
        fake = Fake([said("a"), said(" b"), LOST], [said(" c"), said("", finish_reason="length"), counted(5, 1)])
    reply = await fake.final(max_tokens=2)
    assert facts(reply)[:4] == ("a b", "length", None, (3, 2, 5))


# the seam --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "whole"),
    [
        (["The capital of", " "], [" Norway", " is"], "The capital of Norway is"),
        (["One.", "\n\n"], ["\n", "\nTwo"], "One.\n\nTwo"),
        (["\n", "One"], [" two"], "\nOne two"),
    ],
    ids=["a space", "an empty line in two pieces", "before it"],
)
async def test_white_space_at_the_seam(before: list[str], after: list[str], whole: str) -> None:
    """Templates trim it: it is not sent, and what comes twice is taken out."""
    fake = Fake([*map(said, before), LOST], [*map(said, after), said("", **END), counted(9, 9)])
    assert (await fake.final()).text == whole
    assert fake.requests[1]["messages"][-1]["content"] == "".join(before).rstrip()


@pytest.mark.parametrize("keep", [False, True])
async def test_a_stop_string_over_the_seam(keep: bool) -> None:
    """The server looks in new text only; what begins in the old is found here, and its request is closed."""
    after = [said("D", 13), said(" and more", 14), said("!", 15), LOST]
    fake = Fake([said("to the E"), said("N"), LOST], after)
    reply = await fake.final(stop=["END", "!"], include_stop_str_in_output=keep)
    choice = reply.choices[0]
    assert (reply.text, choice.finish_reason, choice.stop_reason) == (
        "to the END" if keep else "to the ",
        "stop",
        "END",
    )


async def test_text_that_was_held_back_because_of_stop_strings() -> None:
    """The server holds it back, its ids have come: /detokenize says what it is, and a stop string may begin in it."""
    begun = [START, said("on", 10), said("e t", 11, 12), LOST]
    fake = Fake(begun, {"prompt": "one two th"}, [written("ree", 13), written(" four", 14, **END), counted(6, 2)])
    reply = await fake.final(stop="three 4")
    assert (reply.text, reply.choices[0].extra["token_ids"]) == ("one two three four", [10, 11, 12, 13, 14])
    assert fake.requests[1]["tokens"] == fake.requests[2]["prompt"][3:] == [10, 11, 12]
    fake = Fake(begun, {"prompt": "one two th"}, [written("ree", 13), written(" 4 five", 14), LOST])
    assert facts(await fake.final(stop="three 4")) == ("one two ", "stop", "three 4", (3, 5, 8), [10, 11, 12, 13, 14])


async def test_token_ids_of_another_text() -> None:
    """Where what was held back is not certain, nothing is continued."""
    error = await Fake([START, said("on", 10), said("e t", 11), LOST], {"prompt": "One t"}).error(stop="three")
    assert "a different text" in str(error)


async def test_a_character_of_several_tokens() -> None:
    """Ids without text are left out: their character comes whole from the continuation."""
    fake = Fake(
        [START, said("a", 10), said("", 11), LOST],
        [written("", 11), written("🙂", 12), written("", 13, **END), counted(4, 3)],
    )
    assert facts(await fake.final()) == ("a🙂", "stop", None, (3, 4, 7), [10, 11, 12, 13])
    assert fake.requests[1]["prompt"] == [1, 2, 3, 10]


async def test_half_a_surrogate_pair() -> None:
    """A half that was left over is forgotten, and the whole character continued from the text before it."""
    half = '{"choices": [{"index": 0, "delta": {"content": "b\\ud83d"}}]}'
    fake = Fake([said("a"), half, LOST], [said("🙂"), said("", **END), counted(5, 2)])
    assert (await fake.final()).text == "ab🙂"
    assert fake.requests[1]["messages"][-1]["content"] == "ab"


@pytest.mark.parametrize(
    "broken",
    [BROKEN, LOST, '{"choices": [{"index": 0, "del', said("", finish_reason="abort")],
    ids=["error", "lost", "torn", "ended early"],
)
async def test_how_a_stream_ends_early(broken: Any) -> None:
    """An error event, a lost connection, an event that is cut in two by a clean end, and an engine that ends it."""
    fake = Fake([said("The"), broken, LOST], [said(" sky"), said("", **END), counted(2, 1)])
    assert (await fake.final()).text == "The sky"


async def test_a_plain_answer_continues_too() -> None:
    """A server that ignores `stream` sends the rest in one piece."""
    body = {"choices": [{"index": 0, "message": {"role": "assistant", "content": " sky"}, **END}]}
    fake = Fake([said("The"), LOST], {**body, "usage": counted(2, 1)["usage"]})
    assert facts(await fake.final())[:4] == ("The sky", "stop", None, (1, 2, 3))


# how often, and where --------------------------------------------------------------------------------------------


async def test_it_is_resumed_so_often_and_no_more() -> None:
    """The policy's number counts where the call has none; the error after it is that of the last interruption."""
    parts = [[said("a"), LOST], [said("b"), BROKEN, LOST], [said("c"), LOST]]
    assert (await Fake(*parts[:2], [said("z", **END), counted(3, 1)]).final(resume=2)).text == "abz"
    policy = RetryPolicy(resume=2)
    error = await Fake(*parts, retry=policy).error(resume=None)
    assert isinstance(error, StreamInterruptedError)
    assert error.partial is not None
    assert error.partial.text == "abc"
    assert error.partial.meta is not None
    assert error.partial.meta.resumed == 2
    assert [attempt.outcome for attempt in error.history] == [
        "StreamInterruptedError",
        "StreamFaultError",
        "StreamInterruptedError",
    ]
    error = await Fake(parts[0], retry=policy).error(resume=0)
    assert str(error) == "stream interrupted: the cable"


async def test_an_error_that_comes_with_the_first_text_of_a_continuation() -> None:
    """It has the whole partial answer, as one that comes later."""
    async with (
        Simulator(dialect="vllm", models=["m"], faults=["error@5"]) as simulator,
        AsyncClient("k", simulator.base_url, model="m", timeouts=LIMITS, dialect="vllm") as client,
    ):
        got: list[str] = []
        with pytest.raises(StreamFaultError) as caught:
            async with client.chat.stream(QUESTION, resume=1) as stream:
                got.extend([chunk.text async for chunk in stream])
    assert caught.value.partial is not None
    assert len(caught.value.partial.text) > 20
    assert [attempt.outcome for attempt in caught.value.history] == ["StreamFaultError", "StreamFaultError"]


async def test_a_continuation_that_cannot_begin_is_tried_again() -> None:
    """Before its first content it is an attempt like any other."""
    fake = Fake([said("a"), LOST], 503, [said(""), LOST], [said("b", **END), counted(2, 1)])
    reply = await fake.final()
    assert reply.text == "ab"
    assert reply.meta is not None
    assert (reply.meta.resumed, reply.meta.attempts) == (1, 4)


@pytest.fixture
async def two() -> AsyncIterator[Callable[..., AsyncClient]]:
    """Makes a client of two replicas that send what `answer` says."""
    clients: list[AsyncClient] = []

    def made(answer: Callable[[FakeRequest], Any]) -> AsyncClient:
        urls = ["http://10.0.0.1:8000/v1", "http://10.0.0.2:8000/v1"]
        clients.append(AsyncClient(base_url=urls, model="m", dialect="vllm", transport=FakeTransport(answer)))
        return clients[-1]

    yield made
    for client in clients:
        await client.aclose()


async def test_another_replica_is_taken(two: Callable[..., AsyncClient]) -> None:
    """The one that was interrupted is not asked again while there is another."""
    seen: list[str] = []

    def answer(request: FakeRequest) -> Any:
        seen.append(request.url[:15])
        return [said("a"), LOST] if len(seen) % 2 else [said("b", **END), counted(2, 1)]

    client = two(answer)
    for _ in range(4):
        assert (await client.chat.stream("hi", resume=1, max_tokens=5).final()).text == "ab"
    assert all(first != second for first, second in zip(seen[::2], seen[1::2], strict=True))


async def test_closing_while_it_is_resumed() -> None:
    """The reader gets StreamInterruptedError, and the request that was being sent is given up."""
    simulator = Simulator(models=["m"], faults="reset@2=1", ttft=30.0)
    async with simulator, AsyncClient("k", simulator.base_url, model="m", dialect="nim") as client:
        stream = await client.chat.stream(QUESTION, resume=1)
        texts: list[str] = []

        async def read() -> None:
            with pytest.raises(StreamInterruptedError, match="closed"):
                async for chunk in stream:
                    texts.append(chunk.text)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            await anyio.sleep(5.0)
            await stream.aclose()
    assert "".join(texts) == "Based on"


# what is refused -------------------------------------------------------------------------------------------------

CALLED = {"tool_calls": [{"index": 0, "id": "c", "function": {"name": "look", "arguments": "{"}}]}


@pytest.mark.parametrize(
    ("delta", "options", "why"),
    [
        (CALLED, {"tools": [TOOL]}, "a tool call is open"),
        ({"reasoning": "The user"}, {}, "still reasoning"),
        ({"reasoning_content": "The user"}, {}, "still reasoning"),
        ({"content": "<think>The user"}, {}, "still reasoning"),
        ({"content": "<think>The user</think> Hello"}, {}, "reasoning came before"),
        ({"reasoning": "The user", "content": "Hello"}, {}, "reasoning came before"),
        ({"content": "a"}, {"n": 2}, "several choices"),
        ({"content": "a"}, {"logprobs": True}, "log probabilities"),
        ({"content": "{"}, {"response_format": {"type": "json_object"}}, "bound to a schema"),
        ({"content": "{"}, {"structured_outputs": {"regex": "a*"}}, "bound to a schema"),
        ({"content": "{"}, {"guided_json": {}}, "bound to a schema"),
        ({"content": "a"}, {"presence_penalty": 1.0}, "penalty"),
        ({"content": "a"}, {"echo": True}, "echo"),
        ({"content": "a"}, {"continue_final_message": True}, "itself continues"),
        ({"content": "a"}, {"truncate_prompt_tokens": 9}, "truncated"),
        ({"content": " "}, {}, "too little text"),
    ],
)
async def test_what_is_not_resumed(delta: dict[str, Any], options: dict[str, Any], why: str) -> None:
    """The error comes as it would have, with its partial answer, and says why; nothing more is sent."""
    fake = Fake([{**HEAD, "choices": [{"index": 0, "delta": delta}]}, LOST])
    error = await fake.error(**options)
    assert isinstance(error, StreamInterruptedError)
    assert str(error).startswith("stream interrupted: the cable; not resumed: ")
    assert why in str(error)
    assert error.partial is not None
    assert isinstance(error.__cause__, ConnectionLostError)
    assert (len(fake.requests), len(error.history)) == (1, 1)


@pytest.mark.parametrize(
    ("dialect", "why"), [("dynamo", "of type dynamo does not"), ("hosted", "of type hosted"), (None, "is not known")]
)
async def test_servers_that_do_not_continue(dialect: Any, why: str) -> None:
    """A server that is not known to continue a message would begin a new turn."""
    fake = Fake([said("a"), LOST], dialect=dialect, api_key="nvapi-x")
    assert why in str(await fake.error())
    assert len(fake.requests) == 1
    assert ("return_token_ids" in fake.requests[0]) == (dialect is None)


async def test_a_rejected_continuation() -> None:
    """Its message may be the whole prompt: it is not part of the error."""
    rejected = (400, {}, {"error": {"message": "continue_final_message: SECRET PROMPT", "code": 400}})
    error = await Fake([said("a"), LOST], rejected).error()
    assert str(error) == "stream interrupted: the cable; not resumed: the server rejected it with 400"
    assert [attempt.outcome for attempt in error.history] == ["StreamInterruptedError", 400]


async def test_a_final_error_in_the_stream() -> None:
    """What another try would not change is no interruption."""
    rejected = {"error": {"message": "no", "type": "BadRequestError", "code": 400}}
    error = await Fake([said("a"), said("b"), rejected, LOST]).error()
    assert isinstance(error, StreamFaultError)
    assert "resumed" not in str(error)


@pytest.mark.parametrize(
    ("events", "why"),
    [
        ([{**said("Hello"), "usage": counted(20, 1)["usage"]}], "began a new turn"),
        (
            [{**HEAD, "choices": [{"index": 0, "delta": {"reasoning": "Hm"}}]}],
            "takes the rest of the answer for reasoning",
        ),
    ],
)
async def test_an_answer_that_is_no_continuation(events: list[Any], why: str) -> None:
    """What shows that it is none is refused before anything of it is seen."""
    begun = {**said("a b"), "usage": counted(3, 2)["usage"]}
    error = await Fake([begun, LOST], [*events, LOST]).error()
    assert why in str(error)
    assert error.partial is not None
    assert error.partial.text == "a b"


async def test_a_server_that_repeats_the_message() -> None:
    """vLLM 0.6.3 sends the text that it continues once more, before the first token of the rest: it is passed over."""
    begun = {**said("a b "), "usage": counted(3, 2)["usage"]}
    again = [{**said(text), "usage": counted(5, count)["usage"]} for text, count in (("", 0), ("a b", 0), (" c", 1))]
    reply = await Fake([begun, LOST], [*again, said("", **END)]).final()
    assert reply.text == "a b c"


async def test_other_white_space_at_the_seam() -> None:
    """Text that continues in another place is refused."""
    error = await Fake([said("a"), said("\n\n"), LOST], [said(" b"), said("c"), said("", **END)]).error()
    assert "in another place" in str(error)


async def test_a_stream_that_is_whole_is_not_resumed() -> None:
    """After the finish_reason nothing is missing, and nothing is asked for."""
    fake = Fake([said("a"), said("b", **END), LOST])
    reply = await fake.final()
    assert (reply.text, len(fake.requests)) == ("ab", 1)
    assert reply.meta is not None
    assert (reply.meta.resumed, reply.meta.timings.gaps) == (0, ())


@pytest.mark.parametrize("resume", [-1, 1.5, True, "2"])
async def test_how_often_is_a_whole_number(resume: Any) -> None:
    """Anything else raises where it is given."""
    with pytest.raises(ConfigurationError):
        Fake().client.chat.stream("hi", resume=resume)
    with pytest.raises(ConfigurationError):
        RetryPolicy(resume=resume)


# the other doors -------------------------------------------------------------------------------------------------


@pytest.mark.real_time
def test_the_blocking_client() -> None:
    """Client resumes as AsyncClient does."""
    with (
        SimulatorThread(Simulator(models=["m"], faults="reset@3=1")) as url,
        Client("k", url, model="m", dialect="nim", retry=RetryPolicy(resume=1)) as client,
    ):
        stream = client.chat.stream(QUESTION)
        text = "".join(stream.text_stream)
        reply = stream.final()
    assert text == reply.text
    assert text.endswith("Norway.")
    assert reply.meta is not None
    assert reply.meta.resumed == 1


async def test_a_conversation() -> None:
    """The turn has the whole answer."""
    fake = Fake([said("The"), LOST], [said(" sky", **END), counted(2, 1)])
    async with fake.client as client:
        talk = client.chat.conversation(resume=1)
        await talk.stream("what is blue?").final()
        assert talk.messages[-1].text == "The sky"
