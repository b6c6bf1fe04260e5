"""Kernel distance between two sets of feature vectors: features in, number out, in float64."""

from collections.abc import Hashable, Sequence

import numpy as np

from mpox.statistics.estimate import Influence
from mpox.statistics.halves import influence_of_pairs, numbered

BLOCK = 512  # rows of the kernel matrix in memory at once
TIE = 1e-12  # relative: sums that differ by rounding alone are equal


def distance(x: np.ndarray, y: np.ndarray) -> float:
    """Unbiased squared maximum mean discrepancy of x (m×d) and y (n×d) over all pairs; m, n ≥ 2.

    1/(m(m−1)) Σ_{i≠j} k(xᵢ, xⱼ) + 1/(n(n−1)) Σ_{i≠j} k(yᵢ, yⱼ) − 2/(mn) Σ k(xᵢ, yⱼ):
    Gretton et al. 2012, eq. 3, with the kernel of the kernel inception distance, Bińkowski et al.
    2018, section 4. Unbiased, so around zero (and below it) for two sets of one kind, at every N.
    It sees means, spreads and skews; it hardly sees a set that repeats a few good pictures.
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    m, n = len(x), len(y)
    within_x = (_total(x, x) - _diagonal(x)) / (m * (m - 1))
    within_y = (_total(y, y) - _diagonal(y)) / (n * (n - 1))
    return float(within_x + within_y - 2 * _total(x, y) / (m * n))


def influence(x: np.ndarray, y: np.ndarray, strata: Sequence[Hashable]) -> Influence:
    """How much each row of y (n×d), of `strata` (n), moves `distance`, x (m×d) being as it is.

    Then the distance is, but for what x alone gives, the mean over all pairs i ≠ j of
    k(yᵢ, yⱼ) − bᵢ − bⱼ with b the mean kernel of a row with those of x.
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    blocks = [slice(start, start + BLOCK) for start in range(0, len(y), BLOCK)]
    beside = np.concatenate([cubic(y[rows] @ x.T, x.shape[1]).mean(1) for rows in blocks])
    sums, squares = np.zeros(len(y)), 0.0
    for rows in blocks:
        pairs = cubic(y[rows] @ y.T, x.shape[1]) - beside[rows, None] - beside
        own = np.arange(len(y))[rows]
        pairs[np.arange(len(own)), own] = 0
        sums[rows] = pairs.sum(1)
        squares += float(np.sum(pairs**2))
    return influence_of_pairs(sums, squares, strata)


def p_value(
    x: np.ndarray, y: np.ndarray, groups: Sequence[str], swaps: int, rng: np.random.Generator
) -> float:
    """How often chance alone sets two sets of one kind as far apart as x and y (both n×d).

    A permutation test of `distance` (Gretton et al. 2012, section 5): row i of x and row i of y
    change places by the toss of a coin, one coin for each of `groups`, the patient of each row of
    x, because pictures of one patient are alike. In (0, 1], at least 1 / (swaps + 1).

    With w = 1 for the rows on one side and −1 on the other, the distance of two sets of equal size
    is an increasing function of wᵀKw, so that is all a swap needs.
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    patient = numbered(groups)
    patients = max(patient) + 1
    coins = rng.choice([-1.0, 1.0], (swaps, patients))
    # one row a swap, the first as it was found
    signs = np.vstack([np.ones(patients), coins])[:, patient]
    apart = np.zeros(len(signs))
    for start in range(0, len(x), BLOCK):
        rows = slice(start, start + BLOCK)
        contrast = sum(
            sign * cubic(a[rows] @ b.T, x.shape[1])
            for a, b, sign in ((x, x, 1), (y, y, 1), (x, y, -1), (y, x, -1))
        )
        apart += np.sum((signs[:, rows] @ contrast) * signs, axis=1)
    as_far = apart[1:] >= apart[0] * (1 - TIE)
    return float((1 + np.sum(as_far)) / (1 + swaps))


def cubic(product: np.ndarray, dimension: int) -> np.ndarray:
    """k(x, y) = (xᵀy / d + 1)³ from the inner products xᵀy (Bińkowski et al. 2018, section 4)."""
    base = product / dimension + 1
    return base * base * base


def _total(x: np.ndarray, y: np.ndarray) -> float:
    """Σᵢⱼ k(xᵢ, yⱼ), by blocks of rows: 20,000 pictures need no 20,000² matrix."""
    starts = range(0, len(x), BLOCK)
    return sum(float(cubic(x[i : i + BLOCK] @ y.T, x.shape[1]).sum()) for i in starts)


def _diagonal(x: np.ndarray) -> float:
    """Σᵢ k(xᵢ, xᵢ)."""
    return float(cubic(np.sum(x**2, axis=1), x.shape[1]).sum())
