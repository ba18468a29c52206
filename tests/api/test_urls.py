"""Base URLs in every form that people write them, and what is rejected, never showing a password."""

import pytest

from nimclient._api.urls import BaseURL, origin_of, parse_base_url, parse_endpoint
from nimclient.errors import ConfigurationError

ACCEPTED = [
    # url, origin, prefix
    ("http://localhost:8000", "http://localhost:8000", ""),
    ("http://localhost:8000/", "http://localhost:8000", ""),
    ("http://localhost:8000/v1", "http://localhost:8000", ""),
    ("http://localhost:8000/v1/", "http://localhost:8000", ""),
    ("http://localhost:8000/v1//", "http://localhost:8000", ""),
    ("  http://localhost:8000/v1\n", "http://localhost:8000", ""),
    ("https://integrate.api.nvidia.com/v1", "https://integrate.api.nvidia.com", ""),
    ("HTTPS://Integrate.API.nvidia.com/v1", "https://integrate.api.nvidia.com", ""),
    ("https://host:443/v1", "https://host", ""),
    ("http://host:80", "http://host", ""),
    ("http://host:443", "http://host:443", ""),
    ("https://host:80/v1", "https://host:80", ""),
    ("http://host:/v1", "http://host", ""),
    ("https://proxy/team/nim", "https://proxy", "/team/nim"),
    ("https://proxy/team/nim/", "https://proxy", "/team/nim"),
    ("https://proxy/team/nim/v1", "https://proxy", "/team/nim"),
    ("https://proxy/v1/nim", "https://proxy", "/v1/nim"),
    ("https://proxy/v1/v1", "https://proxy", "/v1"),
    ("https://proxy/my%20nim/v1", "https://proxy", "/my%20nim"),
    ("http://127.0.0.1:9/v1", "http://127.0.0.1:9", ""),
    ("http://[::1]:8000/v1", "http://[::1]:8000", ""),
    ("http://[::1]", "http://[::1]", ""),
    ("http://v1", "http://v1", ""),
    ("http://ranking", "http://ranking", ""),
    ("http://embeddings/v1", "http://embeddings", ""),
    ("http://host/models-of-mine", "http://host", "/models-of-mine"),
    ("http://nim_server.local:8000", "http://nim_server.local:8000", ""),
]


@pytest.mark.parametrize(("url", "origin", "prefix"), ACCEPTED)
def test_accepted_forms(url, origin, prefix):
    """With or without /v1 or a slash, behind a prefix, with a default port: one root, one API, one origin."""
    assert parse_base_url(url) == BaseURL(origin + prefix, f"{origin}{prefix}/v1", origin)


@pytest.mark.parametrize(("url", "origin", "prefix"), ACCEPTED)
def test_the_api_of_a_base_url_is_a_base_url_of_the_same_api(url, origin, prefix):
    """What was parsed parses to itself."""
    parsed = parse_base_url(url)
    assert parse_base_url(parsed.api) == parsed
    assert origin_of(parsed.api) == origin


REFUSED = [
    ("", "must look like"),
    ("localhost:8000", "must look like"),
    ("//host/v1", "must look like"),
    ("/v1", "must look like"),
    ("http://", "must look like"),
    ("http:///v1", "must look like"),
    ("ftp://host/v1", "must look like"),
    ("file:///etc/passwd", "must look like"),
    ("ws://host/v1", "must look like"),
    ("http://host:99999", "malformed"),
    ("http://host:port", "malformed"),
    ("http://[::1/v1", "malformed"),
    ("http://user:S3CRET@host/v1", "user name or password"),
    ("http://S3CRET@host", "user name or password"),
    ("http://:S3CRET@host", "user name or password"),
    ("http://user:S3CRET#x@host", "malformed"),
    ("http://user:S3CRET/x@host", "malformed"),
    ("http://user:80?S3CRET@host", "query"),
    ("http://host/v1?key=S3CRET", "query"),
    ("http://host/v1?", "query"),
    ("http://host/v1#S3CRET", "fragment"),
    ("http://host/v1;S3CRET", "parameters"),
    ("http://ho st/v1", "white space"),
    ("http://host/v\n1", "white space"),
    ("http://host/\u2028/x", "white space"),
    ("http://host/\x00", "white space"),
    ("https://evil.test\\.api.nvidia.com/v1", "character"),
    ("http://host/{model}", "character"),
    ("http://<host>/v1", "character"),
    ("http://host/v1/chat/completions", r"inference URL \(it ends in /chat/completions\)"),
    ("http://host/v1/chat/completions/", "inference URL"),
    ("http://host/v1/completions", r"ends in /completions"),
    ("http://host/v1/embeddings", "inference URL"),
    ("http://host/v1/models", "inference URL"),
    ("http://host/v1/ranking", "inference URL"),
    ("http://host/v1/rerank", "inference URL"),
    ("https://ai.api.nvidia.com/v1/retrieval/nvidia/reranking", "inference URL"),
    ("http://host/v1/infer", "inference URL"),
    (None, "must be a str, not NoneType"),
    (b"http://host", "must be a str, not bytes"),
    (8000, "must be a str, not int"),
]


@pytest.mark.parametrize(("url", "words"), REFUSED)
def test_refused_forms(url, words):
    """Anything else is a ConfigurationError that says what to change, and shows nothing that may be a password."""
    with pytest.raises(ConfigurationError, match=words) as caught:
        parse_base_url(url)
    assert caught.value.message.startswith("base_url ")
    assert "S3CRET" not in caught.value.message


@pytest.mark.parametrize("url", [url for url, _ in REFUSED if not isinstance(url, str) or "/v1/" not in url])
def test_endpoints_are_checked_like_base_urls(url):
    """A model's own URL has the same rules, except that it may be an inference URL."""
    with pytest.raises(ConfigurationError, match=r"^endpoints\['m'\] "):
        parse_endpoint(url, "endpoints['m']")


@pytest.mark.parametrize(
    ("url", "whole", "origin"),
    [
        ("https://host/v1/retrieval/nvidia/reranking", "https://host/v1/retrieval/nvidia/reranking", "https://host"),
        ("http://HOST:80/v1/embeddings/", "http://host/v1/embeddings", "http://host"),
        ("http://[::1]:9/x", "http://[::1]:9/x", "http://[::1]:9"),
    ],
)
def test_endpoints_are_used_as_they_are(url, whole, origin):
    """Nothing is taken off a model's own URL but a slash at its end."""
    assert parse_endpoint(url, "endpoints['m']") == (whole, origin)
    assert origin_of(url) == origin
