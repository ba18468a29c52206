"""What the docstring of an async method reads like where its code is blocking code."""

_WORDS = (("async with", "with"), ("async for", "for"), ("`await ", "`"), ("aclose()", "close()"))


def as_blocking(doc: str | None) -> str | None:
    """The docstring of the blocking twin."""
    for word, other in _WORDS if doc else ():
        doc = (doc or "").replace(word, other)
    return doc
