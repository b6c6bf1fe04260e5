import numpy as np
import pytest
from prdc import compute_prdc

from mpox.measures import coverage

K = 5


@pytest.fixture(params=[0.0, 0.4, 3.0])
def sets(request):
    rng = np.random.default_rng(0)
    return rng.normal(size=(60, 24)), rng.normal(request.param, 0.9, size=(45, 24))


@pytest.mark.parametrize("block", [7, 512])
def test_equals_the_prdc_package(monkeypatch, sets, block):
    """In one block and in blocks that do not divide the set."""
    monkeypatch.setattr(coverage, "BLOCK", block)
    real, synthetic = sets
    assert coverage.prdc(real, synthetic, K)._asdict() == pytest.approx(
        compute_prdc(real, synthetic, K), rel=1e-12
    )


def test_on_a_line_by_hand():
    """Real 0 1 2 4, k = 1: radii 1 1 1 2. Synthetic 0.5 10 11, radii 9.5 1 1."""
    real, synthetic = np.array([[0.0], [1], [2], [4]]), np.array([[0.5], [10], [11]])
    scores = coverage.prdc(real, synthetic, 1)
    assert scores.precision == pytest.approx(1 / 3)  # 0.5 alone
    assert scores.recall == 1  # all within 9.5 of 0.5
    assert scores.density == pytest.approx(2 / 3)  # 0.5 lies in the balls of 0 and of 1
    assert scores.coverage == pytest.approx(2 / 4)


def test_precision_does_not_suffer_far_from_the_origin(sets):
    real, synthetic = sets
    moved = coverage.prdc(real + 100, synthetic + 100, K)
    assert moved == pytest.approx(coverage.prdc(real, synthetic, K), rel=1e-9)
