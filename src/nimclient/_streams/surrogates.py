r"""Joins surrogate pairs of characters beyond U+FFFF that a server splits over two events, as byte-level tokenizers do.

JSON writes them as `\ud83d` and `\ude00`. The first half is kept until the next event adds the second to the same place.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from nimclient._base.types import JsonDict, is_array, is_object
from nimclient.records._decode import object_or_empty, objects, whole_number

Path: TypeAlias = tuple[object, ...]


class SurrogateJoiner:
    """Feed the events of a stream in order: those with a lone half, and all while there are `halves`."""

    __slots__ = ("halves",)

    def __init__(self) -> None:
        self.halves: dict[Path, str] = {}  # first halves waiting for the second, by place

    def join(self, event: JsonDict) -> JsonDict:
        """The event with whole characters. A half without its pair becomes U+FFFD, at the end of its choice at the latest."""
        joined: JsonDict = self._join(event, ())
        for choice in objects(joined.get("choices")):
            if choice.get("finish_reason"):
                self._end(choice)
        return joined

    def _join(self, value: Any, path: Path) -> Any:
        if isinstance(value, str):
            text = self.halves.pop(path, "") + value
            if "\ud800" <= text[-1:] <= "\udbff":
                self.halves[path] = text[-1]
                text = text[:-1]
            return _whole(text)
        if is_object(value):
            return {_whole(key): self._join(item, (*path, key)) for key, item in value.items()}
        if is_array(value):
            return [self._join(item, (*path, _place(item, position))) for position, item in enumerate(value)]
        return value

    def _end(self, choice: JsonDict) -> None:
        """Replace the remaining halves of a choice's text and reasoning by U+FFFD."""
        start = ("choices", whole_number(choice.get("index")) or 0)
        for path in [path for path in self.halves if path[:2] == start]:
            del self.halves[path]
            part = choice if len(path) == 3 else object_or_empty(choice.get("delta")) if path[2] == "delta" else {}
            name = str(path[-1])
            if isinstance(part.get(name), str):
                part[name] += "\ufffd"
            elif len(path) == 4:
                choice["delta"] = {**part, name: "\ufffd"}


def _whole(text: str) -> str:
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _place(item: Any, position: int) -> int:
    """The place of a choice or a tool call: its own index, else its position."""
    index = whole_number(object_or_empty(item).get("index"))
    return position if index is None else index
