"""The bootstrap against DeLong's closed form, and the error of repeats against its definition."""

import numpy as np
import pytest

from mpox.statistics import halves, roc
from mpox.utility import bootstrap
from mpox.utility.bootstrap import Bootstrap


def delong(one: np.ndarray, other: np.ndarray, mpox: np.ndarray) -> float:
    """The standard error of the difference of two areas on the same pictures (DeLong 1988)."""

    def places(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        above = scores[mpox][:, None] - scores[~mpox]
        won = (above > 0) + 0.5 * (above == 0)
        return won.mean(1), won.mean(0)

    (v1, w1), (v2, w2) = places(one), places(other)
    return float(np.sqrt(np.var(v1 - v2, ddof=1) / len(v1) + np.var(w1 - w2, ddof=1) / len(w1)))


def test_the_paired_interval_is_delongs_for_patients_with_one_picture_each():
    ratios = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        mpox = np.arange(120) < 50
        shared = mpox + rng.standard_normal(120)
        scores = [shared + 0.7 * rng.standard_normal(120) for _ in range(2)]
        times = bootstrap.redraw([str(k) for k in range(120)], mpox, rng)
        one, other = (Bootstrap(roc.auroc(each, mpox, times)[None], 1.0) for each in scores)
        difference = one.minus(other)
        assert difference.value == pytest.approx(one.value - other.value)
        ratios.append((difference.high - difference.value) / 1.96 / delong(*scores, mpox))
    assert np.mean(ratios) == pytest.approx(1, abs=0.04)


def test_pictures_of_a_patient_are_not_independent():
    """Four identical pictures of each patient have the interval of one."""
    rng = np.random.default_rng(0)
    mpox = np.arange(60) < 30
    scores = mpox + rng.standard_normal(60)
    names = [str(k) for k in range(60)]
    alone = roc.auroc(scores, mpox, bootstrap.redraw(names, mpox, np.random.default_rng(1)))
    patients, is_mpox = np.repeat(names, 4).tolist(), mpox.repeat(4)
    times = bootstrap.redraw(patients, is_mpox, np.random.default_rng(1))
    four = roc.auroc(scores.repeat(4), is_mpox, times)
    assert halves.spread(four[1:]) == pytest.approx(halves.spread(alone[1:]))
    assert four[0] == pytest.approx(alone[0])


def test_every_draw_has_both_classes_and_keeps_the_pictures_of_a_patient_together():
    rng = np.random.default_rng(0)
    times = bootstrap.redraw(["a", "a", "b", "c", "d"], np.array([1, 0, 1, 0, 0], bool), rng)
    assert times.shape == (1 + bootstrap.DRAWS, 5) and (times[0] == 1).all()
    assert (times[:, :3] == 1).all() and (times[:, 3:].sum(1) == 2).all()
    # Every control is of a patient with mpox, and not every patient has one.
    times = bootstrap.redraw(["a", "a", "b", "c"], np.array([1, 0, 1, 1], bool), rng)
    assert (times[:, 1] == 1).all() and (times[:, 2:].sum(1) == 2).all()


@pytest.mark.parametrize("repeats", [1, 4])
def test_the_error_has_the_variance_over_patients_and_over_repeats(repeats):
    """A two-way table of patients' and repeats' effects, with an interaction: closed form."""
    patients, between, interaction, errors = 0.03, 0.05, 0.02, []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        observed = rng.normal(0, interaction, (repeats, 1))  # differs on other test patients
        draws = rng.normal(0, patients, 200) + rng.normal(0, interaction, (repeats, 200))
        effect = 0.8 + rng.normal(0, between, (repeats, 1)) + observed
        errors.append(Bootstrap(np.c_[effect, effect + draws], 1.0).error)
    variance = patients**2 + interaction**2 / repeats + (between**2 / repeats) * (repeats > 1)
    assert np.mean(np.square(errors)) == pytest.approx(variance, rel=0.1)


def test_repeats_are_drawn_again_for_each_draw():
    values = np.arange(3.0)[:, None] + np.zeros(4001)
    means = Bootstrap(values, 1.0).redraw_repeats(np.random.default_rng(0))
    assert means[0] == 1 and np.std(means[1:]) == pytest.approx(np.sqrt(2 / 3 / 3), rel=0.05)
