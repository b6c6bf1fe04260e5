"""How well a score tells two classes apart, with or without weights."""

import numpy as np


def auroc(
    scores: np.ndarray, positive: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray:
    """Area under the ROC curve (Mann & Whitney; a tie counts half), one for each row of weights.

    scores (n) should be higher where `positive` (n, bool) is true; weights (B×n) say how often each
    counts. Without weights each counts once, and B is 1.
    """
    above, below = _by_score(scores, positive, weights)
    ahead = np.cumsum(above, axis=1) - above / 2
    return (ahead * below).sum(1) / (above.sum(1) * below.sum(1))


def average_precision(
    scores: np.ndarray, positive: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray:
    """Area under the precision-recall curve as a sum of steps; arguments as for `auroc`."""
    above, below = _by_score(scores, positive, weights)
    true, false = np.cumsum(above, axis=1), np.cumsum(below, axis=1)
    precision = true / np.maximum(true + false, np.finfo(float).tiny)
    return (above * precision).sum(1) / above.sum(1)


def _by_score(
    scores: np.ndarray, positive: np.ndarray, weights: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """The weight of each class at each distinct score, from the highest down: twice B×G."""
    times = np.ones((1, len(scores))) if weights is None else weights
    order = np.argsort(-scores, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(scores[order]) != 0])
    above, below = (
        np.add.reduceat(times[:, order] * kind[order], starts, axis=1)
        for kind in (positive, ~positive)
    )
    return above, below
