"""The scores against scikit-learn's, and their bootstrap against DeLong's closed form."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, brier_score_loss, recall_score, roc_auc_score

from mpox.statistics import halves, roc
from mpox.utility import scores


@pytest.fixture
def drawn() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores with ties, labels, and how often each picture counts in three draws."""
    rng = np.random.default_rng(0)
    mpox = rng.uniform(size=90) < 0.4
    said = np.round(np.clip(0.4 + 0.2 * mpox + 0.25 * rng.standard_normal(90), 0, 1), 1)
    return said, mpox, np.stack([np.ones(90), *rng.integers(0, 4, (2, 90))])


def test_areas_are_scikit_learns_with_its_weights_and_ties(drawn):
    said, mpox, times = drawn
    for row, area, precision in zip(
        times,
        roc.auroc(said, mpox, times),
        roc.average_precision(said, mpox, times),
        strict=True,
    ):
        assert area == pytest.approx(roc_auc_score(mpox, said, sample_weight=row))
        expected = average_precision_score(mpox, said, sample_weight=row)
        assert precision == pytest.approx(expected)


def test_rates_are_scikit_learns(drawn):
    said, mpox, times = drawn
    found = scores.measure(said, 0.5, mpox, times)
    called = said >= 0.5
    assert found["sensitivity"][0] == pytest.approx(recall_score(mpox, called))
    assert found["specificity"][0] == pytest.approx(recall_score(~mpox, ~called))
    even = np.where(mpox, 1 / mpox.sum(), 1 / (~mpox).sum())
    assert found["brier"][0] == pytest.approx(brier_score_loss(mpox, said, sample_weight=even))


def delong(one: np.ndarray, other: np.ndarray, mpox: np.ndarray) -> float:
    """The standard error of the difference of two areas on the same pictures (DeLong 1988)."""

    def places(said: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        above = said[mpox][:, None] - said[~mpox]
        won = (above > 0) + 0.5 * (above == 0)
        return won.mean(1), won.mean(0)

    (v1, w1), (v2, w2) = places(one), places(other)
    return float(np.sqrt(np.var(v1 - v2, ddof=1) / len(v1) + np.var(w1 - w2, ddof=1) / len(w1)))


def test_the_paired_interval_is_delongs_where_patients_have_one_picture_each():
    ratios = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        mpox = np.arange(120) < 50
        shared = mpox + rng.standard_normal(120)
        one, other = (shared + 0.7 * rng.standard_normal(120) for _ in range(2))
        times = scores.redraw([str(k) for k in range(120)], mpox, rng)
        difference = roc.auroc(one, mpox, times) - roc.auroc(other, mpox, times)
        ratios.append(np.std(difference[1:], ddof=1) / delong(one, other, mpox))
    assert np.mean(ratios) == pytest.approx(1, abs=0.04)


def test_pictures_of_a_patient_are_not_independent():
    """Four identical pictures a patient: the chance is that of one each, twice what n would say."""
    rng = np.random.default_rng(0)
    mpox = np.arange(60) < 30
    said = mpox + rng.standard_normal(60)
    names = [str(k) for k in range(60)]
    alone = roc.auroc(said, mpox, scores.redraw(names, mpox, np.random.default_rng(1)))
    times = scores.redraw(np.repeat(names, 4).tolist(), mpox.repeat(4), np.random.default_rng(1))
    four = roc.auroc(said.repeat(4), mpox.repeat(4), times)
    assert halves.spread(four[1:]) == pytest.approx(halves.spread(alone[1:]))
    assert four[0] == pytest.approx(alone[0])


def test_every_draw_has_both_kinds_and_a_patient_of_both_comes_as_a_whole():
    mpox = np.array([True, False, True, False, False])
    times = scores.redraw(["a", "a", "b", "c", "d"], mpox, np.random.default_rng(0))
    assert times.shape == (1 + scores.DRAWS, 5) and (times[0] == 1).all()
    assert (times[:, 0] == times[:, 1]).all()
    assert (
        (times[:, 0] == 1).all() and (times[:, 2] == 1).all() and (times[:, 3:].sum(1) == 2).all()
    )
    # Where every control is of a patient with mpox, and not every patient has one.
    few = scores.redraw(
        ["a", "a", "b", "c"], np.array([1, 0, 1, 1], bool), np.random.default_rng(0)
    )
    assert (few[:, 1] == 1).all() and (few[:, 2:].sum(1) == 2).all()
