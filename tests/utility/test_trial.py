"""A whole trial on made-up features, where what helps is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_network import TINY, pictures

from mpox.utility import arms, end_to_end, judge, network, trial
from mpox.utility.photos import MPOX, Photos, Pixels, Sets, Version

WIDTH = 12


def photos(rng: np.random.Generator, patients: int, each: int = 3) -> Photos:
    """Of as many patients with mpox as with either other condition, the first feature telling."""
    labels = [label for label in (MPOX, "acne", "eczema") for _ in range(patients * each)]
    mpox = np.array(labels) == MPOX
    own = rng.standard_normal((3 * patients, WIDTH)).repeat(each, axis=0)
    rows = (own + 0.5 * rng.standard_normal((len(labels), WIDTH))).astype(np.float32)
    rows[:, :3] += 0.8 * mpox[:, None]
    names = [str(k // each) for k in range(len(labels))]
    tones = ["tan", "dark"] * (len(labels) // 2) + ["tan"] * (len(labels) % 2)
    return Photos(rows, labels, names, tones, rng.uniform(0, 255, (len(labels), 3)))


def renamed(own: Photos, prefix: str) -> Photos:
    return replace(own, patients=[f"{prefix} {each}" for each in own.patients])


def fresh(rng: np.random.Generator, number: int) -> np.ndarray:
    """What a perfect generator draws."""
    own = photos(rng, number, 1)
    return own.rows[own.mpox]


def made_up() -> Sets:
    rng = np.random.default_rng(3)
    train, val, test = (
        renamed(photos(rng, n), part) for part, n in (("train", 5), ("val", 8), ("test", 24))
    )
    noisy = [train.rows + 0.2 * rng.standard_normal(train.rows.shape) for _ in range(2)]
    version = Version(train, [each.astype(np.float32) for each in noisy])
    return Sets(version, version, val, test, (train, val, test), fresh(rng, 75),
                rng.standard_normal((75, WIDTH)).astype(np.float32))  # fmt: skip


def pictured() -> Sets:
    """The same with a small picture for each photo, and nine of either generator."""
    rng, sets = np.random.default_rng(0), made_up()

    def of(mpox: np.ndarray) -> np.ndarray:
        return np.concatenate([pictures(rng, 1, each) for each in mpox])

    train = of(sets.plain.train.mpox)
    drawn = [pictures(rng, 9, True) for _ in range(2)]
    pixels = Pixels(train, train // 2 + 60, of(sets.val.mpox), of(sets.test.mpox), *drawn)
    return replace(sets, pixels=pixels)


@pytest.fixture(scope="module")
def sets() -> Sets:
    return made_up()


@pytest.fixture(scope="module")
def found(sets) -> trial.Result:
    return trial.measure(sets, seed=0)


def test_every_arm_is_there_with_its_interval_and_what_it_saw(found, sets):
    metrics = found.metrics
    expected = ["real", "real_encoded", "augmented", "both_50", "both_100", "both_200", "both_500",
                "synthetic", "placebo"]  # fmt: skip
    arms_ = {name: own for name, own in metrics.estimates.items() if "n_mpox" in own}
    assert list(arms_) == expected and metrics.identity["main"] == "both_100"
    n = 15
    counts = [n, n, 2 * n, n + 8, 2 * n, 3 * n, 6 * n, 75, 2 * n]
    assert [each["n_mpox"].value for each in arms_.values()] == counts
    for name, arm in arms_.items():
        assert 0 <= arm["auroc"].low < arm["auroc"].value < arm["auroc"].high <= 1
        assert set(metrics.within(f"{name}, label: ")) == {"acne", "eczema"}
        assert set(metrics.within(f"{name}, tone: ")) == {"tan", "dark"}
    assert list(metrics.within("real, patients: ")) == ["2", "5"]  # of 5 patients
    main = arms_["both_100"]
    assert metrics.headlines == {f"utility_{k}": main[k].value for k in ("auroc", "gain")}
    assert {row["arm"] for row in found.rows} == {*expected} - {"real_encoded"}
    assert all(set(judge.COLUMNS) <= set(row) for row in found.rows)


def test_a_perfect_generator_helps_and_noise_does_not(found):
    arms_ = found.metrics.estimates
    assert arms_["both_500"]["gain"].low > 0
    assert arms_["both_100"]["auroc"].value > arms_["placebo"]["auroc"].value
    assert arms_["placebo"]["gain"].low <= 0
    assert found.metrics["worth"].value > 0
    assert arms_["both_100"]["over_placebo"].value > 0


def test_the_smallest_gain_is_what_80_percent_power_asks(found):
    arm = found.metrics.estimates["both_100"]
    error = (arm["gain"].high - arm["gain"].low) / 2 / 1.96
    assert arm["detectable"].value == pytest.approx((1.96 + 0.8416) * error, rel=1e-3)


def test_it_is_the_same_again_and_another_seed_draws_others(found, sets):
    again = trial.measure(sets, seed=0)
    assert repr(again) == repr(found)


@pytest.mark.parametrize(
    ("n", "m", "expected", "main"),
    [
        (128, 104, [0.5, 104 / 128], 104 / 128),
        (128, 500, [0.5, 1.0, 2.0, 500 / 128], 1.0),
        (100, 1000, [0.5, 1.0, 2.0, 5.0], 1.0),
        (100, 10, [0.1], 0.1),
    ],
)
def test_ratios_go_as_far_as_the_pictures_reach(n, m, expected, main):
    assert arms.ratios(n, m) == pytest.approx(expected)
    assert arms.main(arms.ratios(n, m)) == pytest.approx(main)


def test_without_variants_there_is_no_augmented_arm(sets):
    plain = replace(sets.plain, variants=[])
    found = trial.measure(replace(sets, plain=plain, encoded=plain), seed=0)
    assert not found.metrics.within("augmented") and found.metrics.within("real, patients: ")


def test_a_trial_of_networks_has_the_linear_ones_result_beside_its_own(found, tmp_path):
    plan = end_to_end.Plan("small", network.small, TINY._replace(steps=1))
    networks = end_to_end.Networks(pictured(), plan, 0, tmp_path, torch.device("cpu"))
    both, names = trial.measure(networks.sets, 0, networks), list(end_to_end.ARMS)
    assert both.metrics.within("linear: ") == found.metrics.estimates
    identity = found.metrics.identity
    assert "classifier" not in identity and not found.metrics.within("linear: ")
    assert both.metrics.identity == {**identity, "main": "share_40", "linear_main": "both_100",
                                     "classifier": "cnn", "network": "small"}  # fmt: skip
    own = {k: v for k, v in both.metrics.estimates.items() if not k.startswith("linear: ")}
    arms_ = [name for name, measures in own.items() if "n_mpox" in measures]
    assert arms_ == ["real", "real_encoded", *names[1:]]
    main = both.metrics.estimates["share_40"]
    assert {"gain", "gain_over_other", "detectable", "over_placebo"} <= set(main)
    assert "over_augmented" not in main and "all" not in own
    assert not any(", patients: " in group for group in own)
    assert both.metrics.headlines["utility_gain"] == main["gain"].value
    rows = [row for row in both.rows if row["classifier"] == "linear"]
    assert repr(rows) == repr(found.rows)
    others = [row["arm"] for row in both.rows if row["classifier"] == "cnn"]
    assert list(dict.fromkeys(others)) == names
