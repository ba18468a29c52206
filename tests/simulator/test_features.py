import hashlib
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

import nimclient
from nimclient.simulator.features import WORDS_READ, Features, character_grams, dot, normalised, shortened, spread

DIGEST = """
import hashlib, json
from nimclient.simulator.endpoints import Endpoints
endpoints = Endpoints([], seed=3, dimensions=256, max_model_len=4096)
model = "meta/llama-3.1-8b-instruct"
answers = [
    endpoints.respond("embeddings", {"model": "baai/bge-m3", "input": ["a few words about nothing", "more"]}, "r"),
    endpoints.respond("chat", {"model": model, "messages": [{"role": "user", "content": "A dog barks. Who barks?"}],
                     "logprobs": True, "top_logprobs": 3, "n": 3}, "r"),
    endpoints.respond("completions", {"model": model, "prompt": "a b c a d b a c", "n": 2, "seed": 9}, "r"),
]
print(hashlib.sha256(json.dumps([answer.body for answer in answers]).encode()).hexdigest())
"""


def _digest(hash_seed: str) -> str:
    source = str(Path(nimclient.__path__[0]).parent)
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": source}
    ran = subprocess.run([sys.executable, "-c", DIGEST], env=environment, capture_output=True, text=True, check=True)
    return ran.stdout.strip()


def test_answers_do_not_depend_on_the_hash_seed() -> None:
    """Two processes with different PYTHONHASHSEED give the same embeddings, chats and completions."""
    first = _digest("1")
    assert len(first) == hashlib.sha256().digest_size * 2
    assert first == _digest("4242")


@pytest.fixture
def features() -> Features:
    return Features(1024)


def _cosine(features: Features, query: str, passage: str) -> float:
    return dot(features.unit_vector(query, "query"), features.unit_vector(passage, "passage"))


def test_similar_texts_are_nearer(features: Features) -> None:
    """A question is nearer to the sentence about its subject than to any other."""
    question = "How do I wait for a subprocess to finish?"
    near = _cosine(features, question, "Wait for the subprocesses to terminate, then return their exit status.")
    far = _cosine(features, question, "Return the cosine of an angle given in radians.")
    assert near > 0.25 > 0.1 > far


def test_spelling_and_plural_bring_words_together(features: Features) -> None:
    """Words of one family are near although no word is the same."""
    assert _cosine(features, "tokenizers", "tokenizer") > 0.9
    assert _cosine(features, "tokenization", "tokenizer") > 0.1


@pytest.mark.parametrize("text", ["the event loop", "x", "!!!", "", "words " * 3000])
def test_vectors_have_length_one(features: Features, text: str) -> None:
    """Every text, even one without a word, has a vector of length one."""
    assert math.hypot(*features.unit_vector(text)) == pytest.approx(1.0)
    assert math.hypot(*features.unit_vector(text, "query")) == pytest.approx(1.0)


def test_query_and_passage_of_one_text_are_near_but_not_equal(features: Features) -> None:
    """The two sides of an asymmetric model differ a little for one text."""
    assert 0.97 < _cosine(features, "the event loop runs", "the event loop runs") < 0.999


def test_seeds_give_unrelated_spaces() -> None:
    """The same text under two seeds gives unrelated vectors, under one seed the same vector."""
    text = "callbacks run in the order they were scheduled"
    one, again, other = (Features(1024, seed).unit_vector(text) for seed in (1, 1, 2))
    assert one == again
    assert abs(dot(one, other)) < 0.3


def test_only_the_first_words_count(features: Features) -> None:
    """Words beyond the documented number change nothing."""
    text = " ".join(f"word{number}" for number in range(WORDS_READ))
    assert features.unit_vector(text) == features.unit_vector(f"{text} and more of them")


def test_often_used_words_count_less_than_in_proportion(features: Features) -> None:
    """A word said ten times does not drown the others."""
    assert (
        _cosine(features, "lock", "queue " + "lock " * 10) > _cosine(features, "queue", "queue " + "lock " * 10) > 0.2
    )


def test_word_order_counts(features: Features) -> None:
    """Pairs of neighbours tell two orders of the same words apart."""
    assert _cosine(features, "dog bites man", "dog bites man") > _cosine(features, "dog bites man", "man bites dog")


def test_features_that_cancel_out_leave_no_zero_vector() -> None:
    """With very few dimensions features may cancel out; the vector still has length one."""
    for text in map(str, range(200)):
        assert math.hypot(*Features(1).unit_vector(text)) == pytest.approx(1.0)


def test_grams_stand_between_the_edges() -> None:
    """The character n-grams of a word include its edges."""
    assert character_grams("cat") == ["<ca", "cat", "at>", "<cat", "cat>", "<cat>"]
    assert character_grams("a") == ["<a>"]


@pytest.mark.parametrize("text", ["hello", "The event loop runs tasks and callbacks.", "x", "42", "Über größe"])
def test_embeddings_have_no_empty_dimensions(features: Features, text: str) -> None:
    """Each n-gram goes into every dimension, so the first numbers of a vector say something."""
    vector = features.embedding(text)
    assert math.hypot(*vector) == pytest.approx(1.0)
    assert all(vector[:16])


def test_spreading_keeps_what_is_near_and_what_is_far(features: Features) -> None:
    """Embeddings have the cosines of the features they are made of."""
    texts = [
        "How do I wait for a subprocess?",
        "Wait for the subprocesses to end.",
        "The cosine of an angle in radians.",
    ]
    for left in texts:
        for right in texts:
            near = dot(features.embedding(left, "query"), features.embedding(right, "passage"))
            assert near == pytest.approx(_cosine(features, left, right))


@pytest.mark.parametrize("size", [1, 3, 12, 768, 1024, 4096])
def test_spreading_goes_as_far_as_the_size_is_even(size: int) -> None:
    """One component goes into as many as the largest power of two in the size, 1024 at most."""
    turned = spread([1.0] + [0.0] * (size - 1))
    assert sum(map(bool, turned)) == min(size & -size, 1024)


def test_a_zero_vector_becomes_the_first_axis() -> None:
    """Nothing is brought to length one by force."""
    assert normalised([0.0, 0.0]) == [1.0, 0.0]


def test_shortened_is_the_prefix_unless_it_is_empty() -> None:
    """A shortened vector is the prefix at length one; a prefix without a feature is folded from the whole."""
    assert shortened([3.0, 4.0, 1.0, 0.0], 2) == pytest.approx([0.6, 0.8])
    assert shortened([0.0, 0.0, 3.0, 4.0], 2) == pytest.approx([0.6, 0.8])
