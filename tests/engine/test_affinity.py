"""Prefix affinity: which replica a conversation goes to, and when it moves."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from nimclient import AsyncClient
from nimclient.errors import ConfigurationError
from nimclient.simulator import Simulator
from nimclient.testing import FakeTransport
from support.server import FaultServer
from support.wire import answer, chat, chat_body

MakeClient = Callable[..., AsyncClient]
URLS = [f"http://10.0.0.{i}:8000/v1" for i in range(4)]


def conversation(number: int, turns: int = 1) -> dict[str, Any]:
    """The fields of a turn; all conversations have one system prompt."""
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": f"I am {number}."}]
    messages += [{"role": "assistant", "content": "Hello."}, {"role": "user", "content": "Go on."}] * (turns - 1)
    return {"messages": messages}


async def chosen(fields: list[dict[str, Any]], urls: list[str] = URLS) -> list[str]:
    """Where a new client sends each of these calls."""
    seen: list[str] = []
    transport = FakeTransport(lambda request: chat_body() if "messages" in request.json else TEXT)
    async with AsyncClient(base_url=urls, model="m", transport=transport, affinity="prefix") as client:
        for each in fields:
            if "messages" in each:
                await client.chat.create(each["messages"])
            else:
                await client.completions.create(each["prompt"])
            seen.append(transport.requests[-1].url.partition("/v1")[0] + "/v1")
    return seen


TEXT = {"choices": [{"index": 0, "text": "Hello", "finish_reason": "stop"}]}


async def test_all_turns_have_one_prefix() -> None:
    """What was said later changes nothing, nor does the end of a long prompt; other beginnings go elsewhere."""
    for number in range(20):
        turns = [conversation(number, turns) for turns in (1, 2, 9)]
        assert len(set(await chosen(turns))) == 1
    assert len(set(await chosen([{"prompt": "a" * length} for length in range(1100, 1110)]))) == 1
    assert len(set(await chosen([{"prompt": f"{number} a"} for number in range(20)]))) == 4
    assert len(await chosen([{"messages": [{"role": "system", "content": "only"}]}])) == 1


async def test_a_session_has_one_replica() -> None:
    """With session_id= its turns stay together, whatever a system prompt says of the time, and however they are trimmed."""
    transport = FakeTransport(lambda request: chat_body())
    places: list[set[str]] = []
    async with AsyncClient(base_url=URLS, model="m", transport=transport, affinity="prefix") as client:
        for session in ("ann", "bob", "carl", "dora", "emil", "fay"):
            talk = client.chat.conversation(system="Be kind.", session_id=session)
            for hour in range(8):
                asked = [
                    {"role": "system", "content": f"It is {hour} o'clock."},
                    {"role": "user", "content": f"{hour}"},
                ]
                await client.chat.create(asked, session_id=session)
                await talk.send(f"{hour}")
                talk.trim(2)
            places.append({request.url for request in transport.requests[-16:]})
    assert [len(urls) for urls in places] == [1] * 6
    assert len(set.union(*places)) > 1


async def test_conversations_are_spread() -> None:
    """Of 800 conversations with one system prompt each of four replicas gets a quarter, give or take a fifth of that."""
    counts = Counter(await chosen([conversation(number) for number in range(800)]))
    assert all(160 < counts[url] < 240 for url in URLS), counts


async def test_a_replica_that_is_gone_moves_its_own_share_only() -> None:
    """Without one of four replicas the conversations of the other three stay where they are."""
    conversations = [conversation(number) for number in range(200)]
    for before, after in zip(await chosen(conversations), await chosen(conversations, URLS[1:]), strict=True):
        assert before in (URLS[0], after)


async def test_turns_go_to_one_replica(make_client: MakeClient) -> None:
    """The turns of a conversation meet the same server, whatever the others do; new ones are spread."""
    async with FaultServer() as one, FaultServer() as two:
        for server in (one, two):
            server.script(chat())
        client = make_client([one.url, two.url], affinity="prefix")
        for number in range(12):
            before = len(one.requests), len(two.requests)
            for turns in (1, 2, 3):
                await client.chat.create(conversation(number, turns)["messages"])
            assert (len(one.requests) - before[0], len(two.requests) - before[1]) in ((3, 0), (0, 3))
        assert one.requests
        assert two.requests


async def test_a_popular_prefix_spills_over(make_client: MakeClient) -> None:
    """Twenty at once with one prefix do not all wait at one replica."""
    async with FaultServer() as one, FaultServer() as two:
        arrived: list[FaultServer] = []

        def held(server: FaultServer) -> Any:
            async def wait() -> None:
                arrived.append(server)
                await server.until(lambda: len(arrived) == 20)

            return lambda request: [wait, chat()]

        for server in (one, two):
            server.script(held(server))
        client = make_client([one.url, two.url], affinity="prefix")
        await client.chat.batch([conversation(1)["messages"]] * 20, concurrency=20)
        counts = Counter(id(server) for server in arrived)
    assert max(counts.values()) <= 14


async def test_a_dead_replica_fails_no_call(make_client: MakeClient) -> None:
    """The conversations of a replica that is gone go to the other one."""
    async with FaultServer() as one:
        one.script(chat())
        client = make_client([one.url, "http://127.0.0.1:9/v1"], affinity="prefix")
        for number in range(8):
            assert (await client.chat.create(conversation(number)["messages"])).text == "Hello"


async def test_other_calls_go_by_load(make_client: MakeClient) -> None:
    """Embeddings have no prefix."""
    async with FaultServer() as one:
        one.script(answer({"data": [{"index": 0, "embedding": [1.0]}]}))
        client = make_client([one.url, one.url.replace("127.0.0.1", "localhost")], affinity="prefix")
        assert len((await client.embeddings.create(["a"])).vectors) == 1


def test_another_word_is_refused() -> None:
    """affinity is "prefix" or None."""
    with pytest.raises(ConfigurationError, match='choose "prefix" or None'):
        AsyncClient(base_url=URLS, affinity="session")  # type: ignore[arg-type]


@pytest.mark.usefixtures("virtual_time")
async def test_what_is_cached_is_not_computed_again() -> None:
    """The simulator's prefill takes time for what is not in its prefix cache, and usage tells what is."""
    question = [{"role": "system", "content": "word " * 400}, {"role": "user", "content": "hi"}]
    async with Simulator(prefill_rate=4000) as simulator, AsyncClient(base_url=simulator.base_url) as client:
        first, second = [await client.chat.create(question) for _ in range(2)]
    assert first.usage is not None
    assert second.usage is not None
    details = second.usage.prompt_tokens_details
    assert first.usage.prompt_tokens_details in (None, {"cached_tokens": 0})
    assert details is not None
    assert 380 < details["cached_tokens"] < second.usage.prompt_tokens
    assert first.meta is not None
    assert second.meta is not None
    assert first.meta.timings.total > 0.1 > second.meta.timings.total  # 400 tokens at 4,000 a second
    async with Simulator(prefix_cache=0) as simulator, AsyncClient(base_url=simulator.base_url) as client:
        for _ in range(2):
            usage = (await client.chat.create(question)).usage
            assert usage is not None
            assert not (usage.prompt_tokens_details or {}).get("cached_tokens")
