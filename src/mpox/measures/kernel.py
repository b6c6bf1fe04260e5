"""Kernel distance between two sets of feature vectors: features in, number out, in float64."""

from collections.abc import Hashable, Sequence

import numpy as np

from mpox.statistics.estimate import Influence
from mpox.statistics.halves import influence_of_pairs, numbered

BLOCK = 512  # rows of the kernel matrix in memory at once
TIE = 1e-12  # relative tolerance: sums that differ only by rounding are equal


def distance(x: np.ndarray, y: np.ndarray) -> float:
    """Unbiased squared maximum mean discrepancy of x (m×d) and y (n×d) over all pairs; m, n ≥ 2.

    1/(m(m−1)) Σ_{i≠j} k(xᵢ, xⱼ) + 1/(n(n−1)) Σ_{i≠j} k(yᵢ, yⱼ) − 2/(mn) Σ k(xᵢ, yⱼ):
    Gretton et al. 2012, eq. 3, with the kernel of the kernel inception distance, Bińkowski et al.
    2018, section 4. It is unbiased: about zero, also below, for two sets of one kind at every N. It
    sees means, spreads and skews, but hardly a set that repeats a few good pictures.
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    m, n = len(x), len(y)
    within_x = (_total(x, x) - _diagonal(x)) / (m * (m - 1))
    within_y = (_total(y, y) - _diagonal(y)) / (n * (n - 1))
    return float(within_x + within_y - 2 * _total(x, y) / (m * n))


def influence(x: np.ndarray, y: np.ndarray, strata: Sequence[Hashable]) -> Influence:
    """How much each row of y (n×d), sampled within `strata` (n), moves `distance` for a fixed x.

    Except for a constant that depends on x (m×d) alone, the distance is the mean over all pairs
    i ≠ j of k(yᵢ, yⱼ) − bᵢ − bⱼ, where bᵢ is the mean kernel of yᵢ with the rows of x.
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    blocks = [slice(start, start + BLOCK) for start in range(0, len(y), BLOCK)]
    mean_x = np.concatenate([cubic(y[rows] @ x.T, x.shape[1]).mean(1) for rows in blocks])
    sums, squares = np.zeros(len(y)), 0.0
    for rows in blocks:
        pairs = cubic(y[rows] @ y.T, x.shape[1]) - mean_x[rows, None] - mean_x
        places = np.arange(len(y))[rows]
        pairs[np.arange(len(places)), places] = 0
        sums[rows] = pairs.sum(1)
        squares += float(np.sum(pairs**2))
    return influence_of_pairs(sums, squares, strata)


def p_value(
    x: np.ndarray, y: np.ndarray, groups: Sequence[str], swaps: int, rng: np.random.Generator
) -> float:
    """How often two sets of one kind are by chance as far apart as x and y (both n×d).

    A permutation test of `distance` (Gretton et al. 2012, section 5). Row i of x and row i of y
    swap places at random, all rows of one patient together, because pictures of one patient are
    similar. `groups`: the patient of each row of x. The result is in [1 / (swaps + 1), 1].

    With w = 1 for the rows of one side and −1 for the other, the distance of two sets of equal size
    is an increasing function of wᵀKw, so only that is computed for each swap.
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    patient = numbered(groups)
    patients = max(patient) + 1
    coins = rng.choice([-1.0, 1.0], (swaps, patients))
    # One row for each swap; the first is the observed order.
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
    """Σᵢⱼ k(xᵢ, yⱼ) by blocks of rows, to avoid a matrix of 20,000² for 20,000 pictures."""
    starts = range(0, len(x), BLOCK)
    return sum(float(cubic(x[i : i + BLOCK] @ y.T, x.shape[1]).sum()) for i in starts)


def _diagonal(x: np.ndarray) -> float:
    """Σᵢ k(xᵢ, xᵢ)."""
    return float(cubic(np.sum(x**2, axis=1), x.shape[1]).sum())
