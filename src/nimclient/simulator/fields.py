"""Reads the fields of a JSON request; a Rejection names the field whose type or range is wrong.

JSON null counts as "not given", as it does in vLLM. Types are exact: unlike pydantic's lax mode, the number "5" in
quotes is rejected, so that client errors are found.
"""

from collections.abc import Collection
from typing import Any, cast

from .rejections import Rejection, bad_field, invalid_field


class Fields:
    """The known fields of one JSON object. Every method raises `Rejection` (400) for an invalid field."""

    def __init__(self, body: dict[str, Any], within: str = "") -> None:
        self._body = body
        self._within = within

    def path(self, name: str) -> str:
        """The path of the field."""
        return f"{self._within}.{name}" if self._within else name

    def given(self, name: str) -> Any:
        """The raw value, or None when it is absent or null."""
        return self._body.get(name)

    def without(self, *names: str) -> "Fields":
        """The object without these fields."""
        return Fields({key: value for key, value in self._body.items() if key not in names}, self._within)

    def missing(self, name: str) -> Rejection:
        """The rejection for a missing required field."""
        return invalid_field(self.path(name), "missing", "Field required")

    def _wrong(self, name: str, kind: str, wanted: str) -> Rejection:
        return invalid_field(self.path(name), kind, f"Input should be a valid {wanted}")

    def text(self, name: str) -> str | None:
        """A string, or None."""
        value = self._body.get(name)
        if value is None or isinstance(value, str):
            return value
        raise self._wrong(name, "string_type", "string")

    def need_text(self, name: str) -> str:
        """A required string, possibly empty."""
        value = self.text(name)
        if value is None:
            raise self.missing(name)
        return value

    def flag(self, name: str) -> bool:
        """A boolean; absent is False."""
        value = self._body.get(name)
        if value is None or isinstance(value, bool):
            return bool(value)
        raise self._wrong(name, "bool_type", "boolean")

    def integer(self, name: str, *, min: int | None = None, max: int | None = None) -> int | None:
        """An integer within its bounds, or None."""
        value = self._body.get(name)
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool):
            raise self._wrong(name, "int_type", "integer")
        self._within_bounds(name, value, min, max)
        return value

    def number(self, name: str, *, min: float | None = None, max: float | None = None) -> float | None:
        """An integer or a float within its bounds, or None."""
        value = self._body.get(name)
        if value is None:
            return None
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise self._wrong(name, "float_type", "number")
        self._within_bounds(name, value, min, max)
        return float(value)

    def _within_bounds(self, name: str, value: float, min: float | None, max: float | None) -> None:
        if min is not None and value < min:
            raise bad_field(self.path(name), f"must be at least {min}, got {value}.")
        if max is not None and value > max:
            raise bad_field(self.path(name), f"must be at most {max}, got {value}.")

    def one_of(self, name: str, allowed: Collection[str]) -> str | None:
        """One of the allowed strings, or None."""
        value = self.text(name)
        if value is not None and value not in allowed:
            raise bad_field(self.path(name), f"must be one of {', '.join(allowed)}, got {value}.")
        return value

    def object(self, name: str) -> dict[str, Any] | None:
        """A JSON object, or None."""
        value = self._body.get(name)
        if value is None or isinstance(value, dict):
            return cast("dict[str, Any] | None", value)
        raise self._wrong(name, "dict_type", "dictionary")

    def array(self, name: str) -> list[Any] | None:
        """A JSON array, or None."""
        value = self._body.get(name)
        if value is None or isinstance(value, list):
            return cast("list[Any] | None", value)
        raise self._wrong(name, "list_type", "list")

    def objects(self, name: str) -> list[dict[str, Any]] | None:
        """An array of JSON objects, or None."""
        values = self.array(name)
        if values is not None and not all(isinstance(value, dict) for value in values):
            raise self._wrong(name, "dict_type", "list of dictionaries")
        return values

    def texts(self, name: str) -> list[str] | None:
        """A string or an array of strings as a list, or None."""
        value = self._body.get(name)
        if isinstance(value, str):
            return [value]
        values = self.array(name)
        if values is not None and not all(isinstance(item, str) for item in values):
            raise self._wrong(name, "string_type", "string or list of strings")
        return values
