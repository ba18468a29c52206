"""Reasoning in `<think>` tags is split off the text the same way in a whole answer and in a stream, however it is cut."""

import asyncio
import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nimclient import AsyncClient
from nimclient._streams.reasoning import TagSplitter
from nimclient.records.chat import Message, decode_chat, decode_message
from nimclient.testing import FakeTransport
from support.sent import sent

MAX_SPACE = 64  # characters of white space before a tag


def split_tags(content):
    """(reasoning, text) of a whole answer with tags, None without."""
    message = decode_message({"role": "assistant", "content": content})
    return (message.reasoning or "", message.text) if "raw_content" in message.extra else None


WHOLE = [
    ("<think>a</think>b", ("a", "b")),
    ("<think>\nwhy?\n</think>\n\nbecause\n", ("why?", "because\n")),
    (" \n<think> a </think> b", ("a", "b")),
    ("<think></think>b", ("", "b")),
    ("<think>\n\n</think>\n\nb", ("", "b")),
    ("<think>", ("", "")),
    ("<think>a", ("a", "")),
    ("<think>a </thi", ("a </thi", "")),
    ("<think>a</think>", ("a", "")),
    ("<think>a</think>b<think>c</think>d", ("a", "b<think>c</think>d")),
    ("<think>a<b</think>c", ("a<b", "c")),
    ("<think>a</think></think>b", ("a", "</think>b")),
    (" " * MAX_SPACE + "<think>a</think>b", ("a", "b")),
    ("", None),
    ("plain", None),
    ("rethink>", None),
    ("<thinking>a</thinking>", None),
    ("so <think>a</think>b", None),
    (" " * (MAX_SPACE + 1) + "<think>a", None),
    ("the tag `</think>` ends it", None),
    ("the tag `</think> ends it", None),
    ("the tag </think>` ends it", None),
]
LONE = [
    ("a</think>b", ("a", "b")),
    ("\na\n</think>\n\nb", ("a", "b")),
    ("</think>b", ("", "b")),
    ("a</think>", ("a", "")),
    ("</think>`b`", ("", "`b`")),
]


@pytest.mark.parametrize(("content", "split"), WHOLE + LONE)
def test_a_whole_text_is_split_at_its_tags(content, split):
    """Tags count at the very beginning, a lone closing tag everywhere but in backticks; white space around them goes."""
    assert split_tags(content) == split


@pytest.mark.parametrize(("content", "split"), WHOLE)
def test_pieces_add_up_to_the_same(content, split):
    """Cut after every so many characters, reasoning and text are those of the whole."""
    for size in (1, 2, 3, 5, 8, 100):
        assert fed([content[at : at + size] for at in range(0, len(content), size)]) == (split or ("", content))


def fed(pieces):
    splitter = TagSplitter()
    given = [*map(splitter.feed, pieces), splitter.flush()]
    assert splitter.done
    return "".join(reasoning for reasoning, _ in given), "".join(text for _, text in given)


parts = st.sampled_from(["<think>", "</think>", "<", "</", "think", ">", " ", "\n", "a", "b c", "`", "ß", "\u2028"])
texts = st.lists(parts, max_size=12).map("".join)


@st.composite
def cut_texts(draw):
    """A text, and the same in pieces, some of them empty."""
    text = draw(texts | texts.map("<think>".__add__))
    places = sorted(draw(st.lists(st.integers(0, len(text)), max_size=8)))
    return text, [text[a:b] for a, b in itertools.pairwise([0, *places, len(text)])]


@given(cut_texts())
@settings(max_examples=5 * settings().max_examples)
def test_cutting_the_text_anywhere_changes_nothing(cut):
    """The splitter gives what split_tags gives, but for a lone closing tag behind a text, which nobody can foresee."""
    text, pieces = cut
    split = split_tags(text)
    lone = split is not None and not text.lstrip().startswith(("<think>", "</think>"))
    assert fed(pieces) == (split if split and not lone else ("", text))


def streamed(pieces, index=0, finish="stop", **first):
    """The events of one choice."""
    deltas = [{"role": "assistant", "content": "", **first}, *({"content": piece} for piece in pieces)]
    return [
        *({"id": "c", "choices": [{"index": index, "delta": delta}]} for delta in deltas),
        {"id": "c", "choices": [{"index": index, "delta": {}, "finish_reason": finish}]},
    ]


def read(events, **options):
    """(chunks, completion) of events."""
    client = AsyncClient(base_url="http://nim", model="m", transport=FakeTransport([events]))
    stream = client.chat.stream("hi", **options)

    async def read_all():
        return [chunk async for chunk in stream], await stream.final()

    return asyncio.run(read_all())


def plain(content, index=0, **message):
    message = {"role": "assistant", "content": content, **message}
    return decode_chat(
        {
            "id": "c",
            "object": "chat.completion",
            "choices": [{"index": index, "message": message, "finish_reason": "stop"}],
        }
    )


@given(cut_texts())
@settings(max_examples=3 * settings().max_examples)
def test_final_is_the_plain_answer_and_the_chunks_add_up_to_it(cut):
    """However the text is cut, the completion of the stream equals the plain one, and its chunks are its parts."""
    text, pieces = cut
    chunks, final = read(streamed(pieces))
    assert final == plain(text)
    if text.lstrip().startswith("<think>") or split_tags(text) is None:
        assert "".join(chunk.text for chunk in chunks) == final.text
        assert "".join(chunk.reasoning or "" for chunk in chunks) == (final.reasoning or "")
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == final.text
    raw = "".join((d := c.to_dict()["choices"][0]["delta"]).get("raw_content", d.get("content", "")) for c in chunks)
    assert raw == text


def test_the_message_keeps_the_content_as_it_came():
    """Reasoning and text come apart; extra["raw_content"] has both with their tags."""
    message = plain("<think>\nhm\n</think>\n\nyes").message
    assert (message.reasoning, message.content, message.text) == ("hm", "yes", "yes")
    assert message.extra == {"raw_content": "<think>\nhm\n</think>\n\nyes"}
    assert decode_message(message.to_dict()) == message


def test_empty_tags_are_no_reasoning():
    """A model with thinking switched off writes empty tags: the reasoning is None and the text has none of them."""
    message = plain("<think>\n\n</think>\n\nyes").message
    assert (message.reasoning, message.content) == (None, "yes")


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
def test_tags_are_text_where_the_server_has_a_parser(name):
    """Reasoning in its own field means that the content is content, whole and streamed."""
    text = "<think>is the tag</think>"
    assert plain(text, **{name: "hm"}).message.content == text
    chunks, final = read(streamed([text[:3], text[3:]], **{name: "hm"}))
    assert "".join(chunk.text for chunk in chunks) == final.text == text
    assert final.reasoning == chunks[0].reasoning == "hm"
    assert "raw_content" not in final.message.extra


def test_only_answers_are_split():
    """What a user wrote between tags stays as it is, and so does content that is no text."""
    assert decode_message({"role": "user", "content": "<think>a</think>b"}).content == "<think>a</think>b"
    assert decode_message({"content": [{"type": "text", "text": "<think>a"}]}).reasoning is None


def test_a_lone_closing_tag_in_a_stream_is_text_until_the_end():
    """Nobody can know that it will come: the chunks are text, the completion is right."""
    chunks, final = read(streamed(["hm", "</think>", "yes"]))
    assert "".join(chunk.text for chunk in chunks) == "hm</think>yes"
    assert (final.reasoning, final.text) == ("hm", "yes")


def test_choices_are_split_apart():
    """With n > 1 each choice has its own tags."""
    first, second = streamed(["<thi", "nk>a</think>b"]), streamed(["x", "<think>y"], index=1)
    chunks, final = read([event for pair in zip(first, second, strict=True) for event in pair], n=2)
    assert [(c.message.reasoning, c.message.text) for c in final.choices] == [("a", "b"), (None, "x<think>y")]
    assert "".join(chunk.text for chunk in chunks) == "b"
    assert "".join(c.delta.content or "" for chunk in chunks for c in chunk.choices if c.index) == "x<think>y"


def test_what_is_held_comes_with_the_last_event():
    """The beginning of a tag that never ends is handed out with the finish_reason, also beside content and without delta."""
    last = {"choices": [{"index": 0, "delta": {"content": "i"}, "finish_reason": "length"}]}
    chunks, final = read([*streamed(["<", "th"])[:-1], last])
    assert [chunk.text for chunk in chunks] == ["", "", "", "<thi"]
    assert chunks[-1].to_dict()["choices"][0]["delta"] == {"content": "<thi", "raw_content": "i"}
    chunks, final = read([*streamed(["<think>a <"])[:-1], {"choices": [{"index": 0, "finish_reason": "length"}]}])
    assert [chunk.reasoning for chunk in chunks] == [None, "a", " <"]
    assert final.reasoning == "a <"
    one = {"choices": [{"index": 0, "delta": {"content": "<think>a <"}, "finish_reason": "length"}]}
    (chunk,), final = read([one])
    assert (chunk.reasoning, chunk.text, final.reasoning) == ("a <", "", "a <")
    second = [{"choices": [{"index": 1, "delta": {"content": "<t"}, "finish_reason": "stop"}]}]
    (chunk,), final = read(second, n=2)
    assert (chunk.text, chunk.choices[0].delta.content, final.choices[0].message.text) == ("", "<t", "<t")


def test_the_usual_event_is_not_rewritten():
    """Text without tags passes as it came."""
    events = streamed(["Hello", " world"])
    chunks, _ = read(events)
    assert [chunk.to_dict() for chunk in chunks] == events


REPLY = [
    ({"content": "<think>hm</think>yes"}, {"content": "yes"}, {"content": "<think>hm</think>yes"}),
    ({"content": "yes", "reasoning": "hm"}, {"content": "yes"}, {"content": "yes", "reasoning": "hm"}),
    ({"content": "yes", "reasoning_content": "hm"}, {"content": "yes"}, {"content": "yes", "reasoning_content": "hm"}),
    ({"content": "yes"}, {"content": "yes"}, {"content": "yes"}),
]


@pytest.mark.parametrize(("answer", "quiet", "echoed"), REPLY)
def test_reasoning_goes_back_only_when_asked_for_and_as_it_came(answer, quiet, echoed):
    """Without echo_reasoning tags and reasoning stay here; with it they go back under the server's own name."""
    message = decode_message({"role": "assistant", **answer})
    assert sent("chat.create", [message]).fields["messages"] == [{"role": "assistant", **quiet}]
    assert sent("chat.create", [message], echo_reasoning=True).fields["messages"] == [{"role": "assistant", **echoed}]
    assert isinstance(message, Message)
    assert json.loads(json.dumps(message.to_dict())) == message.to_dict()
