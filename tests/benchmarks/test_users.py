"""Users beside bulk in the server's own time: what the guide shows is what was measured."""

import orjson

from benchmarks import users


def test_the_picture_is_that_of_the_figures() -> None:
    """With its own bulk in progress a client's users wait as on an idle server, at the median, and bulk keeps nine tenths."""
    figures = orjson.loads(users.RESULTS.read_bytes())
    assert users.PICTURE.read_text(encoding="utf-8") == users.picture(figures)
    runs = figures["runs"]
    idle, own, other = (runs[name] for name in ("idle", "own bulk", "another client's bulk"))
    assert own["ttft_p50"] <= users.MOST * idle["ttft_p50"] < other["ttft_p50"]
    assert own["bulk_per_second"] >= users.LEAST * runs["bulk alone"]["bulk_per_second"]


def test_turns_count_when_they_have_settled() -> None:
    """Over sockets a user counts for the case whose turn it was, unless the turn had only begun."""
    seen = users.Seen()
    length = int(users.WARM) + 2 * users.TURN * len(users.TURNS)
    seen.ttfts = [(float(second), float(users.TURNS.index(users.turn(second)))) for second in range(length)]
    found = users.by_turns(seen, 2)
    counted = 2 * (users.TURN - users.SETTLED)
    assert [found[name]["ttfts"] for name in users.TURNS] == [[float(at)] * counted for at in range(len(users.TURNS))]
