"""Settings are checked when they are set; a key goes where it may and shows nowhere."""

import copy
import math
import pickle
import traceback

import pytest
from attrs import evolve

from nimclient import AsyncClient, Limits, RetryPolicy, Timeouts
from nimclient._base.config import (
    ClientConfig,
    Credentials,
    Secret,
    check_dialect,
    check_headers,
    check_key,
    check_models,
    environment_base_url,
    environment_key,
    is_credential_header,
    is_nvidia,
    proxy_for,
    resolve_timeouts,
)
from nimclient.errors import ConfigurationError

KEY = "nvapi-S3CRET"


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch):
    """No key and no proxy of the machine reaches these tests."""
    proxies = [f"{name}_proxy" for name in ("http", "https", "all", "no")]
    for name in ("NVIDIA_API_KEY", "NVIDIA_NIM_API_KEY", "NVIDIA_BASE_URL", "REQUEST_METHOD", *proxies):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


# time limits, retries, capacity ----------------------------------------------------------------------------------------


def test_defaults_are_those_of_the_public_face():
    """What api.md promises where the caller says nothing."""
    assert Timeouts() == Timeouts(connect=5, pool=None, headers=600, first_event=600, idle=300, total=None)
    assert RetryPolicy() == RetryPolicy(attempts=3, first_delay=0.5, max_delay=8, max_retry_after=60, patience=None)
    assert Limits() == Limits(concurrency=1000, max_body=256 * 2**20, max_event=16 * 2**20, requests_per_minute=None)


@pytest.mark.parametrize("name", ["connect", "pool", "headers", "first_event", "idle", "total"])
def test_a_time_limit_is_seconds_or_off(name):
    """None and any number from 0 pass; everything else is a ConfigurationError that names the limit."""
    for value in (None, 0, 0.001, 5, 1e9):
        assert getattr(Timeouts(**{name: value}), name) == value
    for value in (-1, -0.001, math.nan, math.inf, True, "5", (5,)):
        with pytest.raises(ConfigurationError, match=rf"^Timeouts\({name}=…\) "):
            Timeouts(**{name: value})


@pytest.mark.parametrize(
    ("kind", "name", "good", "bad"),
    [
        (RetryPolicy, "attempts", [1, 2, 100], [0, -1, None, 1.5, 2.0, True, "3", math.inf]),
        (RetryPolicy, "first_delay", [0, 0.5], [-1, None, math.nan, "1"]),
        (RetryPolicy, "max_delay", [0, 8.5], [-1, None, math.inf]),
        (RetryPolicy, "max_retry_after", [0, 60], [-1, None]),
        (RetryPolicy, "patience", [None, 0, 900.5], [-1, math.inf, True]),
        (Limits, "concurrency", [None, 1, 10**6], [0, -1, 1.5, 2.0, True]),
        (Limits, "max_body", [None, 1], [0, 0.5]),
        (Limits, "max_event", [None, 1], [0, "16"]),
        (Limits, "requests_per_minute", [None, 0.5, 40], [0, -1, math.nan]),
        (Limits, "tokens_per_minute", [None, 0.5, 1e6], [0, -1, math.nan, True]),
    ],
)
def test_policies_and_limits_are_checked(kind, name, good, bad):
    """Each field takes what its docstring says, and a ConfigurationError names the field."""
    for value in good:
        assert getattr(kind(**{name: value}), name) == value
    for value in bad:
        with pytest.raises(ConfigurationError, match=rf"^{kind.__name__}\({name}=…\) "):
            kind(**{name: value})


@pytest.mark.parametrize("settings", [Timeouts(total=1), RetryPolicy(attempts=1), Limits(concurrency=1)])
def test_settings_are_frozen_values(settings):
    """They pickle, copy with other values (checked again), take keywords only and cannot be changed."""
    assert pickle.loads(pickle.dumps(settings)) == settings
    name = next(iter(settings.__slots__))
    with pytest.raises(AttributeError):
        setattr(settings, name, 1)
    with pytest.raises(ConfigurationError):
        evolve(settings, **{name: -1})
    with pytest.raises(TypeError):
        type(settings)(1)


@pytest.mark.parametrize(
    ("timeout", "expected"),
    [
        (None, Timeouts(idle=1)),
        (3, Timeouts(idle=1, total=3)),
        (0.5, Timeouts(idle=1, total=0.5)),
        (Timeouts(connect=2), Timeouts(connect=2)),
    ],
)
def test_the_timeout_of_a_call(timeout, expected):
    """Seconds are the total of the call; a Timeouts replaces the client's."""
    assert resolve_timeouts(Timeouts(idle=1), timeout) == expected


@pytest.mark.parametrize("timeout", ["3", True, -1, math.nan, (1, 2)])
def test_an_impossible_timeout_is_refused(timeout):
    """Anything else is a ConfigurationError."""
    with pytest.raises(ConfigurationError):
        resolve_timeouts(Timeouts(), timeout)


# the key ---------------------------------------------------------------------------------------------------------------

BAD_KEYS = [
    ("", "is empty"),
    (f"{KEY}\n", "13 characters"),
    (f" {KEY}", "13 characters"),
    (f"{KEY}\r\nX-Evil: 1", "23 characters"),
    (f"{KEY}\x00", "13 characters"),
    (f"{KEY}\u2028", "13 characters"),
    (f"{KEY}é", "13 characters"),
    (f"{KEY}\x7f", "13 characters"),
    (KEY * 1000, "12000 characters"),
]
WRONG_TYPES = [(KEY.encode(), "bytes"), (5, "int"), ([KEY], "list"), ({KEY: KEY}, "dict")]


@pytest.mark.parametrize(("key", "words"), BAD_KEYS)
def test_a_key_that_cannot_stand_in_a_header_is_refused_by_its_length(key, words):
    """Line breaks, blanks, control and other characters: the error tells the length, never the key."""
    for make in (Secret, lambda key: Secret(lambda: key).reveal(), check_key):
        with pytest.raises(ConfigurationError, match=f"^api_key .*{words}") as caught:
            make(key)
        assert "S3CRET" not in "".join(traceback.format_exception_only(caught.value))


@pytest.mark.parametrize(("key", "kind"), WRONG_TYPES)
def test_a_key_of_another_type_is_refused_by_its_type(key, kind):
    """bytes and other things are no keys; the error names the type, never the key."""
    for make in (Secret, lambda key: Secret(lambda: key).reveal()):
        with pytest.raises(ConfigurationError, match=f"not {kind}") as caught:
            make(key)
        assert "S3CRET" not in str(caught.value)


def ask():
    return KEY


def test_a_secret_shows_nowhere():
    """Neither repr, str, format nor containers show it; the header's value hides itself."""
    for secret in (Secret(KEY), Secret(ask)):
        assert secret.reveal() == KEY
        assert secret.bearer() == f"Bearer {KEY}"
        shown = [
            repr(secret),
            str(secret),
            f"{secret}",
            repr([secret]),
            repr(secret.bearer()),
            repr({"a": secret.bearer()}),
        ]
        assert "S3CRET" not in "".join(shown)
        assert not hasattr(secret, "__dict__")


def test_a_literal_secret_is_not_pickled():
    """Pickling and copying it is a TypeError; a callable goes by reference."""
    for dump in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError, match="a literal key is not pickled"):
            dump(Secret(KEY))
    data = pickle.dumps(Secret(ask))
    assert b"S3CRET" not in data
    assert pickle.loads(data).reveal() == KEY
    assert (Secret(KEY).is_literal, Secret(ask).is_literal) == (True, False)


def test_a_callable_is_asked_each_time():
    """A key that is rotated is found."""
    keys = iter(["a", "b"])
    secret = Secret(lambda: next(keys))
    assert [secret.reveal(), secret.reveal()] == ["a", "b"]


@pytest.mark.parametrize(("value", "key"), [(None, None), ("", None), ("  ", None), (f" {KEY}\n", KEY)])
def test_keys_of_the_environment_are_stripped(monkeypatch, value, key):
    """Blank is as good as unset; a line break at the end, as files leave it, is taken off."""
    if value is not None:
        monkeypatch.setenv("NVIDIA_API_KEY", value)
        monkeypatch.setenv("NVIDIA_BASE_URL", value)
    secret = environment_key("NVIDIA_API_KEY")
    assert (secret and secret.reveal()) == key
    assert environment_base_url() == key


def test_a_bad_key_of_the_environment_names_the_variable(monkeypatch):
    """The error says where the key came from."""
    monkeypatch.setenv("NVIDIA_API_KEY", "a b")
    with pytest.raises(ConfigurationError, match=r"^NVIDIA_API_KEY \(3 characters\)"):
        environment_key("NVIDIA_API_KEY")


HOSTED, OTHER_HOSTED, ASSETS = (
    "https://integrate.api.nvidia.com",
    "https://ai.api.nvidia.com",
    "https://api.nvcf.nvidia.com",
)
LOCAL, ENDPOINT, STRANGER = "http://localhost:8000", "https://endpoint.test", "https://stranger.test"
EVERYONE = (HOSTED, OTHER_HOSTED, ASSETS, LOCAL, ENDPOINT, STRANGER)


@pytest.mark.parametrize(
    ("origin", "nvidia"),
    [
        (HOSTED, True),
        (OTHER_HOSTED, True),
        (ASSETS, True),
        ("https://integrate.api.nvidia.com:8443", True),
        ("http://integrate.api.nvidia.com", False),
        ("https://api.nvidia.com", False),
        ("https://evilapi.nvidia.com", False),
        ("https://integrate.api.nvidia.com.evil.test", False),
        ("https://evil.test:443", False),
        ("https://nvidia.com", False),
        ("https://other.nvcf.nvidia.com", False),
        (LOCAL, False),
    ],
)
def test_nvidias_own_hosts(origin, nvidia):
    """https and *.api.nvidia.com or the asset host, nothing that only looks like it."""
    assert is_nvidia(origin) is nvidia


@pytest.mark.parametrize(
    ("given", "base", "from_environment", "expected"),
    [
        # an explicit key: the configured origins, and NVIDIA's hosts when the base URL is one of them
        ({"api_key": "arg"}, LOCAL, False, {LOCAL: "arg", ENDPOINT: "arg"}),
        ({"api_key": "arg"}, HOSTED, False, {HOSTED: "arg", OTHER_HOSTED: "arg", ASSETS: "arg", ENDPOINT: "arg"}),
        ({"api_key": "arg"}, LOCAL, True, {LOCAL: "arg", ENDPOINT: "arg"}),
        ({"api_key": "arg", "NVIDIA_API_KEY": "env"}, LOCAL, False, {LOCAL: "arg", ENDPOINT: "arg"}),
        ({"api_key": "arg", "NVIDIA_NIM_API_KEY": "nim"}, LOCAL, False, {LOCAL: "arg", ENDPOINT: "arg"}),
        # NVIDIA_API_KEY: NVIDIA's own hosts, and a base URL that comes from NVIDIA_BASE_URL
        ({"NVIDIA_API_KEY": "env"}, HOSTED, False, {HOSTED: "env", OTHER_HOSTED: "env", ASSETS: "env"}),
        ({"NVIDIA_API_KEY": "env"}, LOCAL, False, {HOSTED: "env", OTHER_HOSTED: "env", ASSETS: "env"}),
        ({"NVIDIA_API_KEY": "env"}, LOCAL, True, {HOSTED: "env", OTHER_HOSTED: "env", ASSETS: "env", LOCAL: "env"}),
        # NVIDIA_NIM_API_KEY: any configured origin
        ({"NVIDIA_NIM_API_KEY": "nim"}, LOCAL, False, {LOCAL: "nim", ENDPOINT: "nim"}),
        (
            {"NVIDIA_NIM_API_KEY": "nim", "NVIDIA_API_KEY": "env"},
            LOCAL,
            False,
            {LOCAL: "nim", ENDPOINT: "nim", HOSTED: "env", OTHER_HOSTED: "env", ASSETS: "env"},
        ),
        # none
        ({}, LOCAL, False, {}),
        ({}, HOSTED, True, {}),
    ],
)
def test_which_key_goes_to_which_origin(monkeypatch, given, base, from_environment, expected):
    """The table of api.md; a stranger gets no key whatever is set."""
    given = dict(given)
    api_key = given.pop("api_key", None)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    credentials = Credentials.gather(api_key, base_from_environment=from_environment)
    found = {origin: credentials.for_origin(origin, base, frozenset({base, ENDPOINT})) for origin in EVERYONE}
    assert {origin: secret.reveal() for origin, secret in found.items() if secret} == expected


def config(credentials):
    return ClientConfig(
        base_urls=(f"{LOCAL}/v1",),
        credentials=credentials,
        models={},
        timeouts=Timeouts(),
        retry=RetryPolicy(),
        limits=Limits(),
        dialect=None,
        headers=check_headers({"X-Team": "S3CRET"}),
        verify=True,
        cert=None,
        proxy="http://u:S3CRET@proxy",
        trust_env=True,
        catalog={},
        strict=False,
        on_attempt=None,
    )


def test_a_configuration_shows_no_secret():
    """Its repr hides keys, header values and the proxy."""
    assert "S3CRET" not in repr(config(Credentials(Secret(KEY), Secret(KEY))))


@pytest.mark.parametrize("from_environment", [False, True])
def test_literal_keys_stay_here(monkeypatch, from_environment):
    """A pickle carries no literal key; the copy takes one from its own environment, else goes without."""
    monkeypatch.setenv("NVIDIA_API_KEY", KEY)
    for api_key in (KEY, None):
        portable = Credentials.gather(api_key, base_from_environment=from_environment).portable()
        data = pickle.dumps(portable)
        assert b"S3CRET" not in data
        assert (portable.everywhere, portable.catalog) == (None, None)
        copied = pickle.loads(data).completed()
        assert copied.for_origin(HOSTED, HOSTED).reveal() == KEY
        assert (copied.for_origin(LOCAL, LOCAL) is not None) is from_environment
    monkeypatch.delenv("NVIDIA_API_KEY")
    assert pickle.loads(data).completed().for_origin(HOSTED, HOSTED) is None


def test_a_callable_key_goes_with_the_pickle(monkeypatch):
    """What can be found again is carried by reference, and goes before the environment."""
    monkeypatch.setenv("NVIDIA_NIM_API_KEY", "other")
    credentials = pickle.loads(pickle.dumps(Credentials.gather(ask, base_from_environment=False).portable()))
    assert credentials.completed() is credentials
    assert credentials.for_origin(LOCAL, LOCAL).reveal() == KEY


# proxies ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "url", "proxy"),
    [
        ({}, "http://host", None),
        ({"http_proxy": "http://p:1"}, "http://host", "http://p:1"),
        ({"HTTP_PROXY": "http://p:1"}, "http://host", "http://p:1"),
        ({"http_proxy": "p:1"}, "http://host", "http://p:1"),
        ({"http_proxy": "http://p:1"}, "https://host", None),
        ({"https_proxy": "http://p:1"}, "https://host:8443", "http://p:1"),
        ({"all_proxy": "http://p:1"}, "https://host", "http://p:1"),
        ({"https_proxy": "http://p:1", "all_proxy": "http://p:2"}, "https://host", "http://p:1"),
        ({"http_proxy": ""}, "http://host", None),
        ({"no_proxy": "host"}, "http://host", None),
        ({"all_proxy": "http://p:1", "no_proxy": "*"}, "http://host", None),
        ({"all_proxy": "http://p:1", "NO_PROXY": "host"}, "http://host:8000", None),
        ({"all_proxy": "http://p:1", "no_proxy": "host:8000"}, "http://host:8000", None),
        ({"all_proxy": "http://p:1", "no_proxy": "host:8000"}, "http://host:9000", "http://p:1"),
        ({"all_proxy": "http://p:1", "no_proxy": ".example.test"}, "http://a.example.test", None),
        ({"all_proxy": "http://p:1", "no_proxy": "example.test"}, "http://a.example.test", None),
        ({"all_proxy": "http://p:1", "no_proxy": "example.test"}, "http://badexample.test", "http://p:1"),
        ({"all_proxy": "http://p:1", "no_proxy": "a, localhost ,b"}, "http://localhost:8000", None),
        ({"all_proxy": "http://p:1", "no_proxy": "localhost"}, "http://host", "http://p:1"),
        ({"all_proxy": "http://p:1", "no_proxy": "a\nlocalhost\r\n  b"}, "http://localhost:8000", None),
        ({"all_proxy": "http://p:1", "no_proxy": "127.0.0.0/8"}, "http://127.3.2.1:8000", None),
        ({"all_proxy": "http://p:1", "no_proxy": '"localhost,127.0.0.0/8"'}, "http://127.3.2.1", None),
        ({"all_proxy": "http://p:1", "no_proxy": "127.0.0.0/8,10.0.0.0/8"}, "http://10.1.2.3", None),
        ({"all_proxy": "http://p:1", "no_proxy": "127.0.0.1/8"}, "http://127.3.2.1", None),
        ({"all_proxy": "http://p:1", "no_proxy": "127.0.0.0/8"}, "http://128.0.0.1", "http://p:1"),
        ({"all_proxy": "http://p:1", "no_proxy": "127.0.0.0/8"}, "http://127.example.test", "http://p:1"),
        ({"all_proxy": "http://p:1", "no_proxy": "fd00::/8"}, "http://[fd12::1]:8000", None),
        ({"all_proxy": "http://p:1", "no_proxy": "[::1]:8000"}, "http://[::1]:8000", None),
        ({"all_proxy": "http://p:1", "no_proxy": "[::1]:8000"}, "http://[::1]:9000", "http://p:1"),
        ({"all_proxy": "http://p:1", "no_proxy": "10.0.0.1:80/8, 10.0.0.1"}, "http://10.0.0.1", None),
        ({"all_proxy": "http://p:1", "no_proxy": "*.example.test"}, "http://A.example.TEST", None),
        ({"all_proxy": "socks5://p:1", "no_proxy": "host"}, "http://host", None),
        ({"all_proxy": "socks5://p:1", "http_proxy": "http://p:2"}, "http://host", "http://p:2"),
    ],
)
def test_proxies_of_the_environment(monkeypatch, environment, url, proxy):
    """The proxy of the scheme, else all_proxy, unless no_proxy names the host, its domain, or its port."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert proxy_for(url) == proxy


@pytest.mark.parametrize("scheme", ["socks5", "socks5h", "SOCKS4", "ftp"])
def test_proxies_that_do_not_speak_http(monkeypatch, scheme):
    """A SOCKS proxy of the environment is one error that says so, without its credentials."""
    monkeypatch.setenv("all_proxy", f"{scheme}://user:word@p:1080")
    with pytest.raises(ConfigurationError, match="no SOCKS") as caught:
        proxy_for("https://host:8443")
    assert "word" not in str(caught.value)


# other settings --------------------------------------------------------------------------------------------------------


def test_headers_are_copied_and_hidden():
    """The values work as they are and do not show; None is no headers."""
    given = {"X-Team": "S3CRET"}
    checked = check_headers(given)
    assert checked == given
    assert checked is not given
    assert repr(checked) == "{'X-Team': '***'}"
    assert check_headers(None) == {}


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({"": "x"}, "invalid header name ''"),
        ({"a b": "x"}, "invalid header name 'a b'"),
        ({"a:": "x"}, "invalid header name"),
        ({"a\n": "x"}, "invalid header name"),
        ({"é": "x"}, "invalid header name"),
        ({"a": "S3CRET\r\nb: c"}, r"extra_headers\['a'\] has a line break or another control"),
        ({"a": "S3CRET\n"}, "line break"),
        ({"a": "S3CRET\0"}, "control character"),
        ({"a": "S3CRET\x1b[0m"}, "control character"),
        ({"a": "S3CRET\x7f"}, "control character"),
        ({"a(b)": "S3CRET"}, "invalid header name"),
        ({"Transfer-Encoding": "chunked"}, "must not hold Transfer-Encoding"),
        ({"content-length": "5"}, "must not hold content-length"),
        ({"a": 5}, "takes str names and values, not str: int"),
        ({5: "S3CRET"}, "not int: str"),
        ({"a": b"S3CRET"}, "not str: bytes"),
        ({"a": None}, "not str: NoneType"),
    ],
)
def test_headers_that_cannot_stand_in_a_request_are_refused(headers, words):
    """Impossible names, line breaks and other types: the error names the header, never its value."""
    with pytest.raises(ConfigurationError, match=words) as caught:
        check_headers(headers, "extra_headers")
    assert "S3CRET" not in str(caught.value)


def test_dialects():
    """The four we know and None pass; anything else is rejected with the choice."""
    assert [check_dialect(d) for d in ("nim", "vllm", "dynamo", "hosted", None)] == [
        "nim",
        "vllm",
        "dynamo",
        "hosted",
        None,
    ]
    for dialect in ("VLLM", "", "openai", 5):
        with pytest.raises(ConfigurationError, match="choose one of nim, vllm, dynamo, hosted or None"):
            check_dialect(dialect)


@pytest.mark.parametrize(
    ("model", "models"),
    [
        (None, {}),
        ("m", {"*": "m"}),
        ({}, {}),
        ({"chat": "a", "embedding": "b", "ranking": "c", "completions": "d"},) * 2,
    ],
)
def test_default_models(model, models):
    """A str is for every kind of call, a mapping for each kind its own."""
    assert check_models(model) == models


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("", r"model\['\*'\] must be a model id"),
        ({"chat": ""}, r"model\['chat'\] must be a model id"),
        ({"chat": None}, "not None"),
        ({"embeddings": "m"}, "has the key 'embeddings'; the kinds are chat, embedding"),
        (["m"], "takes a str or a mapping of kinds, not list"),
        (5, "not int"),
    ],
)
def test_impossible_default_models_are_refused(model, words):
    """Unknown kinds, empty ids and other types are ConfigurationErrors."""
    with pytest.raises(ConfigurationError, match=words):
        check_models(model)


def test_on_nvidias_hosts_their_own_key_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """With both variables set, NVIDIA's hosts get NVIDIA_API_KEY and a configured origin gets NVIDIA_NIM_API_KEY."""
    monkeypatch.setenv("NVIDIA_API_KEY", "catalog-key")
    monkeypatch.setenv("NVIDIA_NIM_API_KEY", "nim-key")
    credentials = Credentials.gather(None, base_from_environment=False)
    hosted = "https://integrate.api.nvidia.com"
    for origin, base, key in [(hosted, hosted, "catalog-key"), ("http://nim:8000", "http://nim:8000", "nim-key")]:
        secret = credentials.for_origin(origin, base)
        assert secret is not None
        assert secret.reveal() == key


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ('"nvapi-0123456789"', "has quotes around it"),
        ("'nvapi-0123456789'", "has quotes around it"),
        ("\u201cnvapi-0123456789\u201d", "has quotes around it"),
        ("nvapi-0123456789'", "has quotes around it"),
        ("\ufeffnvapi-0123456789", "byte-order mark"),
        ("\u00ef\u00bb\u00bfnvapi-0123456789", "byte-order mark"),
        ("Bearer nvapi-0123456789", 'begins with "Bearer "'),
    ],
)
def test_a_key_as_env_files_leave_it(monkeypatch: pytest.MonkeyPatch, value: str, words: str) -> None:
    """Quotes, a byte-order mark or a scheme around a key are named before anything is sent; the key is not shown."""
    with pytest.raises(ConfigurationError, match=words) as given:
        Secret(value)
    monkeypatch.setenv("NVIDIA_API_KEY", value)
    with pytest.raises(ConfigurationError, match=f"NVIDIA_API_KEY .*{words}") as found:
        environment_key("NVIDIA_API_KEY")
    assert "0123456789" not in f"{given.value}{found.value}"


@pytest.mark.parametrize("value", ['"http://nim:8000/v1"', "'http://nim:8000/v1'"])
def test_a_base_url_in_quotes_names_the_variable(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """NVIDIA_BASE_URL with quotes around it, and any other fault of it, is blamed on NVIDIA_BASE_URL."""
    monkeypatch.setenv("NVIDIA_BASE_URL", value)
    with pytest.raises(ConfigurationError, match="NVIDIA_BASE_URL has quotes around it"):
        AsyncClient()
    monkeypatch.setenv("NVIDIA_BASE_URL", "nim:8000")
    with pytest.raises(ConfigurationError, match=r"^NVIDIA_BASE_URL must look like"):
        AsyncClient()


@pytest.mark.parametrize(
    ("credentials", "origin", "note"),
    [
        (Credentials(), "http://nim:8000", "none was sent, since neither api_key= nor"),
        (Credentials(everywhere=Secret(KEY)), "http://nim:8000", "that of api_key was sent"),
        (Credentials(everywhere=Secret(KEY)), "http://other:1", "none was sent: that of api_key goes to the origins"),
        (
            Credentials(catalog=Secret(KEY, "NVIDIA_API_KEY")),
            "http://nim:8000",
            "none was sent: NVIDIA_API_KEY goes to",
        ),
        (
            Credentials(catalog=Secret(KEY, "NVIDIA_API_KEY")),
            "https://integrate.api.nvidia.com",
            "that of NVIDIA_API_KEY was sent",
        ),
        (
            Credentials(everywhere=Secret(lambda: KEY, "NVIDIA_NIM_API_KEY")),
            "http://nim:8000",
            "that of NVIDIA_NIM_API_KEY was sent",
        ),
    ],
)
def test_which_key_was_sent_in_words(credentials: Credentials, origin: str, note: str) -> None:
    """What is said after a 401: where the key came from, or why there was none."""
    assert credentials.note(origin, "http://nim:8000").startswith(note)


@pytest.mark.parametrize(
    ("name", "holds"),
    [
        ("Authorization", True),
        ("x-auth-token", True),
        ("PRIVATE-TOKEN", True),
        ("Ocp-Apim-Subscription-Key", True),
        ("X-Goog-Api-Key", True),
        ("X-Amz-Security-Token", True),
        ("Cf-Access-Client-Secret", True),
        ("api_key", True),
        ("Cookie", True),
        ("X-Tenant", False),
        ("NVCF-POLL-SECONDS", False),
        ("Idempotency-Key", False),
        ("X-Keynote", False),
        ("traceparent", False),
    ],
)
def test_headers_that_hold_credentials(name: str, holds: bool) -> None:
    """A header is kept out of pickles and texts by the words of its name."""
    assert is_credential_header(name) is holds
