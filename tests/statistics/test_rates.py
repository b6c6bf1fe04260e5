import math

import pytest
from scipy.stats import binomtest

from mpox.statistics import rates


@pytest.mark.parametrize(("count", "n"), [(0, 104), (1, 9), (52, 104), (104, 104)])
def test_a_share_has_the_exact_interval_of_scipy(count, n):
    bounds = binomtest(count, n).proportion_ci(method="exact")
    share = rates.share(count, n)
    assert share.value == count / n
    assert (share.low, share.high) == pytest.approx((bounds.low, bounds.high), abs=1e-12)


def test_a_share_of_nothing_is_unknown():
    share = rates.share(0, 0)
    assert math.isnan(share.value) and (share.low, share.high) == (0, 1)


def test_pictures_counted_in_pairs_are_half_the_evidence():
    rate = rates.rate(10, 100, 2, 80, together=2)
    assert (rate.value, rate.null) == (0.1, 0.025)
    bounds = binomtest(5, 50).proportion_ci(method="exact")
    assert (rate.low, rate.high) == pytest.approx((bounds.low, bounds.high))
    null = binomtest(1, 40).proportion_ci(method="exact")
    assert rate.null_margin == pytest.approx((null.high - null.low) / 2)
