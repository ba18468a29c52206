"""The benchmark of a million texts measures whole answers, and compares medians with its targets."""

import pytest

from benchmarks import scale, scale_child
from benchmarks.server import running_server
from nimclient import EmbeddedBatch
from nimclient.records import Vectors


def run(texts, cpu=1.0, megabytes=50.0):
    return scale.Run(texts, cpu, 2 * cpu, int(megabytes * 1024), [(texts, cpu, 1024)])


def test_a_process_embeds_every_text():
    with running_server() as url:
        measured = scale.run_once(url, 1000)
    assert measured.texts == measured.samples[-1][0] == 1000
    assert measured.cpu_seconds > 0
    assert 10 < measured.megabytes < 500


def test_medians_are_compared():
    few = [run(scale.FEW, 0.1, 40.0), run(scale.FEW, 0.1, 50.0), run(scale.FEW, 9.0, 90.0)]
    result = scale.compare([*few, run(10 * scale.FEW, 1.04, 109.0)])
    assert result.megabytes_more == pytest.approx(59.0)
    assert result.cost_ratio == pytest.approx(1.04)
    assert result.reached
    assert not scale.compare([*few, run(10 * scale.FEW, 1.06, 50.0)]).reached
    assert not scale.compare([*few, run(10 * scale.FEW, 1.0, 111.0)]).reached


def test_wrong_vectors_are_not_measured():
    with pytest.raises(ValueError, match="not what the server sent"):
        scale_child.check(EmbeddedBatch(range(1), Vectors(bytes(4096), 1024)))
