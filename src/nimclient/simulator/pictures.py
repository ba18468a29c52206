"""The images of an image NIM: PNG files of the requested size, in one color computed from prompt and seed."""

import base64
import struct
import zlib
from hashlib import sha256
from typing import Any, Final

from .fields import Fields
from .rejections import bad_field
from .wire import PlainResponse

_MODES: Final = ("base", "canny", "depth")


def artifacts(fields: Fields) -> PlainResponse:
    """Images as base64, each with the seed that reproduces it."""
    prompt = fields.need_text("prompt")
    if not prompt.strip():
        raise bad_field("prompt", "must not be empty.")
    width = fields.integer("width", min=16, max=2048) or 1024
    height = fields.integer("height", min=16, max=2048) or 1024
    samples = fields.integer("samples", min=1, max=4) or 1
    seed = fields.integer("seed", min=0, max=2**32 - 1) or 0
    fields.integer("steps", min=1, max=100)
    fields.number("cfg_scale", min=0)
    fields.one_of("mode", _MODES)
    return PlainResponse({"artifacts": [_artifact(prompt, seed + at, width, height) for at in range(samples)]})


def _artifact(prompt: str, seed: int, width: int, height: int) -> dict[str, Any]:
    colour = sha256(f"{seed} {prompt}".encode()).digest()[:3]
    return {"base64": base64.b64encode(png(colour, width, height)).decode(), "finishReason": "SUCCESS", "seed": seed}


def png(colour: bytes, width: int, height: int) -> bytes:
    """A PNG file in one color (three bytes: red, green, blue)."""
    rows = zlib.compress((b"\0" + colour * width) * height, 1)
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + _chunk(b"IDAT", rows) + _chunk(b"IEND", b"")


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
