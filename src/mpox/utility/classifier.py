"""L2 logistic regression on frozen features, with a strength chosen on the patients of val."""

import warnings
from dataclasses import dataclass

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

# 1/λ in mean loss + ½λ‖w‖²: from nearly the difference of class means to nearly separating.
STRENGTHS = 10.0 ** np.arange(-1, 2.5, 0.5)
SPECIFICITY = 0.9  # at which sensitivity is measured


@dataclass(frozen=True)
class Classifier:
    weights: np.ndarray  # d
    bias: float
    strength: float
    val_loss: float  # log loss on val; mpox and controls weigh the same
    threshold: float = 0.5  # a probability; SPECIFICITY of val's controls are below it

    def score(self, rows: np.ndarray) -> np.ndarray:
        """The probability of mpox at equal numbers of mpox and controls: n."""
        return probability(rows @ self.weights + self.bias)


class Unit:
    """Subtracts the mean of some rows and divides all features by one scale: mean variance 1.

    A scale for each feature would make those loudest that hardly vary.
    """

    def __init__(self, rows: np.ndarray):
        self.mean = rows.mean(0, dtype=float)
        self.scale = max(float(np.sqrt(rows.var(0, dtype=float).mean())), 1e-9)

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        return (rows - self.mean) / self.scale


def balanced(mpox: np.ndarray) -> np.ndarray:
    """A weight for each picture: mpox and controls sum to ½ each."""
    return np.where(mpox, 0.5 / max(mpox.sum(), 1), 0.5 / max((~mpox).sum(), 1))


def fit(
    rows: np.ndarray,
    mpox: np.ndarray,
    val: tuple[np.ndarray, np.ndarray] | None = None,
    strengths: np.ndarray = STRENGTHS,
) -> Classifier:
    """A classifier of `rows` (n×d, in a Unit) for the strength with the least loss on `val`.

    `val` is (rows, mpox); without it the first strength is taken. Both classes weigh the same,
    whatever their numbers, and so do all pictures together: arms differ in the pictures they see,
    not in the weight of pictures.
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
        margins = val[0] @ weights + bias
        loss = log_loss(margins, val[1])
        if best is None or loss < best.val_loss:
            best = Classifier(weights, bias, float(strength), loss, threshold(margins, val[1]))
    assert best is not None
    return best


def log_loss(margins: np.ndarray, mpox: np.ndarray) -> float:
    """The mean log loss of log odds (n); mpox and controls weigh the same."""
    return float(balanced(mpox) @ np.logaddexp(0, np.where(mpox, -margins, margins)))


def threshold(margins: np.ndarray, mpox: np.ndarray) -> float:
    """The lowest probability with SPECIFICITY of the controls below it, from log odds (n)."""
    controls = probability(margins[~mpox])
    return np.nextafter(float(np.quantile(controls, SPECIFICITY, method="higher")), 1)


def probability(margins: np.ndarray) -> np.ndarray:
    """Log odds to probabilities."""
    return 0.5 * (1 + np.tanh(margins / 2))
