import numpy as np
import pytest
from scipy.linalg import sqrtm

from mpox.measures import frechet


def exact(n: int, mean: np.ndarray, spread: np.ndarray, seed: int) -> np.ndarray:
    """n×d rows whose sample mean and covariance diag(spread²) are exact; n − 1 ≥ non-zero ones."""
    columns = np.random.default_rng(seed).normal(size=(n, np.count_nonzero(spread)))
    orthonormal, _ = np.linalg.qr(columns - columns.mean(axis=0))
    rows = np.zeros((n, len(spread)))
    rows[:, spread != 0] = orthonormal * np.sqrt(n - 1)
    return rows * spread + mean


def test_equal_covariances_leave_the_squared_distance_of_the_means():
    a = np.random.default_rng(0).normal(size=(40, 100))
    shift = np.linspace(-1, 2, 100)
    assert frechet.distance(a, a + shift) == pytest.approx(np.sum(shift**2), rel=1e-9)
    assert frechet.distance(a, a) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(("n", "m"), [(30, 50), (30, 12), (11, 12)])
def test_diagonal_gaussians_have_the_closed_form(n, m):
    """More and fewer rows than d = 16; if n < d, most directions have no spread."""
    rng = np.random.default_rng(1)
    spreads = rng.uniform(0.1, 3, size=(2, 16))
    spreads[0, : max(0, 17 - n)] = 0
    spreads[1, : max(0, 17 - m)] = 0
    means = rng.normal(size=(2, 16))
    expected = np.sum((means[0] - means[1]) ** 2) + np.sum((spreads[0] - spreads[1]) ** 2)
    a, b = exact(n, means[0], spreads[0], 2), exact(m, means[1], spreads[1], 3)
    assert frechet.distance(a, b) == pytest.approx(expected, rel=1e-9)


def test_equals_the_matrix_square_root_if_that_is_stable():
    rng = np.random.default_rng(4)
    a, b = rng.normal(size=(200, 32)), rng.normal(size=(150, 32)) @ rng.normal(size=(32, 32))
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = np.trace(sqrtm(cov_a @ cov_b)).real
    means = np.sum((a.mean(axis=0) - b.mean(axis=0)) ** 2)
    expected = means + np.trace(cov_a) + np.trace(cov_b) - 2 * root
    assert frechet.distance(a, b) == pytest.approx(expected, rel=1e-9)


def test_float32_features_are_measured_in_float64():
    rows = np.random.default_rng(5).normal(1000, 1, size=(60, 20)).astype(np.float32)
    assert frechet.distance(rows[:30], rows[30:]) == pytest.approx(
        frechet.distance(rows[:30].astype(np.float64), rows[30:].astype(np.float64)), rel=1e-12
    )
