"""Secrets do not come out in errors, however a server or a library writes them down."""

import json
import time
import traceback
from base64 import b64decode, b64encode, urlsafe_b64encode
from html import escape
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimclient._base.redaction import hide, redact, secrets_of
from nimclient.errors import APIStatusError, DecodeError, NimError, ProtocolError, StreamInterruptedError
from nimclient.records import ChatCompletion, Choice, Message

KEY = 'nvapi-abc/"def\\ghi-0123456789'
ESCAPED = "".join(f"\\u{ord(c):04X}" for c in KEY)

FORMS = {
    "as it is": KEY,
    "JSON escapes": json.dumps(KEY)[1:-1],
    "escaped slashes": json.dumps(KEY)[1:-1].replace("/", "\\/"),
    "code points": ESCAPED,
    "code points in lower case": ESCAPED.replace("\\u00", "\\U00").lower(),
    "some code points": KEY.replace("-", "\\u002d"),
    "JSON within JSON": json.dumps(json.dumps(KEY))[1:-1].strip('\\"'),
    "in a URL": quote(KEY, safe=""),
    "in a URL, with its slashes": quote(KEY),
    "in a URL within a URL": quote(quote(KEY, safe="")),
    "every character in a URL": "".join(f"%{ord(c):02x}" for c in KEY),
    "HTML": escape(KEY),
    "HTML, encoded twice": escape(escape(KEY)),
    "HTML, as numbers": "".join(f"&#{ord(c)};" for c in KEY),
    "HTML, as numbers of hex digits": "".join(f"&#x{ord(c):X};" for c in KEY),
    "Python's escapes": "".join(f"\\x{ord(c):02x}" for c in KEY),
    "base64": b64encode(KEY.encode()).decode(),
    "base64 for URLs": urlsafe_b64encode(KEY.encode()).decode(),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_key_is_found_in_every_form(form: str) -> None:
    """A key that is repeated with JSON escapes is hidden in message, body, detail, excerpt and param alike."""
    error = APIStatusError(
        f"bad key {form}", status=401, body=f'{{"key": "{form}"}}', detail=[{"msg": {"in": [form]}}], param=form
    )
    redact(error, [KEY])
    shown = f"{error} {vars(error)}"
    assert form not in shown
    assert shown.count("***") == 4


@pytest.mark.parametrize("before", ["", "k", "ke", "key", "Bearer ", '{"headers": {"authorization": "Bearer '])
@pytest.mark.parametrize("after", ["", "!", '"}}', " and more of a text"])
def test_a_key_within_a_text_in_base64(before: str, after: str) -> None:
    """Wherever in an encoded text the key lies, what of it depends on the key is hidden."""
    encoded = b64encode(f"{before}{KEY}{after}".encode()).decode()
    shown = hide(f"debug={encoded} status=401", [KEY])
    assert shown.startswith("debug=")
    assert shown.endswith("*** status=401")
    left = shown.removeprefix("debug=").partition("***")[0]
    assert KEY[1:4] not in b64decode(left + "A" * (-len(left) % 4)).decode("latin-1")


def test_a_password_of_other_letters() -> None:
    """Characters beyond ASCII are found as JSON and URLs write them."""
    password = "pässwört-😀-0123"
    for form in (password, json.dumps(password)[1:-1], quote(password)):
        assert hide(f"no: {form}!", [password]) == "no: ***!"


@pytest.mark.parametrize("size", [16, 20, len(KEY) - 1])
def test_a_key_that_is_cut_within_a_text(size: int) -> None:
    """Messages shorten what a server said and go on: the first part of a key that is left there is hidden."""
    assert hide(f"bad key {KEY[:size]}; check it", [KEY]) == "bad key ***; check it"
    assert hide("the model nvapi-ab is unknown", ["nvapi-ab-0123456789"]) == "the model nvapi-ab is unknown"


def test_looking_for_a_key_takes_linear_work() -> None:
    """No text of a server, however close it comes to the key again and again, takes more than some passes over it."""
    near = [KEY[:15] + "!", "\\", "%25", "&amp;", "\\u006", b64encode(KEY.encode()).decode()[:15] + "!"]
    for piece in near:
        text = piece * (2**20 // len(piece))
        began = time.process_time()
        assert hide(text, [KEY]).startswith(piece[:3])
        assert time.process_time() - began < 10  # 0.1 s; quadratic work would take an hour


def test_a_partial_answer_is_redacted() -> None:
    """A key that a model or a server writes into the answer is not in the partial answer of an error."""
    message = Message("assistant", f"the key is {KEY}.")
    partial = ChatCompletion(id="c", choices=(Choice(0, message, None),), model="m")
    error = StreamInterruptedError("stream interrupted", partial=partial)
    redact(error, [KEY])
    assert error.partial is not None
    assert error.partial.text == "the key is ***."
    assert message.content == f"the key is {KEY}."


def test_what_is_cut_off_is_hidden_too() -> None:
    """An excerpt that ends within the key does not show its first half."""
    error = DecodeError("the answer is not JSON", excerpt=f"Authorization: {KEY[:20]}")
    redact(error, [KEY])
    assert error.excerpt == "Authorization: ***"


def test_a_chain_that_shows_a_secret_is_cut() -> None:
    """An error of another library whose text or fields have the key is not what ours is chained to."""
    error = ProtocolError("no HTTP")
    error.__cause__ = error.__context__ = ValueError(f"Bad status line {KEY!r}")
    redact(error, [KEY])
    assert error.__cause__ is error.__context__ is None
    assert "nvapi-abc" not in "".join(traceback.format_exception(error))


def test_a_chain_without_secrets_stays() -> None:
    """What shows nothing is left as it is, and errors of ours within the chain are redacted."""
    inner = DecodeError("d", excerpt=KEY)
    inner.__cause__ = ValueError("harmless")
    error = NimError("outer")
    error.__cause__ = inner
    redact(error, [KEY])
    assert error.__cause__ is inner
    assert inner.excerpt == "***"
    assert isinstance(inner.__cause__, ValueError)


def test_a_chain_in_a_circle_ends() -> None:
    """Errors that are chained to each other are no trouble."""
    one, two = NimError(KEY), ValueError("v")
    one.__cause__, two.__cause__ = two, one
    redact(one, [KEY])
    assert str(one) == "***"


@pytest.mark.parametrize("key", ["x", "EMPTY", "1234567", ""])
def test_short_stand_ins_are_no_secrets(key: str) -> None:
    """A key of fewer than eight characters is not looked for: it would be found in other words."""
    error = NimError(f"{key} is EMPTY x")
    redact(error, [key])
    assert str(error) == f"{key} is EMPTY x".strip()


def test_the_secrets_of_a_request() -> None:
    """Credentials of any header, and the proxy's password as it is written, meant and sent."""
    headers = {"Authorization": "Bearer nvapi-12345678", "X-Auth-Token": "tok-12345678", "Accept": "application/json"}
    found = secrets_of(headers, "http://user:p%40ssw0rd@proxy:3128")
    assert {"nvapi-12345678", "tok-12345678", "p%40ssw0rd", "p@ssw0rd", "dXNlcjpwQHNzdzByZA=="} == set(found)
    assert "nvapi" not in repr(found)
    login = {"Authorization": "Basic dXNlcjpwQHNzdzByZA==", "Cookie": "theme=dark; session=s-0123456789"}
    assert {"dXNlcjpwQHNzdzByZA==", "p@ssw0rd", login["Cookie"], "s-0123456789"} == set(secrets_of(login, None))


@given(st.text('ab-\\u0/"', min_size=8, max_size=14), st.text(max_size=20), st.text(max_size=20))
def test_nothing_of_the_key_is_left(key: str, before: str, after: str) -> None:
    """Whatever stands around it, the key is gone from the text, written as it is or as JSON."""
    key = key.replace(" ", "-")
    for form in (key, json.dumps(key)[1:-1], quote(key, safe=""), escape(key)):
        assert form not in hide(before + form + after, [key]).replace("***", "\0")


def test_deep_values_end() -> None:
    """A value of a thousand levels is hidden as a whole where it shows the key."""
    deep: Any = KEY
    for _ in range(300):
        deep = [deep]
    error = APIStatusError("m", status=400, detail=deep)
    redact(error, [KEY])
    assert KEY not in repr(error.detail)
