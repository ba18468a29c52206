"""How servers word what went wrong: every regular expression that reads the text of an error, and nothing else.

The HTTP status and the fields of an error object come first; words only refine what they leave open.
"""

from __future__ import annotations

import re

TOO_LONG = re.compile(r"maximum context length|exceeds maximum allowed|max_model_len|too long|too many tokens", re.I)
"""The input is longer than the model takes."""

NO_MODEL = re.compile(
    r"model .{0,200}(does not exist|not found|unknown)|not found for account|unknown model", re.I | re.S
)
"""A 404 that is about the model, not about the path."""

BAD_MODEL = re.compile(
    r"model .{0,200}(does not exist|not found|is unknown|not available)|unknown model|invalid model", re.I | re.S
)
"""A 400 or 422 that is about the model, not about an input."""

BAD_KEY = re.compile(r"api[ _-]?key|authori[sz]ation|authenticat|credential", re.I)
"""A 400 or 422 that is about the API key."""

TOO_MANY_TEXTS = re.compile(
    r"batch.{0,3}size|too many (inputs?|items|texts|documents|strings|elements|prompts|rows)|array too long"
    r"|(number|amount) of (inputs?|items|texts|documents)|list should have at most|at most \d+ (items|inputs|texts)",
    re.I,
)
"""The request holds more texts than the server takes at once."""

ALLOWED_NUMBER = re.compile(r"(?:at most|max|limit|up to|<=|≤)\D{0,40}?(\d+)", re.I)
"""How many it would take."""

BAD_SCHEMA = re.compile(r"invalid (json )?schema|schema\b.{0,60}\b(is invalid|not valid|not supported by)", re.I)
"""The JSON schema is rejected, not the field that holds it."""

PYDANTIC_LOCATION = re.compile(r"'loc': [(\[]([^)\]]{1,300})[)\]]")
"""pydantic's `'loc': ('body', 'foo')` in a text."""

ARROW_LOCATION = re.compile(r"\bbody -> ([^\n]{1,300})")
"""pydantic's `body -> foo`."""

FIELD_NAME = re.compile(
    r"(?:Unsupported parameter\(s\):|(?:unknown|missing|duplicate) field) `([^`]{1,200})`|\(parameter=([\w.\[\]]{1,200})"
)
"""Dynamo's ``Unsupported parameter(s): `foo` `` and ``missing field `foo` ``, vLLM's `(parameter=foo, …)`."""


def named_field(message: str) -> str | None:
    """The field that the words of a validation error name, where the error object has no place for it."""
    if found := PYDANTIC_LOCATION.search(message):
        steps = [step.strip("'\" ") for step in found[1].split(",")]
        return ".".join(step for step in steps if step and step != "body") or None
    if found := ARROW_LOCATION.search(message):
        return ".".join(step.strip() for step in found[1].split("->"))
    found = FIELD_NAME.search(message)
    return None if found is None else found[1] or found[2]


def mentions(text: str, name: str) -> bool:
    """Whether a name stands in a text as a word of its own."""
    return re.search(rf"\b{re.escape(name)}\b", text) is not None
