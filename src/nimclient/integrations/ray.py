"""EmbedBatch: batches of rows in, the same batches with a column of vectors out, for any engine that maps batches.

It knows the three forms in which engines hand batches over (a mapping of columns, a pandas DataFrame, a pyarrow Table) by
what they offer, and imports no engine; NumPy comes with all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from attrs import frozen

from nimclient import Client
from nimclient.errors import ConfigurationError, NimError

if TYPE_CHECKING:
    from numpy.typing import NDArray

B = TypeVar("B")


@frozen
class _Embedded:
    """The vectors of a batch, one a row (NaN where there is none), and what went wrong with each text."""

    matrix: NDArray[Any]
    errors: list[str | None]


class EmbedBatch:
    """A callable that embeds the column `text` of a batch and returns the batch with the vectors as the column `output`.

    A batch is a mapping of columns (Ray's and Daft's default), a pandas DataFrame (Spark's mapInPandas, Dask) or a
    pyarrow Table; what comes back is of the same form: a float32 matrix of shape (rows, dimensions), a column of arrays,
    or fixed-size lists of float32.

    `client`: a Client; None makes one from the environment. It pickles without its connections and without a literal key,
    and connects in the worker at the first batch: workers take the key from their environment. `on_error="raise"` lets
    the error of a text fail the batch, for the engine to try again or to give up; with "null" such a text gets NaN (a
    null in pandas and Arrow) and the column `<output>_error` says why. A wrong model or key, or a server that cannot be
    reached, fails the batch in any case. `settings` are those of `embeddings.embed_stream`: model, input_type, truncate,
    dimensions, batch_size, concurrency and the others.

    ``dataset.map_batches(EmbedBatch, fn_constructor_kwargs={"client": client}, concurrency=2, batch_size=1024)``
    """

    def __init__(
        self,
        client: Client | None = None,
        *,
        text: str = "text",
        output: str = "embedding",
        on_error: Literal["raise", "null"] = "raise",
        **settings: Any,
    ) -> None:
        if client is not None and not isinstance(client, Client):
            raise ConfigurationError(f"client takes a Client, not {type(client).__name__}")
        if on_error not in ("raise", "null"):
            raise ConfigurationError(f"on_error must be 'raise' or 'null', not {on_error!r:.40}")
        self._client = client
        self._text = text
        self._output = output
        self._on_error: Literal["raise", "null"] = on_error
        self._settings = settings
        self._dimensions = 0  # of the last batch that had vectors

    def __call__(self, batch: B) -> B:
        """The batch with its vectors. Raises ConfigurationError for a batch that is none or has no such column."""
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

    def embed(self, texts: Sequence[str | None]) -> NDArray[Any]:
        """The vectors of some texts: a float32 matrix of shape (texts, dimensions), for engines that map columns."""
        return self._embedded(texts).matrix

    def _mapping(self, batch: Mapping[str, Any]) -> Any:
        found = self._embedded(self._column(batch, batch))
        made = {**batch, self._output: found.matrix}
        if self._on_error == "null":
            made[self._error_column] = _objects(found.errors)
        return made

    def _frame(self, batch: Any) -> Any:
        found = self._embedded(self._column(batch, batch.columns))
        made = batch.assign(
            **{self._output: [None if e else v for v, e in zip(found.matrix, found.errors, strict=True)]}
        )
        return made.assign(**{self._error_column: _objects(found.errors)}) if self._on_error == "null" else made

    def _table(self, batch: Any) -> Any:
        pyarrow: Any = import_module("pyarrow")
        found = self._embedded(self._column(batch, batch.column_names).to_pylist())
        missing = pyarrow.array([error is not None for error in found.errors], pyarrow.bool_())
        rows = pyarrow.FixedSizeListArray.from_arrays(
            pyarrow.array(found.matrix.reshape(-1)), found.matrix.shape[1], mask=missing
        )
        made = batch.append_column(self._output, rows)
        if self._on_error == "null":
            made = made.append_column(self._error_column, pyarrow.array(found.errors, pyarrow.string()))
        return made

    @property
    def _error_column(self) -> str:
        return f"{self._output}_error"

    def _column(self, batch: Any, names: Any) -> Any:
        if self._text not in names:
            there = ", ".join(map(str, names))[:200]
            raise ConfigurationError(f"the batch has no column {self._text!r} (it has {there}); pass text=")
        return batch[self._text]

    def _embedded(self, texts: Sequence[Any]) -> _Embedded:
        """Embed in one stream; its batches are written into the matrix where they belong."""
        import numpy

        if self._client is None:
            self._client = Client()
        found: NDArray[Any] | None = None
        errors: list[str | None] = [None] * len(texts)
        first: NimError | None = None
        how: Literal["raise", "collect"] = "raise" if self._on_error == "raise" else "collect"
        source = [_text_of(text) for text in texts]
        with self._client.embeddings.embed_stream(source, ordered=False, on_error=how, **self._settings) as stream:
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
                raise first  # how long a vector of NaN would have to be is not known
            found = numpy.full((len(texts), self._dimensions), numpy.nan, numpy.float32)
        return _Embedded(found, errors)


def _text_of(value: Any) -> Any:
    """A str as it is, NumPy's too; a missing value as the empty text, which embed_stream refuses with its position."""
    if isinstance(value, str):
        return str(value)
    return "" if value is None or value != value else value  # NaN is pandas' missing value


def _places(indexes: Sequence[int]) -> Any:
    """The rows of these positions as NumPy takes them fastest."""
    return slice(indexes.start, indexes.stop) if isinstance(indexes, range) else list(indexes)


def _objects(values: list[str | None]) -> NDArray[Any]:
    import numpy

    made = numpy.empty(len(values), object)
    made[:] = values
    return made
