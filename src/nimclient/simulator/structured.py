"""Constrained answers: `response_format` and `structured_outputs`, as in NIM 2.x and vLLM.

The older forms (`guided_json` and similar, `nvext`) are silently ignored, as by those servers.
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import orjson

from .fields import Fields
from .instances import instance
from .keywords import Unsatisfiable
from .prompt_schemas import asks_for_json, schema_described, schema_written
from .rejections import GenerationRejection, Rejection, bad_field
from .values import Values

_FORMATS: Final = ("text", "json_object", "json_schema", "structural_tag")
_CONSTRAINTS: Final = ("json", "regex", "choice", "grammar", "json_object", "structural_tag")


@dataclass(frozen=True, slots=True)
class Constraint:
    """The constraint of an answer: `kind` is "json", "json_object", "choice" or "regex", `value` the schema or the like."""

    kind: str
    value: Any = None


def read_constraint(fields: Fields) -> Constraint | None:
    """The constraint of a request, or None for free text. Rejection (400) for an invalid or unsupported one."""
    outputs = fields.object("structured_outputs")
    if outputs is not None:
        return _structured_outputs(Fields(outputs, "structured_outputs"))
    form = fields.object("response_format")
    if form is None:
        return None
    inner = Fields(form, "response_format")
    match inner.one_of("type", _FORMATS):
        case "json_object":
            return Constraint("json_object")
        case "json_schema":
            return _json_schema(inner)
        case "structural_tag":
            raise _unsupported("response_format", "structural_tag")
        case None:
            raise inner.missing("type")
        case _:
            return None


def _json_schema(form: Fields) -> Constraint:
    wrapper = form.object("json_schema")
    if wrapper is None:
        raise form.missing("json_schema")
    inner = Fields(wrapper, "response_format.json_schema")
    inner.need_text("name")
    return Constraint("json", wrapper.get("schema", True))


def _structured_outputs(options: Fields) -> Constraint:
    given = [name for name in _CONSTRAINTS if options.given(name) is not None]
    if len(given) != 1:
        raise bad_field("structured_outputs", f"exactly one of {', '.join(_CONSTRAINTS)} must be given.")
    match given[0]:
        case "json":
            schema = options.given("json")
            return Constraint("json", _decoded(schema) if isinstance(schema, str) else schema)
        case "choice":
            choices = options.array("choice")
            if not choices or not all(isinstance(choice, str) for choice in choices):
                raise bad_field("structured_outputs.choice", "must be a list of strings with at least one of them.")
            return Constraint("choice", tuple(choices))
        case "regex":
            return Constraint("regex", options.need_text("regex"))
        case "json_object":
            options.flag("json_object")
            return Constraint("json_object")
        case other:
            raise _unsupported("structured_outputs", other)


def _decoded(text: str) -> Any:
    try:
        return orjson.loads(text)
    except ValueError:
        raise bad_field("structured_outputs.json", "is not valid JSON.") from None


def _unsupported(name: str, kind: str) -> Rejection:
    return bad_field(name, f"the simulator does not support {kind}.")


def in_words(constraint: Constraint | None, texts: Sequence[str]) -> Constraint | None:
    """The constraint, with a schema, an example or keys from the messages for an unconstrained JSON object.

    Without a constraint, a schema in a message counts if the message also asks for JSON.
    """
    if constraint is None:
        schema = schema_written(texts) if asks_for_json(texts) else None
    elif constraint.kind == "json_object":
        schema = schema_written(texts) or schema_described(texts)
    else:
        return constraint
    return constraint if schema is None else Constraint("json", schema)


def constrained_text(constraint: Constraint, question: str, free_answer: Callable[[], str]) -> str:
    """The shortest text that satisfies the constraint; Rejection (400) if none can be built.

    Strings without a value in the question get the unconstrained answer.
    """
    match constraint.kind:
        case "json_object":
            return json.dumps({"answer": free_answer()}, ensure_ascii=False)
        case "choice":
            return _chosen(cast("tuple[str, ...]", constraint.value), f"{question} {free_answer()}")
        case "regex":
            schema: Any = {"type": "string", "pattern": rf"^(?:{constraint.value})$"}
            return str(_built(schema, Values(question, "text")))
        case _:
            return json.dumps(_built(constraint.value, Values(question, free_answer())), ensure_ascii=False)


def _built(schema: Any, values: Values) -> Any:
    try:
        return instance(schema, values)
    except Unsatisfiable as error:
        raise GenerationRejection(400, f"The simulator cannot build an answer: {error}") from None


def _chosen(choices: tuple[str, ...], text: str) -> str:
    """The choice named in the text, else the first."""
    named = (choice for choice in choices if re.search(rf"(?<!\w){re.escape(choice)}(?!\w)", text, re.IGNORECASE))
    return next(named, choices[0])
