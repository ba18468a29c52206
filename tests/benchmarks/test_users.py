"""A chat a second beside bulk: the picture of the guide, and what it says."""

from statistics import median

import orjson

from benchmarks import users


def test_the_picture_is_that_of_the_figures() -> None:
    """What the guide shows is drawn from the figures that are kept; a client's own bulk is in the way less than another's."""
    figures = orjson.loads(users.RESULTS.read_bytes())
    assert users.PICTURE.read_text(encoding="utf-8") == users.picture(figures)
    alone, own, other = (median(ttft for _, ttft in run["chats"]) for run in figures["runs"].values())
    assert alone <= own < other


async def test_a_chat_alone() -> None:
    """Alone a chat takes what the server takes, and is sent once a second."""
    run = await users.measure(users.ROWS[0], 3)
    assert [(second, round(ttft, 2)) for second, ttft in run["chats"]] == [(0.0, 0.15), (1.0, 0.15), (2.0, 0.15)]
    assert run["bulk_per_second"] == 0
