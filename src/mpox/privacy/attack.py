"""A membership attack: can patients whose photos a LoRA was trained on be told from others?

The attacker has the weights and photos of a patient, and guesses from one score, `losses.gains`
(Matsumoto et al. 2023, minus the base model's own loss; for LoRAs: Luo et al. 2024, 2402.11989).
"""

from collections.abc import Sequence
from dataclasses import replace
from math import sqrt

import numpy as np
from scipy.optimize import brentq
from scipy.stats import norm

from mpox.statistics import halves, rates, roc
from mpox.statistics.estimate import Estimate

QUANTILE, POWER = float(norm.ppf(0.975)), float(norm.ppf(0.8))  # standard errors
TINY = 1e-12  # distance from the roots at 0 and 1, where the variance is 0
RATE = 0.01  # of false positives, or one patient if there are fewer than 100


def by_patient(scores: np.ndarray, patients: Sequence[str]) -> np.ndarray:
    """The mean score of each patient."""
    patient = halves.numbered(patients)
    return np.bincount(patient, scores) / np.bincount(patient)


def measure_separation(
    members: np.ndarray, others: np.ndarray, rng: np.random.Generator
) -> dict[str, Estimate]:
    """How well scores (m and n, one for each patient, higher for members) tell members from others.

    - auc: the share of pairs of a member and another in which the member's score is higher; its
      null is the mean over halves of the others, one half of which is called members;
    - detectable: the AUC that an attack on so many patients shows with a power of 80 %;
    - tpr: the share of members found at a false-positive rate of RATE (its null);
    - false_alarms: the share of those halves for which the interval of the AUC excludes ½.
    """
    names = [str(k) for k in range(len(others))]
    nulls = [
        auc_interval(others[one], others[other])
        for one, other in halves.draw(names, halves.DRAWS, rng)
    ]
    null = float(np.mean([each.value for each in nulls]))
    alarms = [not each.low <= 0.5 <= each.high for each in nulls]
    allowed = max(int(RATE * len(others)), 1)
    limit = np.sort(others)[-allowed - 1]
    tpr = rates.share(int(np.sum(members > limit)), len(members))
    return {
        "auc": replace(auc_interval(members, others), null=null),
        "detectable": Estimate(detectable(len(members), len(others))),
        "tpr": replace(tpr, null=allowed / len(others)),
        "false_alarms": Estimate(float(np.mean(alarms))),
    }


def auc_interval(members: np.ndarray, others: np.ndarray) -> Estimate:
    """The share of m·n pairs in which the member is higher (ties count ½), with its interval."""
    scores = np.r_[members, others]
    value = float(roc.auroc(scores, np.arange(len(scores)) < len(members))[0])
    return Estimate(value, *interval(value, len(members), len(others)))


def interval(value: float, m: int, n: int) -> tuple[float, float]:
    """A score interval of 95 % for an AUC of m members and n others (Newcombe 2006, method 5).

    The variance at ½ is Mann and Whitney's exact one, (m + n + 1)/12mn. At 0 and 1 the interval
    does not shrink to nothing, as DeLong's does.
    """

    def outside(theta: float) -> float:
        return abs(value - theta) - QUANTILE * sqrt(_variance(theta, m, n))

    low = float(brentq(outside, 0.0, value - TINY)) if value > 0 else 0.0
    high = float(brentq(outside, value + TINY, 1.0)) if value < 1 else 1.0
    return low, high


def _variance(theta: float, m: int, n: int) -> float:
    """Of an AUC (Hanley & McNeil 1982; as in Newcombe, with the mean of m and n for either)."""
    star = (m + n) / 2 - 1
    pairs = 1 + star * (1 - theta) / (2 - theta) + star * theta / (1 + theta)
    return theta * (1 - theta) * pairs / (m * n)


def detectable(m: int, n: int) -> float:
    """The AUC whose interval excludes ½ with a power of 80 %, at most 1."""

    def excess(theta: float) -> float:
        errors = QUANTILE * sqrt(_variance(0.5, m, n)) + POWER * sqrt(_variance(theta, m, n))
        return theta - 0.5 - errors

    return float(brentq(excess, 0.5, 1.0)) if excess(1.0) > 0 else 1.0
