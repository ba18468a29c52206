import pytest

from nimclient.simulator.text import content_stems, count_tokens, pieces, sentences, stem, words

TEXTS = [
    "",
    "Hello, world!",
    "  leading and trailing  ",
    "tabs\tand\r\nlines\n\n\n\n\n\n\n\n\n\n\n",
    "an_identifier and pneumonoultramicroscopicsilicovolcanoconiosis",
    "Grüße, 世界! 🎉🎉🎉🎉🎉 e\u0301",
    '{"a": [1, 2.5, null]}',
    "..........!!!!!!!!!!",
]


@pytest.mark.parametrize("text", TEXTS)
def test_pieces_joined_are_the_text(text: str) -> None:
    """The pieces of a text put together are the text, whatever is in it."""
    assert "".join(pieces(text)) == text
    assert count_tokens(text) == len(pieces(text))


def test_long_words_fall_into_pieces() -> None:
    """A long word costs more than one token, and the space before a word belongs to it."""
    assert pieces("so simulators") == ["so", " simula", "tors"]


@pytest.mark.parametrize(
    ("word", "root"),
    [
        ("loops", "loop"),
        ("queries", "query"),
        ("classes", "class"),
        ("boxes", "box"),
        ("glass", "glass"),
        ("status", "status"),
        ("axis", "axis"),
        ("ties", "tie"),
        ("gas", "gas"),
    ],
)
def test_stems_lose_the_plural(word: str, root: str) -> None:
    """Stemming takes away a plural ending and nothing else."""
    assert stem(word) == root


def test_identifiers_fall_into_words() -> None:
    """An identifier is the words it is made of, in lower case."""
    assert words("Get_Event_Loop2()") == ["get", "event", "loop2"]


def test_stop_words_carry_no_content() -> None:
    """Content stems leave stop words out and keep the order."""
    assert content_stems("What are the capitals of the countries?") == ["capital", "country"]


def test_sentences_survive_wrapped_lines_but_not_lists() -> None:
    """A wrapped line belongs to its sentence; marks, empty lines, list items and labels end one."""
    text = "First one\ngoes on. Second!\n\nA title\n- item one\n- item two\nQuestion: why?"
    assert sentences(text) == [
        "First one goes on.",
        "Second!",
        "A title",
        "- item one",
        "- item two",
        "Question: why?",
    ]
