"""The attack's numbers against sklearn's, simulations, and answers known beforehand."""

import numpy as np
import pytest
from scipy.stats import norm

from mpox.privacy import attack

M, N = 32, 26  # members and others, as in the embedded run


def scores(off: float, m: int, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Normal scores, the members' higher by `off` standard deviations: AUC Φ(off/√2)."""
    return rng.normal(off, 1, m), rng.normal(0, 1, n)


@pytest.mark.parametrize("off", [0.0, 1.0, 2.0])
def test_the_interval_covers_the_truth_in_93_to_98_percent(off):
    rng, truth = np.random.default_rng(1), norm.cdf(off / 2**0.5)
    intervals = [attack.auc_interval(*scores(off, M, N, rng)) for _ in range(1000)]
    assert 0.93 <= np.mean([each.low <= truth <= each.high for each in intervals]) <= 0.98


def test_at_one_half_the_interval_has_mann_and_whitneys_variance():
    """An alarm is their test at 5 %."""
    width = norm.ppf(0.975) * ((M + N + 1) / (12 * M * N)) ** 0.5
    lows = [attack.interval(0.5 + width + off, M, N)[0] for off in (1e-6, -1e-6)]
    assert lows[0] > 0.5 > lows[1]


def test_an_attack_that_finds_everybody_keeps_an_interval():
    measures = attack.measure_separation(
        np.arange(M) + 100.0, np.arange(N) * 1.0, np.random.default_rng(3)
    )
    auc = measures["auc"]
    assert auc.value == auc.high == 1 and 0.8 < auc.low < 1 and measures["tpr"].value == 1


def test_an_untrained_lora_changes_no_loss_and_reveals_nobody():
    measures = attack.measure_separation(np.zeros(M), np.zeros(N), np.random.default_rng(4))
    assert measures["auc"].value == measures["auc"].null == 0.5
    assert measures["tpr"].value == 0 and measures["false_alarms"].value == 0


def test_a_detectable_attack_is_found_four_times_in_five():
    rng, auc = np.random.default_rng(5), attack.detectable(M, N)
    off = norm.ppf(auc) * 2**0.5
    alarms = [attack.auc_interval(*scores(off, M, N, rng)).low > 0.5 for _ in range(1000)]
    assert 0.75 <= np.mean(alarms) <= 0.85


@pytest.mark.parametrize(("n", "rate"), [(26, 1 / 26), (99, 1 / 99), (200, 0.01)])
def test_false_positives_are_one_percent_or_one_patient(n, rate):
    others = np.arange(n) * 1.0
    members = np.array([n - 1.5, n - 2.5, n * 2.0, -1.0])  # below the highest one and two, …
    tpr = attack.measure_separation(members, others, np.random.default_rng(7))["tpr"]
    assert tpr.null == pytest.approx(rate)
    assert tpr.value == (0.75 if n == 200 else 0.5)


def test_a_patient_counts_once_however_many_photos_there_are():
    means = attack.by_patient(np.array([1.0, 2.0, 6.0, 4.0]), ["b", "a", "b", "c"])
    assert means.tolist() == [3.5, 2.0, 4.0]
