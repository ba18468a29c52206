"""Images, audio and video become the parts that servers take, distinguished by their bytes, never from a file a str names."""

import base64
import io
import pickle
from pathlib import Path

import pytest

from nimclient import Audio, Image, Video
from nimclient._nvcf.media import ASSETS_HEADER, GATEWAY_LIMIT, asset_headers, check_body_size
from nimclient.errors import ConfigurationError
from nimclient.records.chat import Message
from nimclient.records.media import container_of
from support.sent import sent

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 8
WAV = b"RIFF\x24\0\0\0WAVEfmt "
MP3 = b"ID3\x04" + b"\0" * 8
MP4 = b"\0\0\0\x18ftypisom"
ASSET = "data:image/png;asset_id,f1a2-03"


def on_the_wire(messages):
    """The messages as a chat call sends them."""
    return sent("chat.create", messages, model="m").fields["messages"]


def data_url(media_type, data):
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


@pytest.mark.parametrize(
    ("data", "container", "image", "audio", "video"),
    [
        (PNG, "png", "image/png", None, None),
        (b"\xff\xd8\xff\xe0\0", "jpeg", "image/jpeg", None, None),
        (b"GIF89a", "gif", "image/gif", None, None),
        (b"RIFF\0\0\0\0WEBPVP8 ", "webp", "image/webp", None, None),
        (b"BM\0\0", "bmp", "image/bmp", None, None),
        (b"II*\0\x08", "tiff", "image/tiff", None, None),
        (b"MM\0*\0", "tiff", "image/tiff", None, None),
        (b"\0\0\0\x1cftypavif", "avif", "image/avif", None, None),
        (b"\0\0\0\x1cftypheic", "heic", "image/heic", None, None),
        (WAV, "wav", None, "audio/wav", None),
        (MP3, "mp3", None, "audio/mpeg", None),
        (b"\xff\xfb\x90\0", "mp3", None, "audio/mpeg", None),
        (b"fLaC\0", "flac", None, "audio/flac", None),
        (b"OggS\0", "ogg", None, "audio/ogg", "video/ogg"),
        (MP4, "mp4", None, "audio/mp4", "video/mp4"),
        (b"\0\0\0\x14ftypqt  ", "mov", None, None, "video/quicktime"),
        (b"\x1aE\xdf\xa3\x9f", "webm", None, "audio/webm", "video/webm"),
        (b"RIFF\0\0\0\0AVI LIST", "avi", None, None, "video/x-msvideo"),
        (b"\0\0\x01\xba\x44", "mpeg", None, None, "video/mpeg"),
        (b"RIFF\0\0\0\0junk", None, None, None, None),
        (b"\xff\xf1\x50\x80", None, None, None, None),
        (b"\xff", None, None, None, None),
        (b"hello, world", None, None, None, None),
    ],
)
def test_formats_are_told_from_the_bytes(data, container, image, audio, video):
    """Each class takes the formats of its own kind and rejects the others with what they are."""
    assert container_of(data) == container
    for kind, media_type in ((Image, image), (Audio, audio), (Video, video)):
        if media_type is None:
            found = "of no known format" if container is None else container
            with pytest.raises(ConfigurationError, match=rf"^{kind.__name__} takes .*; these bytes are {found}\."):
                kind(data)
        else:
            assert kind(data).media_type == media_type


@pytest.mark.parametrize(
    ("part", "wire"),
    [
        (Image("https://host/x.png"), {"type": "image_url", "image_url": {"url": "https://host/x.png"}}),
        (Image("HTTP://host/x", detail="low"), {"type": "image_url", "image_url": {"url": "HTTP://host/x", "detail": "low"}}),
        (Image(ASSET), {"type": "image_url", "image_url": {"url": ASSET}}),
        (Image(PNG), {"type": "image_url", "image_url": {"url": data_url("image/png", PNG)}}),
        (Image(PNG, media_type=None, detail=None), {"type": "image_url", "image_url": {"url": data_url("image/png", PNG)}}),
        (Image(bytearray(PNG)), {"type": "image_url", "image_url": {"url": data_url("image/png", PNG)}}),
        (Image(memoryview(PNG)), {"type": "image_url", "image_url": {"url": data_url("image/png", PNG)}}),
        (Image(b"o", media_type="image/x-odd"), {"type": "image_url", "image_url": {"url": data_url("image/x-odd", b"o")}}),
        (Audio(WAV), {"type": "input_audio", "input_audio": {"data": base64.b64encode(WAV).decode(), "format": "wav"}}),
        (Audio(MP3), {"type": "input_audio", "input_audio": {"data": base64.b64encode(MP3).decode(), "format": "mp3"}}),
        (Audio(b"fLaC"), {"type": "audio_url", "audio_url": {"url": data_url("audio/flac", b"fLaC")}}),
        (Audio("https://host/x.wav"), {"type": "audio_url", "audio_url": {"url": "https://host/x.wav"}}),
        (Video(MP4), {"type": "video_url", "video_url": {"url": data_url("video/mp4", MP4)}}),
        (Video("data:video/mp4;base64,AA=="), {"type": "video_url", "video_url": {"url": "data:video/mp4;base64,AA=="}}),
    ],
)  # fmt: skip
def test_parts_are_sent_in_the_form_servers_take(part, wire):
    """URLs as they are, bytes as data URLs, WAV and MP3 as input_audio; in lists, alone, in records and after pickling."""
    again = pickle.loads(pickle.dumps(part))
    assert part.to_dict() == again.to_dict() == wire
    assert again == part
    text = {"type": "text", "text": "look"}
    assert on_the_wire([("user", ["look", part])]) == [{"role": "user", "content": [text, wire]}]
    assert on_the_wire([{"role": "user", "content": part}]) == [{"role": "user", "content": [wire]}]
    assert on_the_wire([Message("user", (part,))]) == [{"role": "user", "content": [wire]}]
    assert Message("user", ["look", part]).to_dict() == {"role": "user", "content": ["look", wire]}
    assert Message("user", ["look", part]).text == "look"


def test_a_path_is_read_when_the_part_is_made(tmp_path):
    """The file may change or go afterwards; its name says nothing about its type."""
    file = tmp_path / "picture.txt"
    file.write_bytes(PNG)
    part = Image(file)
    file.unlink()
    assert part == Image(PNG)
    with pytest.raises(FileNotFoundError):
        Image(file)


@pytest.mark.parametrize("kind", [Image, Audio, Video])
@pytest.mark.parametrize(
    "source", ["/etc/passwd", "cat.png", "~/cat.png", "file:///etc/passwd", "ftp://host/x", "s3://b/x"]
)
def test_a_str_is_never_a_local_file(kind, source, tmp_path, monkeypatch):
    """A name that may have come from a user is rejected, also where such a file exists."""
    monkeypatch.chdir(tmp_path)
    Path("cat.png").write_bytes(PNG)
    with pytest.raises(ConfigurationError, match=r"takes a str as a URL .* pass a Path for a local file"):
        kind(source)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Image(""), "^Image is empty"),
        (lambda: Audio(b""), "^Audio is empty"),
        (lambda: Image(5), "^Image takes a URL, bytes or a Path, not int"),
        (lambda: Image(io.BytesIO(PNG)), "not BytesIO"),
        (lambda: Image(PNG, detail=1), r"^Image\(detail=…\)"),
        (lambda: Image(PNG, media_type="png"), r'^Image\(media_type=…\) must look like "image/png"'),
        (lambda: Image(PNG, media_type='image/png;x="'), "must look like"),
        (lambda: Image(PNG, media_type=5), "not 5$"),
        (lambda: Video("https://host/x", media_type="video/mp4"), "is for bytes and files"),
    ],
)
def test_what_is_no_media_is_refused(make, words):
    """Empty sources, other types and impossible media types are ConfigurationErrors."""
    with pytest.raises(ConfigurationError, match=words):
        make()


def test_a_repr_does_not_show_the_data():
    """Bytes are counted, long data URLs cut."""
    assert repr(Image(PNG)) == "Image(source=<16 bytes>, media_type='image/png', detail=None)"
    assert len(repr(Image(data_url("image/png", PNG * 100)))) < 200


ODD = {"type": "odd", "value": [1]}


@pytest.mark.parametrize(
    "part",
    [ODD, {"type": "file", "file": {"file_id": "f"}}, {"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}},
     {"type": "image_url", "image_url": "https://host/bare"}, {"image_url": "shorthand"}, {"type": "image_url", "uuid": "u"}],
)  # fmt: skip
def test_raw_parts_pass_as_they_are(part):
    """Parts that the package does not know are not dropped and not changed."""
    assert on_the_wire([("user", [part, "x"])])[0]["content"][0] == part


def test_image_tags_in_a_text_are_untouched():
    """The HTML-like form of hosted vision models stays in its string."""
    text = f'What is <img src="{ASSET}" /> and <img src="https://host/x.png"/>?'
    assert on_the_wire(text) == [{"role": "user", "content": text}]


REFERENCES = [
    (f'<img src="{ASSET}" />', "f1a2-03"),
    (f"<img src='{ASSET}'/><video src=\"data:video/mp4;asset_id,v1\" />", "f1a2-03,v1"),
    ([("user", [Image(ASSET), Video("data:video/mp4;asset_id,v1")])], "f1a2-03,v1"),
    ([("user", [{"type": "image_url", "image_url": ASSET}, "again data:audio/x-wav;asset_id,a_1 "])], "f1a2-03,a_1"),
    ([("user", [{"type": "text", "text": f'<img src="{ASSET}"/>'}, Image(ASSET)]), Message("user", ASSET)], "f1a2-03"),
    ("data:image/png;asset_id,a\r\nX-Evil:1", "a"),
    ("plain", None),
    ("data:image/png;base64,AA==", None),
    ("text;asset_id,x", None),
    ([("user", [{"type": "odd", "value": 5, "also": None}])], None),
]  # fmt: skip


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("messages", "ids"), REFERENCES)
def test_assets_are_named_in_a_header_for_the_hosted_catalog(messages, ids, stream):
    """References in strings, tags and parts, each once, in order; other servers get no such header."""
    method = "chat.stream" if stream else "chat.create"
    assert sent(method, messages, dialect="hosted", model="m").request.headers.get(ASSETS_HEADER) == ids
    assert ASSETS_HEADER not in sent(method, messages, model="m").request.headers


def test_the_callers_own_header_wins():
    """A header given by hand is not sent a second time."""
    assert asset_headers([ASSET], {"nvcf-input-asset-references": "x"}) == {}
    assert asset_headers([ASSET], {"X-Other": "x"}) == {ASSETS_HEADER: "f1a2-03"}


def test_a_body_above_the_gateways_limit_is_refused_with_its_size():
    """25 MiB pass, one byte more does not; a self-hosted server sets its own limits."""
    assert check_body_size(None) is None
    assert check_body_size(b"x" * GATEWAY_LIMIT) is None
    with pytest.raises(ConfigurationError, match=rf"^the request has {GATEWAY_LIMIT + 1} bytes; .* at most 26214400\."):
        check_body_size(b"x" * (GATEWAY_LIMIT + 1))
    messages = [("user", [Image(PNG + b"\0" * 20_000_000)])]
    with pytest.raises(ConfigurationError, match=r"^the request has 2666"):
        sent("chat.create", messages, dialect="hosted", model="m")
    assert len(sent("chat.create", messages, model="m").fields["messages"]) == 1
