"""client.embeddings against a scripted server: order, concurrency, capacity, first errors, progress, mismatches."""

import array
import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from nimclient import AsyncClient, Limits, Progress, RetryPolicy
from nimclient.errors import (
    BadRequestError,
    ConfigurationError,
    ConnectionLostError,
    DecodeError,
    EmbeddingMismatchError,
    NimError,
    RateLimitError,
    RequestTimeoutError,
    ServiceUnavailableError,
)
from support.held import Held
from support.leaks import retry_tokens
from support.server import Close, FaultServer, Pause, Request, Stall
from support.virtual_time import takes
from support.wire import MODEL, answer, embedded, error, vectors

pytestmark = pytest.mark.usefixtures("virtual_time")

MakeClient = Callable[..., AsyncClient]


def reply(request: Request) -> bytes:
    """Vectors that begin with the number that is the text."""
    return answer(embedded(request.json["input"]))


def texts(count: int) -> list[str]:
    return [str(number) for number in range(count)]


async def test_one_request_for_create(server: FaultServer, client: AsyncClient) -> None:
    """create() sends one request, however many texts, and gives vectors, usage, model, meta, to_dict()."""
    server.script(reply)
    result = await client.embeddings.create(texts(100), input_type="passage", truncate="END", dimensions=2)
    assert len(server.requests) == 1
    assert server.requests[0].json == {
        "model": MODEL,
        "input": texts(100),
        "input_type": "passage",
        "truncate": "END",
        "dimensions": 2,
        "encoding_format": "base64",
    }
    assert [vector[0] for vector in result.vectors] == list(range(100))
    assert result.usage is not None
    assert result.usage.prompt_tokens == 100
    assert result.model == MODEL
    assert result.meta is not None
    assert result.meta.status == 200
    assert result.meta.timings.total is not None
    assert result.meta.timings.ttft is None
    assert result.to_dict()["data"][1]["embedding"] == [1.0, 1.0]
    assert result.extra == {}


async def test_a_query(server: FaultServer, client: AsyncClient) -> None:
    """embed_query() sends input_type query and returns one Vector."""
    server.script(reply)
    vector = await client.embeddings.embed_query("5", truncate="START")
    assert vector == [5.0, 1.0]
    assert (server.requests[0].json["input_type"], server.requests[0].json["truncate"]) == ("query", "START")


async def test_documents_keep_their_order(server: FaultServer, client: AsyncClient) -> None:
    """Slices that finish in any order land where their texts are, in one buffer; usage and requests are added up."""

    def script(request: Request) -> Any:
        first = int(request.json["input"][0])
        return [Pause(0.02 if first % 30 == 0 else 0.001), reply(request)]

    server.script(script)
    result = await client.embeddings.embed_documents(texts(95), batch_size=10, concurrency=4)
    assert [vector[0] for vector in result] == list(range(95))
    assert (len(result.buffer), result.dimensions, result.dtype) == (95 * 8, 2, "float32")
    assert result.usage is not None
    assert result.usage.prompt_tokens == 95
    assert result.meta is not None
    assert result.meta.attempts == len(server.requests) == 10
    assert all(request.json["input_type"] == "passage" for request in server.requests)


async def test_documents_are_cut_by_count_and_size(server: FaultServer, client: AsyncClient) -> None:
    """A slice has at most 64 texts and 256 kB."""

    def script(request: Request) -> bytes:
        return answer(vectors([[1.0]] * len(request.json["input"])))

    server.script(script)
    await client.embeddings.embed_documents([str(number) for number in range(130)])
    assert sorted(len(request.json["input"]) for request in server.requests) == [2, 64, 64]
    server.requests.clear()
    await client.embeddings.embed_documents(["x" * 200_000, "y" * 200_000, "z"])
    assert sorted(len(request.json["input"]) for request in server.requests) == [1, 2]


@pytest.mark.parametrize("concurrency", [1, 3, None])
async def test_the_server_sees_no_more_than_the_concurrency(
    server: FaultServer, client: AsyncClient, concurrency: int | None
) -> None:
    """`concurrency` slices are in flight; where nothing is said 16 at first, and one more for each that is answered."""
    held = Held()
    server.script(lambda request: [held.hold, reply(request)])
    call = client.embeddings.embed_documents(texts(40), batch_size=1, concurrency=concurrency)
    await held.answer_each(server, call, 40, lambda answered: concurrency or 16 + answered)
    assert held.most == (concurrency or 16 + 12)


@pytest.mark.real_time
async def test_progress_is_told(server: FaultServer, client: AsyncClient) -> None:
    """on_progress is called after each slice with counts that only grow."""
    seen: list[Progress] = []
    server.script(reply)
    await client.embeddings.embed_documents(texts(25), batch_size=10, on_progress=seen.append)
    assert [p.done for p in seen][-1] == 25
    assert sorted(p.done for p in seen) == [p.done for p in seen]
    assert {p.total for p in seen} == {25}
    assert (seen[-1].requests, seen[-1].tokens) == (3, 25)
    assert seen[-1].seconds > 0


async def test_a_listener_that_raises_ends_the_call(server: FaultServer, client: AsyncClient) -> None:
    """An exception in on_progress comes out as it is, without a group around it."""

    def listen(progress: Progress) -> None:
        raise ZeroDivisionError

    server.script(reply)
    with pytest.raises(ZeroDivisionError):
        await client.embeddings.embed_documents(texts(25), batch_size=1, on_progress=listen)


async def test_the_first_error_ends_the_call(server: FaultServer, client: AsyncClient) -> None:
    """A text that is rejected cancels the other slices; the error has its index and what was finished."""

    def script(request: Request) -> Any:
        first = int(request.json["input"][0])
        if first == 20:
            return [Pause(0.05), error(400, "bad text")]
        return reply(request) if first < 20 else [Stall()]

    server.script(script)
    with pytest.raises(BadRequestError, match="bad text") as caught:
        await client.embeddings.embed_documents(texts(60), batch_size=10, concurrency=4)
    assert caught.value.index == 20
    assert [(start, [v[0] for v in done]) for start, done in caught.value.completed] == [
        (0, list(range(10))),
        (10, list(range(10, 20))),
    ]
    assert len(server.requests) == 6 + 3  # its slice was halved three times
    await server.until(lambda: server.open == 1)  # the three that stalled were dropped


async def test_a_first_slice_that_fails_has_nothing_completed(server: FaultServer, client: AsyncClient) -> None:
    """When nothing was finished `.completed` is empty."""
    server.script(error(400))
    with pytest.raises(BadRequestError) as caught:
        await client.embeddings.embed_documents(texts(3))
    assert (caught.value.index, tuple(caught.value.completed)) == (0, ())


async def test_slices_of_other_dimensions(server: FaultServer, client: AsyncClient) -> None:
    """Slices whose vectors differ in length raise EmbeddingMismatchError that names where, and nothing is returned."""
    server.script(lambda request: answer(embedded(request.json["input"], 2 if request.json["input"][0] == "0" else 3)))
    with pytest.raises(EmbeddingMismatchError, match="dimensions") as caught:
        await client.embeddings.embed_documents(texts(4), batch_size=2, concurrency=1)
    assert caught.value.index == 2
    assert [start for start, _ in caught.value.completed] == [0]


@pytest.mark.parametrize("rows", [1, 3, 0])
async def test_wrong_counts(server: FaultServer, client: AsyncClient, rows: int) -> None:
    """Fewer or more vectors than texts are never returned; one more try is made."""
    server.script(answer(vectors([[1.0]] * rows)))
    with pytest.raises(EmbeddingMismatchError, match=f"{rows} vectors for 2 texts"):
        await client.embeddings.create(["a", "b"])
    assert len(server.requests) == 2


async def test_numbers_instead_of_base64(server: FaultServer, client: AsyncClient) -> None:
    """A server that sends numbers although base64 was asked for is understood, shuffled items as well."""
    data = [{"index": 1, "embedding": [3, 4.5]}, {"index": 0, "embedding": [1, 2]}]
    server.script(answer({"data": data}))
    assert (await client.embeddings.create(["a", "b"])).vectors.tolist() == [[1, 2], [3, 4.5]]


@pytest.mark.parametrize("kind", ["int8", "uint8", "binary", "ubinary"])
async def test_other_types_of_numbers(server: FaultServer, client: AsyncClient, kind: str) -> None:
    """embedding_type is sent, and the vectors are of that type."""
    raw = array.array("b" if kind in ("int8", "binary") else "B", [1, 2, 3])
    server.script(answer({"data": [{"index": 0, "embedding": list(raw)}]}))
    result = await client.embeddings.create(["a"], embedding_type=kind)
    assert (result.vectors.dtype, result.vectors.tolist()) == (kind, [[1, 2, 3]])
    assert server.requests[0].json["embedding_type"] == kind


async def test_a_prefix_goes_before_every_text(server: FaultServer, client: AsyncClient) -> None:
    """prefix= is put before the texts and is no field of the body."""
    server.script(answer(vectors([[1.0], [2.0]])))
    await client.embeddings.embed_documents(["a", "b"], prefix="passage: ")
    assert server.requests[0].json["input"] == ["passage: a", "passage: b"]
    assert "prefix" not in server.requests[0].json


@pytest.mark.parametrize("body", [b"[]", b"{}", b'{"data": 5}', b'{"data": ["x"]}', b""])
async def test_answers_that_are_no_embeddings(server: FaultServer, client: AsyncClient, body: bytes) -> None:
    """A 200 that holds something else is DecodeError."""
    server.script(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    with pytest.raises(DecodeError):
        await client.embeddings.create(["a"])


# capacity -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 503, 529])
async def test_refusals_for_capacity_spend_no_attempt(
    server: FaultServer, make_client: MakeClient, status: int
) -> None:
    """Slices that the server has no room for wait at the gate and are sent again, even with a single attempt."""
    client = make_client(retry=RetryPolicy(attempts=1, first_delay=0.01, max_delay=0.02))
    server.script(*[error(status)] * 7, reply)
    result = await client.embeddings.embed_documents(texts(8), batch_size=2, concurrency=2)
    assert [vector[0] for vector in result] == list(range(8))
    assert len(server.requests) == 11
    assert retry_tokens(client) == 500


async def test_concurrency_is_found_out(server: FaultServer, make_client: MakeClient) -> None:
    """Without a number the limit of a server that throttles is found after some throttles, which spend no attempt."""
    now = refused = 0

    def script(request: Request) -> Any:
        nonlocal now, refused
        if now >= 4:
            refused += 1
            return error(429, "busy")
        now += 1

        async def leave() -> None:
            nonlocal now
            await asyncio.sleep(0.003)
            now -= 1

        return [leave, reply(request)]

    server.script(script)
    told: list[Progress] = []
    client = make_client(retry=RetryPolicy(attempts=1))
    found = await client.embeddings.embed_documents(texts(300), batch_size=1, on_progress=told.append)
    assert [round(vector[0]) for vector in found] == list(range(300))
    assert 12 <= refused == told[-1].refusals <= 60
    assert told[-1].requests == 300 + refused
    assert all(event.limit is not None and event.limit <= 8 for event in told[100:])


async def test_a_refused_connection_waits_at_the_gate(server: FaultServer, make_client: MakeClient) -> None:
    """While connections are refused slices wait; other failures spend attempts."""
    client = make_client(retry=RetryPolicy(attempts=1, first_delay=0.01, max_delay=0.02))
    server.script(reply)
    port = server.port
    await server.stop()
    job = asyncio.create_task(client.embeddings.embed_documents(texts(4), batch_size=2))
    await asyncio.sleep(0.05)
    late = await server.listen(port)
    assert len(await asyncio.wait_for(job, 2)) == 4
    late.close()
    server.script([Close()])
    with pytest.raises(NimError):
        await client.with_options(timeouts=0.5).embeddings.embed_documents(["1"])


async def test_one_refusal_holds_up_all_slices(server: FaultServer, make_client: MakeClient) -> None:
    """A Retry-After at the gate is a pause for every slice of the call."""
    client = make_client(retry=RetryPolicy(first_delay=0.001))
    server.script(error(429, "later", "Retry-After: 0.15"), reply)
    with takes(0.15):
        await client.embeddings.embed_documents(texts(6), batch_size=1, concurrency=1)
    assert len(server.requests) == 7


async def test_patience_ends(server: FaultServer, make_client: MakeClient) -> None:
    """A slice that has waited for `patience` seconds in all raises the throttling error with its index."""
    client = make_client(retry=RetryPolicy(attempts=1, first_delay=0.02, max_delay=0.02, patience=0.1))
    server.script(error(503, "busy"))
    with takes(0.1, at_most=True), pytest.raises(ServiceUnavailableError, match="busy") as caught:
        await client.embeddings.embed_documents(texts(2))
    assert caught.value.index == 0
    assert caught.value.attempts == len(server.requests) > 2


async def test_a_wish_above_the_limit_ends_patience(server: FaultServer, client: AsyncClient) -> None:
    """A Retry-After above max_retry_after is raised at once at the gate, too."""
    server.script(error(429, "later", "Retry-After: 3600"))
    with pytest.raises(RateLimitError) as caught:
        await client.embeddings.embed_documents(texts(2))
    assert (caught.value.retry_after, len(server.requests)) == (3600, 1)


async def test_waiting_at_the_gate_counts_against_the_total(server: FaultServer, make_client: MakeClient) -> None:
    """A slice whose wait would pass its deadline ends at once, the throttled one and those behind it."""
    client = make_client(limits=Limits(concurrency=1))

    def script(request: Request) -> Any:
        return (
            error(429, "later", "Retry-After: 5") if request.json["input"] == ["0"] else [Pause(0.05), reply(request)]
        )

    server.script(script)
    with takes(0), pytest.raises((RateLimitError, RequestTimeoutError)):
        await client.embeddings.embed_documents(texts(4), batch_size=1, concurrency=2, timeout=0.3)


async def test_a_closed_gate_behind_the_deadline(server: FaultServer, client: AsyncClient) -> None:
    """An item that finds the gate closed for longer than it may take raises RequestTimeoutError with phase total, unsent."""
    server.script(error(429, "later", "Retry-After: 30"))
    first, second = await client.chat.batch(["a", "b"], concurrency=1, timeout=20, on_error="return")
    assert isinstance(first, RateLimitError)
    assert isinstance(second, RequestTimeoutError)
    assert (second.phase, len(server.requests)) == ("total", 1)


async def test_other_failures_spend_attempts(server: FaultServer, client: AsyncClient) -> None:
    """A slice whose connection is lost is tried as often as the policy allows."""
    server.script([Close()])
    with pytest.raises(ConnectionLostError) as caught:
        await client.embeddings.embed_documents(["1"])
    assert caught.value.attempts == 3


# bad input ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["batch_size", "concurrency"])
@pytest.mark.parametrize("value", [0, -1, 1.5, True, "2"])
async def test_bad_slices(server: FaultServer, client: AsyncClient, name: str, value: Any) -> None:
    """batch_size and concurrency are whole numbers of at least one."""
    with pytest.raises(ConfigurationError, match=name):
        await client.embeddings.embed_documents(["a"], **{name: value})
    assert server.connections == 0
