"""A call as a value: what is sent, how the response is decoded, and how often it may be replayed.

`Body` keeps the fields separate from the encoded bytes, so that a droppable field that a server rejects can be omitted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from attrs import define, evolve, field

from nimclient._api.options import TOKEN_LIMITS
from nimclient._base import json as _json
from nimclient._base.types import Json, JsonDict
from nimclient._base.values import ResponseMeta
from nimclient._retry.policy import Replay
from nimclient.records._decode import whole_number

if TYPE_CHECKING:
    from nimclient._streams.accumulate import Accumulator
    from nimclient.records.media import Image

T = TypeVar("T")

RAW_BYTES = "bytes_only"
"""Among the droppable fields: vectors are asked for as raw bytes (`encoding_format`); without it, in base64."""


@define
class Call(Generic[T]):
    """One API call, never changed. Creating it encodes its body: ConfigurationError for what JSON cannot represent.

    `path` is below the API root ("/chat/completions"), with `at_root` below the root without /v1 ("/tokenize"), or an
    absolute URL. `parse` decodes the JSON of the response and `decode` turns it into a record; `decode_raw` does so with a
    body of type application/octet-stream, for calls that may get one. `droppable_fields` names
    fields added by the client, which are dropped if the server rejects them. `accumulator` builds the plain answer if a
    server sends events although not requested. `raw` is a body other than JSON. `follow`: whether the result may be behind
    a redirect (302); `allow_plain_202`: whether a 202 without a request id is a final response; `unauthenticated`: send
    neither key nor headers of the client; `uploads`: images to upload as assets before the call is sent; `kind`: the kind
    of model that is needed (chat, completions, embedding, ranking), "" for none; `warnings`: issued once when it is sent.
    """

    method: str
    path: str = field(repr=lambda path: repr(path.partition("?")[0]))
    decode: Callable[[Json, ResponseMeta], T]
    fields: JsonDict | None = field(default=None, repr=False)
    model: str | None = None
    droppable_fields: tuple[str, ...] = ()
    replay: Replay = Replay.SAFE
    stream: bool = False
    headers: Mapping[str, str] = field(factory=dict[str, str], repr=False)
    parse: Callable[[bytes], Json] = _json.loads
    decode_raw: Callable[[bytes, ResponseMeta], T] | None = None
    accumulator: Callable[[], Accumulator[T]] | None = None
    at_root: bool = False
    raw: bytes | None = field(default=None, repr=False)
    accept: str = "application/json"
    follow: bool = False
    allow_plain_202: bool = False
    unauthenticated: bool = False
    uploads: tuple[Image, ...] = field(default=(), repr=False)
    warnings: tuple[str, ...] = ()
    kind: str = ""

    body: bytes | None = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self.body = self.raw if self.fields is None else _json.dumps(self.fields)

    @property
    def shown_path(self) -> str:
        """The path for display: without the query, which may hold a signature."""
        return self.path.partition("?")[0]

    @property
    def max_answer(self) -> int | None:
        """The most tokens of the answer, if the body limits them."""
        fields = self.fields or {}
        return next((limit for name in TOKEN_LIMITS if (limit := whole_number(fields.get(name))) is not None), None)

    def with_model(self, model: str) -> Call[T]:
        """A copy for another model, encoded again."""
        return evolve(self, model=model, fields={**(self.fields or {}), "model": model})

    @property
    def choices(self) -> int:
        """The expected number of choices: `n` for each prompt."""
        fields = self.fields or {}
        prompts = cast(list[Any], fields["prompt"]) if isinstance(fields.get("prompt"), list) else []
        several = bool(prompts) and not isinstance(prompts[0], int)
        return (whole_number(fields.get("n")) or 1) * (len(prompts) if several else 1)

    def without(self, names: frozenset[str]) -> Call[T]:
        """A copy without these fields, encoded again."""
        fields = {key: value for key, value in (self.fields or {}).items() if key not in names}
        if "stream" not in fields and "stream_options" in fields:  # vLLM sends 400 for stream_options without stream
            del fields["stream_options"]
        if RAW_BYTES in names:
            fields.pop("embed_dtype", None)  # float32 is rounded here
            if "encoding_format" in fields:
                fields["encoding_format"] = "base64"
        return evolve(self, fields=fields, droppable_fields=tuple(n for n in self.droppable_fields if n not in names))
