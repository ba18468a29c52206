"""Which hosts one session contacts, ours and langchain-nvidia-ai-endpoints': `python -m benchmarks.contacts`.

A proxy on loopback stands for the internet: it ends TLS for every host that is asked for, answers as the hosted catalog
would, and counts. A session is a program with a key in its environment that makes a chat and two embeddings of the hosted
catalog and ends; nothing is set but the proxy and the certificates. Nothing leaves the machine.
"""

import json
import os
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path

import trustme

KEY = "nvapi-" + "0" * 64
CHAT = "meta/llama-3.1-8b-instruct"
EMBED = "nvidia/nv-embedqa-e5-v5"
SESSIONS = {
    "nimclient": f"""
from nimclient import Client
with Client() as client:
    assert client.chat.create("hi", model={CHAT!r}).text == "Hello"
    assert len(client.embeddings.embed_documents(["a", "b"], model={EMBED!r})) == 2
""",
    "langchain-nvidia-ai-endpoints": f"""
import warnings
warnings.simplefilter("ignore")
from langchain_nvidia_ai_endpoints import ChatNVIDIA, NVIDIAEmbeddings
assert ChatNVIDIA(model={CHAT!r}).invoke("hi").content == "Hello"
assert len(NVIDIAEmbeddings(model={EMBED!r}).embed_documents(["a", "b"])) == 2
""",
}
ANSWERS = {
    "/chat/completions": {
        "id": "1",
        "object": "chat.completion",
        "created": 1,
        "model": CHAT,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    },
    "/embeddings": {
        "object": "list",
        "model": EMBED,
        "data": [{"object": "embedding", "index": i, "embedding": [1.0, 2.0]} for i in range(2)],
        "usage": {"prompt_tokens": 2, "total_tokens": 2},
    },
    "/models": {"object": "list", "data": [{"id": name, "object": "model"} for name in (CHAT, EMBED)]},
}


class Internet:
    """The proxy. `seen` counts (host, what was asked of it); `bodies` has what was sent to hosts other than the catalog's."""

    def __init__(self) -> None:
        self.authority = trustme.CA()
        self.seen: Counter[tuple[str, str]] = Counter()
        self.bodies: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            accepted, _ = self._listener.accept()
            threading.Thread(target=self._serve, args=(accepted,), daemon=True).start()

    def _serve(self, accepted: socket.socket) -> None:
        with accepted:
            first = _head(accepted)
            host = first.split()[1].rpartition(b":")[0].decode()
            accepted.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            self.authority.issue_cert(host).configure_cert(context)
            with context.wrap_socket(accepted, server_side=True) as peer:
                while head := _head(peer):
                    self._answer(peer, host, head)

    def _answer(self, peer: socket.socket, host: str, head: bytes) -> None:
        method, path, *_ = head.decode("latin-1").split(" ")
        lengths = [
            line.partition(b":")[2] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
        ]
        body = b""
        while len(body) < int(lengths[0] if lengths else 0):
            body += peer.recv(2**16)
        self.seen[host, f"{method} {path}"] += 1
        if host != "integrate.api.nvidia.com":
            self.bodies.append(body)
        value = next((answer for end, answer in ANSWERS.items() if path.endswith(end)), {})
        text = json.dumps(value).encode()
        peer.sendall(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(text) + text
        )


def _head(peer: socket.socket) -> bytes:
    """The head of a request; nothing where the connection ends."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = peer.recv(1)
        if not byte:
            return b""
        head += byte
    return head


def session(name: str) -> tuple[Counter[tuple[str, str]], list[bytes]]:
    """What one session asked of which host."""
    internet = Internet()
    with tempfile.TemporaryDirectory() as folder:
        authority = str(Path(folder, "ca.pem"))
        internet.authority.cert_pem.write_to_path(authority)
        certificates = dict.fromkeys(("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"), authority)
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path), "NVIDIA_API_KEY": KEY}
        environment |= {**certificates, "HTTPS_PROXY": internet.url, "HTTP_PROXY": internet.url, "HOME": folder}
        subprocess.run([sys.executable, "-c", SESSIONS[name]], env=environment, check=True, timeout=300)
    return internet.seen, internet.bodies


def main() -> None:
    """Print both sessions."""
    print("| client | host | request | times |\n|---|---|---|---|")
    for name in SESSIONS:
        seen, bodies = session(name)
        for (host, request), times in sorted(seen.items()):
            print(f"| {name} | {host} | `{request}` | {times} |")
        for body in bodies:
            print(f"  sent elsewhere: {len(body)} bytes: {body[:3000].decode()}", file=sys.stderr)


if __name__ == "__main__":
    main()
