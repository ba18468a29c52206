"""The last conversation of `nimclient chat`, kept for `--continue` in a file that only its owner can read."""

from __future__ import annotations

import json
import os
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

from attrs import define, field

from nimclient._base.files import check_regular
from nimclient.cli.failures import UsageError


@define
class Saved:
    """Messages in wire form, and the id of their session."""

    messages: list[dict[str, Any]] = field(factory=list[dict[str, Any]])
    session_id: str = field(factory=lambda: uuid4().hex)

    def messages_under(self, system: str | None) -> list[dict[str, Any]]:
        """The messages, with a system message that replaces an existing one."""
        if system is None:
            return self.messages
        rest = [message for message in self.messages if message.get("role") != "system"]
        return [{"role": "system", "content": system}, *rest]


def state_folder() -> Path:
    """The folder of the command line's state: $XDG_STATE_HOME/nimclient, else ~/.local/state/nimclient.

    For a user without a home it is one in which nothing can be: nothing is kept.
    """
    base = os.path.expanduser(os.environ.get("XDG_STATE_HOME") or "~/.local/state")
    return Path(os.devnull if base.startswith("~") else base) / "nimclient"


def load_last() -> Saved:
    """The last conversation. UsageError without a readable one."""
    path = state_folder() / "conversation.json"
    try:
        check_regular(path)
        record = json.loads(path.read_bytes())
        messages, session_id = record["messages"], record["session_id"]
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError("there is no conversation to continue; begin one: nimclient chat") from None
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise UsageError(f"{path} cannot be read ({type(error).__name__}); remove it to start over") from None
    if not isinstance(messages, list) or not all(isinstance(one, dict) for one in cast(list[Any], messages)):
        raise UsageError(f"{path} holds no messages; remove it to start over")
    return Saved(cast(list[dict[str, Any]], messages), str(session_id))


def save_last(saved: Saved) -> None:
    """Save a conversation in place of the last one; errors of the disk are only reported."""
    with suppress(OSError), replaced(state_folder() / "conversation.json") as path:
        record = {"session_id": saved.session_id, "messages": saved.messages}
        path.write_text(json.dumps(record), encoding="utf-8", errors="replace")


@contextmanager
def replaced(path: Path) -> Generator[Path]:
    """A new file that only its owner can read, to be written under this other name; it then takes the place of what is there.

    A link or a pipe in its place is neither followed nor waited for.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary.unlink(missing_ok=True)
    os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    try:
        yield temporary
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
