"""Docstrings in the three usual styles: the text, and what is said of each parameter."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimclient._schema.docstrings import read_docstring

GOOGLE = """Find flights.

    Only direct ones: no stops.

    Args:
        origin (str, optional): where from,
            as an IATA code
        to: where to
        empty:
        not an entry
            and its continuation
        **rest: anything else

    Returns:
        A list: of flights.

    Beware of delays.
    """
NUMPY = """Find flights.

    Parameters
    ----------
    origin : str, optional
        where from,
        as an IATA code
    to
        where to
    1. not an entry
        and its continuation

    Returns
    -------
    list
        of flights
    """
SPHINX = """Find flights.

    :param str origin: where from,
        as an IATA code
    :param to: where to
    :returns: flights
    :raises ValueError: never
        and never again
    """


@pytest.mark.parametrize(
    ("docstring", "text", "parameters"),
    [
        (None, "", {}),
        ("", "", {}),
        ("Only text.\n\nTwo: paragraphs", "Only text.\n\nTwo: paragraphs", {}),
        (
            GOOGLE,
            "Find flights.\n\nOnly direct ones: no stops.\n\nBeware of delays.",
            {"origin": "where from, as an IATA code", "to": "where to", "rest": "anything else"},
        ),
        (NUMPY, "Find flights.", {"origin": "where from, as an IATA code", "to": "where to"}),
        (SPHINX, "Find flights.", {"origin": "where from, as an IATA code", "to": "where to"}),
        ("Text\n\nArgs:\n    a: one\nmore text", "Text\n\nmore text", {"a": "one"}),
        ("Args:\n", "", {}),
        ("\nArgs:\n    - a list\n        deeper\n", "", {}),
        ("\nAttributes:\n    a: one\n\n    b: two", "", {"a": "one", "b": "two"}),
        ("Text\n\nExample::\n\n    x: 1", "Text\n\nExample::\n\n    x: 1", {}),
        ("Text\n\nExamples:\n    x: 1", "Text", {}),
    ],
)
def test_a_docstring_is_taken_apart(docstring, text, parameters):
    """Sections on results, errors and examples are left out; continuation lines are joined."""
    read = read_docstring(docstring)
    assert (read.text, read.parameters) == (text, parameters)


LINE = st.sampled_from(
    ["Args:", "    a: b", "        c", "Parameters", "-----", "x : y", ":param a: b", "", "text", "Returns:"]
)


@given(st.lists(LINE | st.text(max_size=10), max_size=12))
def test_any_docstring_can_be_read(lines):
    """Whatever the lines, every description is text that is not empty."""
    read = read_docstring("\n".join(lines))
    assert all(read.parameters.values())
