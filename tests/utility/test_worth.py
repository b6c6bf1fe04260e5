"""The worth of synthetic pictures on learning curves with a known law."""

import numpy as np
import pytest
from scipy.special import ndtr

from mpox.utility import worth


def law(n: float, slope: float = 0.3) -> float:
    return float(ndtr(0.2 + slope * np.log(n)))


def draws(value: float, noise: np.ndarray) -> np.ndarray:
    return np.r_[value, ndtr(worth.probit(np.array(value)) + noise)]


NUMBERS = (3, 8, 16, 32)


@pytest.mark.parametrize("k", [-16, 0, 8, 31])
def test_an_arm_as_good_as_k_more_patients_is_worth_k(k):
    rng = np.random.default_rng(0)
    common = 0.05 * rng.standard_normal(500)  # from the test set: the same for all arms
    curve = np.stack([draws(law(n), common) for n in NUMBERS], axis=1)
    arm = draws(law(32 + k), common + 0.01 * rng.standard_normal(500))
    estimate = worth.patients(NUMBERS, curve, draws(law(32), common), arm)
    assert estimate.value == pytest.approx(k, abs=1e-6)
    assert estimate.low <= k <= estimate.high and (k == 31 or estimate.high < 32)


def test_nothing_is_extrapolated_beyond_twice_the_patients():
    flat = np.full((500, 4), 0.8)
    real, better, worse = (np.full(500, value) for value in (0.8, 0.85, 0.7))
    for arm, k in ((better, 32), (worse, -32), (real, 0)):
        estimate = worth.patients(NUMBERS, flat, real, arm)
        assert (estimate.low, estimate.value, estimate.high) == (k, k, k)
    rising = np.tile([law(n) for n in NUMBERS], (500, 1))
    assert worth.patients(NUMBERS, rising, np.full(500, law(32)), np.full(500, 0.999)).value == 32
