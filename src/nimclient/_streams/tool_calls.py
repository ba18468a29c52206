"""Assembles tool calls from pieces. Servers differ in how pieces are related: by index, by id, by order.

An id takes precedence: a new id at a used index is a new call, and a known id under a new index continues
that call as long as its arguments are not complete JSON. Without ids the index decides, but a name after complete arguments
begins another call: some servers send all parallel calls under one index. Without an index the last call continues.
Readers of chunks get the pieces in one form: each index is the place of its call, and id and name come once.
"""

from __future__ import annotations

from nimclient._base.json import dumps
from nimclient._base.types import JsonDict
from nimclient.errors import ConfigurationError, DecodeError
from nimclient.records._decode import object_or_empty, text_or_none, whole_number
from nimclient.records.tool_calls import FUNCTION, function_of, name_of

MAX_TOOL_CALLS = 2**14
"""Maximum calls of one message: far above what any model requests."""


class ToolCallAccumulator:
    """Tool calls of one choice."""

    __slots__ = ("_begun", "_by_id", "_by_index", "_calls", "_last")

    def __init__(self) -> None:
        self._calls: list[_Call] = []  # that have a name or arguments
        self._begun = 0
        self._last: _Call | None = None
        self._by_id: dict[str, _Call] = {}
        self._by_index: dict[int, _Call] = {}

    def add_all(self, deltas: list[JsonDict]) -> list[JsonDict]:
        """Merge the pieces of one delta; returns what they add, in the usual form."""
        return [piece for delta in deltas if (piece := self._add(delta)) is not None]

    def _add(self, delta: JsonDict) -> JsonDict | None:
        """Merge a piece; returns what it adds. A call's name is set once: vLLM 0.8 repeats it in every delta."""
        function = function_of(delta)
        name, arguments = name_of(function), _as_text(function.get("arguments"))
        index, call_id = whole_number(delta.get("index")), text_or_none(delta.get("id"))
        here = self._last if index is None else self._by_index.get(index)
        call = (
            self._of_id(call_id, name, arguments, index, here)
            if call_id
            else self._of_name(name, arguments, index, here)
        )
        if call is None:
            call = self._begin()
        for key, value in delta.items():
            if value not in (None, "") and key not in ("index", "function", *FUNCTION):
                call.fields.setdefault(key, value)
        known = len(call.name)
        call.name = call.with_name(name) or (here.name if here is not None and here.repeated else "")
        call.repeated = bool(name and not arguments)
        if call.is_whole(arguments):
            arguments = ""
        if arguments:
            call.pieces.append(arguments)
            call.length += len(arguments)
        if call_id:
            self._by_id[call_id] = call
        if index is not None:
            self._by_index[index] = call
        self._last = call
        if call.index is None and (call.name or call.pieces):
            call.index = len(self._calls)
            self._calls.append(call)
        return None if call.index is None else call.piece(delta, call.name[known:], arguments)

    def _of_id(self, call_id: str, name: str, arguments: str, index: int | None, here: _Call | None) -> _Call | None:
        """The call that a piece with an id belongs to; None for a new one."""
        known = self._by_id.get(call_id)
        if index is None:
            return known
        if here is not None and (here.fields.get("id") in (None, call_id) or here.continues_with(name)):
            return here
        if known is None or name not in ("", known.name) or (known.is_complete and not known.is_whole(arguments)):
            return None
        return known

    def _of_name(self, name: str, arguments: str, index: int | None, here: _Call | None) -> _Call | None:
        """The call that a piece without an id belongs to; None for a new one."""
        if here is None or not here.name:
            return here
        if not name:
            return None if here.repeated and arguments.strip() and here.is_complete else here
        if index is None:
            return here if name == here.name and here.is_unfinished else None
        if "id" in here.fields or (name == here.name and not (arguments and here.is_complete)):
            return here
        return None

    def _begin(self) -> _Call:
        self._begun += 1
        if self._begun > MAX_TOOL_CALLS:
            raise DecodeError(f"the answer has more than {MAX_TOOL_CALLS} tool calls", path="tool_calls")
        return _Call()

    def as_list(self) -> list[JsonDict]:
        """The calls in the form of a plain answer. Duplicates with one id are merged. Missing ids are generated."""
        found: dict[object, JsonDict] = {}
        for position, call in enumerate(self._calls):
            function = {"name": call.name, "arguments": "".join(call.pieces)}
            call_id = call.fields.get("id")
            key = position if call_id is None else (call_id, call.name, function["arguments"])
            found.setdefault(key, {"id": f"call_{position}", "type": "function", **call.fields, "function": function})
        return list(found.values())


class _Call:
    """What was received of one call."""

    __slots__ = (
        "_depth",
        "_escaped",
        "_has_id",
        "_in_text",
        "_read",
        "fields",
        "index",
        "length",
        "name",
        "pieces",
        "repeated",
    )

    def __init__(self) -> None:
        self.name = ""
        self.index: int | None = None  # its place among the calls
        self._has_id = False  # whether a piece that was returned has its id
        self.pieces: list[str] = []
        self.length = 0  # of the pieces
        self.fields: JsonDict = {}
        self.repeated = False  # whether the last piece had its name without arguments, first or repeated
        self._read = 0  # how many pieces is_complete has scanned, and its state
        self._depth = 0
        self._in_text = self._escaped = False

    def piece(self, delta: JsonDict, name: str, arguments: str) -> JsonDict:
        """What a delta adds: itself if it has the usual form and repeats nothing."""
        call_id = None if self._has_id else self.fields.get("id")
        self._has_id = self._has_id or call_id is not None
        function = object_or_empty(delta.get("function"))
        form = (delta.get("index"), delta.get("id"), function.get("name") or "", function.get("arguments") or "")
        if form == (self.index, call_id, name, arguments):
            return delta
        rest = {key: value for key, value in delta.items() if key not in ("index", "id", "function", *FUNCTION)}
        return {**rest, "index": self.index, "id": call_id, "function": {"name": name or None, "arguments": arguments}}

    def with_name(self, piece: str) -> str:
        """The name with a piece of it: set once, except that a call with an id may get it in pieces before its arguments."""
        if self.name and (self.pieces or "id" not in self.fields or piece.startswith(self.name)):
            return self.name
        return self.name + piece

    def continues_with(self, name: str) -> bool:
        """Whether a piece with another id must belong to this call: some servers make a new id for every piece."""
        return not self.is_complete if not name else name == self.name and self.is_unfinished

    def is_whole(self, arguments: str) -> bool:
        """Whether a piece only repeats all of the arguments at their end."""
        if self.length != len(arguments) or not arguments.lstrip().startswith("{"):
            return False
        return self.is_complete and "".join(self.pieces) == arguments

    @property
    def is_unfinished(self) -> bool:
        """Whether its arguments have begun but are incomplete."""
        return bool(self.pieces) and not self.is_complete

    @property
    def is_complete(self) -> bool:
        """Whether the arguments are a complete JSON object, judged by its brackets. Each piece is scanned once."""
        for piece in self.pieces[self._read :]:
            for character in piece:
                self._look(character)
        self._read = len(self.pieces)
        return bool(self.pieces) and self._depth == 0 and not self._in_text

    def _look(self, character: str) -> None:
        if self._escaped:
            self._escaped = False
        elif character == "\\":
            self._escaped = self._in_text
        elif character == '"':
            self._in_text = not self._in_text
        elif not self._in_text:
            self._depth += (character in "{[") - (character in "}]")


def _as_text(arguments: object) -> str:
    """The text of arguments; some servers send the object itself."""
    if arguments is None or isinstance(arguments, str):
        return arguments or ""
    try:
        return dumps(arguments).decode()
    except ConfigurationError as error:
        raise DecodeError(f"the arguments of a tool call cannot be read: {error}", path="tool_calls") from None
