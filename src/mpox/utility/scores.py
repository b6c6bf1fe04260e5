"""How well scores tell mpox from controls, and what of it is chance: a bootstrap over patients."""

from collections.abc import Sequence

import numpy as np

from mpox.statistics import halves

DRAWS = 499  # of the bootstrap: a standard error to 3 %


def redraw(patients: Sequence[str], mpox: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """How often each of n pictures is taken in a bootstrap of whole patients, (1 + DRAWS)×n.

    The first row is the pictures as they are. Patients with pictures of mpox alone, of controls
    alone and of both are drawn apart, so that every draw has both (a stratified bootstrap of
    clusters).
    """
    patient = halves.numbered(patients)
    times = np.ones((1 + DRAWS, int(patient.max()) + 1))
    every = np.arange(times.shape[1])
    stratum = np.isin(every, patient[mpox]) + 2 * np.isin(every, patient[~mpox])
    for own in (np.flatnonzero(stratum == kind) for kind in (1, 2, 3)):
        if len(own):
            times[1:, own] = rng.multinomial(len(own), np.full(len(own), 1 / len(own)), DRAWS)
    return times[:, patient]


def auroc(scores: np.ndarray, mpox: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Area under the ROC curve (Mann–Whitney; a tie counts half) for each row of `times`, B.

    `scores` (n), `mpox` (n, bool): higher should mean mpox; `times` (B×n): how often each counts.
    """
    positive, negative = _by_score(scores, mpox, times)
    above = np.cumsum(positive, axis=1) - positive / 2
    return (above * negative).sum(1) / (positive.sum(1) * negative.sum(1))


def average_precision(scores: np.ndarray, mpox: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Area under precision and recall as a sum of steps (as sklearn has it), as `auroc`."""
    positive, negative = _by_score(scores, mpox, times)
    true, false = np.cumsum(positive, axis=1), np.cumsum(negative, axis=1)
    precision = true / np.maximum(true + false, np.finfo(float).tiny)
    return (positive * precision).sum(1) / positive.sum(1)


def _by_score(
    scores: np.ndarray, mpox: np.ndarray, times: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """At each distinct score, the highest first, how many of either kind: twice B×G."""
    order = np.argsort(-scores, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(scores[order]) != 0])
    positive, negative = (
        np.add.reduceat(times[:, order] * kind[order], starts, axis=1) for kind in (mpox, ~mpox)
    )
    return positive, negative


def share(found: np.ndarray, chosen: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Mean of `found` (n) over the pictures `chosen` (n, bool), for each row of `times`, B."""
    weight = times * chosen
    return (weight @ found.astype(float)) / weight.sum(1)


def measure(
    scores: np.ndarray, threshold: float, mpox: np.ndarray, times: np.ndarray
) -> dict[str, np.ndarray]:
    """All measures of one classifier, each B long.

    - auroc, auprc: of `scores`, probabilities of mpox;
    - sensitivity, specificity: at `threshold`;
    - brier: squared error of the probability, mpox and controls counting the same.
    """
    wrong = (scores - mpox) ** 2
    return {
        "auroc": auroc(scores, mpox, times),
        "auprc": average_precision(scores, mpox, times),
        "sensitivity": share(scores >= threshold, mpox, times),
        "specificity": share(scores < threshold, ~mpox, times),
        "brier": (share(wrong, mpox, times) + share(wrong, ~mpox, times)) / 2,
    }
