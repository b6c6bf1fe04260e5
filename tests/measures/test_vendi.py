import numpy as np
import pytest
from scipy.linalg import eigvalsh
from scipy.stats import entropy

from mpox.measures import vendi


def test_equal_rows_count_once_and_orthogonal_ones_each():
    assert vendi.score(np.ones((9, 4))) == pytest.approx(1, rel=1e-9)
    assert vendi.score(3 * np.eye(7)) == pytest.approx(7, rel=1e-9)


def test_a_set_repeated_is_worth_no_more():
    rows = np.random.default_rng(0).normal(size=(12, 30))
    assert vendi.score(np.tile(rows, (3, 1))) == pytest.approx(vendi.score(rows), rel=1e-9)


@pytest.mark.parametrize("shape", [(20, 50), (50, 20)])
def test_equals_the_entropy_of_the_kernels_eigenvalues(shape):
    rows = np.random.default_rng(1).normal(0.5, 1, size=shape)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    eigenvalues = np.clip(eigvalsh(unit @ unit.T / len(rows)), 1e-300, None)
    assert vendi.score(rows) == pytest.approx(np.exp(entropy(eigenvalues)), rel=1e-9)
