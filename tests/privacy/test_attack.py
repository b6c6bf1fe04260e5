"""The attack's numbers against sklearn's, simulations, and answers known beforehand."""

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from mpox.privacy import attack

M, N = 32, 26  # members and others, as in the embedded run


def scores(off: float, m: int, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Normal scores, the members' higher by `off` standard deviations: AUC Φ(off/√2)."""
    return rng.normal(off, 1, m), rng.normal(0, 1, n)


@pytest.mark.parametrize("off", [0.0, 1.0, 2.0])
def test_the_interval_covers_the_truth_in_93_to_98_percent(off):
    rng, truth = np.random.default_rng(1), norm.cdf(off / 2**0.5)
    found = [attack.auc_interval(*scores(off, M, N, rng)) for _ in range(1000)]
    assert 0.93 <= np.mean([each.low <= truth <= each.high for each in found]) <= 0.98


def test_the_area_is_sklearns_ties_too():
    rng = np.random.default_rng(2)
    members, others = rng.integers(0, 5, M), rng.integers(0, 4, N)
    peer = roc_auc_score(np.r_[np.ones(M), np.zeros(N)], np.r_[members, others])
    assert attack.auc(members, others) == pytest.approx(peer, abs=1e-12)


def test_at_one_half_the_interval_has_mann_and_whitneys_variance():
    """So an alarm is a test of theirs at 5 %."""
    width = norm.ppf(0.975) * ((M + N + 1) / (12 * M * N)) ** 0.5
    assert (
        attack.interval(0.5 + width + 1e-6, M, N)[0]
        > 0.5
        > attack.interval(0.5 + width - 1e-6, M, N)[0]
    )


def test_an_attack_that_finds_everybody_is_not_certain_of_it():
    found = attack.measure(np.arange(M) + 100.0, np.arange(N) * 1.0, np.random.default_rng(3))
    assert found["auc"].value == found["auc"].high == 1 and 0.8 < found["auc"].low < 1
    assert found["tpr"].value == 1


def test_an_untrained_lora_changes_no_loss_and_gives_nobody_away():
    found = attack.measure(np.zeros(M), np.zeros(N), np.random.default_rng(4))
    assert found["auc"].value == found["auc"].null == 0.5
    assert found["tpr"].value == 0 and found["false_alarms"].value == 0


def test_what_is_called_detectable_is_found_four_times_in_five():
    rng, found = np.random.default_rng(5), attack.detectable(M, N)
    off = norm.ppf(found) * 2**0.5
    alarms = [attack.auc_interval(*scores(off, M, N, rng)).low > 0.5 for _ in range(1000)]
    assert 0.75 <= np.mean(alarms) <= 0.85


def test_halves_of_the_others_called_members_raise_few_alarms():
    """Over many sets of others; of one set the halves' rate varies."""
    rng = np.random.default_rng(6)
    found = [attack.measure(*scores(0, M, N, rng), rng)["false_alarms"].value for _ in range(30)]
    assert 0.02 <= np.mean(found) <= 0.08


@pytest.mark.parametrize(("n", "rate"), [(26, 1 / 26), (99, 1 / 99), (200, 0.01)])
def test_false_positives_are_one_percent_or_one_patient(n, rate):
    others = np.arange(n) * 1.0
    members = np.array([n - 1.5, n - 2.5, n * 2.0, -1.0])  # between the highest two, three, …
    found = attack.measure(members, others, np.random.default_rng(7))["tpr"]
    assert found.null == pytest.approx(rate)
    assert found.value == (0.75 if n == 200 else 0.5)


def test_patients_count_once_however_many_photos_they_have():
    found = attack.by_patient(np.array([1.0, 2.0, 6.0, 4.0]), ["b", "a", "b", "c"])
    assert found.tolist() == [3.5, 2.0, 4.0]
