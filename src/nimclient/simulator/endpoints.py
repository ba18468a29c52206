"""The responses of each route, as functions of the request's JSON: the simulator without its server.

Holds the models, the features and the vocabulary; knows neither HTTP nor time. Every method raises `Rejection` for a
request that it rejects.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Final

from .biology import structures
from .catalog import ANY_KIND, ServedModel, find_model, served_models
from .chat import ChatAnswer, ChatRequest, answer_chat, read_chat
from .chat_wire import ChatWriter
from .completions import CompletionWriter, complete, read_completion
from .dialects import NimDialect
from .embeddings import RAW_ENCODINGS, embed, read_embedding, read_openai_embedding
from .features import Features
from .fields import Fields
from .pictures import artifacts
from .prefix_cache import PrefixCache
from .ranking import rank, read_ranking, read_rerank, rerank, sglang_rerank
from .raw_vectors import raw_response
from .rejections import Rejection, unknown_model
from .responses import ResponseWriter, chat_body
from .text import pieces
from .vision import page_elements, texts
from .vocabulary import Vocabulary, detokenize, tokenize
from .wire import PlainResponse, Response, StreamedResponse, TokenCounts

_RETRIEVER_KINDS: Final = ("embedding", "ranking")


class Endpoints:
    """The inference routes; `models` are served, else the catalog; vectors have `dimensions` floats at most."""

    def __init__(
        self,
        models: Iterable[str],
        *,
        seed: int,
        dimensions: int,
        max_model_len: int,
        prefix_cache: int = 1_600_000,
        dialect: NimDialect | None = None,
    ) -> None:
        self.models = served_models(models)
        self._dialect = NimDialect() if dialect is None else dialect
        self._seed = seed
        self._features = Features(dimensions, seed)
        self._max_model_len = max_model_len
        self._vocabulary = Vocabulary()
        self._prefix_cache = PrefixCache(prefix_cache)

    def max_model_len(self, model: ServedModel) -> int:
        """The longest input of a model, in tokens."""
        return model.token_limit if model.kind in _RETRIEVER_KINDS else self._max_model_len

    def _context_of(self, fields: Fields) -> int:
        """The longest input of the model that these fields name, if they do."""
        model, _ = find_model(self.models, fields.text("model") or "")
        return self._max_model_len if model is None else self.max_model_len(model)

    def respond(self, route: str, body: dict[str, Any], request_id: str) -> Response:
        """The response of one POST route to a body."""
        fields = Fields(body)
        match route:
            case "chat":
                return self._chat(fields, request_id)
            case "responses":
                return self._responses(body, request_id)
            case "completions":
                return self._completions(fields, request_id)
            case "embeddings":
                return self._embeddings(fields, request_id)
            case "ranking":
                return self._ranking(fields)
            case "rerank":
                return self._rerank(fields, request_id)
            case "infer":
                return artifacts(fields) if fields.given("prompt") is not None else page_elements(fields)
            case "ocr":
                return texts(fields)
            case "boltz2":
                return structures(fields)
            case "tokenize":
                return PlainResponse(tokenize(fields, self._vocabulary, self._context_of(fields)))
            case _:
                return PlainResponse(detokenize(fields, self._vocabulary))

    def _model(self, fields: Fields, route: str, *kinds: str) -> tuple[ServedModel, str | None]:
        name = fields.need_text("model")
        model, input_type = find_model(self.models, name)
        if model is None:
            raise unknown_model(name)
        if model.kind not in (ANY_KIND, *kinds):
            raise Rejection(400, f"The model `{name}` does not support {route}.", param="model")
        return model, input_type

    def _chat(self, fields: Fields, request_id: str) -> Response:
        model, _ = self._model(fields, "chat completions", "chat", "vlm")
        request = read_chat(fields, model)
        answer = self._answer(request, model, fields)
        vocabulary = self._vocabulary if request.returns_ids else None
        writer = ChatWriter(request, answer, model.id, request_id, self._dialect.shape, vocabulary)
        if request.sampling.stream:
            return StreamedResponse(writer.frames(), answer.usage)
        return PlainResponse(writer.body(), answer.longest, answer.usage)

    def _responses(self, body: dict[str, Any], request_id: str) -> Response:
        fields = Fields(chat_body(body))
        model, _ = self._model(fields, "responses", "chat", "vlm")
        request = read_chat(fields, model)
        answer = self._answer(request, model, fields)
        writer = ResponseWriter(body, answer, model.id, request_id)
        if request.sampling.stream:
            return StreamedResponse(writer.frames(), answer.usage)
        return PlainResponse(writer.response(), answer.longest, answer.usage)

    def _answer(self, request: ChatRequest, model: ServedModel, fields: Fields) -> ChatAnswer:
        """The answer to a checked request, with the number of cached tokens of its prompt."""
        answer = answer_chat(request, self._seed, self._max_model_len)
        tokens = [token for message in request.messages for token in (message.role, *pieces(message.text))]
        tokens += pieces(request.begun or "")
        cached = self._prefix_cache.take(tokens, f"{model.id} {fields.given('cache_salt')}")
        return replace(answer, cached_tokens=cached)

    def _completions(self, fields: Fields, request_id: str) -> Response:
        model, _ = self._model(fields, "completions", "chat", "vlm", "completions")
        request = read_completion(fields, self._vocabulary)
        completions = complete(request, self._seed, self._max_model_len)
        writer = CompletionWriter(
            request, completions, model.id, request_id, self._vocabulary if request.returns_ids else None
        )
        usage = writer.tokens()
        if request.sampling.stream:
            return StreamedResponse(writer.frames(), usage)
        return PlainResponse(writer.body(), max(len(completion.cut.tokens) for completion in completions), usage)

    def _embeddings(self, fields: Fields, request_id: str) -> Response:
        model, named_type = self._model(fields, "embeddings", "embedding")
        if self._dialect.input_types:
            request = read_embedding(fields, model, named_type, self._features.dimensions)
        else:
            model = replace(model, symmetric=True)
            raw, dimensions = self._dialect.raw_embeddings, self._features.dimensions
            request = read_openai_embedding(fields, model, self._vocabulary, dimensions, raw=raw)
        body = self._dialect.embeddings(embed(request, model, self._features), request_id)
        if request.encoding in RAW_ENCODINGS:
            rows = [item["embedding"] for item in body["data"]]
            of = (request.embed_dtype, request.endianness, request.dimensions)
            return raw_response(body, rows, *of, metadata=request.encoding == "bytes")
        return PlainResponse(body, usage=TokenCounts(body["usage"]["prompt_tokens"]))

    def _ranking(self, fields: Fields) -> Response:
        model, _ = self._model(fields, "ranking", "ranking")
        body = rank(read_ranking(fields, model), model, self._features)
        return PlainResponse(body, usage=TokenCounts(body["usage"]["prompt_tokens"]))

    def _rerank(self, fields: Fields, request_id: str) -> Response:
        model, _ = self._model(fields, "rerank", "ranking")
        request = read_rerank(fields, model)
        if self._dialect.plain_list_rerank:
            return PlainResponse(sglang_rerank(request, model, self._features))
        return PlainResponse(rerank(request, model, self._features, request_id))
