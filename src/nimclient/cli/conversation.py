"""`nimclient chat` on a terminal: a conversation with a line editor, until Ctrl-D.

Ctrl-C stops the current answer, not the program; an interrupted turn is not kept.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Any, Self

from attrs import define, field

from nimclient import ChatCompletion, Client, NimError
from nimclient._base.files import check_regular
from nimclient.cli.chat_answer import CUT_OFF, Shown, described
from nimclient.cli.chat_question import content_of, options_of, schema_of
from nimclient.cli.chat_store import Saved, load_last, replaced, save_last, state_folder
from nimclient.cli.connection import client_settings
from nimclient.cli.failures import CommandError, UsageError, explain, in_options
from nimclient.cli.show import answer_writer, writer_for
from nimclient.cli.text import is_screen

HELP = """\
/help            this list
/system TEXT     instructions for the model from now on; without TEXT: show them
/image FILE|URL  send this image with the next question
/model ID        ask this model from now on
/thinking on|off whether the model reasons before it answers
/clear           forget what was said
/exit            end (so does Ctrl-D)

A line that ends with \\ continues in the next one. Ctrl-C stops the answer."""
PROMPT = "> "
MORE = "… "
HISTORY_LINES = 1000


@define
class _Talk:
    """The state of the conversation between two questions."""

    client: Client
    saved: Saved
    system: str | None
    options: dict[str, Any]
    model: str | None
    verbose: bool
    images: list[str] = field(factory=list[str])


class _Interrupts:
    """Ctrl-C ends the line being typed or the answer being read, never the program."""

    def __init__(self) -> None:
        self._allowed = False

    def __enter__(self) -> Self:
        self._before = signal.signal(signal.SIGINT, self._interrupt)
        return self

    def __exit__(self, *exception: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _interrupt(self, number: int, frame: object) -> None:
        if self._allowed:
            raise KeyboardInterrupt

    @contextmanager
    def allowed(self) -> Generator[None]:
        """Inside it raises KeyboardInterrupt; elsewhere it does nothing."""
        self._allowed = True
        try:
            yield
        finally:
            self._allowed = False


def converse(args: argparse.Namespace) -> int:
    """Ask and answer until the end of the input."""
    words = writer_for(sys.stderr)
    saved = load_last() if args.continued else Saved()
    options = options_of(args)
    if (schema := schema_of(args)) is not None:
        options["response_format"] = _response_format(schema)
    key, base_url, settings = client_settings(args)
    with Client(key, base_url, **settings) as client, _line_editor(), _Interrupts() as interrupts:
        talk = _Talk(client, saved, args.system, options, args.model, args.verbose, list(args.image))
        words.line(f"nimclient, {client.base_url}: /help lists the commands, Ctrl-D ends it")
        for text in _questions(interrupts):
            try:
                if text.startswith("/"):
                    if _command(talk, text):
                        break
                else:
                    _turn(talk, text, interrupts)
            except (NimError, CommandError) as error:
                words.line(f"nimclient: {explain(error)}")
            except TypeError as error:  # an unknown option
                raise UsageError(in_options(str(error))) from error
    return 0


def _response_format(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": dict(schema)}}


def _questions(interrupts: _Interrupts) -> Iterator[str]:
    """The lines typed, without blank ones; Ctrl-C discards a line."""
    while True:
        try:
            with interrupts.allowed():
                lines = [input(PROMPT)]
                while lines[-1].endswith("\\"):
                    lines[-1] = lines[-1].removesuffix("\\")
                    lines.append(input(MORE))
        except EOFError:
            writer_for(sys.stdout).line()
            return
        except KeyboardInterrupt:
            writer_for(sys.stdout).line()
            continue
        except UnicodeDecodeError:
            writer_for(sys.stderr).line("nimclient: the input is not valid text in the encoding of this terminal")
            continue
        if text := "\n".join(lines).strip():
            yield text


def _turn(talk: _Talk, text: str, interrupts: _Interrupts) -> None:
    """One question and its answer."""
    saved = talk.saved
    store = {saved.session_id: saved.messages}
    conversation = talk.client.chat.conversation(system=talk.system, store=store, session_id=saved.session_id)
    message = {"role": "user", "content": content_of(text, talk.images)}
    data, words = answer_writer(sys.stdout), writer_for(sys.stderr)
    shown = Shown(data, words)
    stream = conversation.stream(message, model=talk.model, **talk.options)
    completion: ChatCompletion | None = None
    try:
        with interrupts.allowed():
            for chunk in stream:
                shown.add(chunk.text, chunk.reasoning)
            completion = stream.final()
    except KeyboardInterrupt:
        pass
    finally:
        stream.close()
        shown.end()
    if completion is None:
        words.line("\nnimclient: stopped; this turn is not kept")
        return
    talk.images.clear()
    saved.messages = store[saved.session_id]
    save_last(saved)
    if completion.finish_reason == "length":
        words.line(CUT_OFF)
    words.aside(f"{described(completion) if talk.verbose else completion.model}\n\n")


def _command(talk: _Talk, text: str) -> bool:
    """Execute a line that begins with a slash; True if it ends the conversation."""
    name, _, value = text.partition(" ")
    if name in ("/exit", "/quit"):
        return True
    if (command := _COMMANDS.get(name)) is None:
        raise UsageError(f"there is no command {name}; /help lists them")
    writer_for(sys.stderr).line(command(talk, value.strip()))
    return False


def _help(_: _Talk, __: str) -> str:
    return HELP


def _set_system(talk: _Talk, value: str) -> str:
    talk.system = value or talk.system
    return f"system: {talk.system or 'none'}"


def _add_image(talk: _Talk, value: str) -> str:
    if not value:
        raise UsageError("/image takes the name of a file, or a URL")
    content_of("", [value])  # reports a missing file now
    talk.images.append(value)
    return f"{len(talk.images)} with the next question"


def _set_model(talk: _Talk, value: str) -> str:
    talk.model = value or talk.model
    return f"model: {talk.model or 'that of the server'}"


def _set_thinking(talk: _Talk, value: str) -> str:
    if value not in ("on", "off"):
        raise UsageError("/thinking takes on or off")
    talk.options["thinking"] = value == "on"
    return f"thinking: {value}"


def _clear(talk: _Talk, _: str) -> str:
    talk.saved = Saved()
    return "a new conversation"


_COMMANDS: Mapping[str, Callable[[_Talk, str], str]] = {
    "/help": _help,
    "/system": _set_system,
    "/image": _add_image,
    "/model": _set_model,
    "/thinking": _set_thinking,
    "/clear": _clear,
}


@contextmanager
def _line_editor() -> Generator[None]:
    """Arrow keys and the lines of earlier conversations, if Python has readline."""
    try:
        readline = import_module("readline")
    except ImportError:
        yield
        return
    path = state_folder() / "chat_history"
    with suppress(OSError):
        check_regular(path)
        readline.read_history_file(path)
    readline.set_history_length(HISTORY_LINES)
    if is_screen(sys.stdout):
        readline.parse_and_bind("set enable-bracketed-paste on")  # pasted lines are one question
    try:
        yield
    finally:
        with suppress(OSError), replaced(path) as new:
            readline.write_history_file(new)
