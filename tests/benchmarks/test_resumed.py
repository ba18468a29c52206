"""The picture of a resumed stream has a dot for each token, in the row of its replica and in that of the stream."""

from xml.etree import ElementTree

import orjson

from benchmarks import resumed


def test_every_token_is_drawn_twice() -> None:
    """Also in the picture of the guide."""
    drawn = ElementTree.fromstring(resumed.picture([0.1, 0.2, 0.6, 0.7], 2, 0.4))
    ours = [
        float(dot.attrib["cx"]) for dot in drawn.iter("{http://www.w3.org/2000/svg}circle") if "class" in dot.attrib
    ]
    assert (len(ours), ours) == (4, sorted(ours))
    assert "a gap of 400 ms" in [element.text for element in drawn.iter()]
    kept = list(ElementTree.parse(resumed.PICTURE).iter("{http://www.w3.org/2000/svg}circle"))
    assert len(kept) == 2 * sum("class" in dot.attrib for dot in kept) > 16


def test_the_picture_is_that_of_the_figures() -> None:
    """What the guide shows is drawn from the figures that are kept."""
    figures = orjson.loads(resumed.RESULTS.read_bytes())
    assert resumed.PICTURE.read_text(encoding="utf-8") == resumed.picture(*figures)
