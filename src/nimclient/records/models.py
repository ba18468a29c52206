"""Records of the model list. Only `id` is certain; embedding NIMs send nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal, overload

from attrs import evolve, frozen

from nimclient._base.types import Json, JsonDict
from nimclient._base.values import ResponseMeta
from nimclient.records._decode import as_list, as_object, pop_count, pop_time, text_or_none, wrong
from nimclient.records._html import html_table, text_table
from nimclient.records._record import TopRecord

ModelKind = Literal["chat", "vlm", "embedding", "ranking", "completions", "unknown"]

_HEAD = ("id", "kind", "max_model_len", "")


@frozen(repr=False)
class Model(TopRecord):
    """A model. `kind`, the `supports_…` flags, `thinking_switch`, `aliases`, `deprecated` and `endpoint` come from the
    built-in catalog or from `endpoints=`; a model in neither has the kind "unknown".

    `parent` names the base model of an adapter (vLLM), `max_model_len` is in tokens (vLLM and NIM LLM containers). `listed`:
    the server lists it. `callable`: True for models that a self-hosted server lists and for those that have responded to
    this client; False for those rejected as not found or gone; None if unknown, as in the hosted catalog, which also lists
    models that the account may not call, and omits rerankers.
    """

    id: str
    kind: ModelKind | str = "unknown"
    supports_tools: bool = False
    supports_structured_output: bool = False
    supports_thinking: bool = False
    supports_images: bool = False
    aliases: tuple[str, ...] = ()
    deprecated: bool = False
    endpoint: str | None = None
    owned_by: str | None = None
    parent: str | None = None
    max_model_len: int | None = None
    created: int | None = None
    listed: bool = False
    callable: bool | None = None
    thinking_switch: str | None = None


class ModelList(Sequence[Model]):
    """Models in the server's order, as a sequence with `.meta`."""

    __slots__ = ("_models", "extra", "meta")

    def __init__(
        self, models: Sequence[Model], meta: ResponseMeta | None = None, extra: JsonDict | None = None
    ) -> None:
        self._models = tuple(models)
        self.meta = meta
        self.extra: JsonDict = extra or {}

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of the models."""
        return tuple(model.id for model in self._models)

    def to_dict(self) -> JsonDict:
        """The list as a JSON object."""
        return {"object": "list", "data": [model.to_dict() for model in self._models], **self.extra}

    def __len__(self) -> int:
        return len(self._models)

    @overload
    def __getitem__(self, index: int) -> Model: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Model, ...]: ...
    def __getitem__(self, index: int | slice) -> Model | tuple[Model, ...]:
        return self._models[index]

    def __iter__(self) -> Iterator[Model]:
        return iter(self._models)

    def __eq__(self, other: object) -> bool:
        return self._models == other._models if isinstance(other, ModelList) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.ids)

    def __repr__(self) -> str:
        return text_table(_HEAD, self._rows(), f"ModelList of {len(self)}") if self else "ModelList of 0"

    def _repr_html_(self) -> str:
        """The first models as a table, for notebooks."""
        return html_table(_HEAD, self._rows(), f"{len(self)} models")

    def _rows(self) -> list[tuple[object, ...]]:
        return [(m.id, m.kind, m.max_model_len, "deprecated" if m.deprecated else None) for m in self._models]

    def __reduce__(self) -> tuple[Any, ...]:
        return ModelList, (self._models, self.meta, self.extra)


def decode_models(value: Json, meta: ResponseMeta | None = None) -> ModelList:
    """The models of `GET /v1/models`: entries without an id are skipped, repeated ids appear once."""
    data = dict(as_object(value, "body", meta))
    if "data" not in data:
        raise wrong("it is missing", "data", meta)
    found: dict[str, Model] = {}
    for position, item in enumerate(as_list(data.pop("data"), "data", meta)):
        entry = dict(as_object(item, f"data[{position}]", meta))
        model_id = text_or_none(entry.pop("id", None))
        if model_id and model_id not in found:
            found[model_id] = _decode_model(model_id, entry)
    data.pop("object", None)
    return ModelList(list(found.values()), meta, data)


def decode_model(value: Json, meta: ResponseMeta | None = None) -> Model:
    """The model of `GET /v1/models/{id}`."""
    entry = dict(as_object(value, "body", meta))
    model_id = text_or_none(entry.pop("id", None))
    if not model_id:
        raise wrong("it is missing", "id", meta)
    return evolve(_decode_model(model_id, entry), meta=meta)


def _decode_model(model_id: str, entry: JsonDict) -> Model:
    entry.pop("object", None)
    return Model(
        id=model_id,
        owned_by=text_or_none(entry.pop("owned_by", None)),
        parent=text_or_none(entry.pop("parent", None)),
        max_model_len=pop_count(entry, "max_model_len"),
        created=pop_time(entry, "created"),
        listed=True,
        extra=entry,
    )
