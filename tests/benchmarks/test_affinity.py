"""Prefix affinity in the servers' own time: hits, loads and times to the first token, and the picture of them."""

from argparse import Namespace

import orjson
import pytest

from benchmarks import affinity

OPTIONS = Namespace(conversations=120, turns=8)


def test_the_picture_is_that_of_the_figures() -> None:
    """What the guide shows is drawn from the figures that are kept, and these are what is promised."""
    figures = orjson.loads(affinity.RESULTS.read_bytes())
    assert affinity.PICTURE.read_text(encoding="utf-8") == affinity.picture(figures)
    runs = figures["runs"]
    assert runs["prefix"]["cached"] >= 0.9 * runs["one large"]["cached"]
    assert runs["prefix"]["busiest"] <= 1.25
    assert runs["prefix"]["ttft_p50"] <= 0.6 * runs["least load"]["ttft_p50"]
    assert [run["failed"] for run in runs.values()] == [0] * 4


@pytest.mark.slow
async def test_turns_meet_their_prefix() -> None:
    """Four replicas have 85 % of the hits of one that is large, none has more than 1.25 times the mean load, first tokens
    come in 60 % of the time that they take by least load, and no call fails when one is killed.
    """
    runs = {name: await affinity.measure(name, OPTIONS) for name in affinity.RUNS}
    half = {name: run["ttfts"][len(run["ttfts"]) // 2] for name, run in runs.items()}
    assert runs["prefix"]["cached"] >= 0.85 * runs["one large"]["cached"]
    assert runs["prefix"]["busiest"] <= 1.25
    assert half["prefix"] <= 0.6 * half["least load"]
    assert [run["failed"] for run in runs.values()] == [0] * 4
    assert runs["prefix, one killed"]["cached"] >= 0.65 * runs["one large"]["cached"]
