import builtins
import io
import time

import pytest
from rich.console import Console

from nimclient.cli.show import Plain, answer_writer, progress_line, writer_for
from nimclient.cli.show_rich import MarkdownWriter, Rich, end_of_block
from nimclient.cli.text import Hit

HITS = [Hit("csv", 0.8, "Read and write."), Hit("csv.writer", 0.25, "Writes. " * 30)]
ROWS = [("texts", "1,000"), ("time to first token", "2.0 ms")]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=60, record=True, color_system="truecolor")


def test_plain_text_is_aligned():
    """Without a terminal, hits and tables are columns of plain text."""
    stream = io.StringIO()
    plain = Plain(stream)
    plain.heading("Search: x")
    plain.hits(HITS[:1])
    plain.hits([])
    plain.table(ROWS)
    assert stream.getvalue().splitlines() == [
        "",
        "Search: x",
        "  0.800  csv  Read and write.",
        "  texts                 1,000",
        "  time to first token  2.0 ms",
    ]


def test_plain_progress_is_a_line_every_few_seconds():
    """Plain progress writes a line every two seconds and one at the end, with the rate."""
    stream, clock = io.StringIO(), Clock()
    with Plain(stream, clock).progress("embedding", "texts") as advance:
        for done in (1, 2, 3, 4):
            advance(done * 1000, 4000)
            clock.now += 1.5
    assert stream.getvalue().splitlines() == [
        "embedding: 3,000 of 4,000 texts, 1,000 texts/s",
        "embedding: 4,000 of 4,000 texts, 889 texts/s",
    ]


def test_progress_at_once_has_no_rate():
    """Where no time has passed there is no rate."""
    assert progress_line("reading", "files", 1, 1, 0.0) == "reading: 1 of 1 files"


def test_files_get_text_as_it_is_and_terminals_without_controls():
    """Control characters of a model's answer do not reach a terminal; a file gets the answer unchanged."""
    text = "a\x1b[31mb\x07\n\tc\x9b"
    file, terminal = io.StringIO(), Terminal()
    Plain(file).piece(text)
    Plain(terminal).piece(text)
    assert file.getvalue() == text
    assert terminal.getvalue() == "a[31mb\n\tc"


def test_rich_table_has_a_frame(console):
    """On a terminal the table is framed, with the same rows."""
    Rich(console).table(ROWS)
    text = console.export_text()
    assert text.startswith("╭")
    assert "time to first token" in text
    assert "2.0 ms" in text


def test_rich_hits_fit_one_line_each(console):
    """On a terminal each hit is one line: score and name whole, the summary cut."""
    Rich(console).hits(HITS)
    Rich(console).hits([])
    lines = console.export_text().splitlines()
    assert [line[:20].rstrip() for line in lines] == ["  0.800  csv", "  0.250  csv.writer"]
    assert max(map(len, lines)) <= 60
    assert lines[1].endswith("…")


def test_rich_says_what_plain_says(console):
    """Lines, headings and pieces are shown as they are: markup in them means nothing, controls are dropped."""
    rich = Rich(console)
    rich.heading("[bold]Search")
    rich.piece("one ")
    rich.piece("\x1btwo")
    rich.line()
    rich.line("[/] end")
    assert console.export_text() == "\n[bold]Search\none two\n[/] end\n"


def test_rich_wraps_streamed_text_between_words(console):
    """Streamed words are held back until they are whole and begin a new line where they do not fit."""
    console.width = 12
    rich = Rich(console)
    for piece in ("one tw", "o thr", "ee four fi", "ve a\n\tb ", "abcdefghijklmnopq", " end"):
        rich.piece(piece)
    rich.line()
    assert console.export_text().splitlines() == [
        "one two ",
        "three four ",
        "five a",
        "    b ",
        "abcdefghijklmnopq",
        "end",
    ]


def test_rich_progress_is_a_bar(console):
    """On a terminal progress is one live line with a bar, counts and the unit."""
    with Rich(console).progress("embedding", "texts") as advance:
        advance(10, 20)
        advance(20, 20)
    text = console.export_text()
    assert "embedding" in text
    assert "━" in text
    assert "20/20 texts" in text


def test_terminals_with_rich_get_rich():
    """rich is used on a terminal, and nowhere else."""
    assert isinstance(writer_for(Terminal()), Rich)
    assert isinstance(writer_for(io.StringIO()), Plain)


@pytest.mark.parametrize("term", ["dumb", "unknown"])
def test_dumb_terminals_get_plain_text_as_it_comes(monkeypatch, term: str) -> None:
    """One that cannot redraw (a shell in Emacs) would show a rendered answer only at its end; escapes are text there."""
    monkeypatch.setenv("TERM", term)
    stream = Terminal()
    for writer in (writer_for(stream), answer_writer(stream)):
        assert isinstance(writer, Plain)
        assert not writer.can_dim
        writer.piece("Hel")
        writer.aside("lo")
    assert stream.getvalue() == "HelloHello"


def test_markdown_needs_some_width(monkeypatch) -> None:
    """On a terminal of a few columns the answer is text: no column would be left for a table's cells, or for code."""
    monkeypatch.setenv("COLUMNS", "19")
    assert not isinstance(answer_writer(Terminal()), MarkdownWriter)
    monkeypatch.setenv("COLUMNS", "20")
    assert isinstance(answer_writer(Terminal()), MarkdownWriter)


def test_terminals_without_rich_get_plain(monkeypatch):
    """Where rich is not installed a terminal gets plain text."""
    real = builtins.__import__

    def without_rich(name, *rest, **more):
        if name.endswith("show_rich"):
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without_rich)
    assert isinstance(writer_for(Terminal()), Plain)


COLUMNS = [("meta/llama", "chat"), ("nv/embed-with-a-long-name", "embedding")]


def test_plain_columns():
    """A list is columns; a terminal gets a heading, a pipe does not."""
    for stream, heading in ((io.StringIO(), []), (Terminal(), ["id                         kind"])):
        Plain(stream).columns(("id", "kind"), COLUMNS)
        assert stream.getvalue().splitlines() == [
            *heading,
            "meta/llama                 chat",
            "nv/embed-with-a-long-name  embedding",
        ]


def test_rich_columns(console: Console):
    """On a terminal a list is a table with headings."""
    Rich(console).columns(("id", "kind"), COLUMNS)
    shown = console.export_text()
    assert "id" in shown.splitlines()[1]
    assert "nv/embed-with-a-long-name" in shown


def test_findings(console: Console):
    """A finding is a line with its state, and another one with what to do; long texts stay in their column."""
    stream = io.StringIO()
    Plain(stream).finding("ok", "server", "NIM", "")
    Plain(stream).finding("failed", "key", "refused", "check it")
    assert stream.getvalue().splitlines() == [
        "  ok      server      NIM",
        "  FAILED  key         refused",
        "                      → check it",
    ]
    Rich(console).finding("note", "models", "word " * 20, "do something about it")
    lines = console.export_text().splitlines()
    assert lines[0].startswith("  –       models")
    assert all(line.startswith(" " * 20) for line in lines[1:])
    assert "→ do something" in lines[-1]


HOSTILE = "a\x1b[31mred\x07\x9b2J \u202eevil\u2066 b"


def test_escape_and_direction_controls_do_not_reach_a_terminal(console: Console) -> None:
    """Of a server's text nothing moves the cursor, rings, or turns the order of letters; right-to-left text itself stays."""
    terminal = Terminal()
    plain = Plain(terminal)
    plain.line(HOSTILE)
    plain.finding("failed", "x", HOSTILE, HOSTILE)
    plain.columns(["a"], [[HOSTILE]])
    plain.hits([Hit(HOSTILE, 0.5, HOSTILE)])
    plain.table([("a", HOSTILE)])
    rich = Rich(console)
    rich.line(HOSTILE)
    rich.heading(HOSTILE)
    rich.finding("failed", "x", HOSTILE, HOSTILE)
    rich.columns(["a"], [[HOSTILE]])
    rich.hits([Hit(HOSTILE, 0.5, HOSTILE)])
    rich.table([("a", HOSTILE)])
    for text in (terminal.getvalue(), console.export_text(styles=False)):
        assert not set("\x1b\x07\x9b\u202e\u2066") & set(text)
    plain.line("\u05e9\u05dc\u05d5\u05dd\u200f")
    assert "\u05e9\u05dc\u05d5\u05dd\u200f" in terminal.getvalue()


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("one\n\ntwo", 5),
        ("one\ntwo", None),
        ("```py\na\n\nb\n```\n\nrest", 16),
        ("```py\na\n\nb\n", None),
        ("~~~~\n```\n\n~~~~\n\nrest", 16),
        ("text\n\n```\n\n```\n", 6),
    ],
)
def test_markdown_is_cut_between_blocks(text: str, end: int | None) -> None:
    """A blank line ends a block, but not within a fence."""
    assert end_of_block(text) == end


def test_markdown_is_rendered_as_it_comes(console: Console) -> None:
    """Whatever the pieces, each block is on the screen once in its last state."""
    writer = MarkdownWriter(console)
    for piece in ("# He", "ad\n", "\nsome **bo", "ld** text\n\n- a\n- b", "\n"):
        writer.piece(piece)
    writer.line()
    text = console.export_text()
    assert "Head" in text
    assert "some bold text" in text
    assert "**" not in text.splitlines()[-1]


def test_a_block_longer_than_the_screen_is_there_once(console: Console) -> None:
    """While it grows its end is shown; a terminal cannot take back lines that have left it (rich #3263, gpt-cli #18)."""
    console.height = 10
    writer = MarkdownWriter(console)
    writer.piece("```\n" + "".join(f"line {number}.\n" for number in range(50)))
    deadline = time.monotonic() + 60
    while "line 49." not in console.file.getvalue() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert "line 30." not in console.file.getvalue()
    writer.line()
    shown = console.file.getvalue()
    assert [shown.count(f"line {number}.") for number in range(40)] == [1] * 40


def test_asides_are_wrapped_between_words_too(console):
    """Reasoning is dimmed, and no word of it is cut at the edge of the terminal."""
    writer = Rich(console)
    for piece in ("thinking about " * 3, "a very very long", "word and others\n\n"):
        writer.aside(piece)
    lines = console.file.getvalue().replace("\x1b[2m", "").replace("\x1b[0m", "").splitlines()
    assert [line.rstrip() for line in lines] == [f"{'thinking about ' * 3}a very very", "longword and others", ""]
