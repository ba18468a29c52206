"""The answers of vision NIMs: page elements and text in images. The boxes and words are computed from the image's bytes."""

import base64
import binascii
import hashlib
import re
from typing import Any, Final

from .fields import Fields
from .rejections import bad_field
from .wire import PlainResponse

_DATA_URL: Final = re.compile(r"data:image/(?:png|jpe?g);(base64|asset_id),(.+)", re.S)
_ELEMENTS: Final = ("table", "chart", "title", "infographic")
_WORDS: Final = ("invoice", "total", "page", "date", "figure", "summary", "of", "the", "2026", "revenue")
_MERGE_LEVELS: Final = ("word", "sentence", "paragraph")


def page_elements(fields: Fields) -> PlainResponse:
    """Bounding boxes by kind of element, as fractions of the page."""
    images = _images(fields)
    data = [{"index": index, "bounding_boxes": _elements(image)} for index, image in enumerate(images)]
    return PlainResponse({"data": data, "usage": _usage(images)})


def texts(fields: Fields) -> PlainResponse:
    """The texts of each image; `merge_levels`, one for each image, says how much text a box contains."""
    images = _images(fields)
    levels = fields.texts("merge_levels") or ["paragraph"] * len(images)
    if len(levels) != len(images):
        raise bad_field("merge_levels", f"must hold one level for each of the {len(images)} images, got {len(levels)}.")
    for level in levels:
        if level not in _MERGE_LEVELS:
            raise bad_field("merge_levels", f"must be one of {', '.join(_MERGE_LEVELS)}, got {level}.")
    data = [
        {"index": index, "text_detections": _detections(image, level)}
        for index, (image, level) in enumerate(zip(images, levels, strict=True))
    ]
    return PlainResponse({"data": data, "usage": _usage(images)})


def _images(fields: Fields) -> list[bytes]:
    parts = fields.objects("input")
    if not parts:
        raise fields.missing("input")
    return [_image(Fields(part, f"input.{at}")) for at, part in enumerate(parts)]


def _image(part: Fields) -> bytes:
    part.one_of("type", ("image_url",))
    found = _DATA_URL.fullmatch(part.need_text("url"))
    if found is None:
        raise bad_field(part.path("url"), "must be a data URL of a PNG or JPEG image.")
    if found[1] == "asset_id":
        return found[2].encode()
    try:
        return base64.b64decode(found[2], validate=True)
    except binascii.Error:
        raise bad_field(part.path("url"), "is not valid base64.") from None


def _usage(images: list[bytes]) -> dict[str, float]:
    return {"images_size_mb": round(sum(map(len, images)) / 2**20, 6)}


def _elements(image: bytes) -> dict[str, list[dict[str, float]]]:
    digest = hashlib.sha256(image).digest()
    return {name: [_box(digest[4 * at : 4 * at + 4])] for at, name in enumerate(_ELEMENTS) if digest[at] % 3}


def _box(seed: bytes) -> dict[str, float]:
    x, y, width, height = (value / 255 for value in seed)
    left, top = 0.5 * x, 0.5 * y
    return {
        "x_min": round(left, 4),
        "y_min": round(top, 4),
        "x_max": round(left + 0.1 + 0.4 * width, 4),
        "y_max": round(top + 0.1 + 0.4 * height, 4),
        "confidence": round(0.5 + 0.5 * x, 4),
    }


def _detections(image: bytes, level: str) -> list[dict[str, Any]]:
    digest = hashlib.sha256(image).digest()
    words = [_WORDS[value % len(_WORDS)] for value in digest[:6]]
    found = words if level == "word" else [" ".join(words)]
    return [_detection(text, digest[4 * at : 4 * at + 4]) for at, text in enumerate(found)]


def _detection(text: str, seed: bytes) -> dict[str, Any]:
    box = _box(seed)
    corners = (("x_min", "y_min"), ("x_max", "y_min"), ("x_max", "y_max"), ("x_min", "y_max"))
    return {
        "text_prediction": {"text": text, "confidence": box["confidence"]},
        "bounding_box": {"points": [{"x": box[x], "y": box[y]} for x, y in corners], "type": "quadrilateral"},
    }
