"""EmbedBatch, ChatBatch, RerankBatch: take batches of rows and return them with the answers as additional columns.

They work with any engine that maps batches. The three forms of batches (a mapping of columns, a pandas DataFrame, a
pyarrow Table) are recognized by their methods, and no engine is imported; NumPy is installed with all of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar, cast

from attrs import frozen

from nimclient import ChatCompletion, Client
from nimclient.errors import (
    AuthenticationError,
    ClientClosedError,
    ConfigurationError,
    ConnectError,
    ModelNotFoundError,
    NimError,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

B = TypeVar("B")
R = TypeVar("R")
OnError: TypeAlias = Literal["raise", "null"]

FAILS_ALL = (AuthenticationError, ClientClosedError, ConnectError, ModelNotFoundError)
"""Errors that every other row would have, too: the engine decides whether to retry the batch."""

AT_ONCE = 16
"""Reranking requests that one worker has in flight."""


@frozen
class Answers:
    """The results of a batch: one value per row and column, and the errors.

    `columns`: by name, a matrix of shape (rows, dimensions), NaN where there is no vector, or an object array, None where
    there is no value.
    """

    columns: Mapping[str, NDArray[Any]]
    errors: Sequence[str | None]


class BatchMapper(ABC):
    """A callable that sends the rows of a batch and returns the batch with further columns.

    The result has the form of the batch: a mapping of columns, a pandas DataFrame or a pyarrow Table.
    """

    def __init__(self, client: Client | None, columns: Sequence[str], output: str, on_error: str) -> None:
        if client is not None and not isinstance(client, Client):
            raise ConfigurationError(f"client takes a Client, not {type(client).__name__}")
        if on_error not in ("raise", "null"):
            raise ConfigurationError(f"on_error must be 'raise' or 'null', not {on_error!r:.40}")
        self._client = client
        self._columns = tuple(columns)
        self._output = output
        self._raises = on_error == "raise"

    def __call__(self, batch: B) -> B:
        """The batch with its answers. Raises ConfigurationError for an invalid batch, or one without the column."""
        made: B | None = None
        if isinstance(batch, Mapping):
            made = self._mapping(cast(Any, batch))
        elif hasattr(batch, "append_column"):
            made = self._table(batch)
        elif hasattr(batch, "assign"):
            made = self._frame(batch)
        if made is not None:
            return made
        kind = type(cast(object, batch)).__name__
        raise ConfigurationError(f"a batch is a mapping of columns, a pandas DataFrame or a pyarrow Table, not {kind}")

    @abstractmethod
    def _answers(self, *columns: Sequence[Any]) -> Answers:
        """The answers to the rows of these columns."""

    @abstractmethod
    def _arrow_type(self, pyarrow: Any, name: str) -> Any:
        """The Arrow type of a column of objects."""

    @property
    def _connected(self) -> Client:
        """The client; else one from this worker's environment."""
        if self._client is None:
            self._client = Client()
        return self._client

    def _mapping(self, batch: Mapping[str, Any]) -> Any:
        found = self._answers(*self._given(batch, batch))
        return {**batch, **found.columns, **self._reasons(found)}

    def _frame(self, batch: Any) -> Any:
        found = self._answers(*self._given(batch, batch.columns))
        made = {name: _cells(values, found.errors) for name, values in found.columns.items()}
        return batch.assign(**made, **self._reasons(found))

    def _table(self, batch: Any) -> Any:
        pyarrow: Any = import_module("pyarrow")
        found = self._answers(*(column.to_pylist() for column in self._given(batch, batch.column_names)))
        for name, values in found.columns.items():
            batch = batch.append_column(name, self._arrow_column(pyarrow, name, values, found.errors))
        for name, errors in self._reasons(found).items():
            batch = batch.append_column(name, pyarrow.array(errors, pyarrow.string()))
        return batch

    def _arrow_column(self, pyarrow: Any, name: str, values: NDArray[Any], errors: Sequence[str | None]) -> Any:
        if values.ndim == 1:
            return pyarrow.array(_cells(values, errors), self._arrow_type(pyarrow, name))
        missing = pyarrow.array([error is not None for error in errors], pyarrow.bool_())
        flat = pyarrow.array(values.reshape(-1))
        return pyarrow.FixedSizeListArray.from_arrays(flat, values.shape[1], mask=missing)

    def _reasons(self, found: Answers) -> dict[str, NDArray[Any]]:
        """The error column, if rows may fail."""
        return {} if self._raises else {f"{self._output}_error": _objects(found.errors)}

    def _given(self, batch: Any, names: Any) -> list[Any]:
        for name in self._columns:
            if name not in names:
                there = ", ".join(map(str, names))[:200]
                raise ConfigurationError(f"the batch has no column {name!r} (it has {there}); name the one it has")
        return [batch[name] for name in self._columns]

    def _sort_out(self, results: Sequence[R | NimError]) -> tuple[list[R | None], list[str | None]]:
        """Results (None for a failed row) and errors; raises errors that fail the whole batch."""
        for index, result in enumerate(results):
            if isinstance(result, NimError) and (self._raises or isinstance(result, FAILS_ALL)):
                result.index = index
                raise result
        return (
            [None if isinstance(result, NimError) else result for result in results],
            [str(result) if isinstance(result, NimError) else None for result in results],
        )


class EmbedBatch(BatchMapper):
    """A callable that embeds the column `text` of a batch and returns the batch with the vectors as the column `output`.

    A batch is a mapping of columns (Ray's and Daft's default), a pandas DataFrame (Spark's mapInPandas, Dask) or a
    pyarrow Table; the result has the same form: a float32 matrix of shape (rows, dimensions), a column of arrays,
    or fixed-size lists of float32.

    ``dataset.map_batches(EmbedBatch, fn_constructor_kwargs={"client": client}, concurrency=2, batch_size=1024)``

    Args:
        client: a Client; None makes one from the environment. It pickles without its connections and without a literal
            key, and connects in the worker at the first batch: workers take the key from their environment.
        text: the column with the texts.
        output: the column for the vectors.
        on_error: "raise": the error of a text fails the batch, and the engine may retry it; "null":
            such a text gets NaN (a null in pandas and Arrow), and the column `<output>_error` its error. A wrong model or
            key, or a server that cannot be reached, fails the batch in any case.
        settings: those of `embeddings.embed_stream`: model, input_type, truncate, dimensions, batch_size, concurrency and
            the others.
    """

    def __init__(
        self,
        client: Client | None = None,
        *,
        text: str = "text",
        output: str = "embedding",
        on_error: OnError = "raise",
        **settings: Any,
    ) -> None:
        super().__init__(client, [text], output, on_error)
        self._settings = settings
        self._dimensions = 0  # of the last batch that had vectors

    def embed(self, texts: Sequence[str | None]) -> NDArray[Any]:
        """The vectors of some texts: a float32 matrix of shape (texts, dimensions), for engines that map columns."""
        return self._answers(texts).columns[self._output]

    def _answers(self, *columns: Sequence[Any]) -> Answers:
        """Embed in one stream; its batches are written to their rows of the matrix."""
        import numpy

        (texts,) = columns
        found: NDArray[Any] | None = None
        errors: list[str | None] = [None] * len(texts)
        first: NimError | None = None
        how: Literal["raise", "collect"] = "raise" if self._raises else "collect"
        source = [_text_of(text) for text in texts]
        with self._connected.embeddings.embed_stream(source, ordered=False, on_error=how, **self._settings) as stream:
            for batch in stream:
                for failure in batch.failures:
                    errors[failure.index] = str(failure.error)
                    first = first or failure.error
                if len(batch.vectors):
                    if found is None:
                        self._dimensions = batch.vectors.dimensions
                        found = numpy.full((len(texts), self._dimensions), numpy.nan, numpy.float32)
                    found[_places(batch.indexes)] = batch.vectors.numpy()
        if found is None:
            if first is not None and not self._dimensions:
                raise first  # the length of a vector of NaN is unknown
            found = numpy.full((len(texts), self._dimensions), numpy.nan, numpy.float32)
        return Answers({self._output: found}, errors)

    def _arrow_type(self, pyarrow: Any, name: str) -> Any:
        return pyarrow.list_(pyarrow.float32())


class ChatBatch(BatchMapper):
    """A callable that sends the column `prompt` of a batch and returns the batch with the answers' texts as `output`.

    A cell of `prompt` is a str or a list of messages. The column `<output>_finish_reason` distinguishes a truncated answer
    ("length") from a complete one ("stop"). Forms of batches as in EmbedBatch: object arrays of str, columns of str, Arrow
    strings.

    ``dataset.map_batches(ChatBatch, fn_constructor_kwargs={"client": client, "max_tokens": 64}, batch_size=256)``

    Args:
        client: as in EmbedBatch.
        prompt: the column with the questions.
        output: the column for the answers.
        on_error: as in EmbedBatch; with "null" a row that failed has None and its reason in `<output>_error`.
        options: those of `chat.batch`: model, concurrency, temperature, max_tokens and the others.
    """

    def __init__(
        self,
        client: Client | None = None,
        *,
        prompt: str = "prompt",
        output: str = "answer",
        on_error: OnError = "raise",
        **options: Any,
    ) -> None:
        super().__init__(client, [prompt], output, on_error)
        self._options = options

    def _answers(self, *columns: Sequence[Any]) -> Answers:
        (prompts,) = columns
        rows: list[Any] = [None if _is_missing(prompt) else _messages_of(prompt) for prompt in prompts]
        there = [index for index, row in enumerate(rows) if row is not None]
        replies: list[ChatCompletion | NimError] = [_missing(self._columns[0], index) for index in range(len(rows))]
        asked = self._connected.chat.batch([rows[index] for index in there], on_error="return", **self._options)
        for index, reply in zip(there, asked, strict=True):
            replies[index] = reply
        found, errors = self._sort_out(replies)
        texts = [None if reply is None else reply.text for reply in found]
        reasons = [None if reply is None else reply.finish_reason for reply in found]
        return Answers({self._output: _objects(texts), f"{self._output}_finish_reason": _objects(reasons)}, errors)

    def _arrow_type(self, pyarrow: Any, name: str) -> Any:
        return pyarrow.string()


class RerankBatch(BatchMapper):
    """A callable that reranks each row's documents for its query and returns the batch with their scores as `output`.

    A cell of `output` has one score a document, in the order of the documents (not sorted): an array of float64, Arrow
    lists of float64. Forms of batches as in EmbedBatch.

    ``dataset.map_batches(RerankBatch, fn_constructor_kwargs={"client": client}, concurrency=2, batch_size=64)``

    Args:
        client: as in EmbedBatch.
        query: the column with the queries.
        documents: the column with a list of documents a row.
        output: the column for the scores.
        on_error: as in EmbedBatch; with "null" a row that failed has None and its reason in `<output>_error`.
        settings: those of `rerank` but `top_n`: model, truncate, batch_size and the others.
    """

    def __init__(
        self,
        client: Client | None = None,
        *,
        query: str = "query",
        documents: str = "documents",
        output: str = "scores",
        on_error: OnError = "raise",
        **settings: Any,
    ) -> None:
        super().__init__(client, [query, documents], output, on_error)
        if "top_n" in settings:
            raise ConfigurationError("top_n leaves documents without a score; sort the scores instead")
        self._settings = settings

    def _answers(self, *columns: Sequence[Any]) -> Answers:
        queries, documents = columns
        score = partial(self._scores, self._connected)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            results = list(pool.map(score, range(len(queries)), queries, documents))
        found, errors = self._sort_out(results)
        return Answers({self._output: _objects(found)}, errors)

    def _scores(self, client: Client, row: int, query: Any, documents: Any) -> NDArray[Any] | NimError:
        """The scores of one row's documents, in their order; or its error."""
        import numpy

        if _is_missing(query):
            return _missing(self._columns[0], row)
        if documents is None or isinstance(documents, (str, float)):
            return _missing(self._columns[1], row)
        try:
            ranking = client.rerank(str(query), list(documents), **self._settings)
        except NimError as error:
            return error
        scores = numpy.empty(len(ranking.results))
        for ranked in ranking.results:
            scores[ranked.index] = ranked.score
        return scores

    def _arrow_type(self, pyarrow: Any, name: str) -> Any:
        return pyarrow.list_(pyarrow.float64())


def _is_missing(value: Any) -> bool:
    """None or NaN, pandas' missing value."""
    return value is None or (isinstance(value, float) and value != value)


def _missing(column: str, row: int) -> NimError:
    return ConfigurationError(f"row {row} of the batch has nothing in column {column!r}")


def _text_of(value: Any) -> Any:
    """A str; a missing value as the empty text, which embed_stream rejects with its position."""
    if isinstance(value, str):
        return str(value)
    return "" if _is_missing(value) else value


def _messages_of(value: Any) -> Any:
    """A question; engines pass lists of messages as arrays."""
    return str(value) if isinstance(value, str) else list(value)


def _places(indexes: Sequence[int]) -> Any:
    """The positions in the form that NumPy indexes fastest."""
    return slice(indexes.start, indexes.stop) if isinstance(indexes, range) else list(indexes)


def _cells(values: NDArray[Any], errors: Sequence[str | None]) -> list[Any]:
    """One cell per row, None if it failed."""
    return [None if error else value for value, error in zip(values, errors, strict=True)]


def _objects(values: Sequence[Any]) -> NDArray[Any]:
    import numpy

    made = numpy.empty(len(values), object)
    made[:] = values
    return made
