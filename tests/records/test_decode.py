"""The helpers that read JSON tolerantly, and the public names of the records."""

import pytest

from nimclient import ResponseMeta, records
from nimclient.errors import DecodeError, RerankMismatchError
from nimclient.records import Headers, _decode


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (None, "null"),
        (True, "a boolean"),
        (1, "a number"),
        (1.5, "a number"),
        ("x", "a string"),
        ([], "a list"),
        ({}, "an object"),
        ((), "tuple"),
    ],
)
def test_types_have_their_json_names(value, name):
    """Messages speak of JSON, not of Python."""
    assert _decode.kind_of(value) == name


@pytest.mark.parametrize(
    ("read", "value", "words"),
    [(_decode.as_object, [], "an object, got a list"), (_decode.as_list, {}, "a list, got an object")],
)
def test_the_spine_is_checked(read, value, words):
    """Another type is a DecodeError that names the place and both types."""
    with pytest.raises(DecodeError, match=f"^the response's a.b: expected {words}$") as caught:
        read(value, "a.b")
    assert (caught.value.path, caught.value.status, caught.value.request_id) == ("a.b", None, None)


@pytest.mark.parametrize(("read", "value"), [(_decode.as_object, {"a": 1}), (_decode.as_list, [1])])
def test_what_fits_is_handed_back(read, value):
    """The value itself, not a copy."""
    assert read(value, "x") is value


def test_wrong_tells_what_is_known_of_the_exchange():
    """Status and request id are on the error, the id also in its text; the class can be chosen."""
    meta = ResponseMeta(200, Headers([(b"x-request-id", b"r-1")]), "http://host")
    error = _decode.wrong("odd", "data", meta, RerankMismatchError)
    assert type(error) is RerankMismatchError
    assert str(error) == "the response's data: odd (request id r-1)"
    assert (error.status, error.request_id) == (200, "r-1")


@pytest.mark.parametrize(
    ("read", "value", "expected"),
    [
        (_decode.object_or_empty, {"a": 1}, {"a": 1}),
        (_decode.object_or_empty, [1], {}),
        (_decode.object_or_empty, None, {}),
        (_decode.objects, [{}, 1, None, {"a": 1}], [{}, {"a": 1}]),
        (_decode.objects, {"a": 1}, []),
        (_decode.objects, None, []),
        (_decode.text_or_none, "x", "x"),
        (_decode.text_or_none, "", ""),
        (_decode.text_or_none, 5, None),
        (_decode.whole_number, 5, 5),
        (_decode.whole_number, -5, -5),
        (_decode.whole_number, True, None),
        (_decode.whole_number, 5.0, 5),
        (_decode.whole_number, 5.5, None),
        (_decode.whole_number, float("inf"), None),
        (_decode.whole_number, "5", 5),
        (_decode.whole_number, "-5", None),
        (_decode.whole_number, "5.0", None),
        (_decode.whole_number, "\u0665", None),
        (_decode.whole_number, "9" * 5000, None),
        (_decode.whole_number, "", None),
    ],
)
def test_leaves_are_read_tolerantly(read, value, expected):
    """A value of the type, or nothing."""
    assert read(value) == expected


def test_all_public_names_exist():
    """Every name of __all__ is there, once and sorted."""
    assert all(hasattr(records, name) for name in records.__all__)
    assert list(records.__all__) == sorted(set(records.__all__))
