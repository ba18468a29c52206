"""The error tree. Errors carry data, never live objects: all of them pickle, and none holds a secret.
ModelDeprecationWarning, below, is a warning and not an error.

::

    NimError
    ├── ConfigurationError (ValueError)      invalid input or settings; nothing was sent
    ├── ClientClosedError (RuntimeError)     the client was closed before or during the call
    ├── TransportError                       the exchange failed below the level of HTTP statuses
    │   ├── ConnectError                     no connection could be made: .kind says why
    │   ├── ConnectionLostError              the connection broke before the response was complete
    │   ├── ProtocolError                    the response is not well-formed HTTP/1.1
    │   ├── RedirectError                    the server redirected the request, which was not followed
    │   ├── BodyTooLargeError                the response exceeds a limit of the client
    │   └── RequestTimeoutError (TimeoutError)   .phase names the time limit that was reached
    ├── APIStatusError                       the server rejected the request: a status of 400 or above
    │   ├── BadRequestError 400
    │   │   └── ContextLengthError           the input exceeds the model's context length
    │   ├── AuthenticationError 401
    │   │   └── PermissionDeniedError 403    on the hosted catalog also for an invalid key
    │   ├── NotFoundError 404
    │   │   └── ModelNotFoundError
    │   ├── GoneError 410                    the model has reached its end of life
    │   ├── RequestTooLargeError 413
    │   ├── UnprocessableEntityError 422
    │   ├── RateLimitError 429
    │   └── ServerError 5xx
    │       └── ServiceUnavailableError 503
    ├── StreamError                          .partial holds what was received
    │   ├── StreamFaultError                 an error event inside a 200 response
    │   └── StreamInterruptedError           the stream ended before it was complete
    ├── DecodeError                          the response does not follow the protocol
    │   ├── EmbeddingMismatchError
    │   └── RerankMismatchError
    ├── OutputError                          the model's output does not match the requested type
    │   ├── OutputTruncatedError
    │   ├── OutputRefusedError
    │   └── OutputInvalidError
    ├── ToolError                            a tool call cannot be executed
    ├── BatchError                           several items failed; .completed has the finished ones
    └── JobError
        ├── JobMismatchError
        └── JobStoreError
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

    from nimclient.records.chat import ChatCompletion, Message
    from nimclient.records.files import Blob

ConnectKind = Literal["dns", "refused", "tls", "proxy", "unreachable", "resources"]
Phase = Literal["pool", "connect", "headers", "first_event", "idle", "poll", "total", "send", "body"]


_MAX_TEXT = 8192
"""Maximum characters of an error's message: text from a server has no bound of its own."""

_UNPRINTABLE = {
    code: " " if code < 0xA0 else None if code < 0xD800 else "\ufffd"
    for codes in (
        range(0x20),  # escape sequences of terminals
        range(0x7F, 0xA0),
        (0x61C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)),  # text direction
        range(0xD800, 0xE000),  # lone surrogates, which no encoding can write
    )
    for code in codes
}
"""Replacements for control and text direction characters, which could corrupt a terminal or a log, by code point."""


def _rebuild(cls: type[NimError], message: str, state: dict[str, Any]) -> NimError:
    error = cls.__new__(cls, message)
    Exception.__init__(error, message)
    error.__dict__.update(state)
    return error


class Attempt(NamedTuple):
    """One attempt of a call: an entry of the `.history` of an error.

    `outcome` is the HTTP status, or the name of the error class if there was no usable response; `seconds` is how long
    the attempt took.
    """

    base_url: str
    outcome: int | str
    seconds: float


def _render_short(error: BaseException) -> list[str]:
    """What a notebook shows of an error of ours: the frames of the caller, down to the call, and the message.

    IPython asks for it by the name `_render_traceback_`. `error.__traceback__` keeps every frame.
    """
    from traceback import StackSummary, format_exception_only, walk_tb

    theirs: list[tuple[FrameType, int]] = []
    for frame, line in walk_tb(error.__traceback__):
        room = str(frame.f_globals.get("__name__")).partition(".")[0]
        if room == "nimclient":
            break
        if room != "IPython":
            theirs.append((frame, line))
    lines = (*StackSummary.extract(iter(theirs)).format(), *format_exception_only(error))
    return ["Traceback (most recent call last):", *(line.rstrip("\n") for line in lines)]


class NimError(Exception):
    """Base class of all errors that nimclient raises.

    `.partial` is what was received of a stream (for a text completion, a Completion), `.index` the position of the failing
    item of a call over many items, `.completed` the results that were finished by then. `.history` has one Attempt for each
    attempt of the failed call, oldest first.
    """

    partial: ChatCompletion | None = None
    index: int | None = None
    completed: Sequence[Any] = ()
    history: Sequence[Attempt] = ()

    def __init__(self, message: str) -> None:
        text = " ".join(message[: 2 * _MAX_TEXT].translate(_UNPRINTABLE).split())
        super().__init__(text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}…")

    _render_traceback_ = _render_short

    @property
    def message(self) -> str:
        """The message, on one line."""
        return str(self.args[0])

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, dict(self.__dict__))

    def __copy__(self) -> Self:
        copy = _rebuild(type(self), self.message, dict(self.__dict__))
        assert isinstance(copy, type(self))
        return copy


class ConfigurationError(NimError, ValueError):
    """Invalid input or settings; nothing was sent. `.path` is the JSON path in the body, if there is one."""

    path: str | None

    def __init__(self, message: str, *, path: str | None = None) -> None:
        super().__init__(message)
        self.path = path


class ClientClosedError(NimError, RuntimeError):
    """The client was closed before or during the call."""


class TransportError(NimError):
    """The exchange failed below the level of HTTP statuses. `.phase` says where, `.attempts` counts the attempts.

    `.request_id` is the server's id of a request that was accepted (202) but whose result was never received.
    """

    phase: Phase | None
    attempts: int
    request_id: str | None = None

    def __init__(self, message: str, *, phase: Phase | None = None, attempts: int = 1) -> None:
        super().__init__(message)
        self.phase = phase
        self.attempts = attempts


class ConnectError(TransportError):
    """No connection could be made: `.kind` is dns, refused, tls, proxy, unreachable or resources."""

    kind: ConnectKind

    def __init__(self, message: str, *, kind: ConnectKind, attempts: int = 1) -> None:
        super().__init__(message, phase="connect", attempts=attempts)
        self.kind = kind


class ConnectionLostError(TransportError):
    """The connection broke while or after the request was sent. `.reused` is True for a connection from the pool."""

    reused: bool

    def __init__(self, message: str, *, phase: Phase | None = None, reused: bool = False, attempts: int = 1) -> None:
        super().__init__(message, phase=phase, attempts=attempts)
        self.reused = reused


class ProtocolError(TransportError):
    """The response is not well-formed HTTP/1.1 (a malformed header, an invalid chunk, contradictory lengths)."""


class RedirectError(TransportError):
    """The server redirected the request (3xx). Nothing was sent to the target; `.host` names it."""

    host: str

    def __init__(self, message: str, *, host: str, attempts: int = 1) -> None:
        super().__init__(message, phase="headers", attempts=attempts)
        self.host = host


class BodyTooLargeError(TransportError):
    """The response exceeds `Limits.max_body` or `Limits.max_event` (`.limit`, in bytes)."""

    limit: int

    def __init__(self, message: str, *, limit: int, attempts: int = 1) -> None:
        super().__init__(message, phase="body", attempts=attempts)
        self.limit = limit


class RequestTimeoutError(TransportError, TimeoutError):
    """A time limit was reached: `.phase` (pool, connect, headers, first_event, idle, poll, total) and `.seconds`.

    "poll": the result of an accepted request (202, `.request_id`) was not available within `headers` or `total`.
    """

    seconds: float | None

    def __init__(self, message: str, *, phase: Phase, seconds: float | None = None, attempts: int = 1) -> None:
        super().__init__(message, phase=phase, attempts=attempts)
        self.seconds = seconds


class APIStatusError(NimError):
    """The server rejected the request.

    `.status` is the HTTP status; `.code`, `.type` and `.param` are those of the server's error object; `.detail` is a
    validation list or problem text; `.retry_after` is in seconds; `.body` is the text as received (at most 64 KiB);
    `.attempts` counts the attempts.
    """

    status: int
    code: str | int | None
    type: str | None
    param: str | None
    detail: Any
    request_id: str | None
    retry_after: float | None
    body: str
    attempts: int

    def __init__(
        self,
        message: str,
        *,
        status: int,
        code: str | int | None = None,
        type: str | None = None,
        param: str | None = None,
        detail: Any = None,
        request_id: str | None = None,
        retry_after: float | None = None,
        body: str = "",
        attempts: int = 1,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.type = type
        self.param = param
        self.detail = detail
        self.request_id = request_id
        self.retry_after = retry_after
        self.body = body
        self.attempts = attempts


class BadRequestError(APIStatusError):
    """400: the request is invalid (vLLM also uses it for validation errors)."""


class ContextLengthError(BadRequestError):
    """400 (in some NIM generations 422): the input exceeds the model's context length."""


class AuthenticationError(APIStatusError):
    """401: no API key, or one that the server does not accept."""


class PermissionDeniedError(AuthenticationError):
    """403: the API key lacks the permission. The hosted catalog also sends 403 for an invalid key."""


class NotFoundError(APIStatusError):
    """404: no such path or object."""


class ModelNotFoundError(NotFoundError):
    """404: the server does not serve this model, or the account may not use it."""


class GoneError(APIStatusError):
    """410: the model has reached its end of life."""


class RequestTooLargeError(APIStatusError):
    """413: the body exceeds the server's limit."""


class UnprocessableEntityError(APIStatusError):
    """422: validation failed (NIM 1.x, NVCF workers)."""


class RateLimitError(APIStatusError):
    """429: too many requests. `.retry_after` is None if the server does not send it (the hosted catalog never does)."""


class ServerError(APIStatusError):
    """5xx, including Dynamo's 529."""


class ServiceUnavailableError(ServerError):
    """503: overloaded, starting, or (with a Retry-After of hours) taken offline."""


class StreamError(NimError):
    """A stream did not complete; `.partial` holds what was received."""

    def __init__(self, message: str, *, partial: ChatCompletion | None = None) -> None:
        super().__init__(message)
        self.partial = partial


class StreamFaultError(StreamError):
    """The server reported an error inside a 200 stream: `.code`, `.type`; `.status` if the code is an HTTP status.

    Or it ended the answer early: `.code` is then the finish_reason: "abort", "error" or "network_error".
    """

    code: str | int | None
    type: str | None
    status: int | None

    def __init__(
        self,
        message: str,
        *,
        code: str | int | None = None,
        type: str | None = None,
        partial: ChatCompletion | None = None,
    ) -> None:
        super().__init__(message, partial=partial)
        self.code = code
        self.type = type
        self.status = _as_status(code)


class StreamInterruptedError(StreamError):
    """The stream ended, lost its connection or was closed before it was complete."""


class DecodeError(NimError):
    """The response does not follow the protocol. `.path` is the JSON path of the fault, `.excerpt` the beginning of the data.

    `.blob` is the whole response of an `infer` that is not JSON (a zip archive, an image); `.attempts` counts the attempts.
    """

    blob: Blob | None = None
    attempts: int = 1
    path: str
    excerpt: str
    status: int | None
    request_id: str | None

    def __init__(
        self,
        message: str,
        *,
        path: str = "",
        excerpt: str = "",
        status: int | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.path = path
        self.excerpt = excerpt
        self.status = status
        self.request_id = request_id


class EmbeddingMismatchError(DecodeError):
    """Count, indexes, dimensions or values of the vectors do not match the texts; misaligned vectors are never returned."""


class RerankMismatchError(DecodeError):
    """The ranking does not match the documents that were sent."""


class OutputError(NimError):
    """The model's output does not match the requested type; `.text` is the output, `.path` the JSON path of the mismatch."""

    text: str
    path: str

    def __init__(self, message: str, *, text: str = "", path: str = "") -> None:
        super().__init__(message)
        self.text = text
        self.path = path


class OutputTruncatedError(OutputError):
    """The output was cut off by the token limit."""


class OutputRefusedError(OutputError):
    """The model refused to answer."""


class OutputInvalidError(OutputError):
    """The output is not valid for the type."""


class ToolError(NimError):
    """A tool call cannot be executed: unknown name, incomplete or invalid arguments, a failing function, too many rounds.

    `.path` is the path of the invalid argument; `.messages` is the conversation of `run_tools` up to that point.
    """

    path: str
    messages: tuple[Message, ...]

    def __init__(self, message: str, *, path: str = "", messages: Sequence[Message] = ()) -> None:
        super().__init__(message)
        self.path = path
        self.messages = tuple(messages)


class BatchError(NimError):
    """Several items failed. `.completed` has the finished results as pairs (index, result), `.failures` the others."""

    failures: tuple[Any, ...]

    def __init__(self, message: str, *, completed: Sequence[Any] = (), failures: Sequence[Any] = ()) -> None:
        super().__init__(message)
        self.completed = completed
        self.failures = tuple(failures)


class JobError(NimError):
    """A durable job cannot continue."""


class JobMismatchError(JobError):
    """The job on disk was started with another input, model or parameters."""


class JobStoreError(JobError):
    """The job's files cannot be read or written."""


class ModelDeprecationWarning(FutureWarning):
    """The server (`Deprecation` header) or the catalog says that a model will be removed. Issued once per model."""


def _as_status(code: str | int | None) -> int | None:
    """The error's code as an HTTP status, or None."""
    if isinstance(code, str) and len(code) == 3 and code.isascii() and code.isdecimal():
        code = int(code)
    return code if isinstance(code, int) and 400 <= code <= 599 else None
