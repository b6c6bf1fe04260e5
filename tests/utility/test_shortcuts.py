"""Shortcuts: each alarm must ring where it should, and only there."""

import numpy as np

from mpox.statistics.estimate import Estimate
from mpox.utility import shortcuts


def test_the_probe_finds_a_shift_and_nothing_where_nothing_is():
    rng = np.random.default_rng(0)
    patients = [str(k // 4) for k in range(80)]
    patient = rng.standard_normal((20, 30)).repeat(4, axis=0)  # what a patient's photos share
    real = patient + rng.standard_normal((80, 30))
    synthetic = np.sqrt(2) * rng.standard_normal((80, 30))
    quiet = shortcuts.probe(real, patients, synthetic, np.random.default_rng(1))
    assert quiet.low <= 0.5 <= quiet.high
    synthetic[:, 0] += 4
    assert shortcuts.probe(real, patients, synthetic, np.random.default_rng(1)).low > 0.8


def test_the_probe_of_three_patients_scores_all_pictures():
    rng = np.random.default_rng(0)
    real, synthetic = rng.standard_normal((12, 30)), rng.standard_normal((60, 30))
    patients = [str(k // 4) for k in range(12)]
    assert 0.2 < shortcuts.probe(real, patients, synthetic, rng).value < 0.8


def test_colour_or_background_that_tells_nearly_as_much_is_an_alarm():
    names = ("probe", "probe_encoded", "colour", "masked")

    def alarms(value: float, low: float) -> list[bool]:
        estimates = dict.fromkeys(names, Estimate(value, low, 1.0))
        return list(shortcuts.alarms(estimates, real=0.9).values())

    assert alarms(0.52, 0.45) == [False] * 4
    assert alarms(0.85, 0.8) == [True] * 4
    assert alarms(0.7, 0.6) == [True, True, False, False]
