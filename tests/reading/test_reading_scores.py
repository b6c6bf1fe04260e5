"""The scores against other libraries, closed forms, and studies whose truth is known."""

import numpy as np
import pytest
from scipy.stats import norm, sem, t, ttest_1samp
from sklearn.metrics import roc_auc_score

from mpox.reading import scores


def study(rng: np.random.Generator, readers: int, each: int, d: float) -> tuple:
    """Calls of readers who see pictures alike in part, each with a criterion and skill."""
    synthetic = np.arange(2 * each) < each
    own = np.maximum(d + 0.2 * rng.standard_normal(readers), 0) if d else np.zeros(readers)
    criteria = own / 2 + 0.3 * rng.standard_normal(readers)
    seen = own[:, None] * synthetic + np.sqrt(0.3) * rng.standard_normal(2 * each)
    seen = seen + np.sqrt(0.7) * rng.standard_normal((readers, 2 * each))
    return (seen > criteria[:, None]).astype(float), synthetic


def test_rates_and_d_prime_are_what_the_textbook_says():
    """Macmillan & Creelman: hits 0.8, false alarms 0.3, corrected by a half."""
    calls = np.r_[np.ones(8), np.zeros(2), np.ones(3), np.zeros(7)][None]
    synthetic = np.arange(20) < 10
    assert scores.sensitivity(calls, synthetic)[0] == pytest.approx(0.8)
    assert scores.specificity(calls, synthetic)[0] == pytest.approx(0.7)
    assert scores.accuracy(calls, synthetic)[0] == pytest.approx(0.75)
    hits, alarms = norm.ppf(8.5 / 11), norm.ppf(3.5 / 11)
    assert scores.d_prime(calls, synthetic)[0] == pytest.approx(hits - alarms)
    assert scores.criterion(calls, synthetic)[0] == pytest.approx(-(hits + alarms) / 2)
    perfect = scores.d_prime(synthetic[None].astype(float), synthetic)[0]
    assert np.isfinite(perfect) and perfect > 3


def test_areas_are_scikit_learns():
    rng = np.random.default_rng(0)
    ratings, synthetic = rng.integers(-5, 6, (4, 60)), np.arange(60) < 25
    expected = [roc_auc_score(synthetic, each) for each in ratings]
    assert scores.auroc(ratings, synthetic) == pytest.approx(expected)


def test_agreement_by_hand():
    """Fleiss' κ and Krippendorff's α of 1 and near 0; κ of a table small enough to reckon."""
    calls = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [1, 0, 0, 0]], float)
    agreed = np.mean([1, 1 / 3, 1, 1])
    by_chance = (5 / 12) ** 2 + (7 / 12) ** 2
    assert scores.kappa(calls) == pytest.approx((agreed - by_chance) / (1 - by_chance))
    assert scores.alpha(np.tile([1, 2, 3, 4], (3, 1))) == pytest.approx(1)
    rng = np.random.default_rng(0)
    assert abs(scores.alpha(rng.integers(1, 6, (4, 400)))) < 0.05


def test_one_reader_has_the_pictures_chance_alone():
    """A mean's jackknife is its standard error."""
    rng = np.random.default_rng(0)
    values, synthetic = rng.standard_normal((1, 30)), np.ones(30, bool)
    found = scores.pooled(lambda given, _: given.mean(1), values, synthetic)
    width = t.ppf(0.975, 29) * sem(values[0])
    assert (found.value, found.high) == pytest.approx((values.mean(), values.mean() + width))


def test_readers_whose_answers_share_nothing_are_a_t_test_of_readers():
    """With no covariance between readers the model is Student's."""
    rng = np.random.default_rng(2)
    values = rng.standard_normal((5, 40)) + rng.standard_normal((5, 1))
    left = scores._jackknife(lambda given, _: given.mean(1), values, np.ones(40, bool), None)
    off = left - left.mean(0)
    covariance = off.T @ off
    found = scores.pooled(lambda given, _: given.mean(1), values, np.ones(40, bool))
    interval = ttest_1samp(values.mean(1), 0).confidence_interval()
    if covariance.sum() - np.trace(covariance) <= 0:
        assert (found.low, found.high) == pytest.approx(interval)
    else:
        assert found.high - found.low > interval.high - interval.low


def test_pictures_of_one_patient_are_left_out_together():
    rng = np.random.default_rng(0)
    values, synthetic = rng.standard_normal((1, 10)).repeat(4, axis=1), np.ones(40, bool)
    groups = [str(k // 4) for k in range(40)]
    found = scores.pooled(lambda given, _: given.mean(1), values, synthetic, groups)
    width = t.ppf(0.975, 9) * sem(values[0, ::4])
    assert found.high - found.value == pytest.approx(width)


@pytest.mark.parametrize(("d", "truth"), [(0.0, 0.5), (1.0, 0.683)])
def test_intervals_hold_the_truth_about_as_often_as_they_say(d, truth):
    """Of 120 studies; benchmarks/reading.py has a thousand of each kind."""
    held = 0
    for seed in range(120):
        calls, synthetic = study(np.random.default_rng(seed), 5, 40, d)
        of = scores.pooled(scores.accuracy, calls, synthetic)
        held += of.low <= truth <= of.high
    assert held >= 105


def test_equivalence_needs_the_whole_interval_within_the_margin():
    rng = np.random.default_rng(0)
    for readers, pictures, told, expected in (
        (10, 400, 0.0, True), (3, 10, 0.0, False), (10, 200, 2.0, False)
    ):  # fmt: skip
        calls, synthetic = study(rng, readers, pictures, told)
        interval = scores.pooled(scores.accuracy, calls, synthetic, confidence=0.9)
        assert scores.equivalent(interval, 0.1) is expected
