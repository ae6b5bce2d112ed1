import pytest

from rpp_agents.benchmark.plots import spread


def test_labels_are_spread_apart_below_the_top():
    assert spread([0.0, 0.5, 1.0], gap=0.1, high=1.0) == [0.0, 0.5, 1.0]
    assert spread([0.2, 0.2, 0.9], gap=0.1, high=1.0) == pytest.approx([0.2, 0.3, 0.9])
    assert spread([0.9, 1.0, 1.0], gap=0.1, high=1.0) == pytest.approx([0.8, 0.9, 1.0])
