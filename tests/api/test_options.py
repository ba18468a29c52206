"""Options: only what the caller set is sent, wrong names and types are reported in the caller's words."""

import pytest

from nimclient._api.options import (
    check_names,
    check_text,
    check_texts,
    check_whole,
    check_word,
    merge_fields,
    names_of,
)
from nimclient.errors import ConfigurationError
from nimclient.records.params import CallOptions, ChatOptions, EmbeddingOptions, SamplingOptions


def test_names_of_includes_those_of_the_bases():
    """A TypedDict's options are its own and those it inherits."""
    assert names_of(CallOptions) == {"extra_body", "extra_headers", "timeout"}
    assert names_of(CallOptions) < names_of(SamplingOptions) < names_of(ChatOptions)


@pytest.mark.parametrize(
    ("known", "name", "hint"),
    [
        (ChatOptions, "temprature", r"'temprature' \(did you mean 'temperature'\?\)"),
        (ChatOptions, "max_token", r"\(did you mean 'max_tokens'\?\)"),
        (ChatOptions, "zzzzzz", r"'zzzzzz'; send it with extra_body="),
        (EmbeddingOptions, "inputtype", "'inputtype'"),
        (CallOptions, "extra_bodi", r"\(did you mean 'extra_body'\?\)"),
    ],
)
def test_an_unknown_option_is_a_type_error_with_a_hint(known, name, hint):
    """The error names the method, the option, the nearest known one, and the way to send it all the same."""
    with pytest.raises(TypeError, match=rf"^method\(\) got an unexpected option .*{hint}"):
        check_names("method", {"extra_body": {}, name: 1}, names_of(known))


def test_known_options_pass():
    """Nothing is raised for options the method knows."""
    assert check_names("method", {"temperature": 1, "timeout": 3}, names_of(ChatOptions)) is None


def test_merge_sends_what_is_set_and_extra_body_last():
    """None is not given, options of the call itself are not sent, extra_body overrides."""
    options = {"a": 1, "b": None, "secret": 2, "timeout": 3, "extra_headers": {}, "extra_body": {"a": None, "c": 4}}
    before = {**options, "extra_body": dict(options["extra_body"])}
    assert merge_fields({"model": "m"}, options, not_sent=frozenset({"secret"})) == {"model": "m", "a": None, "c": 4}
    assert options == before


@pytest.mark.parametrize("value", [[("a", 1)], "a", 5])
def test_extra_body_must_be_a_mapping(value):
    """Anything but a mapping is a ConfigurationError."""
    with pytest.raises(ConfigurationError, match="extra_body takes a mapping"):
        merge_fields({}, {"extra_body": value})


@pytest.mark.parametrize("texts", ["one", b"one", {"a": 1}, 5, None, object()])
def test_a_str_where_a_list_belongs_is_a_type_error(texts):
    """A lone str would be taken for a list of letters; mappings and other things are no lists of texts either."""
    with pytest.raises(TypeError, match=f"^texts takes a list of str, not {type(texts).__name__}$"):
        check_texts("texts", texts)


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        ([], "^texts is empty"),
        (["a", ""], r"^texts\[1\] is empty"),
        (["a", "b", None], r"^texts\[2\] must be a str, not NoneType$"),
        ([1], r"^texts\[0\] must be a str, not int$"),
        (["a", b"b"], r"^texts\[1\] must be a str, not bytes$"),
        (["a", ["b"]], r"^texts\[1\] must be a str, not list$"),
    ],
)
def test_a_bad_text_is_named_by_its_index(texts, words):
    """The error says which text it is."""
    with pytest.raises(ConfigurationError, match=words):
        check_texts("texts", texts)


class Text(str):
    """A str of the caller's own."""

    __slots__ = ()


@pytest.mark.parametrize("texts", [["a", "b"], ("a", "b"), iter(["a", "b"]), {"a": 1, "b": 2}.keys(), [Text("a"), "b"]])
def test_any_iterable_of_texts_becomes_a_list(texts):
    """Lists, tuples, generators and views are read once, into a list of our own."""
    checked = check_texts("texts", texts)
    assert checked == ["a", "b"]
    assert checked is not texts


@pytest.mark.parametrize(
    ("value", "words"),
    [(True, "not bool"), (1.0, "not float"), ("3", "not str"), (0, "is 0; it must be at least 1"), (-1, "is -1")],
)
def test_whole_numbers_are_checked(value, words):
    """A bool, a float or a number below the least is a ConfigurationError."""
    with pytest.raises(ConfigurationError, match=f"^n .*{words}"):
        check_whole("n", value, 1)


def test_whole_numbers_and_words_may_be_left_out():
    """None is not given; a fitting value comes back."""
    assert (check_whole("n", None, 1), check_whole("n", 1, 1)) == (None, 1)
    assert (check_word("w", None, ("a",)), check_word("w", "a", ("a",))) == (None, "a")


@pytest.mark.parametrize("value", ["B", "", 5, ["a"]])
def test_words_are_checked(value):
    """A word that is not one of the known is a ConfigurationError that lists them."""
    with pytest.raises(ConfigurationError, match="choose one of a, b"):
        check_word("w", value, ("a", "b"))


@pytest.mark.parametrize(("text", "words"), [("", "^t is empty"), (None, "not NoneType"), (b"x", "not bytes")])
def test_a_single_text_is_checked(text, words):
    """An empty text, or something else, is a ConfigurationError."""
    with pytest.raises(ConfigurationError, match=words):
        check_text("t", text)
