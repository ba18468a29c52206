"""Reasoning that a model wrote into its text between `<think>` and `</think>`, because the server has no parser for it.

The tag counts only at the very beginning of an answer: a text that speaks of the tag further down is a text. DeepSeek's
templates put the opening tag into the prompt, so a closing one may also stand alone.
"""

from __future__ import annotations

OPEN = "<think>"
CLOSE = "</think>"
MAX_SPACE = 64
"""How many characters of white space may stand before the opening tag."""

RAW_CONTENT = "raw_content"
"""The key of `extra` under which a message keeps its content as it came, where tags were split off."""


def split_tags(content: str) -> tuple[str, str] | None:
    """(reasoning, text) without tags and the white space around them, None where there are no tags.

    An answer that ends within its reasoning is all reasoning. A closing tag in backticks is spoken of, not meant.
    """
    if "think>" not in content:
        return None
    body = content.lstrip()
    if body.startswith(OPEN) and len(content) - len(body) <= MAX_SPACE:
        reasoning, _, text = body[len(OPEN) :].partition(CLOSE)
        return reasoning.strip(), text.lstrip()
    reasoning, closed, text = content.partition(CLOSE)
    if not closed or OPEN in reasoning or reasoning.endswith("`") or text.startswith("`"):
        return None
    return reasoning.strip(), text.lstrip()
