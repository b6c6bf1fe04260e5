import numpy as np
import pytest
from scipy.stats import binomtest

from mpox.statistics import rates


@pytest.mark.parametrize(("count", "n"), [(0, 104), (1, 9), (52, 104), (104, 104)])
def test_the_exact_interval_is_scipys(count, n):
    bounds = binomtest(count, n).proportion_ci(method="exact")
    assert rates.interval(count, n) == pytest.approx((bounds.low, bounds.high), abs=1e-12)


def test_what_comes_in_pairs_is_half_the_evidence():
    found = rates.rate(10, 100, 2, 80, together=2)
    assert (found.value, found.null) == (0.1, 0.025)
    bounds = binomtest(5, 50).proportion_ci(method="exact")
    assert (found.low, found.high) == pytest.approx((bounds.low, bounds.high))
    null = binomtest(1, 40).proportion_ci(method="exact")
    assert found.null_margin == pytest.approx((null.high - null.low) / 2)


def test_the_interval_covers_rates_whose_pictures_come_in_pairs():
    """One interval for independent pictures would miss the truth far more often than 5 %."""
    rng, truth, pairs = np.random.default_rng(0), 0.1, 50
    covered = {1: 0, 2: 0}
    for _ in range(1000):
        count = 2 * rng.binomial(pairs, truth)
        for together in covered:
            found = rates.rate(count, 2 * pairs, 0, 2 * pairs, together)
            covered[together] += found.low <= truth <= found.high
    assert covered[2] > 940 > 900 > covered[1]
