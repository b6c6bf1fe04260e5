"""L2 logistic regression on frozen features, its strength chosen on val patients."""

import warnings
from dataclasses import dataclass

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

# 1/λ of ½λ‖w‖² beside the mean loss: from nearly the classes' mean difference to nearly separating.
STRENGTHS = 10.0 ** np.arange(-1, 2.5, 0.5)
SPECIFICITY = 0.9  # at which sensitivity is read


@dataclass(frozen=True)
class Classifier:
    weights: np.ndarray  # d
    bias: float
    strength: float
    val_loss: float  # log loss on val, mpox and controls counting the same
    threshold: float = 0.5  # of the probability; SPECIFICITY of val's controls are below

    def score(self, rows: np.ndarray) -> np.ndarray:
        """Probability of mpox, were it as frequent as the controls: n."""
        return probability(rows @ self.weights + self.bias)


class Unit:
    """Rows less the mean of some, in one unit for all features: of variance 1 on average.

    Not a unit for each: of a feature that hardly varies among them it would make the loudest.
    """

    def __init__(self, rows: np.ndarray):
        self.mean = rows.mean(0, dtype=float)
        self.scale = max(float(np.sqrt(rows.var(0, dtype=float).mean())), 1e-9)

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        return (rows - self.mean) / self.scale


def balanced(mpox: np.ndarray) -> np.ndarray:
    """A weight for each picture so that either class has half of 1."""
    return np.where(mpox, 0.5 / max(mpox.sum(), 1), 0.5 / max((~mpox).sum(), 1))


def fit(
    rows: np.ndarray,
    mpox: np.ndarray,
    val: tuple[np.ndarray, np.ndarray] | None = None,
    strengths: np.ndarray = STRENGTHS,
) -> Classifier:
    """The best by log loss on `val` (rows, mpox) of one for each strength; without `val` the first.

    `rows` (n×d), in a Unit; either class weighs the same whatever its number, and all pictures
    together always the same: arms differ in what they see, not in how much of it.
    """
    model = LogisticRegression(tol=1e-4, max_iter=1000, warm_start=True)
    best: Classifier | None = None
    for strength in strengths:
        model.set_params(C=strength)
        with warnings.catch_warnings():
            warnings.simplefilter("error", ConvergenceWarning)
            model.fit(rows, mpox, sample_weight=balanced(mpox))
        weights, bias = model.coef_[0].copy(), float(model.intercept_[0])
        if val is None:
            return Classifier(weights, bias, float(strength), np.nan)
        margin = val[0] @ weights + bias
        loss = log_loss(margin, val[1])
        if best is None or loss < best.val_loss:
            best = Classifier(weights, bias, float(strength), loss, threshold(margin, val[1]))
    assert best is not None
    return best


def log_loss(margin: np.ndarray, mpox: np.ndarray) -> float:
    """Of log odds (n), mpox and controls counting the same."""
    return float(balanced(mpox) @ np.logaddexp(0, np.where(mpox, -margin, margin)))


def threshold(margin: np.ndarray, mpox: np.ndarray) -> float:
    """The probability just above SPECIFICITY of the controls, of log odds (n)."""
    of_controls = probability(margin[~mpox])
    return np.nextafter(float(np.quantile(of_controls, SPECIFICITY, method="higher")), 1)


def probability(margin: np.ndarray) -> np.ndarray:
    """Of log odds."""
    return 0.5 * (1 + np.tanh(margin / 2))
