"""A whole trial on made-up features, where what helps is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_network import TINY, pictures

from mpox.utility import arms, arms_csv, end_to_end, trial
from mpox.utility.photos import MPOX, Photos, Pixels, Sets, Version

WIDTH = 12


def photos(rng: np.random.Generator, patients: int, each: int = 3) -> Photos:
    """Of as many patients with each condition; the first three features tell mpox."""
    labels = [label for label in (MPOX, "acne", "eczema") for _ in range(patients * each)]
    mpox = np.array(labels) == MPOX
    patient = rng.standard_normal((3 * patients, WIDTH)).repeat(each, axis=0)
    rows = (patient + 0.5 * rng.standard_normal((len(labels), WIDTH))).astype(np.float32)
    rows[:, :3] += 0.8 * mpox[:, None]
    names = [str(k // each) for k in range(len(labels))]
    tones = ["tan", "dark"] * (len(labels) // 2) + ["tan"] * (len(labels) % 2)
    return Photos(rows, labels, names, tones, rng.uniform(0, 255, (len(labels), 3)))


def renamed(part: Photos, prefix: str) -> Photos:
    return replace(part, patients=[f"{prefix} {name}" for name in part.patients])


def fresh(rng: np.random.Generator, number: int) -> np.ndarray:
    """What a perfect generator draws."""
    drawn = photos(rng, number, 1)
    return drawn.rows[drawn.mpox]


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
    """The same with a small picture for each photo, and nine by each generator."""
    rng, sets = np.random.default_rng(0), made_up()

    def draw(photos: Photos) -> np.ndarray:
        return np.concatenate([pictures(rng, 1, mpox) for mpox in photos.mpox])

    train = draw(sets.plain.train)
    drawn = [pictures(rng, 9, True) for _ in range(2)]
    pixels = Pixels(train, train // 2 + 60, draw(sets.val), draw(sets.test), *drawn)
    return replace(sets, pixels=pixels)


@pytest.fixture(scope="module")
def sets() -> Sets:
    return made_up()


@pytest.fixture(scope="module")
def result(sets) -> trial.Result:
    return trial.compare_arms(sets, seed=0)


def test_every_arm_has_its_interval_and_its_numbers_of_pictures(result):
    metrics = result.metrics
    expected = ["real", "real_encoded", "augmented", "both_50", "both_100", "both_200", "both_500",
                "synthetic", "placebo"]  # fmt: skip
    by_name = {name: each for name, each in metrics.estimates.items() if "n_mpox" in each}
    assert list(by_name) == expected and metrics.identity["main"] == "both_100"
    n = 15
    counts = [n, n, 2 * n, n + 8, 2 * n, 3 * n, 6 * n, 75, 2 * n]
    assert [each["n_mpox"].value for each in by_name.values()] == counts
    for name, arm in by_name.items():
        assert 0 <= arm["auroc"].low < arm["auroc"].value < arm["auroc"].high <= 1
        assert set(metrics.within(f"{name}, label: ")) == {"acne", "eczema"}
        assert set(metrics.within(f"{name}, tone: ")) == {"tan", "dark"}
    assert list(metrics.within("real, patients: ")) == ["2", "5"]  # of 5 patients
    main = by_name["both_100"]
    assert metrics.headlines == {f"utility_{k}": main[k].value for k in ("auroc", "gain")}
    assert {row["arm"] for row in result.rows} == {*expected} - {"real_encoded"}
    lines = arms_csv.to_csv(result.rows).decode().splitlines()
    assert lines[0] == ",".join(arms_csv.COLUMNS) and len(lines) == 1 + len(result.rows)


def test_a_perfect_generator_helps_and_noise_does_not(result):
    by_name = result.metrics.estimates
    assert by_name["both_500"]["gain"].low > 0
    assert by_name["both_100"]["auroc"].value > by_name["placebo"]["auroc"].value
    assert by_name["placebo"]["gain"].low <= 0
    assert result.metrics["worth"].value > 0
    assert by_name["both_100"]["over_placebo"].value > 0


def test_the_smallest_gain_is_that_found_with_80_percent_power(result):
    arm = result.metrics.estimates["both_100"]
    error = (arm["gain"].high - arm["gain"].low) / 2 / 1.96
    assert arm["detectable"].value == pytest.approx((1.96 + 0.8416) * error, rel=1e-3)


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
    assert arms.main_ratio(arms.ratios(n, m)) == pytest.approx(main)


def test_without_variants_there_is_no_augmented_arm(sets, monkeypatch):
    monkeypatch.setattr(arms, "REPEATS", 1)
    plain, rng = replace(sets.plain, variants=[]), np.random.default_rng(0)
    trainer = arms.Trainer(sets)
    assert "augmented" not in arms.train(trainer, plain, sets, rng)
    assert list(arms.train_curves(trainer, plain, rng)) == ["real"]


def test_a_trial_of_networks_also_has_the_result_of_logistic_regression(result, tmp_path):
    recipe = TINY._replace(steps=1)
    networks = end_to_end.Networks(pictured(), recipe, 0, tmp_path, torch.device("cpu"))
    both, names = trial.compare_arms(networks.sets, 0, networks), list(end_to_end.ARMS)
    assert both.metrics.within("linear: ") == result.metrics.estimates
    identity = result.metrics.identity
    assert "classifier" not in identity and not result.metrics.within("linear: ")
    assert both.metrics.identity == {**identity, "main": "share_40", "linear_main": "both_100",
                                     "classifier": "cnn", "network": "small"}  # fmt: skip
    estimates = both.metrics.estimates
    groups = [name for name in estimates if not name.startswith("linear: ")]
    by_name = [name for name in groups if "n_mpox" in estimates[name]]
    assert by_name == ["real", "real_encoded", *names[1:]]
    main = estimates["share_40"]
    assert {"gain", "gain_over_other", "detectable", "over_placebo"} <= set(main)
    assert "over_augmented" not in main and "all" not in groups
    assert not any(", patients: " in group for group in groups)
    assert both.metrics.headlines["utility_gain"] == main["gain"].value
    rows = [row for row in both.rows if row["classifier"] == "linear"]
    assert repr(rows) == repr(result.rows)
    others = [row["arm"] for row in both.rows if row["classifier"] == "cnn"]
    assert list(dict.fromkeys(others)) == names
