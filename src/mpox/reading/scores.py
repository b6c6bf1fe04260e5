"""Formulas of a reading study: signal detection, agreement, intervals over readers and pictures.

Synthetic is the signal: sensitivity is the share of synthetic pictures called synthetic,
specificity the share of real photos called real. R readers call N pictures; a call of 1 means
"synthetic".
"""

from collections.abc import Callable, Sequence
from math import inf, sqrt

import krippendorff
import numpy as np
from scipy.special import ndtri
from scipy.stats import t
from statsmodels.stats.inter_rater import aggregate_raters, fleiss_kappa

from mpox.statistics import roc
from mpox.statistics.estimate import Estimate

Statistic = Callable[[np.ndarray, np.ndarray], np.ndarray]  # (R×N calls or ratings, N truth) → R
Groups = Sequence[str] | np.ndarray | None  # N: pictures of one patient share a value


def sensitivity(calls: np.ndarray, synthetic: np.ndarray) -> np.ndarray:
    """R: the share of synthetic pictures called synthetic."""
    return calls[:, synthetic].mean(1)


def specificity(calls: np.ndarray, synthetic: np.ndarray) -> np.ndarray:
    """R: the share of real photos called real."""
    return 1 - calls[:, ~synthetic].mean(1)


def accuracy(calls: np.ndarray, synthetic: np.ndarray) -> np.ndarray:
    """R: the mean of sensitivity and specificity; with equal classes, the share of right calls."""
    return (sensitivity(calls, synthetic) + specificity(calls, synthetic)) / 2


def _rates(calls: np.ndarray, synthetic: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Hit and false-alarm rates; the log-linear correction (Hautus 1995) keeps d′ finite."""
    hits, alarms = calls[:, synthetic], calls[:, ~synthetic]
    return tuple((part.sum(1) + 0.5) / (part.shape[1] + 1) for part in (hits, alarms))


def d_prime(calls: np.ndarray, synthetic: np.ndarray) -> np.ndarray:
    """R: d′ = Φ⁻¹(hits) − Φ⁻¹(false alarms)."""
    hits, alarms = _rates(calls, synthetic)
    return ndtri(hits) - ndtri(alarms)


def criterion(calls: np.ndarray, synthetic: np.ndarray) -> np.ndarray:
    """R: c = −(Φ⁻¹(hits) + Φ⁻¹(false alarms))/2, positive for readers who tend to call "real"."""
    hits, alarms = _rates(calls, synthetic)
    return -(ndtri(hits) + ndtri(alarms)) / 2


def auroc(ratings: np.ndarray, synthetic: np.ndarray) -> np.ndarray:
    """R: area under the ROC curve of ratings, higher for synthetic."""
    return np.array([roc.auroc(row, synthetic)[0] for row in ratings])


def difference(values: np.ndarray, synthetic: np.ndarray) -> np.ndarray:
    """R: the mean over real photos minus the mean over synthetic pictures."""
    return values[:, ~synthetic].mean(1) - values[:, synthetic].mean(1)


def pooled(
    statistic: Statistic,
    values: np.ndarray,
    synthetic: np.ndarray,
    groups: Groups = None,
    confidence: float = 0.95,
) -> Estimate:
    """The mean of a statistic over readers; the interval covers other readers *and* pictures.

    Obuchowski & Rockette's model (1995) for one condition: Var = (MS(R) + R·Cov₂)/R. MS(R) is the
    mean square of the readers; Cov₂, the covariance of two readers' values over pictures, comes
    from a jackknife that leaves out one picture (or one of `groups`) and is at least 0. Degrees of
    freedom by Hillis (2007): (MS(R) + R·Cov₂)² / (MS(R)²/(R−1)). With a single reader the interval
    covers other pictures only.
    """
    value = statistic(values, synthetic)
    readers = len(value)
    left_out = _jackknife(statistic, values, synthetic, groups)
    number = len(left_out)
    off = left_out - left_out.mean(0)
    covariance = (number - 1) / number * off.T @ off
    centre = float(value.mean())
    tail = (1 + confidence) / 2
    if readers == 1:
        width = t.ppf(tail, number - 1) * sqrt(covariance[0, 0])
        return Estimate(centre, centre - width, centre + width)
    shared = float(covariance.sum() - np.trace(covariance)) / (readers * (readers - 1))
    between = float(np.var(value, ddof=1))
    total = between + readers * max(shared, 0.0)
    df = total**2 / (between**2 / (readers - 1)) if between else inf
    width = float(t.ppf(tail, df)) * sqrt(total / readers)
    return Estimate(centre, centre - width, centre + width)


def _jackknife(
    statistic: Statistic, values: np.ndarray, synthetic: np.ndarray, groups: Groups
) -> np.ndarray:
    """G×R: the statistic without each picture, or without each of `groups`."""
    numbers = (
        np.arange(len(synthetic)) if groups is None else np.unique(groups, return_inverse=True)[1]
    )
    kept = [numbers != group for group in range(numbers.max() + 1)]
    return np.stack([statistic(values[:, rest], synthetic[rest]) for rest in kept])


def equivalent(interval: Estimate, margin: float) -> bool:
    """Whether accuracy is within ½ ± margin: two one-sided tests at 5 %, by its 90 % interval."""
    return 0.5 - margin < interval.low and interval.high < 0.5 + margin


def kappa(calls: np.ndarray) -> float:
    """Fleiss' κ of R readers' calls of N pictures."""
    counts, _ = aggregate_raters(calls.T.astype(int))
    return float(fleiss_kappa(counts))


def alpha(ratings: np.ndarray) -> float:
    """Krippendorff's α of R×N ordinal ratings; NaN marks a missing rating."""
    return float(krippendorff.alpha(ratings, level_of_measurement="ordinal"))
