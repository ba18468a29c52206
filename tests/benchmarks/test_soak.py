"""The soak test itself: its sums are right for a few calls, and it sees what is wrong with them."""

import asyncio

import pytest

from benchmarks.soak import Books, compare, main, mixed
from benchmarks.soak_server import Server, running_server


@pytest.mark.slow
def test_a_short_soak(capsys: pytest.CaptureFixture[str]) -> None:
    """Both parts run, and print what they have counted."""
    main(["--calls", "400", "--streams", "400", "--minutes", "0.01"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "400 calls of chat",
        "400 calls of stream",
        "0.01 minutes with faults",
        "the server",
    ]


def test_faults_are_counted_on_both_sides() -> None:
    """With a fault in every other request each call still ends once, in what the server has sent or in an error."""
    with running_server(0.5) as server:
        books, left = asyncio.run(mixed(server, 0.5))
    compare(books, server)
    assert left <= 0
    assert server.books["requests"] > server.books["answers"]


@pytest.mark.parametrize("lie", ["answered", "tokens"])
def test_books_that_differ(lie: str) -> None:
    """An answer or a token that only one side knows of fails it."""
    books = Books()
    books.counts.update(calls=3, answers=2, errors=1)
    books.tokens = 9
    server = Server("")
    server.books = {"answered": 2, "tokens": 9}
    compare(books, server)
    server.books[lie] += 1
    with pytest.raises(AssertionError):
        compare(books, server)
