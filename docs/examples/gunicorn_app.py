"""A WSGI service under gunicorn, its code and its client loaded once, before the workers are forked.

    NVIDIA_BASE_URL=http://localhost:8000 gunicorn --preload --workers 4 --threads 8 gunicorn_app:app

The master has used the client by the time it forks. That is no harm: every worker has connections of its own, and the
master's stay the master's.
"""

import os
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs

from nimclient import Client, NimError

client = Client()
MODEL = client.models.list()[0].id  # a call in the master: is the server there, and which model has it?


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
    """Streams the answer to `?question=...` as plain text; a caller who hangs up ends the generation."""
    question = parse_qs(environ["QUERY_STRING"]).get("question", ["Hello"])[0]
    try:
        with client.chat.stream(question) as stream:
            start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8"), ("X-Worker", str(os.getpid()))])
            for piece in stream.text_stream:
                yield piece.encode()
    except NimError as error:
        start_response("502 Bad Gateway", [("Content-Type", "text/plain; charset=utf-8")])
        yield str(error).encode()
