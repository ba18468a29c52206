from typing import Any

import pytest

from .raw import RawClient

TEXT = "Tokens, there and back again."


async def test_tokens_there_and_back(raw: RawClient) -> None:
    """Tokenize counts and numbers the pieces, detokenize gives the text back."""
    body = (await raw.post("/tokenize", {"prompt": TEXT, "return_token_strs": True})).body
    assert body["count"] == len(body["tokens"]) == len(body["token_strs"])
    assert "".join(body["token_strs"]) == TEXT
    assert body["max_model_len"] == 131_072
    assert (await raw.post("/detokenize", {"tokens": body["tokens"]})).body == {"prompt": TEXT}


async def test_messages_can_be_tokenized(raw: RawClient) -> None:
    """Messages are tokenized as their texts one after another; the pieces are shown only when asked for."""
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
    body = (await raw.post("/tokenize", {"messages": messages})).body
    assert body["token_strs"] is None
    assert (await raw.post("/detokenize", {"tokens": body["tokens"]})).body == {"prompt": "Be brief.\nHello"}


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("/tokenize", {}, "messages"),
        ("/tokenize", {"prompt": 3}, "prompt"),
        ("/detokenize", {}, "tokens"),
        ("/detokenize", {"tokens": ["x"]}, "tokens"),
        ("/detokenize", {"tokens": [123]}, "123 was not handed out"),
    ],
)
async def test_wrong_bodies_are_rejected(raw: RawClient, path: str, body: Any, message: str) -> None:
    """Wrong fields and numbers nobody handed out are a 400."""
    status, answer, _ = await raw.post(path, body)
    assert status == 400
    assert message in answer["error"]["message"]
