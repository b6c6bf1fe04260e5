"""Precision, recall, density and coverage: features in, numbers out.

A set's manifold is the union of balls around its rows, each reaching to its row's k-th nearest
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
    """real n×d against synthetic m×d, k-th neighbours, k < n, m.

    - precision: share of synthetic rows on the real manifold, in [0, 1] (Kynkäänniemi et al. 2019,
      eqs. 1 and 2: are the pictures plausible?);
    - recall: share of real rows on the synthetic manifold, in [0, 1] (the same: can the model make
      what is there?);
    - density: real balls a synthetic row lies in, over k, on average, ≥ 0 (Naeem et al. 2020,
      section 3: precision that one outlier among the real rows cannot raise);
    - coverage: share of real balls that hold a synthetic row, in [0, 1] (the same:
      recall that one outlier among the synthetic rows cannot raise).

    All of two sets of one kind are below or about 1, how far depends on n, m and k.
    """
    real, synthetic = np.asarray(real, np.float64), np.asarray(synthetic, np.float64)
    real_radii, synthetic_radii = _radii(real, k), _radii(synthetic, k)
    balls = np.zeros(len(synthetic), int)  # real ones that each synthetic row lies in
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
    """Squared distance of each of n×d rows to its k-th nearest other one (n)."""
    # a row is its own nearest neighbour, so the k-th other one is number k from zero; copied, for
    # a view would keep every block
    return np.concatenate(
        [
            np.partition(squared, k, axis=1)[:, k].copy()
            for _, squared in _squared_distances(rows, rows)
        ]
    )


def _squared_distances(x: np.ndarray, y: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """‖xᵢ − yⱼ‖² by blocks of rows of x: 20,000 pictures need no 20,000² matrix."""
    lengths = np.sum(y**2, axis=1)
    for start in range(0, len(x), BLOCK):
        rows = slice(start, start + BLOCK)
        squared = np.sum(x[rows] ** 2, axis=1)[:, None] + lengths - 2 * (x[rows] @ y.T)
        yield rows, np.maximum(squared, 0)
