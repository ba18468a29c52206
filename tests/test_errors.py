"""The error tree is what its docstring draws; every error pickles, copies, and is one line of text."""

import copy
import inspect
import pickle
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimclient import errors
from nimclient.errors import NimError
from nimclient.records.chat import decode_chat

PARTIAL = decode_chat({"choices": [{"message": {"content": "Hi"}}]})
EXAMPLES = [
    errors.NimError("x"),
    errors.ConfigurationError("x", path="body.a"),
    errors.ClientClosedError("x"),
    errors.TransportError("x", phase="body", attempts=3),
    errors.ConnectError("x", kind="tls", attempts=2),
    errors.ConnectionLostError("x", phase="send", reused=True, attempts=2),
    errors.ProtocolError("x", phase="headers"),
    errors.RedirectError("x", host="evil.test"),
    errors.BodyTooLargeError("x", limit=5),
    errors.RequestTimeoutError("x", phase="idle", seconds=0.5, attempts=2),
    *[
        kind(
            "x",
            status=400,
            code="c",
            type="t",
            param="p",
            detail=[{"a": 1}],
            request_id="r",
            retry_after=1.5,
            body="b",
            attempts=4,
        )
        for kind in (
            errors.APIStatusError,
            errors.BadRequestError,
            errors.ContextLengthError,
            errors.AuthenticationError,
            errors.PermissionDeniedError,
            errors.NotFoundError,
            errors.ModelNotFoundError,
            errors.GoneError,
            errors.RequestTooLargeError,
            errors.UnprocessableEntityError,
            errors.RateLimitError,
            errors.ServerError,
            errors.ServiceUnavailableError,
        )
    ],
    errors.StreamError("x", partial=PARTIAL),
    errors.StreamFaultError("x", code=503, type="t", partial=PARTIAL),
    errors.StreamInterruptedError("x", partial=PARTIAL),
    *[
        kind("x", path="data[0]", excerpt="e", status=200, request_id="r")
        for kind in (errors.DecodeError, errors.EmbeddingMismatchError, errors.RerankMismatchError)
    ],
    *[
        kind("x", text="t", path="a.b")
        for kind in (
            errors.OutputError,
            errors.OutputTruncatedError,
            errors.OutputRefusedError,
            errors.OutputInvalidError,
        )
    ],
    errors.ToolError("x", path="a.b", messages=[PARTIAL.choices[0].message]),
    errors.BatchError("x", completed=[1], failures=[2]),
    errors.JobError("x"),
    errors.JobMismatchError("x"),
    errors.JobStoreError("x"),
]
CLASSES = {
    name: value
    for name, value in vars(errors).items()
    if inspect.isclass(value) and issubclass(value, NimError) and not name.startswith("_")
}


def drawn():
    """(name, name of the parent) of every line of the tree in the module's docstring."""
    parents, found = {}, []
    for line in errors.__doc__.splitlines():
        if match := re.match(r"^ {4}([│├└─ ]*)([A-Z]\w+)", line):
            depth = len(match[1]) // 4
            found.append((match[2], parents.get(depth - 1)))
            parents[depth] = match[2]
    return found


def test_the_drawn_tree_is_the_real_one():
    """Every class stands in the docstring, once, under its parent."""
    tree = drawn()
    assert sorted(name for name, _ in tree) == sorted(CLASSES)
    for name, parent in tree:
        assert CLASSES[name].__bases__[0].__name__ == (parent or "Exception")


@pytest.mark.parametrize(
    ("name", "base"),
    [("ConfigurationError", ValueError), ("ClientClosedError", RuntimeError), ("RequestTimeoutError", TimeoutError)],
)
def test_errors_that_are_errors_of_python(name, base):
    """They can be caught as what Python users expect, and the docstring says so."""
    assert issubclass(CLASSES[name], base)
    assert f"{name} ({base.__name__})" in errors.__doc__


def test_every_class_has_an_example_here():
    """The tests below speak of the whole tree."""
    assert {type(error) for error in EXAMPLES} == set(CLASSES.values())


def state(error):
    names = {name for kind in type(error).__mro__ for name in getattr(kind, "__annotations__", {})}
    return {name: getattr(error, name) for name in names} | vars(error) | {"args": error.args, "text": str(error)}


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_every_error_pickles_and_copies(error):
    """With every pickle protocol and as a copy, an error keeps its type, text and attributes, added ones included."""
    error.index, error.completed = 7, (1, 2)
    error.partial = error.partial or PARTIAL
    error.add_note("a note")
    twins = [pickle.loads(pickle.dumps(error, protocol)) for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1)]
    for twin in (*twins, copy.copy(error), copy.deepcopy(error)):
        assert type(twin) is type(error)
        assert twin is not error
        assert state(twin) == state(error)
        assert twin.__notes__ == ["a note"]


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_attributes_are_those_annotated(error):
    """Every attribute an error has is declared by its class, and every declared one is set."""
    declared = {name for kind in type(error).__mro__ for name in getattr(kind, "__annotations__", {})}
    assert set(vars(type(error)(*_arguments(error), **_keywords(error)))) <= declared
    assert all(hasattr(error, name) for name in declared)


def _arguments(error):
    return (error.message,)


def _keywords(error):
    names = inspect.signature(type(error).__init__).parameters
    return {name: getattr(error, name) for name in names if name not in ("self", "message")}


def test_defaults_where_nothing_is_said():
    """What does not apply is None, empty, or one attempt."""
    error = errors.NimError("x")
    assert (error.partial, error.index, error.completed) == (None, None, ())
    assert (errors.TransportError("x").phase, errors.TransportError("x").attempts) == (None, 1)
    assert (errors.ConnectError("x", kind="dns").phase, errors.BodyTooLargeError("x", limit=1).phase) == (
        "connect",
        "body",
    )
    assert errors.RedirectError("x", host="h").phase == "headers"
    status = errors.APIStatusError("x", status=500)
    assert (status.code, status.detail, status.request_id, status.retry_after, status.body) == (
        None,
        None,
        None,
        None,
        "",
    )
    assert errors.BatchError("x").failures == ()


@pytest.mark.parametrize("text", ["a\nb", "a\r\nb", " a \t b ", "a\x0bb", "a\x85b", "a\u2028b\n\n"])
def test_messages_are_one_line(text):
    """White space of any kind is folded into blanks."""
    error = errors.DecodeError(text)
    assert (error.message, str(error), error.args) == ("a b", "a b", ("a b",))


@given(st.text())
def test_any_message_is_one_line(text):
    """Whatever a server says."""
    assert len(NimError(text).message.splitlines()) <= 1


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (400, 400),
        (599, 599),
        ("503", 503),
        (399, None),
        (600, None),
        (200, None),
        (None, None),
        ("overloaded", None),
        ("-500", None),
        ("5e2", None),
        ("²", None),
        (-500, None),
        (10**30, None),
    ],
)
def test_the_status_of_a_stream_fault(code, status):
    """A code of 400 to 599, also as text, is an HTTP status; anything else is none."""
    error = errors.StreamFaultError("x", code=code)
    assert (error.code, error.status) == (code, status)


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "[31mred [0m"),
        ("a\x07b\x00c\x9bd", "a b c d"),
        ("one\r\ntwo\u2028three", "one two three"),
        ("abc\u202egnp.exe\u2066x", "abcgnp.exex"),
        ("half \ud83d of a pair", "half \ufffd of a pair"),
        ("Grüße, 你好 👩\u200d💻", "Grüße, 你好 👩\u200d💻"),
    ],
)
def test_no_server_writes_to_the_terminal(words: str, shown: str) -> None:
    """Escape sequences, marks of writing direction and lone surrogates are not part of an error's text."""
    error = errors.BadRequestError(words, status=400)
    assert str(error) == shown
    assert str(pickle.loads(pickle.dumps(error))) == shown
    str(error).encode()


@pytest.mark.parametrize("code", ["9" * 5000, "٤٢٩", "0429", 9**500, -429, "", None])
def test_a_code_that_is_no_status(code: str | int | None) -> None:
    """A code of any length that is not three ASCII digits from 400 to 599 is no HTTP status, and no trouble."""
    assert errors.StreamFaultError("m", code=code).status is None


def test_no_text_is_endless() -> None:
    """A value of five megabytes in an error's text is cut: a log line stays one that can be read."""
    error = errors.DecodeError(f"index {'9' * 5_000_000} is none")
    assert str(error).startswith("index 999")
    assert len(str(error)) < 10_000
    assert str(error).endswith("…")
