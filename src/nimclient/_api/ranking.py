"""Reranking: arguments → Call, in the two forms that servers accept.

NIM's is POST /ranking, query and passages as objects, at most 512 passages a request; the hosted catalog has one URL
per model. The form of Jina and Cohere, POST /rerank with a query and documents, is used by vLLM (below /v1 and below the
root), Dynamo and SGLang.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias, cast

from attrs import evolve, frozen

from nimclient._api.call import Call
from nimclient._api.options import check_names, check_text, check_whole, check_word, merge_fields, names_of
from nimclient._api.server_types import ServerType
from nimclient._base.config import Dialect
from nimclient._base.types import Json, JsonDict, is_items
from nimclient._base.values import ResponseMeta
from nimclient.errors import APIStatusError, ConfigurationError, NimError, RerankMismatchError
from nimclient.records.chat import Usage
from nimclient.records.media import Image
from nimclient.records.params import CallOptions
from nimclient.records.ranking import Ranking, decode_ranking

Document: TypeAlias = "str | Image | Mapping[str, str | Image]"
"""A text, an Image, or both as {"text": …, "image": …}; the image may also be the str of a data URL."""

RANKING_OPTIONS = names_of(CallOptions)
TRUNCATES = ("NONE", "END")
MAX_PASSAGES = 512
SLICE_BYTES = 16_000_000  # the hosted gateway takes 25 MiB


@frozen
class Form:
    """A form of the request: NIM's or not, its path, and the name of the documents field.

    `asks_all`: `top_n` is sent even if all documents are wanted, since the server's default is lower.
    """

    path: str
    nim: bool = False
    at_root: bool = False
    field: str = "documents"
    asks_all: bool = False

    @property
    def takes_truncate(self) -> bool:
        """Whether the form has a `truncate` field."""
        return self.nim or self.field == "texts"


NIM = Form("/ranking", nim=True)
RERANK = Form("/rerank")
RERANK_AT_ROOT = Form("/rerank", at_root=True)
TEXTS = Form("/rerank", at_root=True, field="texts")
"""The form of text-embeddings-inference."""


@frozen
class Passage:
    """A document in the form it is sent: a text, the URL of an image, or both; and the caller's document."""

    text: str | None
    image: str | None
    document: Any

    @property
    def weight(self) -> int:
        """Approximate size in bytes."""
        return len(self.text or "") + len(self.image or "")


def forms(told: Dialect | None, known: ServerType | None, endpoint: str | None = None) -> tuple[Form, ...]:
    """The forms to try, the most likely first.

    The end of a model's own URL shows its form, and a certain server type (`told`: given by the caller, or NVIDIA's own
    host) allows only one form; a detected type (`known`) only decides which is tried first.
    """
    if endpoint is not None:
        return (Form(endpoint, nim=not endpoint.endswith("/rerank")),)
    match told:
        case "vllm":
            return RERANK, RERANK_AT_ROOT
        case "dynamo":
            return (RERANK,)
        case "nim" | "hosted":
            return (NIM,)
        case None:
            if known == "tei":
                return TEXTS, RERANK
            nim_first = known in (None, "nim", "hosted")
            return (NIM, RERANK, RERANK_AT_ROOT) if nim_first else (RERANK, RERANK_AT_ROOT, NIM)


def other_form(form: Form, error: NimError, top_n: int | None) -> Form | None:
    """Another form to try after this error: the server names another field, or returned too few ranks."""
    if form.nim or form == TEXTS:
        return None
    if isinstance(error, APIStatusError) and error.status in (400, 422) and error.param == TEXTS.field:
        return TEXTS
    if isinstance(error, RerankMismatchError) and top_n is None and not form.asks_all:
        return evolve(form, asks_all=True)
    return None


def check_ranking(
    query: object, documents: object, top_n: int | None, truncate: str | None, options: Mapping[str, Any]
) -> list[Passage]:
    """The validated documents. TypeError for a str in place of a list, ConfigurationError for invalid input.

    Args:
        query: The query.
        documents: Texts, images or both.
        top_n: The number of best documents to return.
        truncate: How NIM truncates a text that is too long.
        options: CallOptions.
    """
    check_names("rerank", options, RANKING_OPTIONS)
    check_text("query", query)
    check_whole("top_n", top_n, 1)
    check_word("truncate", truncate, TRUNCATES)
    if not is_items(documents):
        raise TypeError(f"documents takes a list of documents, not {type(documents).__name__}")
    passages = [_passage(document, f"documents[{index}]") for index, document in enumerate(documents)]
    if not passages:
        raise ConfigurationError("documents is empty; pass at least one document")
    return passages


def _passage(document: object, path: str) -> Passage:
    if isinstance(document, Image):
        return Passage(None, document.url, document)
    if not isinstance(document, Mapping):
        if not isinstance(document, str):
            kind = type(document).__name__
            raise ConfigurationError(f'{path} must be a str, an Image or {{"text": …, "image": …}}, not {kind}')
        return Passage(check_text(path, document), None, document)
    fields = cast(Mapping[str, object], document)
    if unknown := sorted(map(str, fields.keys() - {"text", "image"})):
        raise ConfigurationError(f"{path} has the key {unknown[0]!r}; a document has text, image or both")
    text, image = fields.get("text"), fields.get("image")
    if isinstance(image, str) and image:
        image = Image(image)
    if image is not None and not isinstance(image, Image):
        raise ConfigurationError(f"{path}.image must be an Image or a URL, not {image!r:.40}")
    if image is None or text:
        text = check_text(f"{path}.text", text)
    return Passage(cast("str | None", text or None), None if image is None else image.url, fields)


def slices(passages: Sequence[Passage], batch_size: int | None) -> Iterator[range]:
    """Cut into ranges of at most `batch_size` passages (512) and about 16 MB; a larger passage gets its own slice."""
    max_passages = batch_size or MAX_PASSAGES
    start = size = 0
    for position, passage in enumerate(passages):
        if position > start and (position - start == max_passages or size + passage.weight > SLICE_BYTES):
            yield range(start, position)
            start, size = position, 0
        size += passage.weight
    yield range(start, len(passages))


def ranking_call(
    form: Form,
    query: str,
    passages: Sequence[Passage],
    model: str | None,
    *,
    top_n: int | None,
    truncate: str | None,
    options: Mapping[str, Any],
) -> Call[Ranking]:
    """The call for validated passages.

    Args:
        form: The form of the request.
        query: The query.
        passages: The documents.
        model: None: the server uses its own.
        top_n: The number of best documents; NIM's form and TEI's have no field for it, so the result is cut here.
        truncate: A field of NIM's form and TEI's only.
        options: CallOptions.
    """
    fields: JsonDict = {} if model is None else {"model": model}
    if form.nim:
        fields["query"] = {"text": query}
        fields["passages"] = [_nim_passage(passage) for passage in passages]
        if truncate is not None:
            fields["truncate"] = truncate
        top_n = None
    else:
        fields["query"] = query
        fields[form.field] = [_document(passage) for passage in passages]
        if form == TEXTS:
            top_n = None
            if truncate is not None:
                fields["truncate"] = truncate != "NONE"
        elif top_n is not None or form.asks_all:
            fields["top_n"] = top_n = min(top_n or len(passages), len(passages))
    merge_fields(fields, options)
    decode = partial(_decode, documents=[passage.document for passage in passages], top_n=top_n)
    return Call("POST", form.path, decode, fields, model=model, at_root=form.at_root, kind="ranking")


def _nim_passage(passage: Passage) -> JsonDict:
    """A passage without `text` if there is only an image: NIM 2.0 rejects an empty one."""
    fields = {"text": passage.text, "image": passage.image}
    return {name: value for name, value in fields.items() if value is not None}


def _document(passage: Passage) -> Json:
    """A str, or vLLM's content parts if there is an image."""
    if passage.image is None:
        return passage.text
    image = {"type": "image_url", "image_url": {"url": passage.image}}
    text = [] if passage.text is None else [{"type": "text", "text": passage.text}]
    return {"content": [*text, image]}


def merged(parts: Mapping[int, Ranking]) -> Ranking:
    """Merge the rankings of slices, given by the position of their first document.

    Scores of separate requests are comparable: a cross-encoder scores one pair at a time. RerankMismatchError if the
    slices have different kinds of scores.
    """
    first = parts[0]
    if len(parts) == 1:
        return first
    measures = {part.measure for part in parts.values()}
    if len(measures) > 1:
        raise RerankMismatchError(f"the slices have different kinds of scores: {', '.join(sorted(measures))}")
    results = [evolve(r, index=start + r.index) for start, part in parts.items() for r in part.results]
    results.sort(key=lambda document: (-document.score, document.index))
    usage = sum((part.usage or Usage() for part in parts.values()), start=Usage())
    return evolve(first, results=tuple(results), usage=usage if any(p.usage for p in parts.values()) else None)


def _decode(value: Json, meta: ResponseMeta, *, documents: list[Any], top_n: int | None) -> Ranking:
    return decode_ranking(value, documents, meta, top_n=top_n)
