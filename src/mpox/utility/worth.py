"""How many more patients would have given as much: read off the learning curve."""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.special import ndtri

from mpox.statistics.estimate import Estimate
from mpox.utility.bootstrap import Bootstrap

MOST_AUROC = 1 - 1e-4  # a perfect score has no probit


def probit(auroc: np.ndarray) -> np.ndarray:
    """d′/√2 of the equal-variance binormal model, in which learning curves are nearly straight."""
    return ndtri(np.clip(auroc, 1 - MOST_AUROC, MOST_AUROC))


def estimate(
    points: Mapping[int, Bootstrap],
    real: Bootstrap,
    arm: Bootstrap,
    added: float,
    rng: np.random.Generator,
) -> Estimate:
    """The worth of `arm` in patients; all are AUROCs on the same draws.

    points: of `real`, by number of training patients; added: the share of the arm's pictures of
    mpox that are not in `real`. Which patients are in training is chance as well, so repeats are
    drawn again, and other pictures could have been added: all of n training pictures vary as much
    as halves of them do (the delete-half jackknife), m pictures added to n by √(m/(n+m)) of that.
    """
    curve = np.stack([point.redraw_repeats(rng) for point in points.values()], axis=1)
    half = min(points, key=lambda number: abs(number - max(points) / 2))
    repeats = probit(points[half].values[:, 0])
    spread = np.std(repeats, ddof=1) * np.sqrt(added) if len(repeats) > 1 else 0.0
    chance = spread * rng.standard_normal(len(curve) - 1)
    drawn = [each.redraw_repeats(rng) for each in (real, arm)]
    return patients(list(points), curve, drawn[0], drawn[1], chance)


def patients(
    numbers: Sequence[int],
    curve: np.ndarray,
    real: np.ndarray,
    arm: np.ndarray,
    chance: np.ndarray | float = 0.0,
) -> Estimate:
    """k such that `arm` scores as `real` would with k more patients, with an interval of 95 %.

    numbers: patients at each of K points of the curve of `real`; curve: AUROC there, (1+B)×K, the
    first row on the test photos, the others on draws of their patients; real, arm: (1+B), with all
    n training patients; chance: B changes of probit(AUROC), as other added pictures would make.

    probit(AUROC) is taken as a + b log(patients), a power law of the error (Hestness et al. 2017),
    fitted by least squares in each draw. Nothing is extrapolated beyond twice the patients: k is
    between −n and n, and a bound there means "or more". Where the curve does not rise, k is −n, 0
    or n, by the sign of the gain.
    """
    n = numbers[-1]
    x = np.log(np.asarray(numbers, float))
    z = probit(curve)
    gain = probit(arm) - probit(real)
    gain[1:] += chance
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        slope = ((x - x.mean()) * z).sum(1) / ((x - x.mean()) ** 2).sum()
        k = n * np.expm1(np.where(slope > 0, gain / slope, np.sign(gain) * np.inf))
    k = np.where(gain == 0, 0.0, np.clip(np.nan_to_num(k, nan=0.0), -n, n))
    low, high = np.quantile(k[1:], [0.025, 0.975])
    return Estimate(float(k[0]), float(min(low, k[0])), float(max(high, k[0])))
