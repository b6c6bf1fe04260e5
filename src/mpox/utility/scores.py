"""How well scores tell mpox from controls, and what of it is chance: a bootstrap over patients."""

from collections.abc import Sequence

import numpy as np

from mpox.statistics import halves, roc

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
        "auroc": roc.auroc(scores, mpox, times),
        "auprc": roc.average_precision(scores, mpox, times),
        "sensitivity": share(scores >= threshold, mpox, times),
        "specificity": share(scores < threshold, ~mpox, times),
        "brier": (share(wrong, mpox, times) + share(wrong, ~mpox, times)) / 2,
    }
