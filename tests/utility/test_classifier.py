"""The classifier against its own definition, minimised by scipy."""

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.metrics import log_loss

from mpox.utility import classifier


def pictures(rng: np.random.Generator, n: int, share: float, apart: float = 1.0) -> tuple:
    mpox = np.arange(n) < share * n
    return rng.standard_normal((n, 6)) + apart * mpox[:, None] * np.r_[1, 1, 0, 0, 0, 0], mpox


def test_it_minimises_the_mean_loss_of_both_classes_plus_the_penalty():
    rows, mpox = pictures(np.random.default_rng(0), 80, 0.25)
    for strength in (0.1, 10.0):
        model = classifier.fit(rows, mpox, strengths=np.array([strength]))

        def loss(w: np.ndarray, strength: float = strength) -> float:
            each = np.logaddexp(0, np.where(mpox, -1, 1) * (rows @ w[:-1] + w[-1]))
            return (each[mpox].mean() + each[~mpox].mean()) / 2 + w[:-1] @ w[:-1] / (2 * strength)

        best = minimize(loss, np.zeros(7), tol=1e-10).x
        assert np.append(model.weights, model.bias) == pytest.approx(best, abs=2e-3)


def test_the_loss_on_val_is_scikit_learns():
    rng = np.random.default_rng(0)
    rows, mpox = pictures(rng, 60, 0.5)
    val = pictures(rng, 50, 0.3)
    model = classifier.fit(rows, mpox, val, np.array([1.0]))
    expected = log_loss(val[1], model.score(val[0]), sample_weight=classifier.balanced(val[1]))
    assert model.val_loss == pytest.approx(expected)


def test_val_chooses_the_strength_and_nine_in_ten_controls_are_below_the_threshold():
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
    controls = chosen.score(val[0])[~val[1]]
    assert 0.9 <= np.mean(controls < chosen.threshold) <= 0.92


def test_a_unit_subtracts_the_mean_and_divides_all_features_by_one_scale():
    rows = np.random.default_rng(0).normal(3, [1, 10], (500, 2))
    scaled = classifier.Unit(rows)(rows)
    np.testing.assert_allclose(scaled.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(scaled.var(0).mean(), 1)
    np.testing.assert_allclose(scaled.std(0) / rows.std(0), 1 / np.sqrt(rows.var(0).mean()))
