import numpy as np
import pytest
from prdc import compute_prdc
from scipy.spatial.distance import cdist

from mpox.measures import coverage

K = 5


def brute_force(real: np.ndarray, synthetic: np.ndarray, k: int) -> tuple[float, ...]:
    """The definitions, one pair at a time."""

    def radius(rows, i):
        return np.sort(np.linalg.norm(rows - rows[i], axis=1))[k]

    real_radii = [radius(real, i) for i in range(len(real))]
    synthetic_radii = [radius(synthetic, j) for j in range(len(synthetic))]
    apart = cdist(real, synthetic)
    pairs = np.ndindex(*apart.shape)
    in_real = np.array([apart[i, j] < real_radii[i] for i, j in pairs]).reshape(apart.shape)
    in_synthetic = apart < np.array(synthetic_radii)
    return (
        in_real.any(axis=0).mean(),
        in_synthetic.any(axis=1).mean(),
        in_real.sum(axis=0).mean() / k,
        in_real.any(axis=1).mean(),
    )


@pytest.fixture(params=[0.0, 0.4, 3.0])
def sets(request):
    rng = np.random.default_rng(0)
    return rng.normal(size=(60, 24)), rng.normal(request.param, 0.9, size=(45, 24))


@pytest.mark.parametrize("block", [7, 512])
def test_equals_the_prdc_package(monkeypatch, sets, block):
    """Whole and by blocks that do not divide the set."""
    monkeypatch.setattr(coverage, "BLOCK", block)
    real, synthetic = sets
    assert coverage.prdc(real, synthetic, K)._asdict() == pytest.approx(
        compute_prdc(real, synthetic, K), rel=1e-12
    )


def test_equals_the_definitions_pair_by_pair(sets):
    assert coverage.prdc(*sets, K) == pytest.approx(brute_force(*sets, K), rel=1e-12)


def test_on_a_line_by_hand():
    """Real 0 1 2 4, k = 1: radii 1 1 1 2. Synthetic 0.5 10 11, radii 9.5 1 1."""
    real, synthetic = np.array([[0.0], [1], [2], [4]]), np.array([[0.5], [10], [11]])
    found = coverage.prdc(real, synthetic, 1)
    assert found.precision == pytest.approx(1 / 3)  # 0.5 alone
    assert found.recall == 1  # all within 9.5 of 0.5
    assert found.density == pytest.approx(2 / 3)  # 0.5 lies in the balls of 0 and of 1
    assert found.coverage == pytest.approx(2 / 4)


def test_far_from_the_origin_radii_keep_their_digits(sets):
    real, synthetic = sets
    moved = coverage.prdc(real + 100, synthetic + 100, K)
    assert moved == pytest.approx(coverage.prdc(real, synthetic, K), rel=1e-9)
