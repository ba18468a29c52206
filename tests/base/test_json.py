"""JSON in and out: what orjson is too strict or too lax about is put right, and every rejection names its place."""

import json
import math
import uuid

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nimclient._base import json as _json
from nimclient.errors import ConfigurationError, DecodeError

BOM = b"\xef\xbb\xbf"
CYCLE = {"a": []}
CYCLE["a"].append(CYCLE)


def nested(depth, leaf=None):
    for _ in range(depth):
        leaf = [leaf]
    return leaf


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (math.nan, "body"),
        ({"temperature": math.nan}, "body.temperature"),
        ({"a": [1, {"b": math.inf}]}, "body.a[1].b"),
        ({"a": (1, -math.inf)}, "body.a[1]"),
        ({"a": None, "b": math.nan}, "body.b"),
        ({"a": {1, 2}}, "body.a"),
        ({"a": b"x"}, "body.a"),
        ({"a": object()}, "body.a"),
        ({"a": 2**70}, "body.a"),
        ({"a": -(2**63) - 1}, "body.a"),
        ({"a": 2**64}, "body.a"),
        ({"a": {5: "x"}}, "body.a"),
        ({"a": {None: "x"}}, "body.a"),
        ({"a": ["ok", "\ud800"]}, "body.a[1]"),
    ],
)
def test_what_cannot_be_sent_is_refused_with_its_path(value, path):
    """NaN, sets, bytes, huge integers, keys that are no str and lone surrogates are named by their JSON path."""
    with pytest.raises(ConfigurationError) as caught:
        _json.dumps(value)
    assert caught.value.path == path
    assert caught.value.message.startswith(path)


@pytest.mark.parametrize(
    "value", [{"a\ud800": 1}, CYCLE, nested(300), nested(10**5)], ids=["key", "cycle", "300", "1e5"]
)
def test_what_has_no_short_path_is_refused_all_the_same(value):
    """A surrogate in a key, a cycle and bottomless nesting are ConfigurationErrors, never a RecursionError."""
    with pytest.raises(ConfigurationError) as caught:
        _json.dumps(value, "arguments")
    assert caught.value.message.startswith("arguments")
    assert len(caught.value.message) < 500


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, b"null"),
        ({"a": None}, b'{"a":null}'),
        ({"null": "null"}, b'{"null":"null"}'),
        ([1, 2.5, "x", True, {}], b'[1,2.5,"x",true,{}]'),
        ((1, (2,)), b"[1,[2]]"),
        ({"a": "é🙂\u2028"}, '{"a":"é🙂\u2028"}'.encode()),
        ([2**64 - 1, -(2**63)], b"[18446744073709551615,-9223372036854775808]"),
        ({"id": uuid.UUID(int=0), "a": None}, b'{"id":"00000000-0000-0000-0000-000000000000","a":null}'),
    ],
)
def test_what_can_be_sent_is_written(value, text):
    """JSON values, also null where the caller put it, tuples, and what orjson knows besides."""
    assert _json.dumps(value) == text


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b'{"a":1}', {"a": 1}),
        (bytearray(b"[1]"), [1]),
        (memoryview(b"[1]"), [1]),
        (BOM + b'{"a":1}', {"a": 1}),
        (memoryview(BOM + b"[1]"), [1]),
        (BOM + b'{"a":"\\ud800"}', {"a": "\ufffd"}),
        (b'"\\ud83d\\ude42"', "🙂"),
        (b'"\\ud83d"', "\ufffd"),
        (b'"\\uDE42"', "\ufffd"),
        (b'"\\ud83d\\ud83d\\ude42x"', "\ufffd🙂x"),
        (b'{"\\ud800":["\\ud800",1,2.5,null]}', {"\ufffd": ["\ufffd", 1, 2.5, None]}),
        (b'["\\ud800",18446744073709551616,18446744073709551615]', ["\ufffd", float(2**64), 2**64 - 1]),
        (b'"\\u0000"', "\0"),
        (b'"\xef\xbb\xbf"', "\ufeff"),
        (b'{"a":1,"a":2}', {"a": 2}),
        (b" [1]\n", [1]),
    ],
)
def test_answers_are_read(data, value):
    """A byte-order mark is passed over; pairs of surrogates are joined, lone ones become U+FFFD."""
    found = _json.loads(data)
    assert found == value
    assert json.dumps(found) == json.dumps(value), "types differ"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "the response is empty"),
        (b" \n", "the response is empty"),
        (BOM, "the response is empty"),
        (BOM + BOM + b"1", "not JSON"),
        (BOM * 5000, "not JSON"),
        (b"<html>", "not JSON"),
        (b'{"a":', "not JSON"),
        (b"[1]x", "not JSON"),
        (b"[NaN]", "not JSON"),
        (b"[-Infinity]", "not JSON"),
        (b"[1e400]", "not JSON"),
        (b"9" * 5000, "not JSON"),
        (b'"\xff"', "not JSON"),
        (b'"\x00"', "not JSON"),
        (b'"\xed\xa0\x80"', "not JSON"),
        (b'["\\ud800",NaN]', "not JSON"),
        (b'["\\ud800",1e400]', "not JSON"),
        (b'["\\ud800",' + b"9" * 400 + b"]", "not JSON"),
        (b'["\\ud800",' + b"9" * 5000 + b"]", "not JSON"),
        (b'["\\ud800",', "not JSON"),
        (b"[" * 2000 + b"]" * 2000, "not JSON"),
        (b'["\\ud800",' + b"[" * 10**6 + b"]" * 10**6 + b"]", "not JSON"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_what_is_no_json_is_a_decode_error(data, words):
    """Empty, cut, not finite, invalid or bottomless: a DecodeError whose message and excerpt are short and printable."""
    with pytest.raises(DecodeError, match=words) as caught:
        _json.loads(data)
    assert len(caught.value.message) < 300
    assert len(caught.value.excerpt) <= 200
    assert caught.value.excerpt.isprintable()


def test_the_error_names_what_was_read():
    """`what` begins the message."""
    with pytest.raises(DecodeError, match=r"^an event of the stream is not JSON \("):
        _json.loads(b"{", "an event of the stream")


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", ""),
        (b"  a\n\t b\x00\x1b[0m ", "a b [0m"),
        ("é🙂".encode(), "é🙂"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b"x" * 1000, "x" * 200),
        ("é".encode() * 1000, "é" * 200),
        (memoryview(b"abc"), "abc"),
    ],
)
def test_excerpts_are_short_and_printable(data, text):
    """Control characters become blanks, blanks are folded, at most 200 characters are shown."""
    assert _json.excerpt(data) == text


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=("Cs",))),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=("Cs",))), inner),
    max_leaves=8,
)  # fmt: skip


@settings(deadline=None)
@given(json_values)
def test_json_goes_round(value):
    """What can be written reads back as it was."""
    assert _json.loads(_json.dumps(value)) == value


@settings(deadline=None)
@given(
    json_values.filter(lambda value: value is not None),
    st.text(st.characters(categories=("Cs",)), min_size=1, max_size=3),
)
def test_surrogates_anywhere_never_fail_an_answer(value, surrogates):
    """With lone surrogates beside it, the rest of an answer reads as it was."""
    text = json.dumps([value, surrogates])
    found = _json.loads(text.encode())
    assert found[0] == value
    found[1].encode()


@settings(deadline=None)
@given(st.binary(max_size=30))
def test_any_bytes_are_json_or_a_decode_error(data):
    """Nothing else is ever raised."""
    for prefix in (b"", BOM, b'["\\ud800",'):
        try:
            _json.loads(prefix + data)
        except DecodeError as error:
            assert error.excerpt.isprintable()  # noqa: PT017


@settings(deadline=None)
@given(
    st.recursive(
        st.none() | st.floats() | st.integers() | st.text() | st.binary() | st.text(st.characters(categories=("Cs",))),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.integers(), inner, max_size=3),
        max_leaves=8,
    )
)
def test_any_value_is_written_or_a_configuration_error(value):
    """What is written is JSON of the same value; nothing else is ever raised."""
    try:
        text = _json.dumps(value)
    except ConfigurationError as error:
        assert error.path.startswith("body")  # noqa: PT017
    else:
        assert json.loads(text) == value
