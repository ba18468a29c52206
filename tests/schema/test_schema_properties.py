"""For types and values of any make: what is written as JSON and read back is what it was."""

import dataclasses
import enum
import json
from datetime import date, datetime, time
from keyword import iskeyword
from typing import Any, Literal, NamedTuple, TypedDict
from uuid import UUID

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st

from support.schemas import Misfit, Schema, convert, plain, schema_of

NAME = st.from_regex(r"[a-z][a-z0-9]{0,5}", fullmatch=True).filter(lambda name: not iskeyword(name))
NAMES = st.lists(NAME, min_size=1, max_size=3, unique=True)
Typed = tuple[Any, st.SearchStrategy[Any]]
LEAVES: list[Typed] = [
    (str, st.text(st.characters(exclude_categories=("Cs",)))),
    (int, st.integers(-(2**63), 2**63 - 1)),
    (float, st.floats(allow_nan=False, allow_infinity=False)),
    (bool, st.booleans()),
    (None, st.none()),
    (date, st.dates()),
    (time, st.times()),
    (datetime, st.datetimes()),
    (UUID, st.uuids()),
    (Literal["a", 1, None], st.sampled_from(["a", 1, None])),
]


class Color(enum.Enum):
    RED = "red"
    BLUE = 2


LEAVES.append((Color, st.sampled_from(Color)))


def record(kind: str, names: list[str], fields: list[Typed]) -> Typed:
    """A record type of this kind with these fields, and its values."""
    hints = {name: form for name, (form, _) in zip(names, fields, strict=True)}
    values = {name: strategy for name, (_, strategy) in zip(names, fields, strict=True)}
    match kind:
        case "attrs":
            made: Any = attrs.make_class("Made", {n: attrs.field(type=h) for n, h in hints.items()})
        case "dataclass":
            made = dataclasses.make_dataclass("Made", list(hints.items()))
        case "NamedTuple":
            made = NamedTuple("Made", list(hints.items()))
        case _:
            return TypedDict("Made", hints), st.fixed_dictionaries(values)  # type: ignore[operator]
    return made, st.builds(made, **values)


def extended(inner: st.SearchStrategy[Typed]) -> st.SearchStrategy[Typed]:
    """Types that are made of others."""
    lists = inner.map(lambda t: (list[t[0]], st.lists(t[1], max_size=3)))
    tuples = st.tuples(inner, inner).map(lambda ts: (tuple[ts[0][0], ts[1][0]], st.tuples(ts[0][1], ts[1][1])))
    rows = inner.map(lambda t: (tuple[t[0], ...], st.lists(t[1], max_size=3).map(tuple)))
    tables = inner.map(
        lambda t: (dict[str, t[0]], st.dictionaries(st.from_regex(r"\w{0,4}", fullmatch=True), t[1], max_size=3))
    )
    optional = inner.map(lambda t: (t[0] | None if t[0] is not None else None, st.none() | t[1]))
    kinds = st.sampled_from(["attrs", "dataclass", "NamedTuple", "TypedDict"])
    records = NAMES.flatmap(
        lambda names: st.tuples(kinds, st.lists(inner, min_size=len(names), max_size=len(names))).map(
            lambda made: record(made[0], names, made[1])
        )
    )
    return st.one_of(lists, tuples, rows, tables, optional, records)


TYPES = st.recursive(st.sampled_from(LEAVES), extended, max_leaves=5)
VALUES = TYPES.flatmap(lambda typed: st.tuples(st.just(typed[0]), typed[1]))


@settings(max_examples=3 * settings().max_examples, deadline=None)
@given(VALUES)
def test_a_value_survives_the_way_through_json(typed):
    """convert(plain(value)) is the value again, and its JSON fits the schema of its type, strict or not."""
    form, value = typed
    text = json.loads(json.dumps(plain(value)))
    assert convert(text, form) == value
    for strict in (True, False):
        assert Schema({"$defs": {}, **schema_of(form, strict=strict)}).convert(text, "") == text


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=3 * settings().max_examples, deadline=None)
@given(TYPES, JSON)
def test_any_json_is_converted_or_refused_with_a_path(typed, value):
    """No JSON whatever brings anything but a value or a Misfit, and what is rejected does not change."""
    before = json.dumps(value)
    problem = "none"
    try:
        convert(value, typed[0])
    except Misfit as misfit:
        problem = misfit.problem
    assert problem
    assert json.dumps(value) == before
