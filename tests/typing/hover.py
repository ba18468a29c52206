"""What an editor shows over every method of Client: asked of pyright's language server, as editors do (`nox -s types`).

Each must show the parameters and the docstring that the method of AsyncClient has.
"""

import inspect
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nimclient import Client


class LanguageServer:
    """A language server over its standard streams, as far as hovering needs one."""

    def __init__(self, folder: Path) -> None:
        pipe = subprocess.PIPE
        command = [str(Path(sys.executable).parent / "pyright-langserver"), "--stdio"]
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL)
        self._last = 0
        where = [{"uri": folder.as_uri(), "name": "sample"}]
        capabilities = {
            "workspace": {"configuration": True},
            "textDocument": {"hover": {"contentFormat": ["markdown"]}},
        }
        self.ask(
            "initialize", processId=None, rootUri=where[0]["uri"], workspaceFolders=where, capabilities=capabilities
        )
        self._send({"method": "initialized", "params": {}})

    def open(self, path: Path) -> None:
        """Have a file read."""
        document = {"uri": path.as_uri(), "languageId": "python", "version": 1, "text": path.read_text()}
        self._send({"method": "textDocument/didOpen", "params": {"textDocument": document}})

    def hover(self, path: Path, line: int, character: int) -> str:
        """What is shown over a place of a file."""
        place = {"line": line, "character": character}
        shown = self.ask("textDocument/hover", textDocument={"uri": path.as_uri()}, position=place)
        return str(shown["contents"]["value"]) if shown else ""

    def ask(self, method: str, **params: Any) -> Any:
        """Send a request and wait for its answer; answer the server's own questions meanwhile."""
        self._last += 1
        self._send({"id": self._last, "method": method, "params": params})
        while True:
            message = self._receive()
            if "method" not in message:
                if message.get("id") == self._last:
                    return message["result"]
            elif "id" in message:
                self._send({"id": message["id"], "result": self._settings(message)})

    def stop(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()

    def _settings(self, message: Any) -> Any:
        if message["method"] != "workspace/configuration":
            return None
        ours = {"python": {"pythonPath": sys.executable}}
        return [ours.get(item.get("section", ""), {}) for item in message["params"]["items"]]

    def _send(self, message: dict[str, Any]) -> None:
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        assert self._process.stdin is not None
        self._process.stdin.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        self._process.stdin.flush()

    def _receive(self) -> Any:
        assert self._process.stdout is not None
        length = 0
        while line := self._process.stdout.readline().strip():
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        return json.loads(self._process.stdout.read(length))


def methods() -> Iterator[tuple[str, Any]]:
    """Every public method of the client and its namespaces, as it is written, and the function."""
    client = Client(base_url="http://127.0.0.1:1")
    holders = {"client": client, "client.chat.conversation()": client.chat.conversation()}
    for name in dir(client):
        value = getattr(client, name)
        if not name.startswith("_") and hasattr(value, "_async"):
            holders[f"client.{name}"] = value
    for path, holder in holders.items():
        for name, value in inspect.getmembers(type(holder), inspect.isfunction):
            if not name.startswith("_"):
                yield f"{path}.{name}", value


def words(text: str) -> str:
    """The words of a text without any markup."""
    return " ".join(re.findall(r"\w+", text))


def faults(shown: str, method: Any) -> Iterator[str]:
    """What an editor does not show of a method."""
    for name in list(inspect.signature(method).parameters)[1:]:
        if not re.search(rf"\b{name}\b", shown.partition("---")[0]):
            yield f"no parameter {name}"
    first = (inspect.getdoc(method) or "").partition("\n\n")[0]
    if not first or words(first) not in words(shown.replace("`await ", "`")):  # an editor shows what AsyncClient's says
        yield f"not its docstring, {first[:40]!r} …"


def main() -> int:
    """Look at all of them; returns how many show less than they should."""
    written = dict(methods())
    bad = 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder).resolve() / "hovered.py"
        lines = [
            "from nimclient import Client",
            "def use(client: Client) -> None:",
            *(f"    {text}" for text in written),
        ]
        path.write_text("\n".join(lines) + "\n")
        server = LanguageServer(path.parent)
        try:
            server.open(path)
            for line, (text, method) in enumerate(written.items(), 2):
                for fault in faults(server.hover(path, line, len(lines[line]) - 1), method):
                    bad += 1
                    print(f"{text}: {fault}")
        finally:
            server.stop()
    print(f"{len(written)} methods hovered over, {bad} faults")
    return min(bad, 1)


if __name__ == "__main__":
    sys.exit(main())
