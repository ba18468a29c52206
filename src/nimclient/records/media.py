"""Images, audio and video as parts of a message: `("user", ["What is this?", Image(Path("cat.png"))])`.

A str is always a URL; a local file is read only for a `Path`, when the object is created. The media type is recognized
from the first bytes, never from a name. Data URLs are built when the message is sent.
"""

from __future__ import annotations

import os
import re
from base64 import b64encode
from typing import TypeAlias

from attrs import field, frozen

from nimclient._base.types import JsonDict
from nimclient.errors import ConfigurationError

MediaSource: TypeAlias = "str | bytes | bytearray | memoryview | os.PathLike[str]"

_IMAGES = {
    "png": "image/png",
    "jpeg": "image/jpeg",
    "gif": "image/gif",
    "webp": "image/webp",
    "bmp": "image/bmp",
    "tiff": "image/tiff",
    "avif": "image/avif",
    "heic": "image/heic",
}
_AUDIO = {
    "wav": "audio/wav",
    "mp3": "audio/mpeg",
    "flac": "audio/flac",
    "ogg": "audio/ogg",
    "mp4": "audio/mp4",
    "webm": "audio/webm",
}
_VIDEO = {
    "mp4": "video/mp4",
    "mov": "video/quicktime",
    "webm": "video/webm",
    "avi": "video/x-msvideo",
    "mpeg": "video/mpeg",
    "ogg": "video/ogg",
}
_TYPES = {"Image": _IMAGES, "Audio": _AUDIO, "Video": _VIDEO}
_INPUT_AUDIO = {"audio/wav": "wav", "audio/mpeg": "mp3"}
_BEGINNINGS = (
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"\xff\xd8\xff", "jpeg"),
    (b"GIF8", "gif"),
    (b"BM", "bmp"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"ID3", "mp3"),
    (b"fLaC", "flac"),
    (b"OggS", "ogg"),
    (b"\x1aE\xdf\xa3", "webm"),
    (b"\x00\x00\x01\xba", "mpeg"),
    (b"\x00\x00\x01\xb3", "mpeg"),
)
_RIFF = {b"WEBP": "webp", b"WAVE": "wav", b"AVI ": "avi"}
_MP4_BRANDS = {b"avif": "avif", b"avis": "avif", b"heic": "heic", b"heix": "heic", b"mif1": "heic", b"qt  ": "mov"}
MAX_FILE = 512 * 2**20  # bytes; /dev/zero has no end
_MEDIA_TYPE = re.compile(r"[\w.+-]+/[\w.+-]+", re.ASCII)


def _read(source: MediaSource, name: str) -> str | bytes:
    """A URL unchanged, bytes, or the content of a file. OSError if it cannot be read."""
    data: str | bytes
    if isinstance(source, os.PathLike):
        with open(source, "rb") as file:
            data = file.read(MAX_FILE + 1)
        if len(data) > MAX_FILE:
            raise ConfigurationError(f"{name} is larger than {MAX_FILE // 2**20} MiB, which no server takes")
    elif isinstance(source, (bytes, bytearray, memoryview)):
        data = bytes(source)
    elif isinstance(source, str):
        data = source
    else:
        raise ConfigurationError(f"{name} takes a URL, bytes or a Path, not {type(source).__name__}")
    if not data:
        raise ConfigurationError(f"{name} is empty")
    if isinstance(data, str) and not data.lower().startswith(("https://", "http://", "data:")):
        raise ConfigurationError(
            f"{name} takes a str as a URL (https, http or data), not {data[:80]!r}; pass a Path for a local file"
        )
    return data


def _shown(source: str | bytes) -> str:
    if isinstance(source, bytes):
        return f"<{len(source)} bytes>"
    return repr(source if len(source) <= 100 else f"{source[:100]}…")


def _typed(media_type: str | None, source: str | bytes, name: str) -> str | None:
    """The media type: the caller's, else recognized from the bytes; None for a URL."""
    if isinstance(source, str):
        if media_type is not None:
            raise ConfigurationError(f"{name}(media_type=…) is for bytes and files, not for a URL")
        return None
    if media_type is None:
        return _sniffed(source, name)
    if not isinstance(media_type, str) or not _MEDIA_TYPE.fullmatch(media_type):
        raise ConfigurationError(f'{name}(media_type=…) must look like "image/png", not {media_type!r:.80}')
    return media_type


def _sniffed(data: bytes, name: str) -> str:
    types = _TYPES[name]
    container = container_of(data)
    if container not in types:
        found = "these bytes are of no known format" if container is None else f"these bytes are {container}"
        raise ConfigurationError(f"{name} takes {', '.join(types)}; {found}. Pass media_type= to send them as they are")
    return types[container]


@frozen(init=False)
class _Media:
    """The base of Image, Audio and Video: `source` is a URL or bytes, `media_type` the type of the bytes."""

    source: str | bytes = field(init=False, repr=_shown)
    media_type: str | None = field(init=False)

    def __init__(self, source: MediaSource, *, media_type: str | None = None) -> None:
        name = type(self).__name__
        data = _read(source, name)
        object.__setattr__(self, "source", data)  # the class is frozen
        object.__setattr__(self, "media_type", _typed(media_type, data, name))

    @property
    def url(self) -> str:
        """The URL, or the data URL of the bytes."""
        source = self.source
        return source if isinstance(source, str) else f"data:{self.media_type};base64,{b64encode(source).decode()}"


@frozen(init=False)
class Image(_Media):
    """An image: a URL (http, https, data, or `data:image/png;asset_id,<id>` of an uploaded asset), bytes, or a Path.

    `detail`: "auto", "low" or "high", sent if given. `media_type` overrides the recognized one. Raises ConfigurationError
    for a str that is not a URL and for bytes that are not an image, OSError for a file that cannot be read. Reading the file
    blocks: in a server, create large images in a worker thread. Sent as an `image_url` part.
    """

    detail: str | None = field(init=False)

    def __init__(self, source: MediaSource, *, detail: str | None = None, media_type: str | None = None) -> None:
        super().__init__(source, media_type=media_type)
        if detail is not None and not isinstance(detail, str):
            raise ConfigurationError(f'Image(detail=…) takes "auto", "low" or "high", not {type(detail).__name__}')
        object.__setattr__(self, "detail", detail)

    def to_dict(self) -> JsonDict:
        """The part as it is sent."""
        image: JsonDict = {"url": self.url}
        if self.detail is not None:
            image["detail"] = self.detail
        return {"type": "image_url", "image_url": image}


@frozen(init=False)
class Audio(_Media):
    """Audio: a URL, bytes, or a Path. WAV and MP3 are sent as `input_audio`, other formats and URLs as `audio_url`.

    `media_type` and the errors are those of Image.
    """

    def to_dict(self) -> JsonDict:
        """The part as it is sent."""
        form = _INPUT_AUDIO.get(self.media_type or "")
        if isinstance(self.source, bytes) and form is not None:
            return {"type": "input_audio", "input_audio": {"data": b64encode(self.source).decode(), "format": form}}
        return {"type": "audio_url", "audio_url": {"url": self.url}}


@frozen(init=False)
class Video(_Media):
    """Video: a URL, bytes, or a Path, sent as a `video_url` part. `media_type` and the errors are those of Image."""

    def to_dict(self) -> JsonDict:
        """The part as it is sent."""
        return {"type": "video_url", "video_url": {"url": self.url}}


MEDIA = (Image, Audio, Video)


def media_type_of(data: bytes) -> str | None:
    """The media type of an image, audio or video file, recognized from its first bytes; None if unknown."""
    container = container_of(data)
    return next((types[container] for types in (_IMAGES, _VIDEO, _AUDIO) if container in types), None)


def container_of(data: bytes) -> str | None:
    """The format of a media file, recognized from its first bytes; None if unknown."""
    for beginning, name in _BEGINNINGS:
        if data.startswith(beginning):
            return name
    if data[:4] == b"RIFF":
        return _RIFF.get(data[8:12])
    if data[4:8] == b"ftyp":  # ISO base media: the brand tells the format
        return _MP4_BRANDS.get(data[8:12], "mp4")
    # MPEG audio without tags: eleven bits of sync, and a layer (AAC has none)
    if len(data) > 1 and data[0] == 0xFF and data[1] & 0xE0 == 0xE0 and data[1] & 0x06:
        return "mp3"
    return None
