"""Vendi score of a set of feature vectors: features in, number out."""

import numpy as np


def score(features: np.ndarray) -> float:
    """How many wholly different rows n×d features are worth, in [1, n].

    exp of the entropy of the eigenvalues λ of K/n, with K the cosines of all pairs (Friedman &
    Dieng 2023, definition 3.1). λ are the squared singular values of the rows at unit length over
    √n, so K is never formed. Unlike a distance it needs no reference, and it falls when a set
    repeats itself; but it cannot tell variety from noise.
    """
    rows = np.asarray(features, np.float64)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    eigenvalues = np.linalg.svd(unit, compute_uv=False) ** 2 / len(rows)
    positive = eigenvalues[eigenvalues > 0]
    return float(np.exp(-np.sum(positive * np.log(positive))))
