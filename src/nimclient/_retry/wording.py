"""Patterns for error texts, for what servers say only in the text of an error.

The text refines the status; it never decides alone what is retried.
"""

from __future__ import annotations

import re
from functools import cached_property


class Pattern:
    """A regular expression that is compiled when it is first used: most programs never read the text of an error."""

    def __init__(self, text: str, flags: int = 0) -> None:
        self._text, self._flags = text, flags

    @cached_property
    def _compiled(self) -> re.Pattern[str]:
        return re.compile(self._text, self._flags)

    def search(self, text: str) -> re.Match[str] | None:
        """The first match in a text."""
        return self._compiled.search(text)

    def findall(self, text: str) -> list[str]:
        """All that the group matches in a text."""
        return self._compiled.findall(text)


ABORT, ERROR = b'"abort"', b'error"'
"""Only an answer, or an event, with one of these in its JSON can be `faults.ended_early`."""

TOO_LONG = Pattern(
    r"maximum context length|exceeds maximum allowed|max_model_len|too long|too many tokens"
    r"|context[ _](?:length|window|size|limit)s?[ _](?:is |has been )?exceeded|ContextWindowExceeded"  # OpenAI, LiteLLM
    r"|exceeds?\b.{0,40}\bcontext (?:size|window|length|limit)"  # llama-server, llama-cpp-python, Anthropic
    r"|greater than the context length|context length of only|tokens but the model context window"  # LM Studio, rkllama
    r"|maximum (?:prompt|(?:embedding )?input) length|exceed max_num_tokens|default_max_tokens \(-"  # xAI, TensorRT-LLM
    r"|larger than session_len|too big compared to KV size|cannot exceed the total tokens limit"  # LMDeploy, llama-box, IBM
    r"|longer than the model's context length"  # SGLang
    r"|max_tokens must be at least 1, got -(?!1\b)|\bexceeds? max(?:imum)? model len"  # vLLM, of the room that is left
    r"|`inputs`.{0,40}must (?:have less than|be <=)"  # TGI, TEI
    r"|tokens?\b.{0,40}\bexceeds? the (?:maximum number of tokens|configured limit)"  # Gemini, Azure
    r"|input token count is .{1,40} the model supports up to"  # Vertex
    r"|is too large to process\. increase the physical batch size",  # llama-server's embeddings
    re.I | re.S,
)
"""The input exceeds the model's context length."""

NOT_TOKENS = Pattern(r"\bURI too long|\b(?:string|value|name) (?:is )?too long|\d ?[KMG]i?B\b", re.I)
"""What is too long is no number of tokens."""

TOO_LONG_500 = Pattern(r"physical batch size|exceeds the (?:available )?context|compared to KV size", re.I)
"""The same in a 500 (llama-server, Ollama)."""

TOO_LONG_CODES = frozenset({"context_length_exceeded", "exceed_context_size_error"})
"""The same as a `code` (OpenAI, llama-cpp-python) or `type` (llama-server)."""

STRING_TOO_LONG = "string_above_max_length"
"""OpenAI's `code` for a text of too many characters: a message, or the name of a tool."""

PROMPTS = ("messages", "input", "prompt")
"""The fields that hold the input."""

NO_MODEL = Pattern(
    r"model .{0,200}(does not exist|not found|unknown)|not found for account|unknown model"
    r"|invalid model name passed in|invalid model: engine for|Server is pinned to "  # LiteLLM, infinity, transformers
    r"|^models/\S{1,200} is not found|^model: ",  # Gemini, Anthropic
    re.I | re.S,
)
"""The server does not serve the model."""

NO_MODEL_400 = Pattern(
    r"invalid model name passed in|invalid model: |Server is pinned to |^model .{0,200} not found|^model not (?:found|exist)"
    r"|is not a valid model id|^invalid model identifier|^could not find real modelID|^no models loaded",
    re.I | re.S,
)
"""The same in a 400, which may have many other causes."""

NO_MODEL_CODES = frozenset({"model_not_found", "invalid_model", "model_not_available"})
"""The same as a `code` or `type`."""

WAIT_PART = r"(\d{1,7}(?:\.\d{1,9})?) ?([a-z]{0,12})"
"""A number and its unit in a wait."""

WAIT = Pattern(rf"\b(?:try again|retry)(?: your request)? (?:in|after) ((?:{WAIT_PART} ?){{1,4}})", re.I)
"""When to come again: numbers and units (OpenAI, Groq, Azure, Gemini)."""

WANTS_REASONING = Pattern(
    r"missing.{0,20}reasoning_content|reasoning_content\b.{0,60}must be passed back",
    re.I | re.S,
)
"""The history lacks the model's reasoning, which the server requires (DeepSeek)."""

STATUS_OF_CODE = {
    "context_length_exceeded": 400,
    "invalid_api_key": 401,
    "model_not_found": 404,
    "rate_limit_exceeded": 429,
    "server_overloaded": 503,
}
"""The HTTP status of a textual code, for errors sent with another status (200)."""

BAD_MODEL = Pattern(
    r"model .{0,200}(does not exist|not found|is unknown|not available)|unknown model|invalid model", re.I | re.S
)
"""A 400 or 422 that is about the model, not about an input."""

BAD_KEY = Pattern(r"api[ _-]?key|authori[sz]ation|authenticat|credential", re.I)
"""A 400 or 422 that is about the API key."""

TOO_MANY_TEXTS = Pattern(
    r"batch.{0,3}size|too many (inputs?|items|texts|documents|passages|strings|elements|prompts|rows)|array too long"
    r"|(number|amount) of (inputs?|items|texts|documents|passages)|list should have at most"
    r"|at most \d+ (items|inputs|texts|documents|passages)",
    re.I,
)
"""The request has more texts than the server accepts."""

ALLOWED_NUMBER = Pattern(r"(?:at most|max|limit|up to|<=|≤)\D{0,40}?(\d+)", re.I)
"""The maximum in such a text."""

LOCATION = Pattern(r"'loc': [(\[]([^)\]]{1,300})[)\]]")
"""A field, as pydantic's errors print it: `'loc': ('body', 'foo')`."""

ARROWS = Pattern(r"\bbody -> ([^\n]{1,300})")
"""A field, as NIM 1.x prints it: `body -> foo`."""

NAMED = Pattern(
    r"(?:Unsupported parameter\(s\):|(?:unknown|missing|duplicate) field) `([^`]{1,200})`|\(parameter=([\w.\[\]]{1,200})"
    r"|(?:Unexpected|Unsupported) (?:fields|keys|parameters)\b[^{\n]{0,60}\{'([^']{1,200})'"
)
"""A field that Dynamo, vLLM or transformers serve names."""

BAD_SCHEMA = Pattern(r"invalid (json )?schema|schema\b.{0,60}\b(is invalid|not valid|not supported by)", re.I)
"""The server rejects the JSON schema, not the field in which it is sent."""


def mentions(text: str, name: str) -> bool:
    """Whether a name occurs in a text as a whole word."""
    return re.search(rf"\b{re.escape(name)}\b", text) is not None
