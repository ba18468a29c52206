"""What servers write in words only: the one place for patterns that are searched for in an error's text.

Words refine what the status says; they never decide alone what is retried.
"""

from __future__ import annotations

import re

TOO_LONG = re.compile(r"maximum context length|exceeds maximum allowed|max_model_len|too long|too many tokens", re.I)
"""The input is longer than the model takes."""

NO_MODEL = re.compile(
    r"model .{0,200}(does not exist|not found|unknown)|not found for account|unknown model", re.I | re.S
)
"""The server does not serve the model."""

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

LOCATION = re.compile(r"'loc': [(\[]([^)\]]{1,300})[)\]]")
"""A field, as pydantic's errors print it: `'loc': ('body', 'foo')`."""

ARROWS = re.compile(r"\bbody -> ([^\n]{1,300})")
"""A field, as NIM 1.x prints it: `body -> foo`."""

NAMED = re.compile(
    r"(?:Unsupported parameter\(s\):|(?:unknown|missing|duplicate) field) `([^`]{1,200})`|\(parameter=([\w.\[\]]{1,200})"
)
"""A field that Dynamo or vLLM names."""

BAD_SCHEMA = re.compile(r"invalid (json )?schema|schema\b.{0,60}\b(is invalid|not valid|not supported by)", re.I)
"""The server objects to the JSON schema, not to the form in which it is sent."""


def mentions(text: str, name: str) -> bool:
    """Whether a name stands in a text as a word of its own."""
    return re.search(rf"\b{re.escape(name)}\b", text) is not None
