"""Precision, recall, density and coverage: features in, numbers out.

A set's manifold is the union of balls around its rows. Each ball reaches to the row's k-th nearest
neighbour in the same set.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

BLOCK = 512  # rows of a distance matrix in memory at once


class Coverage(NamedTuple):
    precision: float
    recall: float
    density: float
    coverage: float


def prdc(real: np.ndarray, synthetic: np.ndarray, k: int) -> Coverage:
    """Compare real (n×d) with synthetic (m×d) features by k-th neighbours, k < n, m.

    - precision: share of synthetic rows on the real manifold, in [0, 1] (Kynkäänniemi et al. 2019,
      eqs. 1 and 2): are the pictures plausible?
    - recall: share of real rows on the synthetic manifold, in [0, 1] (the same equations): does the
      set cover the real pictures?
    - density: mean number of real balls that contain a synthetic row, over k, ≥ 0 (Naeem et al.
      2020, section 3): like precision, but one outlier among the real rows cannot raise it.
    - coverage: share of real balls that contain a synthetic row, in [0, 1] (the same section): like
      recall, but one outlier among the synthetic rows cannot raise it.

    For two sets of one kind all four are about 1 or lower, depending on n, m and k.
    """
    real, synthetic = np.asarray(real, np.float64), np.asarray(synthetic, np.float64)
    real_radii, synthetic_radii = _radii(real, k), _radii(synthetic, k)
    balls = np.zeros(len(synthetic), int)  # number of real balls that contain each synthetic row
    recalled, covered = [], []
    for rows, squared in _squared_distances(real, synthetic):
        inside = squared < real_radii[rows, None]
        balls += inside.sum(axis=0)
        covered.append(inside.any(axis=1))
        recalled.append((squared < synthetic_radii).any(axis=1))
    return Coverage(
        precision=float(np.mean(balls > 0)),
        recall=float(np.mean(np.concatenate(recalled))),
        density=float(np.mean(balls) / k),
        coverage=float(np.mean(np.concatenate(covered))),
    )


def _radii(rows: np.ndarray, k: int) -> np.ndarray:
    """Squared distance of each of n×d rows to its k-th nearest neighbour (n)."""
    # Number 0 is the row itself. The copy lets each block be freed.
    return np.concatenate(
        [
            np.partition(squared, k, axis=1)[:, k].copy()
            for _, squared in _squared_distances(rows, rows)
        ]
    )


def _squared_distances(x: np.ndarray, y: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """‖xᵢ − yⱼ‖² by blocks of rows of x, to avoid a matrix of 20,000² for 20,000 pictures."""
    lengths = np.sum(y**2, axis=1)
    for start in range(0, len(x), BLOCK):
        rows = slice(start, start + BLOCK)
        squared = np.sum(x[rows] ** 2, axis=1)[:, None] + lengths - 2 * (x[rows] @ y.T)
        yield rows, np.maximum(squared, 0)
