"""Rows of base64 and the search for NaN, with NumPy and pybase64 at hand and without."""

import base64
import math
import sys
from struct import pack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nimclient.records import _numbers


@pytest.fixture(params=["pybase64", "numpy", "stdlib"])
def at_hand(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What there is to work with."""
    import numpy

    assert numpy is not None
    if request.param != "pybase64":
        monkeypatch.setattr(_numbers, "_fast_decode", None)
    if request.param == "stdlib":
        monkeypatch.delitem(sys.modules, "numpy")
    return str(request.param)


def encoded(row: bytes) -> bytes:
    return base64.b64encode(row)


@pytest.mark.parametrize("width", [1, 2, 3, 4, 12, 4096])
def test_rows_come_out_as_they_went_in(at_hand: str, width: int) -> None:
    """Every padding is decoded, whatever decodes it."""
    rows = [bytes((7 * i + j) % 256 for j in range(width)) for i in range(5)]
    assert _numbers.decode_rows([encoded(row) for row in rows]) == rows
    assert _numbers.b64decode(encoded(rows[0])) == rows[0]


def test_rows_of_different_lengths_are_decoded_too(at_hand: str) -> None:
    """Rows need not be alike here; that they must be is detected later, with a better message."""
    assert _numbers.decode_rows([encoded(b"abcd"), encoded(b"abcdefgh")]) == [b"abcd", b"abcdefgh"]


@pytest.mark.parametrize(
    "rows",
    [
        [b"QUJD", b"QUJ!"],
        [b"QUJD", b"QU=="],
        [b"QUI=", b"QUJD"],
        [b"QUI=", b"Q=I="],
        [b"QUI=", b"QUI\n"],
        [b"QUJ", b"QUJ"],
        [b"=UJD", b"QUJD"],
    ],
    ids=["stray", "padded more", "padded less", "padded within", "newline", "cut", "padded first"],
)
def test_what_is_no_base64_is_refused(at_hand: str, rows: list[bytes]) -> None:
    """Stray characters and padding where none belongs are a ValueError, or are rows of different lengths."""
    try:
        found = _numbers.decode_rows(rows)
    except ValueError:
        return
    assert len({*map(len, found)}) > 1


@settings(max_examples=60, deadline=None)
@given(rows=st.integers(0, 40).flatmap(lambda n: st.lists(st.binary(min_size=n, max_size=n), min_size=1, max_size=6)))
def test_numpy_decodes_what_the_standard_library_decodes(rows: list[bytes]) -> None:
    """The decoder over whole answers agrees with the one over rows."""
    numpy = pytest.importorskip("numpy")
    texts = [encoded(row) for row in rows]
    if rows[0]:
        assert _numbers._decode_alike(numpy, texts) == rows


@pytest.mark.parametrize("numpy_loaded", [True, False])
@settings(max_examples=60, deadline=None)
@given(values=st.lists(st.floats(width=32), max_size=40))
def test_first_not_finite_finds_the_first(numpy_loaded: bool, values: list[float]) -> None:
    """The quick look finds what looking at every number finds."""
    expected = next((i for i, value in enumerate(values) if not math.isfinite(value)), None)
    with pytest.MonkeyPatch.context() as patch:
        if not numpy_loaded:
            patch.delitem(sys.modules, "numpy", raising=False)
        patch.setattr(_numbers, "_MANY", 0)
        assert _numbers.first_not_finite(pack(f"<{len(values)}f", *values)) == expected


@pytest.mark.parametrize("value", [3.0e38, -3.0e38, 1.7e38, -1.7e38])
def test_large_finite_numbers_are_finite(at_hand: str, value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """A last byte of 0x7f or 0xff alone does not make a number infinite."""
    monkeypatch.setattr(_numbers, "_MANY", 0)
    assert _numbers.first_not_finite(pack("<2f", 1.0, value)) is None


@pytest.mark.parametrize("pages", [True, False], ids=["pages", "none"])
@pytest.mark.parametrize("size", [0, 1000, _numbers._LARGE, _numbers._LARGE + 5])
def test_room_is_zeroed_memory_of_the_size(monkeypatch: pytest.MonkeyPatch, size: int, pages: bool) -> None:
    """Large or small, with anonymous pages or without: as many zeros as asked for, which can be written."""
    if not pages:
        monkeypatch.delattr("mmap.MAP_ANONYMOUS", raising=False)
    zeroed_buffer = _numbers.zeroed_buffer(size)
    assert len(zeroed_buffer) == size
    assert not any(zeroed_buffer[:1000])
    zeroed_buffer[-4:] = b"abcd"[: len(zeroed_buffer)]
    assert bytes(zeroed_buffer[-4:]) == b"abcd"[:size]


@given(st.lists(st.floats(width=32, allow_nan=False), max_size=40))
def test_rounding_to_float16(values):
    """With NumPy and without the same bits; too large is infinity."""
    buffer = pack(f"<{len(values)}f", *values)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "numpy", None)
        plain = _numbers.rounded_to_float16(buffer)
        assert _numbers.first_not_finite(plain, "float16") == next(
            (i for i, value in enumerate(_numbers.float16s(plain)) if not math.isfinite(value)), None
        )
    import numpy

    assert numpy is sys.modules["numpy"]
    assert _numbers.rounded_to_float16(buffer) == plain
