"""Questions that the simulator answers without a text."""

import pytest

from nimclient.simulator.extract import BUILT_IN, PlainMessage, answer, take_apart
from nimclient.simulator.facts import known


@pytest.mark.parametrize(
    ("question", "part"),
    [
        ("Why is the sky blue?", "scatters"),
        ("What is a NIM?", "inference microservice"),
        ("What does the csv module do?", "comma-separated"),
        ("Name a color.", "Blue"),
        ("Count to three.", "two, three"),
    ],
)
def test_questions_of_the_guides_have_an_answer_that_fits(question: str, part: str) -> None:
    """It says where it comes from, and that is nothing to quote later; a text in the messages comes first."""
    first = answer(take_apart([PlainMessage("user", question)]), 0)
    assert first.startswith(BUILT_IN)
    assert part in first
    later = take_apart(
        [PlainMessage("user", question), PlainMessage("assistant", first), PlainMessage("user", "And now?")]
    )
    assert later.sources == (question,) * (not question.endswith("?"))


@pytest.mark.parametrize(
    "question", ["", "Why?", "What is the capital of France?", "What is my name?", "Is the sky red?"]
)
def test_other_questions_have_none(question: str) -> None:
    """Only a question with just the words of a known one."""
    assert known(question) is None


def test_a_text_comes_before_what_is_built_in() -> None:
    """A sentence of the messages that answers is quoted."""
    found = answer(
        take_apart(
            [PlainMessage("system", "The sky is blue since Monday."), PlainMessage("user", "Why is the sky blue?")]
        ),
        0,
    )
    assert "Monday" in found
