"""Shares of pictures, with their exact binomial intervals."""

from math import nan

from scipy.stats import beta

from mpox.statistics.estimate import Estimate

OUTSIDE = 0.025  # of the probability, on either side of an interval of 95 %


def rate(count: int, n: int, null_count: int, null_n: int, together: int = 1) -> Estimate:
    """`count` of n pictures, with a null of `null_count` in null_n, which has noise too.

    `together`: how many pictures at least are counted at once, and so are one piece of evidence.
    """
    low, high = interval(count / together, n / together)
    null = interval(null_count / together, null_n / together)
    return Estimate(
        count / n, low, high, null_count / null_n, (high - low) / 2, (null[1] - null[0]) / 2
    )


def share(count: int, n: int) -> Estimate:
    """`count` of n; the share of 0 pictures is unknown."""
    low, high = interval(count, n)
    return Estimate(count / n if n else nan, low, high)


def interval(count: float, n: float) -> tuple[float, float]:
    """The exact interval of 95 % for a share (Clopper & Pearson 1934), in [0, 1].

    Computed from beta distributions, so that count and n need not be integers.
    """
    low = float(beta.ppf(OUTSIDE, count, n - count + 1)) if count else 0.0
    high = float(beta.ppf(1 - OUTSIDE, count + 1, n - count)) if count < n else 1.0
    return low, high
