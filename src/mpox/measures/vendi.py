"""Vendi score of a set of feature vectors: features in, number out."""

import numpy as np


def score(features: np.ndarray) -> float:
    """The number of entirely different rows that n×d features are worth, in [1, n].

    exp of the entropy of the eigenvalues of K/n, where K has the cosines of all pairs (Friedman &
    Dieng 2023, definition 3.1). XXᵀ and XᵀX share their non-zero eigenvalues, so the smaller one is
    used. The score needs no reference and falls if a set repeats itself, but it cannot tell variety
    from noise.
    """
    rows = np.asarray(features, np.float64)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    smaller = unit @ unit.T if len(unit) < unit.shape[1] else unit.T @ unit
    eigenvalues = np.linalg.eigvalsh(smaller) / len(rows)
    positive = eigenvalues[eigenvalues > 0]
    return float(np.exp(-np.sum(positive * np.log(positive))))
