"""Slices hold every text once, within their limits; bisection finds the texts at fault for few requests."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimclient._bulk.slicing import (
    SLICE_BYTES,
    SLICE_TEXTS,
    Bisection,
    Sizes,
    Slice,
    Slicer,
    weight_of,
)
from nimclient.errors import (
    BadRequestError,
    ConfigurationError,
    RequestTooLargeError,
)
from support.rejections import FailureScope

# slices ---------------------------------------------------------------------------------------------------------------


def cut(items: Sequence[Any], most: int = SLICE_TEXTS, limit: int = SLICE_BYTES, **settings: Any) -> list[Slice]:
    slicer = Slicer(most, limit, settings.pop("sizes", Sizes()), **{"largest": None, "strict": False, **settings})
    made = [piece for item in items if (piece := slicer.add(item)) is not None]
    rest = slicer.rest()
    return made if rest is None else [*made, rest]


items = st.lists(
    st.one_of(st.text("ab", max_size=8), st.text("aé🙂", max_size=8), st.just("\ud800"), st.none()), max_size=30
)


@given(items, st.integers(1, 9), st.integers(1, 40))
def test_slices_cover_everything_in_order_within_the_limits(items: list[Any], most: int, limit: int) -> None:
    """Every item is a text of one slice or one of its failures, in order; no slice is too long or too heavy."""
    made = cut(items, most, limit)
    places = [sorted([*piece.indexes, *(failure.index for failure in piece.failures)]) for piece in made]
    assert [place for piece in places for place in piece] == list(range(len(items)))
    for piece in made:
        assert [items[index] for index in piece.indexes] == piece.texts
        assert 1 <= len(piece.texts) + len(piece.failures) <= most
        assert weight_of(piece.texts) <= limit or len(piece.texts) == 1
        assert isinstance(piece.indexes, range) == (
            not piece.texts or piece.indexes[-1] - piece.indexes[0] == len(piece.texts) - 1
        )
    for failure in (f for piece in made for f in piece.failures):
        assert items[failure.index] in ("", "\ud800", None)
        assert failure.error.index == failure.index


@given(st.lists(st.text("aé", min_size=1, max_size=8), max_size=30), st.integers(1, 9), st.integers(1, 40))
def test_slices_are_as_large_as_the_limits_allow(texts: list[str], most: int, limit: int) -> None:
    """The first text of a slice would not have fitted into the one before."""
    for before, after in itertools.pairwise(cut(texts, most, limit)):
        assert len(before.texts) == most or weight_of([*before.texts, after.texts[0]]) > limit


@given(items, st.integers(1, 9), st.integers(1, 40), st.sampled_from([None, 3, 10]))
def test_a_list_is_cut_like_items_that_come_one_by_one(
    items: list[Any], most: int, limit: int, largest: int | None
) -> None:
    """Whatever is in it: the same slices, with the same failures."""
    slicer = Slicer(most, limit, Sizes(), largest=largest, strict=False)
    pieces = [*slicer.cut_list(items), slicer.rest()]
    found = [(tuple(p.indexes), p.texts, [f.index for f in p.failures]) for p in pieces if p is not None]
    wanted = [
        (tuple(p.indexes), p.texts, [f.index for f in p.failures]) for p in cut(items, most, limit, largest=largest)
    ]
    assert found == wanted


@pytest.mark.parametrize("texts", [["a" * 10], ["a" * 9, "b"], ["a" * 11], ["a", "b", "c"]])
def test_a_full_slice_comes_with_its_last_text(texts: list[str]) -> None:
    """It is not held until the next one: at ten bytes, with a text above that, or at three texts."""
    slicer = Slicer(3, 10, Sizes(), largest=11, strict=True)
    pieces = [slicer.add(text) for text in texts]
    whole = Slice(range(len(texts)), texts, weight=len("".join(texts)))
    assert pieces == [*[None] * (len(texts) - 1), whole]
    assert slicer.rest() is None
    assert [piece.texts for piece in Slicer(3, 10, Sizes(), largest=11, strict=True).cut_list(texts)] == [texts]


def test_default_slices() -> None:
    """64 texts or 256 kB, whichever comes first; bytes are those of UTF-8."""
    assert [len(piece.texts) for piece in cut(["a"] * 130)] == [64, 64, 2]
    assert [len(piece.texts) for piece in cut(["x" * (SLICE_BYTES // 2)] * 5)] == [2, 2, 1]
    assert [len(piece.texts) for piece in cut(["é" * SLICE_BYTES, "a"])] == [1, 1]


@pytest.mark.parametrize(
    ("item", "words"),
    [
        ("", "is empty"),
        (5, "must be a str, not int"),
        (None, "NoneType"),
        ("a\udc00", "surrogate"),
        ("long" * 4, "16 bytes"),
    ],
)
def test_items_that_cannot_be_sent(item: Any, words: str) -> None:
    """They fail with their position, or raise when all must be well."""
    (piece,) = cut(["a", item, "b"], largest=10)
    assert (piece.texts, piece.indexes) == (["a", "b"], (0, 2))
    assert words in str(piece.failures[0].error)
    assert piece.failures[0].text == (item if isinstance(item, str) else None)
    with pytest.raises(ConfigurationError, match=r"texts\[1\]") as caught:
        cut(["a", item], largest=10, strict=True)
    assert caught.value.index == 1


def test_a_slice_with_items_that_cannot_be_sent_is_as_long_as_any() -> None:
    """They take a place each, and the next text the one that is left."""
    (piece,) = cut(["a", "", "b"], 3)
    assert (piece.texts, [failure.index for failure in piece.failures]) == (["a", "b"], [1])


class Named(str):
    id = 7


def test_a_text_may_carry_its_id() -> None:
    """A str subclass with an id gives its failure that id."""
    (piece,) = cut([Named(""), ""])
    assert [failure.id for failure in piece.failures] == ["7", None]


def test_what_was_learned_holds_for_the_next_slices() -> None:
    """A smaller size, in texts or in bytes, counts from the next slice on; it never grows."""
    sizes = Sizes()
    slicer = Slicer(8, 100, sizes, largest=None, strict=True)
    for _ in range(5):
        assert slicer.add("x" * 10) is None
    sizes.learn(BadRequestError("too many inputs", status=400), 4, 40)
    made = [piece for _ in range(12) if (piece := slicer.add("x" * 10))]
    assert [len(piece.texts) for piece in made] == [8, 4, 4]
    sizes.learn(RequestTooLargeError("too large", status=413), 2, 25)
    sizes.learn(RequestTooLargeError("too large", status=413), 2, 99)
    assert (sizes.texts, sizes.weight) == (4, 25)
    for _ in range(4):
        slicer.add("x" * 10)
    made = [piece for _ in range(4) if (piece := slicer.add("x" * 10))]
    assert [len(piece.texts) for piece in made] == [2, 2]
    slicer.add("x" * 20)
    sizes.texts = 1
    made = [piece for text in ("x" * 20, "a", "b") if (piece := slicer.add(text))]
    assert [len(piece.texts) for piece in made] == [1, 1, 1]


def test_a_whim_is_not_learned() -> None:
    """A rejection that does not speak of the size makes slices smaller only when it happens twice."""
    sizes = Sizes()
    sizes.learn(BadRequestError("no", status=400), 32, 1)
    assert sizes.texts is None
    sizes.learn(BadRequestError("no", status=400), 16, 1)
    assert sizes.texts == 16
    sizes.learn(BadRequestError("no", status=400), 8, 1)
    assert sizes.texts == 16


NO = BadRequestError("no", status=400)
TOO_MANY = BadRequestError("too many inputs", status=400)


def accept(sizes: Sizes, times: int, texts: int) -> None:
    for _ in range(times):
        sizes.accepted(texts)


def test_a_guessed_size_is_tried_again() -> None:
    """Doubled after 24 slices of that size; after 48 when that was wrong, after 12 once a larger one was accepted."""
    sizes = Sizes()
    sizes.learn(NO, 16, 1)
    sizes.learn(NO, 16, 1)
    accept(sizes, 100, 15)
    accept(sizes, 23, 16)
    assert sizes.texts == 16, "smaller ones show nothing"
    sizes.accepted(16)
    assert sizes.texts == 32
    accept(sizes, 23, 32)
    assert sizes.texts == 32
    sizes.accepted(40)
    assert sizes.texts == 64
    for _ in range(5):
        sizes.learn(NO, 16, 1)
    assert sizes.texts == 16
    accept(sizes, 47, 16)
    assert sizes.texts == 16
    sizes.accepted(16)
    assert sizes.texts == 32
    sizes.learn(NO, 20, 1)
    sizes.accepted(21)
    accept(sizes, 11, 32)
    assert sizes.texts == 32
    sizes.accepted(32)
    assert sizes.texts == 64


def test_a_size_that_the_server_names_is_never_exceeded() -> None:
    """However often slices of it are accepted; a guess before it counts no more."""
    sizes = Sizes()
    sizes.learn(NO, 16, 1)
    sizes.learn(NO, 16, 1)
    sizes.learn(TOO_MANY, 24, 1)
    assert sizes.texts == 16
    sizes.learn(NO, 8, 1)
    assert sizes.texts == 16, "the first doubt after it"
    sizes.learn(TOO_MANY, 8, 1)
    accept(sizes, 200, 8)
    assert (sizes.texts, sizes.weight) == (8, None)
    for _ in range(5):
        sizes.learn(NO, 4, 1)
    accept(sizes, 47, 4)
    assert sizes.texts == 4, "the second guess is tried half as soon as the first"
    sizes.accepted(4)
    assert sizes.texts == 8


def test_what_the_server_has_accepted_before_is_not_the_size() -> None:
    """Then the fifth rejection in a row counts, not the second; a larger slice that is accepted ends the suspicion."""
    sizes = Sizes()
    sizes.learn(NO, 16, 1)
    sizes.accepted(17)
    sizes.learn(NO, 16, 1)
    assert sizes.texts is None
    for _ in range(3):
        sizes.learn(NO, 8, 1)
    assert sizes.texts is None
    sizes.learn(NO, 8, 1)
    assert sizes.texts == 8
    sizes = Sizes()
    sizes.learn(NO, 1, 1)
    sizes.accepted(2)
    for _ in range(4):
        sizes.learn(NO, 1, 1)
    assert sizes.texts is None, "the one before is forgotten"
    sizes = Sizes()
    sizes.accepted(16)
    sizes.learn(NO, 16, 1)
    sizes.accepted(16)
    sizes.learn(NO, 16, 1)
    assert sizes.texts == 16, "one that was not larger says nothing"


# bisection ------------------------------------------------------------------------------------------------------------


def run(
    count: int, poison: set[int], kind: FailureScope = FailureScope.ITEM, most: int | None = None
) -> tuple[int, set[int], set[int]]:
    """Requests beyond the first, texts taken, texts failed, against a server that rejects parts with poison in them."""
    plan = Bisection.of(count, most)
    taken: set[int] = set()
    failed: set[int] = set()
    requests = 0
    while (part := plan.part) is not None:
        requests += 1
        if poison & set(part):
            failed |= {place for span in plan.rejected(kind) for place in span}
        else:
            plan.accepted()
            taken |= set(part)
        assert requests < 4 * count + 4
    return requests - 1, taken, failed


def test_one_poison_costs_few_requests() -> None:
    """Wherever it is, one bad text among n costs at most 2·log2(n) requests more; it alone fails."""
    for count in [*range(1, 34), 63, 64, 65, 100, 129]:
        for place in range(count):
            requests, taken, failed = run(count, {place})
            assert failed == {place}
            assert taken == set(range(count)) - {place}
            assert requests <= 2 * math.log2(count) + 1e-9


@given(st.integers(1, 70), st.sets(st.integers(0, 69)), st.none() | st.integers(1, 20))
def test_any_poison_is_found(count: int, places: set[int], most: int | None) -> None:
    """Every text is taken or has failed, and only the bad ones have failed, whatever their number."""
    poison = {place for place in places if place < count}
    requests, taken, failed = run(count, poison, most=most)
    assert failed == poison
    assert taken == set(range(count)) - poison
    assert requests <= 2 * len(poison) * math.ceil(math.log2(max(count, 2))) + math.ceil(count / (most or count))


@given(st.integers(1, 70), st.sets(st.integers(0, 69)), st.none() | st.integers(1, 20))
def test_no_text_is_lost_whatever_the_reason(count: int, places: set[int], most: int | None) -> None:
    """With unclear reasons, too, every text is taken or has failed, not both, and every bad one has failed."""
    poison = {place for place in places if place < count}
    _, taken, failed = run(count, poison, FailureScope.UNCLEAR, most)
    assert poison <= failed
    assert taken == set(range(count)) - failed


@given(st.integers(1, 70), st.integers(0, 69))
def test_one_poison_that_looks_like_the_server_is_found(count: int, place: int) -> None:
    """A 500 or a hang of one text is isolated as well, for two requests more where n is no power of two."""
    poison = {place % count}
    requests, taken, failed = run(count, poison, FailureScope.UNCLEAR)
    assert (failed, taken) == (poison, set(range(count)) - poison)
    assert requests <= 2 * math.ceil(math.log2(count))


@pytest.mark.parametrize(("count", "most"), [(64, None), (64, 20), (5, None), (4, 3)])
def test_a_server_that_fails_as_a_whole_costs_little(count: int, most: int | None) -> None:
    """When both halves fail, too, all texts of the slice fail without a request for each."""
    requests, taken, failed = run(count, set(range(count)), FailureScope.UNCLEAR, most)
    assert (taken, failed) == (set(), set(range(count)))
    assert requests <= 3


def test_a_refused_size() -> None:
    """The parts are of the size that the server names, else halves; the largest part taken is reported."""
    plan = Bisection.of(64, None)
    assert plan.rejected(FailureScope.REQUEST, 24) == []
    sizes = []
    while (part := plan.part) is not None:
        sizes.append(len(part))
        plan.accepted()
    assert (sizes, plan.largest) == ([24, 24, 16], 24)
    plan = Bisection.of(64, None)
    plan.rejected(FailureScope.REQUEST)
    assert plan.part == range(32)
    plan.accepted()
    assert plan.part == range(32, 64)


def test_what_failed_for_an_unclear_reason_is_sent_again_in_halves() -> None:
    """Both of them, since the failure may have been the server's."""
    plan = Bisection.of(8, None)
    for part in (range(8), range(4)):
        assert plan.part == part
        assert plan.rejected(FailureScope.UNCLEAR) == []
    for part in (range(4, 8), range(2), range(2, 4)):
        assert plan.part == part
        plan.accepted()
    assert plan.part is None


def test_nothing_to_send() -> None:
    """A slice without texts has no parts."""
    assert Bisection.of(0, None).part is None
