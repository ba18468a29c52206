"""The picture of speed is drawn from the figures that are kept."""

from xml.etree import ElementTree

import orjson

from benchmarks import picture


def test_the_picture_is_of_the_figures() -> None:
    """docs/_static/speed.svg is what benchmarks/published.json gives, and is well-formed."""
    drawn = picture.PICTURE.read_text()
    assert drawn == picture.picture(orjson.loads(picture.PUBLISHED.read_bytes())), "python -m benchmarks.picture"
    texts = [element.text for element in ElementTree.fromstring(drawn).iter() if element.text]
    assert "nimclient" in texts
    assert "floor" in texts


def test_bars_are_in_proportion() -> None:
    """A bar is as long as its share of the longest one, which comes last."""
    bars = list(picture.panel([("nimclient", 50.0), ("openai", 100.0)], 0))
    assert 'width="250"' in bars[1]
    assert 'width="500"' in bars[4]


def test_only_what_is_drawn_is_kept() -> None:
    """Summaries of other scenarios, and those without a measurement, are left out."""
    rows = [("stream", {"median": 1.0}), ("stream", None), ("import", {"median": 1.0})]
    summaries = [{"scenario": scenario, "peer": "floor", "cpu": cpu} for scenario, cpu in rows]
    document = {"machine": {}, "options": {}, "summaries": summaries, "runs": []}
    assert picture.kept(document) == {"machine": {}, "options": {}, "summaries": summaries[:1]}
