import pytest

from nimclient.simulator.extract import (
    IGNORANCE,
    OPENINGS,
    WELCOME,
    Material,
    PlainMessage,
    answer,
    closest,
    split_question,
    take_apart,
    thought,
    wants_thinking,
)

CONTEXT = (
    "The event loop runs tasks and callbacks. A future stands for a result that is not there yet. "
    "Locks are not thread-safe. The loop may be stopped by calling stop."
)


def _answer(*messages: tuple[str, str], variant: int = 0) -> str:
    return answer(take_apart([PlainMessage(role, text) for role, text in messages]), variant)


def test_the_closest_sentence_is_quoted() -> None:
    """The answer quotes the sentence that shares most with the question."""
    assert _answer(("system", CONTEXT), ("user", "What is a future?")) == (
        "Based on the text given: A future stands for a result that is not there yet."
    )


def test_context_may_stand_in_the_question_itself() -> None:
    """Everything in the user message but the question is context, with or without labels."""
    said = _answer(("user", f"Context: {CONTEXT}\n\nQuestion: Are locks thread-safe?"))
    assert said == "Based on the text given: Locks are not thread-safe."


def test_earlier_turns_are_remembered() -> None:
    """What the user said before answers a later question; the simulator's own words do not."""
    messages = [
        ("user", "My name is Ada."),
        ("assistant", f"{OPENINGS[0]}My name is name."),
        ("user", "What is my name?"),
    ]
    assert _answer(*messages) == "Based on the text given: My name is Ada."


def test_several_good_sentences_are_quoted_in_their_order() -> None:
    """Sentences nearly as good as the best come too, three at most, in the order of the text."""
    found = closest("red cars", ["A red car.", "Red cars!", "Cars, red.", "Cars of red.", "Blue boats."])
    assert found == ["A red car.", "Red cars!", "Cars of red."] or len(found) == 3
    assert "Blue boats." not in found


def test_without_anything_shared_it_says_what_it_is() -> None:
    """When nothing answers, the reply says that it comes from a simulator and repeats the question."""
    assert _answer(("system", "You are kind."), ("user", "Why is the sky red?")) == f"{IGNORANCE}Why is the sky red?"


@pytest.mark.parametrize(("text", "opening"), [("hello", "Hello!"), ("Say hello.", "Hello!"), ("Hi there!", "Hi!")])
def test_a_greeting_is_returned(text: str, opening: str) -> None:
    """Who greets is greeted, and told whom he talks to; that is nothing to quote later."""
    greeted = _answer(("user", text))
    assert greeted == f"{opening[:-1]}{WELCOME}"
    assert (
        _answer(("user", text), ("assistant", greeted), ("user", "What is a model?")) == f"{IGNORANCE}What is a model?"
    )


def test_instructions_fall_back_on_the_text_beside_them() -> None:
    """An instruction that shares no word with the text returned the text's beginning."""
    said = _answer(("user", "Bread is made of flour. It is baked.\n\nSummarise!"))
    assert said == "Based on the text given: Bread is made of flour. It is baked."


def test_tool_results_are_the_text_after_a_call() -> None:
    """After a tool answered, the reply is taken from its result, even when no word is shared."""
    messages = [("user", "What is 17 plus 25?"), ("assistant", ""), ("tool", "42")]
    assert _answer(*messages) == "Based on the text given: 42"


def test_a_conversation_without_a_user_has_no_question() -> None:
    """Without a user message, and with an empty one, there is nothing to answer."""
    assert _answer(("system", CONTEXT)) == f"{IGNORANCE}(no question)"
    assert _answer(("user", "")) == f"{IGNORANCE}(no question)"


def test_variants_open_differently() -> None:
    """Each variant has other opening words and the same quotation; the openings come round again."""
    messages = (("system", CONTEXT), ("user", "What is a future?"))
    said = [_answer(*messages, variant=variant) for variant in range(4)]
    assert len(set(said)) == 3
    assert said[0] == said[3]
    assert all(text.endswith("A future stands for a result that is not there yet.") for text in said)


@pytest.mark.parametrize(
    ("text", "question", "rest"),
    [
        ("Who? Me. Really?", "Really?", "Who?\n\nMe."),
        ("Where is it? Tell me.", "Where is it?", "Tell me."),
        ("Only this", "Only this", ""),
        ("Q: how?", "how?", ""),
    ],
)
def test_the_question_is_the_last_that_asks(text: str, question: str, rest: str) -> None:
    """The last sentence with a question mark is the question, else the last sentence."""
    assert split_question(text) == (question, rest)


def test_the_thought_names_the_question() -> None:
    """The reasoning text says what is asked and how the answer is found."""
    assert thought(Material("Why?", ("a", "b"))).startswith("The question is: Why? Sentences to answer from: 2.")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("detailed thinking on", True),
        ("detailed thinking off", False),
        ("/think", True),
        ("Be brief. /no_think", False),
        ("I think so", False),
    ],
)
def test_thinking_is_switched_in_words(text: str, wanted: bool) -> None:
    """The switches of the Nemotron families work in system messages and do not become part of the question."""
    messages = [PlainMessage("system", text), PlainMessage("user", "Why?")]
    assert wants_thinking(messages) is wanted
    assert wants_thinking([PlainMessage("assistant", text)]) is False
    assert take_apart([PlainMessage("user", f"Why? {text}")]).question == "Why?"


def test_numbered_excerpts_are_cited() -> None:
    """A sentence quoted from an excerpt that begins with its number is followed by that number."""
    system = "Reply briefly.\n\n[1] Cats purr. They sleep a lot.\n\n[2] Dogs bark.\nDogs fetch sticks?"
    assert _answer(("system", system), ("user", "Do dogs bark?")).endswith("Dogs bark. [2]")
    assert _answer(("system", system), ("user", "Who sleeps a lot?")).endswith("They sleep a lot. [1]")
    assert _answer(("system", "It costs [1] euro."), ("user", "What is the cost?")).endswith("It costs [1] euro.")
