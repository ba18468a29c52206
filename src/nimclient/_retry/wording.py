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
