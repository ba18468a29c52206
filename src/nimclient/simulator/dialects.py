"""The differences between the servers that can be simulated: routes, error bodies, strictness, documents.

All such differences are here. A dialect has no state, generates no answers and does no I/O. The behavior of "vllm"
and "dynamo" was observed on vLLM 0.32 and on the frontend of NVIDIA Dynamo 1.6; "nim" is a self-hosted NIM 2.x: vLLM's shapes
for the language routes, the NeMo Retriever shapes for embeddings and ranking; "hosted" is a NIM behind NVIDIA's gateway.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, cast

from .catalog import ServedModel, hosted_paths, models_with_assets
from .functions import is_invocation
from .metrics import DYNAMO_METRICS, VLLM_METRICS
from .rejections import Rejection
from .wire import DONE, event

# All timestamps are this one (1 January 2026, UTC), so that equal requests have equal answers.
CREATED: Final = 1_767_225_600

_KEY: Final = re.compile(r"Bearer nvapi-[\w-]+")
_INLINE: Final = re.compile(r";base64,([A-Za-z0-9+/=]+)")
_INLINE_LIMIT: Final = 180_000
_OF_NIM: Final = frozenset({"ranking", "infer", "ocr", "boltz2"})
_COMMON_POSTS: Final = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "completions",
    "/v1/responses": "responses",
    "/v1/embeddings": "embeddings",
}
_RETRIEVER_ROUTES: Final = frozenset({"embeddings", "ranking"})


@dataclass(frozen=True, slots=True)
class ChatShape:
    """The form of chat answers: the name of the reasoning field, whether absent values are sent as null,
    and whether the role is sent in a separate event.
    """

    reasoning: str = "reasoning"
    nulls: bool = True
    role_event: bool = True


class NimDialect:
    """A self-hosted NIM 2.x."""

    name = "nim"
    posts: ClassVar[Mapping[str, str]] = {
        **_COMMON_POSTS,
        "/v1/ranking": "ranking",
        "/v1/infer": "infer",
        "/v1/ocr": "ocr",
        "/biology/mit/boltz2/predict": "boltz2",
        "/tokenize": "tokenize",
        "/detokenize": "detokenize",
    }
    gets: ClassVar[Mapping[str, str]] = {
        "/v1/models": "models",
        "/v1/health/live": "live",
        "/v1/health/ready": "ready",
        "/v1/metadata": "metadata",
        "/v1/version": "version",
        "/v1/metrics": "metrics",
        "/metrics": "metrics",
    }
    generates: Final = frozenset(
        {"chat", "completions", "responses", "embeddings", "ranking", "rerank", "infer", "ocr", "boltz2", "function"}
    )
    shape = ChatShape()
    one_model = True
    """Whether a single model can be asked for: GET /v1/models/{id}."""
    input_types = True
    """Whether embeddings distinguish queries from passages; vLLM ignores `input_type` and `truncate`."""
    raw_embeddings = False
    """Whether embeddings may be sent as bytes."""
    metric_names: ClassVar[Mapping[str, str]] = VLLM_METRICS
    reports_load = False
    """Whether plain chats and completions have the header `endpoint-load-metrics`, if it is asked for."""
    plain_list_rerank = False
    """Whether an answer of /v1/rerank is a list without an object around it."""

    def check(self, route: str, body: dict[str, Any], headers: Mapping[str, str]) -> None:
        """Raise Rejection for what this server rejects before it reads the values."""

    def route(self, path: str) -> str | None:
        """The route of POST requests to a path."""
        return self.posts.get(path)

    def error_body(self, rejection: Rejection, route: str) -> dict[str, Any] | str:
        """The error body, a str for plain text. Retriever routes are flat, others nested; unknown models nested."""
        if route in _RETRIEVER_ROUTES and rejection.status == 400:
            return {
                "object": "error",
                "message": rejection.message,
                "detail": {},
                "type": "invalid_request_error",
            }
        return _nested(rejection)

    def stream_error(self, rejection: Rejection) -> bytes:
        """The events of a rejection inside a stream whose response head has been sent."""
        return event(_nested(rejection)) + DONE

    def too_many_requests(self) -> tuple[int, dict[str, Any]]:
        """Status and body of throttling as the hosted catalog sends them: no detail, no Retry-After."""
        return 429, {"status": 429, "title": "Too Many Requests"}

    def no_such_route(self, method: str, path: str) -> dict[str, Any] | str:
        """FastAPI's body for an unknown path; a str is plain text."""
        return {"detail": "Not Found"}

    def wrong_method(self) -> dict[str, Any] | str:
        """FastAPI's body for a known path with another method."""
        return {"detail": "Method Not Allowed"}

    def model(self, model: ServedModel, max_model_len: int) -> dict[str, Any]:
        """One entry of the model list."""
        return {
            "id": model.id,
            "object": "model",
            "created": CREATED,
            "owned_by": "system",
            "root": model.id,
            "parent": None,
            "max_model_len": max_model_len,
        }

    def embeddings(self, body: dict[str, Any], request_id: str) -> dict[str, Any]:
        """An answer of embeddings as it is sent."""
        return body

    def live(self) -> dict[str, Any] | str:
        """The liveness body."""
        return {"object": "health.response", "message": "Service is live.", "status": "live"}

    def ready(self) -> dict[str, Any] | str:
        """The readiness body."""
        return {"object": "health.response", "message": "Service is ready."}

    def metadata(self, models: Iterable[ServedModel]) -> dict[str, Any]:
        """The metadata document, which names the simulator."""
        return {
            "version": "2.1.4",
            "modelInfo": [{"shortName": model.id, "modelUrl": ""} for model in models],
            "assetInfo": [],
            "licenseInfo": {"name": "nimclient simulator", "path": "", "sha": "", "size": 0, "url": "", "type": ""},
            "repository_override": "",
            "selectedModelProfileId": "simulator",
        }

    def version(self) -> dict[str, Any]:
        """The version document."""
        return {"release": "2.1.4", "api": "1.0.0"}


class VllmDialect(NimDialect):
    """vLLM's OpenAI-compatible server: no routes of NIM, unknown fields ignored, no route for a single model."""

    name = "vllm"
    posts: ClassVar[Mapping[str, str]] = {
        **{path: route for path, route in NimDialect.posts.items() if route not in _OF_NIM},
        **dict.fromkeys(("/rerank", "/v1/rerank", "/v2/rerank"), "rerank"),
    }
    gets: ClassVar[Mapping[str, str]] = {
        "/v1/models": "models",
        "/health": "ready",
        "/ping": "live",
        "/version": "version",
        "/metrics": "metrics",
        "/load": "load",
    }
    reports_load = True
    one_model = False
    input_types = False
    raw_embeddings = True

    def error_body(self, rejection: Rejection, route: str) -> dict[str, Any]:
        """The nested error; a field of the wrong type is named below `body`, as pydantic reports it.

        A model that pooling routes do not know is not named as the field at fault.
        """
        if rejection.status == 404 and route in ("rerank", "embeddings"):
            return _nested(Rejection(404, rejection.message, type=rejection.type))
        return _nested(_as_pydantic(rejection) if rejection.type == "Bad Request" and rejection.param else rejection)

    def model(self, model: ServedModel, max_model_len: int) -> dict[str, Any]:
        """One entry of the model list, with its permissions."""
        return {**super().model(model, max_model_len), "owned_by": "vllm", "permission": []}

    def embeddings(self, body: dict[str, Any], request_id: str) -> dict[str, Any]:
        """With id, time and a longer usage, which NIM's answers do not have."""
        usage = {**body["usage"], "completion_tokens": 0, "prompt_tokens_details": None}
        return {"id": f"embd-{request_id}", "created": CREATED, **body, "usage": usage}

    def live(self) -> str:
        """Empty."""
        return ""

    def ready(self) -> str:
        """Empty."""
        return ""

    def version(self) -> dict[str, Any]:
        """The version document."""
        return {"version": "0.32.0"}


class DynamoDialect(NimDialect):
    """The frontend of NVIDIA Dynamo: strict about fields and roles, flat errors, few nulls."""

    name = "dynamo"
    posts: ClassVar[Mapping[str, str]] = {
        **_COMMON_POSTS,
        "/v1/rerank": "rerank",
    }
    gets: ClassVar[Mapping[str, str]] = {
        "/v1/models": "models",
        "/health": "ready",
        "/live": "live",
        "/metrics": "metrics",
    }
    metric_names: ClassVar[Mapping[str, str]] = DYNAMO_METRICS
    shape = ChatShape("reasoning_content", nulls=False, role_event=False)
    input_types = False
    plain_list_rerank = True

    def check(self, route: str, body: dict[str, Any], headers: Mapping[str, str]) -> None:
        """Reject unknown fields and roles, and an empty list of tools."""
        known = _DYNAMO_FIELDS.get(route)
        if known is not None and (unknown := sorted(body.keys() - known)):
            names = ", ".join(f"`{name}`" for name in unknown)
            raise Rejection(400, f"Validation: Unsupported parameter(s): {names}")
        encoding = body.get("encoding_format")
        if route == "embeddings" and isinstance(encoding, str) and encoding not in ("float", "base64"):
            raise _unreadable(f"encoding_format: unknown variant `{encoding}`, expected `float` or `base64`")
        if body.get("tools") == []:
            raise Rejection(400, "Validation: tools array cannot be empty; omit the field entirely to disable tool use")
        for role in _roles(body.get("messages")):
            if role not in _DYNAMO_ROLES:
                names = ", ".join(f"`{name}`" for name in _DYNAMO_ROLES)
                raise _unreadable(f"unknown variant `{role}`, expected one of {names}")

    def error_body(self, rejection: Rejection, route: str) -> dict[str, Any]:
        """The flat error: the type is the status in words."""
        if rejection.status == 404:
            return _flat(404, "Model not found")
        return _flat(rejection.status, rejection.message)

    def stream_error(self, rejection: Rejection) -> bytes:
        """An `error` event with its text in a comment and without data, which ends the stream without [DONE]."""
        comment = "".join(f": {line}\n" for line in rejection.message.splitlines())
        return f"event: error\n{comment}\n".encode()

    def too_many_requests(self) -> tuple[int, dict[str, Any]]:
        """The response of an overloaded frontend."""
        return 529, _flat(529, "Service temporarily overloaded")

    def no_such_route(self, method: str, path: str) -> dict[str, Any]:
        """The flat error for an unknown path."""
        return _flat(404, f"Route not found: {method} {path}")

    def wrong_method(self) -> str:
        """Empty."""
        return ""

    def model(self, model: ServedModel, max_model_len: int) -> dict[str, Any]:
        """One entry of the model list."""
        head = {"id": model.id, "object": "model", "created": CREATED, "owned_by": "nvidia"}
        return {**head, "context_window": max_model_len}

    def live(self) -> dict[str, Any]:
        """The liveness body."""
        return {"status": "live", "message": "Service is live"}

    def ready(self) -> dict[str, Any]:
        """The readiness body; a real one lists its workers."""
        return {"status": "healthy", "endpoints": [], "instances": []}


class HostedDialect(NimDialect):
    """A NIM of NVIDIA's hosted catalog: the gateway in front requires a key and has its own responses."""

    name = "hosted"
    posts: ClassVar[Mapping[str, str]] = {
        **_COMMON_POSTS,
        "/v1/ranking": "ranking",
        "/v1/cv/nvidia/nemoretriever-page-elements-v2": "infer",
        "/v1/cv/nvidia/nemoretriever-ocr": "ocr",
        "/v1/genai/black-forest-labs/flux.1-dev": "infer",
        "/v1/biology/mit/boltz2/predict": "boltz2",
        **hosted_paths(),
    }
    gets: ClassVar[Mapping[str, str]] = {"/v1/models": "models"}
    one_model = False

    def route(self, path: str) -> str | None:
        """In addition to the others, the platform's functions by their ids."""
        return "function" if is_invocation(path) else super().route(path)

    def check(self, route: str, body: dict[str, Any], headers: Mapping[str, str]) -> None:
        """Reject a call without a key, and large images inside a message for a model that requires uploads."""
        check_key(headers)
        inline = _INLINE.findall(str(body.get("messages"))) if body.get("model") in models_with_assets() else ()
        if any(len(found) > _INLINE_LIMIT for found in inline):
            raise Rejection(400, "An image has more than 180 KB; upload it as an asset and refer to that.")

    def model(self, model: ServedModel, max_model_len: int) -> dict[str, Any]:
        """One entry of the model list: no length, and the vendor as its owner."""
        return {"id": model.id, "object": "model", "created": 735790403, "owned_by": model.id.partition("/")[0]}

    def error_body(self, rejection: Rejection, route: str) -> dict[str, Any] | str:
        """The gateway's text for a missing key, its problem JSON for a wrong one or an unknown model; else what
        the NIM behind it sends.
        """
        if rejection.type == "MissingKey":
            return rejection.message
        if rejection.status == 401:
            return {"status": 401, "title": "Unauthorized", "detail": rejection.message}
        if rejection.status == 404 and rejection.type in ("Asset", "Function"):
            return {"status": 404, "title": "Not Found", "detail": rejection.message}
        if rejection.status == 404:
            detail = "Function '00000000-0000-0000-0000-000000000000': Not found for account 'simulator'"
            return {"status": 404, "title": "Not Found", "detail": detail}
        return super().error_body(rejection, route)

    def no_such_route(self, method: str, path: str) -> str:
        """The gateway's plain text."""
        return "404 page not found"


def check_key(headers: Mapping[str, str]) -> None:
    """Raise Rejection (401) for a request without a key, or with one that is not NVIDIA's: "Bearer nvapi-…"."""
    given = headers.get("authorization")
    if not given:
        raise Rejection(401, "Header of type `authorization` was missing", type="MissingKey")
    if _KEY.fullmatch(given) is None:
        raise Rejection(401, "Authentication failed", type="Unauthorized")


def _nested(rejected: Rejection) -> dict[str, Any]:
    error = {"message": rejected.message, "type": rejected.type, "param": rejected.param, "code": rejected.status}
    return {"error": error}


def _as_pydantic(rejection: Rejection) -> Rejection:
    item = re.sub(r"\('body', '([^']*)'\)", r"'body.\1'", rejection.message.strip("[]"))
    message = f"1 validation error:\n  {item}"
    return Rejection(rejection.status, message, type=rejection.type, param=f"body.{rejection.param}")


def _unreadable(problem: str) -> Rejection:
    """Dynamo's rejection of a body that its types do not allow."""
    return Rejection(400, f"Failed to deserialize the JSON body into the target type: {problem}")


def _roles(messages: Any) -> list[str]:
    """The roles of the messages, of any type."""
    items = cast("list[Any]", messages) if isinstance(messages, list) else []
    roles = [cast("dict[str, Any]", item).get("role") for item in items if isinstance(item, dict)]
    return [role for role in roles if isinstance(role, str)]


_STATUS_WORDS: Final = {400: "Bad Request", 404: "Not Found", 413: "Payload Too Large", 529: "Overloaded"}


def _flat(status: int, message: str) -> dict[str, Any]:
    return {"message": message, "type": _STATUS_WORDS.get(status, "Internal Server Error"), "code": status}


_DYNAMO_ROLES: Final = ("developer", "system", "user", "assistant", "tool", "function")
# fmt: off
_DYNAMO_SAMPLING: Final = frozenset({
    "add_generation_prompt", "allowed_token_ids", "cache_salt", "continue_final_message", "frequency_penalty",
    "guided_choice", "guided_decoding_backend", "guided_grammar", "guided_json", "guided_regex",
    "guided_whitespace_pattern", "ignore_eos", "include_stop_str_in_output", "logit_bias", "logprob_token_ids",
    "logprobs", "max_tokens", "min_p", "min_tokens", "model", "n", "nvext", "presence_penalty",
    "prompt_logprobs", "repetition_penalty", "return_tokens_as_token_ids", "seed", "skip_special_tokens",
    "stop", "stop_token_ids", "stream", "stream_options", "temperature", "top_k", "top_p", "user",
})
_DYNAMO_CHAT: Final = frozenset({
    "audio", "chat_template_kwargs", "function_call", "functions", "max_completion_tokens", "media_io_kwargs",
    "messages", "metadata", "mm_processor_kwargs", "modalities", "parallel_tool_calls", "prediction",
    "prompt_cache_key", "reasoning_effort", "response_format", "service_tier", "store", "thinking", "thinking_token_budget",
    "tool_choice", "tools", "top_logprobs", "web_search_options",
})
# fmt: on
_DYNAMO_FIELDS: Final = {
    "chat": _DYNAMO_SAMPLING | _DYNAMO_CHAT,
    "completions": _DYNAMO_SAMPLING | {"prompt", "prompt_embeds", "suffix", "echo", "best_of"},
}

_DIALECTS: Final = {kind.name: kind for kind in (NimDialect, VllmDialect, DynamoDialect, HostedDialect)}


def dialect_named(name: str) -> NimDialect:
    """The dialect of that name; ValueError for an unknown one."""
    try:
        return _DIALECTS[name]()
    except KeyError:
        known = ", ".join(map(repr, _DIALECTS))
        raise ValueError(f"the simulator does not speak the dialect {name!r}; it speaks {known}") from None
