"""The NIMs that are plain JSON: page elements, text in images, image generation, structures of molecules."""

import base64
import struct
import zlib
from typing import Any

import pytest

from nimclient.simulator.pictures import png

from .raw import RawClient

PICTURE = "data:image/png;base64," + base64.b64encode(png(b"abc", 16, 16)).decode()
OTHER = "data:image/jpeg;base64," + base64.b64encode(b"\xff\xd8\xff").decode()


def images(*urls: str) -> dict[str, Any]:
    return {"input": [{"type": "image_url", "url": url} for url in urls]}


async def test_page_elements(raw: RawClient) -> None:
    """Boxes by kind for each image, within the page, the same for the same image."""
    status, body, _ = await raw.post("/v1/infer", images(PICTURE, OTHER, PICTURE))
    assert status == 200
    first, second, third = (item["bounding_boxes"] for item in body["data"])
    assert first == third != second
    boxes = [box for kinds in (first, second) for found in kinds.values() for box in found]
    assert boxes
    for box in boxes:
        assert 0 <= box["x_min"] < box["x_max"] <= 1
        assert 0 <= box["y_min"] < box["y_max"] <= 1


async def test_texts_in_images(raw: RawClient) -> None:
    """Words, or all of them in one box; each box is a quadrilateral."""
    _, body, _ = await raw.post("/v1/ocr", {**images(PICTURE, PICTURE), "merge_levels": ["word", "paragraph"]})
    by_word, merged = (item["text_detections"] for item in body["data"])
    assert " ".join(found["text_prediction"]["text"] for found in by_word) == merged[0]["text_prediction"]["text"]
    assert {len(found["bounding_box"]["points"]) for found in by_word} == {4}
    assert len((await raw.post("/v1/ocr", images(PICTURE))).body["data"][0]["text_detections"]) == 1


async def test_images_from_words(raw: RawClient) -> None:
    """Real PNG files of the wanted size, the same for the same prompt and seed."""
    body = {"prompt": "a red house", "width": 32, "height": 16, "seed": 7, "samples": 2, "steps": 4, "cfg_scale": 3.5}
    _, answer, _ = await raw.post("/v1/infer", body)
    first, second = answer["artifacts"]
    data = base64.b64decode(first["base64"])
    assert data.startswith(b"\x89PNG")
    assert struct.unpack(">II", data[16:24]) == (32, 16)
    assert len(zlib.decompress(data[41:-16])) == 16 * (1 + 3 * 32)
    assert (first["finishReason"], first["seed"], second["seed"]) == ("SUCCESS", 7, 8)
    assert first["base64"] != second["base64"]
    again = (await raw.post("/v1/infer", {**body, "samples": 1, "seed": 8})).body["artifacts"][0]
    assert again["base64"] == second["base64"]


async def test_structures(raw: RawClient) -> None:
    """An mmCIF file with an atom for each residue, at the path without /v1."""
    polymers = [{"id": "A", "molecule_type": "protein", "sequence": "mkv"}, {"molecule_type": "dna", "sequence": "AC"}]
    status, body, _ = await raw.post("/biology/mit/boltz2/predict", {"polymers": polymers})
    assert (status, body["metrics"], body["confidence_scores"]) == (200, {"residues": 5}, [0.5])
    (structure,) = body["structures"]
    lines = structure["structure"].splitlines()
    assert structure["format"] == "mmcif"
    assert lines[0].startswith("data_")
    assert [line.split()[3:6] for line in lines if line.startswith("ATOM")] == [
        ["M", "A", "1"],
        ["K", "A", "2"],
        ["V", "A", "3"],
        ["A", "B", "1"],
        ["C", "B", "2"],
    ]


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/v1/infer", {}, "input"),
        ("/v1/infer", {"input": []}, "input"),
        ("/v1/infer", images("https://x/y.png"), "input.0.url"),
        ("/v1/infer", images("data:image/png;base64,A"), "base64"),
        ("/v1/infer", {"input": [{"type": "text", "url": PICTURE}]}, "input.0.type"),
        ("/v1/ocr", {**images(PICTURE), "merge_levels": ["word", "word"]}, "merge_levels"),
        ("/v1/ocr", {**images(PICTURE), "merge_levels": ["letter"]}, "letter"),
        ("/v1/infer", {"prompt": " "}, "prompt"),
        ("/v1/infer", {"prompt": "x", "width": 4000}, "width"),
        ("/v1/infer", {"prompt": "x", "mode": "sketch"}, "mode"),
        ("/biology/mit/boltz2/predict", {"polymers": []}, "polymers"),
        ("/biology/mit/boltz2/predict", {"polymers": [{"sequence": "M1"}]}, "polymers.0.sequence"),
        ("/biology/mit/boltz2/predict", {"polymers": [{"molecule_type": "x", "sequence": "M"}]}, "molecule_type"),
    ],
)
async def test_what_they_refuse(raw: RawClient, path: str, body: dict[str, Any], words: str) -> None:
    """Each rejection names the field."""
    status, said, _ = await raw.post(path, body)
    assert status == 400
    assert words in str(said)
