"""ChatNVIDIADynamo against NVIDIA Dynamo's own frontend: what it does not know of the hints is left out."""

import pytest

from nimclient.integrations.langchain import ChatNVIDIADynamo
from servers.dynamo import Dynamo

pytestmark = [pytest.mark.dynamo, pytest.mark.slow]


async def test_dynamo_takes_the_hints(dynamo: Dynamo) -> None:
    """Whole, streamed and with await; the model is found by the first call, usage says how much was cached."""
    chat = ChatNVIDIADynamo(base_url=dynamo.base_url, max_completion_tokens=8, osl=16, priority=5)
    message = await chat.ainvoke("hi")
    assert message.usage_metadata is not None
    assert message.usage_metadata["output_tokens"] == 8
    assert message.usage_metadata["input_token_details"].keys() == {"cache_read"}
    *_, last = [chunk async for chunk in chat.astream("hi")]
    assert last.response_metadata["finish_reason"] == "length"
    assert last.usage_metadata is not None
