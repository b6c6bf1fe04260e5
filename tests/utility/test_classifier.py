"""The classifier against its own definition, minimised by scipy."""

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.metrics import log_loss

from mpox.utility import classifier


def pictures(rng: np.random.Generator, n: int, share: float, apart: float = 1.0) -> tuple:
    mpox = np.arange(n) < share * n
    return rng.standard_normal((n, 6)) + apart * mpox[:, None] * np.r_[1, 1, 0, 0, 0, 0], mpox


def test_it_minimises_the_mean_loss_of_either_class_and_the_penalty():
    rows, mpox = pictures(np.random.default_rng(0), 80, 0.25)
    for strength in (0.1, 10.0):
        found = classifier.fit(rows, mpox, strengths=np.array([strength]))

        def loss(w: np.ndarray, strength: float = strength) -> float:
            each = np.logaddexp(0, np.where(mpox, -1, 1) * (rows @ w[:-1] + w[-1]))
            return (each[mpox].mean() + each[~mpox].mean()) / 2 + w[:-1] @ w[:-1] / (2 * strength)

        best = minimize(loss, np.zeros(7), tol=1e-10).x
        assert np.append(found.weights, found.bias) == pytest.approx(best, abs=2e-3)


def test_repeating_every_picture_changes_nothing():
    """Arms of more pictures are not arms of more weight."""
    rows, mpox = pictures(np.random.default_rng(0), 60, 0.5)
    one = classifier.fit(rows, mpox, strengths=np.array([1.0]))
    twice = classifier.fit(np.tile(rows, (2, 1)), np.tile(mpox, 2), strengths=np.array([1.0]))
    assert twice.weights == pytest.approx(one.weights, abs=1e-3)


def test_the_loss_on_val_is_scikit_learns():
    rng = np.random.default_rng(0)
    rows, mpox = pictures(rng, 60, 0.5)
    val = pictures(rng, 50, 0.3)
    found = classifier.fit(rows, mpox, val, np.array([1.0]))
    expected = log_loss(val[1], found.score(val[0]), sample_weight=classifier.balanced(val[1]))
    assert found.val_loss == pytest.approx(expected)


def test_the_strength_is_vals_choice_and_the_threshold_has_nine_in_ten_controls_below():
    rng = np.random.default_rng(0)
    few = pictures(rng, 24, 0.5)
    val = pictures(rng, 200, 0.5)
    chosen = classifier.fit(*few, val)
    losses = [
        classifier.fit(*few, val, strengths=np.array([each])).val_loss
        for each in classifier.STRENGTHS
    ]
    assert chosen.strength == classifier.STRENGTHS[int(np.argmin(losses))]
    assert chosen.strength < classifier.STRENGTHS[-1]
    said = chosen.score(val[0])
    assert 0.9 <= np.mean(said[~val[1]] < chosen.threshold) <= 0.92
