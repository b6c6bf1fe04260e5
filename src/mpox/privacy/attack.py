"""A membership attack: can patients whose photos a LoRA was trained on be told from others?

The attacker has the weights and a patient's photos and guesses from one score, `losses.gains`
(Matsumoto et al. 2023, with the base's own loss taken off; LoRAs: Luo et al. 2024, 2402.11989).
"""

from collections.abc import Sequence
from dataclasses import replace
from math import sqrt

import numpy as np
from scipy.optimize import brentq
from scipy.stats import norm

from mpox.statistics import halves, rates, roc
from mpox.statistics.estimate import Estimate

POWER = 0.8
TINY = 1e-12  # off the root at 0 and at 1, where the variance is none
RATE = 0.01  # of false positives, where so few are to be had


def by_patient(scores: np.ndarray, patients: Sequence[str]) -> np.ndarray:
    """The mean of each patient's scores."""
    whose = halves.numbered(patients)
    return np.bincount(whose, scores) / np.bincount(whose)


def measure(
    members: np.ndarray, others: np.ndarray, rng: np.random.Generator
) -> dict[str, Estimate]:
    """What scores (m and n, one a patient, higher for members) give away.

    - auc: the share of pairs of a member and another in which the member's is higher; its null is
      the mean over halves of the others, of which one is called members; `detectable`: from what
      AUC on an attack would be found with a power of 80 %;
    - tpr: the share of members found at `fpr`, a false-positive rate of 1 % or, among fewer than
      100 others, of one of them;
    - false_alarms: of halves of the others, in how many the interval of the AUC leaves out ½.
    """
    halved = [auc_interval(others[a], others[b]) for a, b in _halves(len(others), rng)]
    allowed = max(int(RATE * len(others)), 1)
    limit = np.sort(others)[-allowed - 1]
    found = rates.rate(int(np.sum(members > limit)), len(members), allowed, len(others))
    alarms = [not each.low <= 0.5 <= each.high for each in halved]
    return {
        "auc": replace(
            auc_interval(members, others), null=float(np.mean([each.value for each in halved]))
        ),
        "detectable": Estimate(detectable(len(members), len(others))),
        "tpr": Estimate(found.value, found.low, found.high, null=allowed / len(others)),
        "false_alarms": Estimate(float(np.mean(alarms))),
    }


def auc(members: np.ndarray, others: np.ndarray) -> float:
    """The share of m·n pairs in which the member is higher, ties counting ½."""
    scores = np.r_[members, others]
    return float(roc.auroc(scores, np.arange(len(scores)) < len(members))[0])


def auc_interval(members: np.ndarray, others: np.ndarray) -> Estimate:
    value = auc(members, others)
    return Estimate(value, *interval(value, len(members), len(others)))


def interval(value: float, m: int, n: int) -> tuple[float, float]:
    """95 % for an AUC of m members and n others (Newcombe 2006, method 5): a score interval.

    Its variance at ½ is Mann and Whitney's exact one, (m + n + 1)/12mn, and at 0 and 1 it does not
    shrink to nothing, as DeLong's does.
    """
    z = float(norm.ppf(0.975))

    def outside(theta: float) -> float:
        return abs(value - theta) - z * sqrt(_variance(theta, m, n))

    low = float(brentq(outside, 0.0, value - TINY)) if value > 0 else 0.0
    high = float(brentq(outside, value + TINY, 1.0)) if value < 1 else 1.0
    return low, high


def _variance(theta: float, m: int, n: int) -> float:
    """Of an AUC (Hanley & McNeil 1982, with the mean of m and n for either, as Newcombe has it)."""
    star = (m + n) / 2 - 1
    pairs = 1 + star * (1 - theta) / (2 - theta) + star * theta / (1 + theta)
    return theta * (1 - theta) * pairs / (m * n)


def detectable(m: int, n: int) -> float:
    """The AUC whose interval leaves out ½ with a power of 80 %, at most 1."""
    z, power = float(norm.ppf(0.975)), float(norm.ppf(POWER))

    def short(theta: float) -> float:
        needed = z * sqrt(_variance(0.5, m, n)) + power * sqrt(_variance(theta, m, n))
        return theta - 0.5 - needed

    return float(brentq(short, 0.5, 1.0)) if short(1.0) > 0 else 1.0


def _halves(n: int, rng: np.random.Generator) -> list[tuple[np.ndarray, np.ndarray]]:
    return halves.draw([str(k) for k in range(n)], halves.DRAWS, rng)
