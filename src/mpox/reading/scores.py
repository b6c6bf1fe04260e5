"""What readers' answers say: signal detection, agreement, and intervals over readers and pictures.

Synthetic is the signal: sensitivity is the share of synthetic pictures that are called so,
specificity that of real photos. Readers are R, pictures N; a call is 1 for synthetic.
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


def sensitivity(calls: np.ndarray, synthetic: np.ndarray) -> np.ndarray:
    """R: of the synthetic pictures, how many are called so."""
    return calls[:, synthetic].mean(1)


def specificity(calls: np.ndarray, synthetic: np.ndarray) -> np.ndarray:
    """R: of the real photos, how many are called real."""
    return 1 - calls[:, ~synthetic].mean(1)


def accuracy(calls: np.ndarray, synthetic: np.ndarray) -> np.ndarray:
    """R: mean of sensitivity and specificity, which is the share right where both are as many."""
    return (sensitivity(calls, synthetic) + specificity(calls, synthetic)) / 2


def _rates(calls: np.ndarray, synthetic: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Hit and false-alarm rates by the log-linear correction (Hautus 1995): no infinite d′."""
    hits, alarms = calls[:, synthetic], calls[:, ~synthetic]
    return tuple((each.sum(1) + 0.5) / (each.shape[1] + 1) for each in (hits, alarms))


def d_prime(calls: np.ndarray, synthetic: np.ndarray) -> np.ndarray:
    """R: d′ = Φ⁻¹(hits) − Φ⁻¹(false alarms)."""
    hits, alarms = _rates(calls, synthetic)
    return ndtri(hits) - ndtri(alarms)


def criterion(calls: np.ndarray, synthetic: np.ndarray) -> np.ndarray:
    """R: c = −(Φ⁻¹(hits) + Φ⁻¹(false alarms))/2; above 0 who calls real when in doubt."""
    hits, alarms = _rates(calls, synthetic)
    return -(ndtri(hits) + ndtri(alarms)) / 2


def auroc(ratings: np.ndarray, synthetic: np.ndarray) -> np.ndarray:
    """R: area under the ROC curve of ratings, higher for synthetic."""
    return np.array([roc.auroc(each, synthetic)[0] for each in ratings])


def difference(values: np.ndarray, synthetic: np.ndarray) -> np.ndarray:
    """R: mean of real photos minus that of synthetic pictures."""
    return values[:, ~synthetic].mean(1) - values[:, synthetic].mean(1)


def pooled(
    statistic: Statistic,
    given: np.ndarray,
    synthetic: np.ndarray,
    groups: Sequence[str] | None = None,
    confidence: float = 0.95,
) -> Estimate:
    """The readers' mean of a statistic, with an interval over other readers *and* other pictures.

    Obuchowski & Rockette's model (1995) of one condition: Var = (MS(R) + R·Cov₂)/R, with the
    readers' mean square and the covariance of two readers' values over pictures, by the jackknife
    that leaves out one picture (of `groups`, one patient's), never below 0; Hillis' degrees of
    freedom (2007): (MS(R) + R·Cov₂)² / (MS(R)²/(R−1)). Of one reader only pictures are random.
    """
    value = statistic(given, synthetic)
    readers = len(value)
    left_out = _jackknife(statistic, given, synthetic, groups)
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
    statistic: Statistic, given: np.ndarray, synthetic: np.ndarray, groups: Sequence[str] | None
) -> np.ndarray:
    """G×R: the statistic without each picture, or without each of `groups`."""
    whose = (
        np.arange(len(synthetic)) if groups is None else np.unique(groups, return_inverse=True)[1]
    )
    keep = [whose != group for group in range(whose.max() + 1)]
    return np.stack([statistic(given[:, each], synthetic[each]) for each in keep])


def equivalent(
    statistic: Statistic,
    calls: np.ndarray,
    synthetic: np.ndarray,
    margin: float,
    groups: Sequence[str] | None = None,
) -> bool:
    """Whether accuracy is within ½ ± margin: two one-sided tests at 5 % (an interval of 90 %)."""
    of = pooled(statistic, calls, synthetic, groups, confidence=0.9)
    return 0.5 - margin < of.low and of.high < 0.5 + margin


def kappa(calls: np.ndarray) -> float:
    """Fleiss' κ of R readers' calls of N pictures."""
    counts, _ = aggregate_raters(calls.T.astype(int))
    return float(fleiss_kappa(counts))


def alpha(ratings: np.ndarray) -> float:
    """Krippendorff's α of R×N ordinal ratings; NaN is what was not rated."""
    return float(krippendorff.alpha(ratings, level_of_measurement="ordinal"))
