"""Server-sent events come out the same however the bytes are cut, in linear work, and never above the cap."""

import itertools
import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nimclient._streams.sse import EventBuffer, parse_events
from nimclient.errors import BodyTooLargeError

BOM = b"\xef\xbb\xbf"
CHUNK = '{"choices":[{"index":0,"delta":{"content":"%s"}}]}'
LINES = (
    b"",
    b"data: a",
    b"data:b",
    b"data:  c",
    b"data",
    b"data:",
    b"data: ",
    b": keep-alive",
    b":",
    b"event: error",
    b"event:",
    b"id: 7",
    b"retry: 10",
    b"unknown: x",
    b"nonsense",
    b"error",
    b"error: x",
    b"data: [DONE]",
    'data: {"x":"日本語 🙂 \u2028\u2029\x85\x0b\x0c"}'.encode(),
    BOM,
    b"data: \xff\xfe",
)


def decode(*pieces, flush=True, max_event=None):
    """All events as (data, name, comment), those of ordinary blocks by the short way."""
    buffer = EventBuffer(max_event)
    blocks = [buffer.feed(piece) for piece in pieces]
    if flush:
        blocks.append(buffer.flush())
    return [tuple(event) for block in blocks for event in parse_events(block)]


def reference(stream):
    """The specification, word for word, and one more field, without any thought of speed; the end counts as a blank line."""
    events, data, comments, name = [], [], [], ""
    for line in [*re.split(rb"\r\n|\r|\n", stream.removeprefix(BOM)), b""]:
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if not line:
            if name or b"\n".join(data):
                events.append((b"\n".join(data), name, "\n".join(comments) if name else ""))
            data, comments, name = [], [], ""
        elif field == b"data":
            data.append(value)
        elif field == b"event":
            name = value.decode("utf-8", "replace")
        elif field == b"error" and value:  # llama-server's, which the specification does not have
            name = "error"
            data.append(value)
        elif not field:
            comments.append(value.decode("utf-8", "replace"))
    return events


def cut(stream, places):
    """`stream` cut at these places."""
    edges = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    return [stream[a:b] for a, b in itertools.pairwise(edges)]


lines = st.one_of(st.sampled_from(LINES), st.binary(max_size=12).map(lambda b: re.sub(rb"[\r\n]", b"", b)))
ends = st.sampled_from([b"\n", b"\r", b"\r\n", b"\n\n", b"\r\r", b"\r\n\r\n", b"\n\r", b"\r\n\n"])
streams = st.tuples(st.sampled_from([b"", BOM, BOM + BOM, BOM[:2]]), st.lists(st.tuples(lines, ends), max_size=12)).map(
    lambda parts: parts[0] + b"".join(itertools.chain.from_iterable(parts[1]))
)


@settings(deadline=None)
@given(streams, st.lists(st.integers(0, 10**6), max_size=8))
@example(b"data: x\r\n\ndata: y\n\n", [8, 9, 10])  # the LF of a CRLF alone in a read, then a blank line
@example(BOM + b"data: x\n\n", [1, 2, 3])
def test_any_cut_of_any_stream_gives_what_the_specification_says(stream, places):
    """However a stream is cut, its events are those of the specification."""
    assert decode(*cut(stream, places)) == reference(stream)


@settings(deadline=None)
@given(streams)
def test_one_byte_at_a_time_gives_the_same_events(stream):
    """Feeding single bytes, with empty reads between them, equals feeding the whole."""
    single = [piece for i in range(len(stream)) for piece in (stream[i : i + 1], b"")]
    assert decode(*single) == decode(stream)


SAMPLE = (
    BOM
    + b'event: error\r\n: no worker\r\ndata\r\n\r\ndata: {"a":1}\n\n: ping\r\rdata:x\rdata:  y\r\r'
    + 'data: {"t":"é\u2028🙂"}\r\n\r\ndata: [DONE]\n\n'.encode()
)
SAMPLE_EVENTS = [
    (b"", "error", "no worker"),
    (b'{"a":1}', "", ""),
    (b"x\n y", "", ""),
    ('{"t":"é\u2028🙂"}'.encode(), "", ""),
    (b"[DONE]", "", ""),
]


def test_every_cut_position_gives_the_same_events():
    """A stream of every line end, a byte-order mark, comments and multi-byte text may be cut anywhere."""
    for place in range(len(SAMPLE) + 1):
        assert decode(SAMPLE[:place], SAMPLE[place:]) == SAMPLE_EVENTS


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"data: a\n\n", [(b"a", "", "")]),
        (b"data:a\n\n", [(b"a", "", "")]),
        (b"data:  a\n\n", [(b" a", "", "")]),
        (b"data: a\ndata: b\n\n", [(b"a\nb", "", "")]),
        (b"data\n\n", []),
        (b"data:\n\ndata: \n\n", []),
        (b"data\ndata\n\n", [(b"\n", "", "")]),
        (b": comment\n\n: another\n\n", []),
        (b": first\ndata: a\n\n", [(b"a", "", "")]),
        (b"id: 1\nretry: 3\nevent\ndata: a\n\n", [(b"a", "", "")]),
        (b"event: error\n: no worker is free\n: try later\n\n", [(b"", "error", "no worker is free\ntry later")]),
        (b"event: a\nevent: b\ndata: x\n\n", [(b"x", "b", "")]),
        (b"event: error\nid: 7\nretry: 1\nx\n: no worker\n\n", [(b"", "error", "no worker")]),
        (b"\n\n\n\n\ndata: a\n\n\n", [(b"a", "", "")]),
        (b"data: [DONE]\n\ndata: [DONE]\n\n", [(b"[DONE]", "", ""), (b"[DONE]", "", "")]),
        (b"DATA: a\n\n data: b\n\n", []),
        (b"", []),
        (BOM, []),
        (BOM[:2], []),
        (b" " + BOM + b"data: a\n\n", []),
    ],
)
def test_forms_of_events(stream, events):
    """Fields are read as the specification says; a name makes an event even of a comment (Dynamo's errors)."""
    assert decode(stream) == events


@pytest.mark.parametrize("character", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1e"])
def test_only_cr_and_lf_end_a_line(character):
    """What str.splitlines takes for a line end is part of the data."""
    payload = (CHUNK % character).encode()
    assert decode(b"data: " + payload + b"\n\n") == [(payload, "", "")]


@pytest.mark.parametrize("stream", [b"data: a", b"data: a\n", b"data: a\r", b"data: a\r\n"])
def test_flush_gives_the_event_that_no_blank_line_ends(stream):
    """An event at the very end counts without a blank line after it, once."""
    buffer = EventBuffer()
    assert buffer.feed(stream) == b""
    assert buffer.flush() == b"data: a"
    assert buffer.flush() == b""


def test_invalid_utf8_in_names_and_comments_is_replaced():
    """Names and comments never fail to decode."""
    assert decode(b"event: \xff\n: \xfe\n\n") == [(b"", "\ufffd", "\ufffd")]


@pytest.mark.parametrize("step", [1, 7, 100])
def test_an_event_above_the_cap_raises(step):
    """An incomplete event of more than max_event bytes is a BodyTooLargeError that names the limit; nothing is held."""
    buffer = EventBuffer(100)
    for _ in range(0, 101 - step, step):
        assert buffer.feed(b"x" * step) == b""
    with pytest.raises(BodyTooLargeError, match="exceeds 100 bytes") as caught:
        buffer.feed(b"x" * step)
    assert caught.value.limit == 100
    assert buffer.flush() == b""


def test_the_rest_after_an_event_counts_against_the_cap():
    """The cap also holds for what follows a complete event in the same read."""
    with pytest.raises(BodyTooLargeError):
        EventBuffer(100).feed(b"data: a\n\n" + b"x" * 101)


def test_a_rest_of_exactly_the_cap_is_held():
    """It may be the last of its event."""
    buffer = EventBuffer(100)
    assert buffer.feed(b"data: a\n\n" + b"x" * 100) == b"data: a"
    assert buffer.flush() == b"x" * 100


def test_the_cap_is_for_one_event():
    """Many events under the cap, and one of exactly its size, pass."""
    event = b"data: " + b"x" * 93 + b"\n"  # 100 bytes held before the blank line
    assert len(decode(*[event, b"\n"] * 1000, max_event=100)) == 1000


class Work:
    """Counts the bytes that the decoder looks at or copies."""

    def __init__(self, monkeypatch):
        work = self
        self.bytes = 0

        class Held(bytearray):
            def __iadd__(self, other):
                work.bytes += len(other)
                super().__iadd__(other)
                return self

            def __getitem__(self, key):
                found = super().__getitem__(key)
                work.bytes += len(found)
                return found

            def __bytes__(self):
                work.bytes += len(self)
                return super().__getitem__(slice(None)).decode("latin-1").encode("latin-1")

        class Read(bytes):
            __slots__ = ()

            def rfind(self, *args):
                work.bytes += len(self)
                return super().rfind(*args)

            def __contains__(self, item):
                work.bytes += len(self)
                return super().__contains__(item)

            def __getitem__(self, key):
                found = super().__getitem__(key)
                work.bytes += len(found)
                return found

        self.read = Read
        monkeypatch.setattr("nimclient._streams.sse.bytearray", Held, raising=False)

    def of(self, size, step=1400):
        """Decode one event of `size` bytes in reads of `step`; returns the bytes of work."""
        stream = b"data: " + b"x" * size + b"\n\n"
        buffer = EventBuffer()
        self.bytes = 0
        blocks = [buffer.feed(self.read(stream[i : i + step])) for i in range(0, len(stream), step)]
        assert len(b"".join(blocks)) == size + 6
        return self.bytes


def test_an_event_of_six_megabytes_takes_linear_work(monkeypatch):
    """Twice the event is twice the work: each byte is looked at a few times, not once per read."""
    work = Work(monkeypatch)
    three, six = work.of(3_000_000), work.of(6_000_000)
    assert 6_000_000 < six < 10 * 6_000_000
    assert six < 2.1 * three


@pytest.mark.slow
def test_two_hundred_thousand_reads_of_one_byte_take_linear_work(monkeypatch):
    """So do reads of a single byte: none looks at what has come before it."""
    work = Work(monkeypatch)
    half, whole = work.of(100_000, step=1), work.of(200_000, step=1)
    assert whole < 2.1 * half
    assert whole < 10 * 200_000


def test_a_blank_line_that_comes_alone_completes_the_event():
    """The event is handed out by that read, not by the next one."""
    buffer = EventBuffer()
    assert buffer.feed(b"data: a") == b""
    assert buffer.feed(b"\n\n") == b"data: a"


def test_a_blank_line_in_two_reads_completes_the_event():
    """The event is handed out by the second of them, and what follows by the next, without anything of the one before."""
    buffer = EventBuffer()
    assert buffer.feed(b"data: a\n") == b""
    assert buffer.feed(b"\ndata: b") == b"data: a"
    assert buffer.feed(b"\n\ndata: c") == b"data: b"
    assert buffer.feed(b"\n\n") == b"data: c"


def test_many_events_in_one_read_all_come_out():
    """Twenty thousand events that one read brings are all handed out by it."""
    stream = b"".join(b"data: %d\n\n" % i for i in range(20_000))
    assert decode(stream, flush=False) == [(b"%d" % i, "", "") for i in range(20_000)]
