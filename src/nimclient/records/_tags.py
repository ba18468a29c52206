"""Splits off reasoning that a model wrote into its text between `<think>` and `</think>`, for servers without a parser.

The tag counts only at the beginning of an answer: further down it is text. DeepSeek's templates put the opening tag into
the prompt, so a closing tag may also occur alone.
"""

from __future__ import annotations

OPEN = "<think>"
CLOSE = "</think>"
MAX_SPACE = 64
"""How many characters of white space may precede the opening tag."""

RAW_CONTENT = "raw_content"
"""The key of `extra` under which a message keeps its original content if tags were split off."""


def split_tags(content: str) -> tuple[str, str] | None:
    """(reasoning, text) without tags and surrounding white space, or None without tags.

    An answer that ends within its reasoning is all reasoning. A closing tag in backticks is quoted and does not count.
    """
    if "think>" not in content:
        return None
    body = content.lstrip()
    if body.startswith(OPEN) and len(content) - len(body) <= MAX_SPACE:
        reasoning, _, text = body[len(OPEN) :].partition(CLOSE)
        return reasoning.strip(), text.lstrip()
    reasoning, closed, text = content.partition(CLOSE)
    reasoned = reasoning.strip()
    if not closed or OPEN in reasoning or reasoning.endswith("`") or (reasoned and text.startswith("`")):
        return None
    return reasoned, text.lstrip()


def without_stray_tag(content: str) -> str:
    """The content without a closing tag at its beginning, which a server's own parser left there."""
    body = content.lstrip()
    if not body.startswith(CLOSE):
        return content
    return content[: len(content) - len(body)] + body[len(CLOSE) :].lstrip()
