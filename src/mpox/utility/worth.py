"""How many more patients would have given as much: read off the learning curve."""

from collections.abc import Sequence

import numpy as np
from scipy.special import ndtri

from mpox.statistics.estimate import Estimate

MOST_AUROC = 1 - 1e-4  # a perfect score has no probit


def probit(auroc: np.ndarray) -> np.ndarray:
    """√2⁻¹ d′ of the equal-variance binormal model: there learning curves are nearly straight."""
    return ndtri(np.clip(auroc, 1 - MOST_AUROC, MOST_AUROC))


def patients(
    numbers: Sequence[int],
    curve: np.ndarray,
    real: np.ndarray,
    arm: np.ndarray,
    chance: np.ndarray | None = None,
) -> Estimate:
    """k: `arm` scores as `real` would with k more patients, with an interval of 95 %.

    numbers: patients at each of K points of the curve of `real`; curve: AUROC there, (1+B)×K, the
    first row as measured, the others of a bootstrap; real, arm: (1+B), at all n patients; chance:
    B draws of what others in the place of the pictures added would change in probit(AUROC).
    probit(AUROC) is taken as a + b log(patients), a power law of the error (Hestness et al. 2017),
    fitted by least squares to each draw. Nothing is extrapolated beyond twice the patients: k is
    between −n and n, and a bound that lies there says "or more". Where the curve does not rise,
    k is as far from 0 as that.
    """
    n = numbers[-1]
    x = np.log(np.asarray(numbers, float))
    z = probit(curve)
    gain = probit(arm) - probit(real)
    if chance is not None:
        gain[1:] += chance
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        slope = ((x - x.mean()) * z).sum(1) / ((x - x.mean()) ** 2).sum()
        k = n * np.expm1(np.where(slope > 0, gain / slope, np.sign(gain) * np.inf))
    k = np.where(gain == 0, 0.0, np.clip(np.nan_to_num(k, nan=0.0), -n, n))
    low, high = np.quantile(k[1:], [0.025, 0.975])
    return Estimate(float(k[0]), float(min(low, k[0])), float(max(high, k[0])))
