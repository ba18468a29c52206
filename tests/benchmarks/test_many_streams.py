"""The benchmark of many streams measures whole answers, and compares them with its targets."""

import shutil

import pytest

from benchmarks import streams


@pytest.mark.slow
def test_a_process_reads_every_stream() -> None:
    """Each of some streams is read to its end in a process of its own."""
    run = streams.run_once(3, 2, spread=0.0)
    assert len(run.seconds) == 3
    assert run.cpu_seconds > 0


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
def test_a_server_in_c_sends_what_the_one_in_python_sends() -> None:
    """Each stream is read to its end there, and one after another on one connection too."""
    run = streams.run_once(30, 12, spread=0.5, pace=20, native=True)
    assert len(run.seconds) == 30
    assert min(run.seconds) >= 0.6


def test_the_slowest_and_the_memory_are_judged() -> None:
    """The slowest may take twice the median, a stream 20 kB."""
    assert streams.Run([1.0, 1.0, 2.0], 60, 0.1).reached
    assert not streams.Run([1.0, 1.0, 2.1], 60, 0.1).reached
    assert not streams.Run([1.0, 1.0, 1.0], 61, 0.1).reached
