"""Measures by group, with known answers on angles and shares."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from mpox.core.picture_set import PictureSet
from mpox.measures import groups
from mpox.photos import splits
from mpox.pictures.feature_set import FeatureSet
from mpox.statistics import tone
from mpox.statistics.estimate import ALL, Z

EACH = 4  # pictures of a test patient


def drawn(
    rng: np.random.Generator, patients: np.ndarray, each: int
) -> tuple[np.ndarray, list[str]]:
    """Angles of `each` pictures of every patient, given the patients' angles, and the patients."""
    angles = np.repeat(patients, each) + rng.normal(0, 5, len(patients) * each)
    return angles.clip(-89, 89), [str(k) for k in np.repeat(np.arange(len(patients)), each)]


def cohort(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Angles of a hospital's 64 patients, and of the 26 that `prepare` puts into test."""
    every = rng.uniform(-75, 75, 64)
    tones = {str(k): [angle] * EACH for k, angle in enumerate(every)}
    parts = splits.split(tones, {"train": 0.5, "val": 0.1, "test": 0.4}, int(rng.integers(2**31)))
    return every, np.array([every[int(group)] for group, part in parts.items() if part == "test"])


def fresh(rng: np.random.Generator, every: np.ndarray, n: int = 104) -> tuple:
    """The pictures of a perfect generator: the cohort's tones, each picture of another patient."""
    return drawn(rng, rng.choice(every, n), 1)


def below(angles: np.ndarray) -> np.ndarray:
    return (angles[:, None] <= groups.GRID).astype(float)


def test_cumulative_rows_give_the_wasserstein_distance():
    rng = np.random.default_rng(0)
    one, other = (rng.integers(-80, 80, 50).astype(float) for _ in range(2))
    total = np.abs(below(one).mean(0) - below(other).mean(0)).sum()
    assert total == pytest.approx(wasserstein_distance(one, other))


def test_the_bootstrap_has_the_textbook_variance():
    """s²/4 for the mean of 4 patients, with unbiased s²; Σ (a − b)² / 4² for two pairs."""
    values = np.array([1.0, 9.0, 4.0, 11.0])
    rng, patients = np.random.default_rng(0), ["a", "b", "c", "d"]
    of_pairs = np.sqrt(((1 - 4) ** 2 + (9 - 11) ** 2) / 16)
    for strata, expected in (
        ([""] * 4, np.sqrt(values.var(ddof=1) / 4)),
        (groups.pairs(values, patients), of_pairs),
        (["light", "dark", "light", "dark"], of_pairs),
        (["light", "alone", "light", "single"], of_pairs),
    ):
        deviations = groups.redraw(values[:, None], patients, rng, strata)
        assert deviations.std() == pytest.approx(expected, rel=0.08), strata


def test_neighbours_are_paired_and_an_odd_patient_joins_the_last_pair():
    order, patients = np.array([5.0, 5, 1, 3, 3, 9, 7]), ["a", "a", "b", "c", "c", "d", "e"]
    assert groups.pairs(order, patients) == [1, 1, 0, 0, 0, 1, 1]
    assert groups.pairs(order[:3], patients[:3]) == [0, 0, 0]


def shift(
    real: tuple[np.ndarray, list[str]], angles: np.ndarray, prompts: list[str], rng
) -> tuple[float, bool]:
    """p of the tones' distance, and whether dark skin is named as too rare, as measure_groups does.

    `real`: the test pictures' angles and patients.
    """
    strata = groups.pairs(*real)
    patients = [str(k) for k in range(len(angles))]
    bands = np.array(list(tone.BANDS))

    def one_hot(angles: np.ndarray) -> np.ndarray:
        return (np.array([tone.word(each) for each in angles])[:, None] == bands).astype(float)

    def chance(test: np.ndarray, fake: np.ndarray) -> np.ndarray:
        redrawn = groups.redraw(test, real[1], rng, strata)
        return groups.redraw(fake, patients, rng, prompts) - redrawn

    sides = below(real[0]), below(angles)
    p = groups.difference(*sides, chance(*sides))
    test, fake = one_hot(real[0]), one_hot(angles)
    high = np.quantile(chance(test, fake), 0.975, axis=0) + fake.mean(0) - test.mean(0)
    return p, bool(high[bands == "dark"] < 0)


def test_equal_sets_are_rarely_flagged_and_a_missing_dark_quarter_is_named():
    equal, asked, missing, named = [], [], [], []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        every, tested = cohort(rng)
        real, unasked = drawn(rng, tested, EACH), [""] * 104
        equal.append(shift(real, fresh(rng, every)[0], unasked, rng)[0])

        # The cohort's tones are prompted for, each as often as the cohort has it.
        words = np.array([tone.word(angle) for angle in every])
        counts = {word: round(104 * np.mean(words == word)) for word in sorted(set(words))}
        chosen = [rng.choice(every[words == word], count) for word, count in counts.items()]
        prompts = [word for word, count in counts.items() for _ in range(count)]
        asked.append(shift(real, drawn(rng, np.concatenate(chosen), 1)[0], prompts, rng)[0])

        pool, _ = fresh(rng, every, 1000)
        p, is_named = shift(real, pool[pool > np.quantile(pool, 0.25)][:104], unasked, rng)
        missing.append(p)
        named.append(p < 0.05 and is_named)
    # 5 % is meant; of 30 seeds 4 are still likely then.
    assert max(np.mean(np.array(each) < 0.05) for each in (equal, asked)) <= 0.14
    assert np.mean(np.array(missing) < 0.05) >= 0.95 and np.mean(named) >= 0.95


def pictures(folder: Path, angles: np.ndarray, patients: list[str], **columns) -> FeatureSet:
    """Plain pictures with these angles (within ±63), random features, and a table; no files."""
    paths = [folder / f"{k:05d}.png" for k in range(len(angles))]
    columns = {"patient": patients, **columns}
    values = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    table = PictureSet(folder, paths, values, folder / "metadata.csv", list(columns))
    rng = np.random.default_rng(1)
    yellow = 20 + 0 * angles  # so that a lightness of 50 ± 40 gives all angles
    lab = np.stack([50 + yellow * np.tan(np.radians(angles.clip(-63, 63))), 0 * angles, yellow], 1)
    colours = cv2.cvtColor(lab[:, None].astype(np.float32), cv2.COLOR_LAB2RGB)[:, 0]
    pixels = np.broadcast_to(np.round(255 * colours)[:, None, None], (len(angles), 4, 4, 3)).astype(
        np.uint8
    )
    rows = rng.normal(size=(len(angles), 6)).astype(np.float32)
    return FeatureSet(table, pixels, rows, np.ones((len(angles), 64)))


def test_the_quality_of_a_small_group_is_not_measured(tmp_path):
    rng = np.random.default_rng(0)
    patients = [str(k) for k in np.repeat(np.arange(26), 4)]
    real, synthetic = ["arm"] * 60 + ["leg"] * 40 + ["face"] * 4, ["arm"] * 30 + ["leg"] * 74
    test = pictures(tmp_path / "test", np.zeros(104), patients, site=real)
    single = [str(k) for k in range(104)]
    fake = pictures(tmp_path / "fake", np.zeros(104), single, site=synthetic)
    by = groups.measure_groups(test, fake, ["site"], 5, rng)
    arm, leg, face = (by[f"site: {name}"] for name in ("arm", "leg", "face"))
    assert (arm["n_real"].value, arm["n_synthetic"].value) == (60, 30)
    assert leg["share_off"].value == pytest.approx(74 / 104 - 40 / 104)
    assert leg["share_off"].low > 0 and arm["share_off"].high < 0
    assert {"precision", "coverage"} <= arm.keys()
    assert face["n_real"].value == 4 and "precision" not in face
    # Both sides have features of one distribution.
    assert arm["precision"].like_real and leg["coverage"].like_real


def test_tones_asked_and_drawn_are_correlated(tmp_path):
    rng = np.random.default_rng(0)
    asked = ["very light", "tan", "dark"] * 12
    angle = np.array([60.0, 15.0, -40.0] * 12)
    one = [str(k) for k in range(36)]
    test = pictures(tmp_path / "test", angle, one)
    for name, order in (("same", angle), ("turned", -angle)):
        fake = pictures(tmp_path / name, order, one, tone=asked)
        correlation = groups.measure_groups(test, fake, ["tone"], 5, rng)["by tone"]["asked"].value
        assert correlation == pytest.approx(1 if name == "same" else -1, abs=0.01)
    fake = pictures(tmp_path / "lab", angle, one, tone=["IV", "V", "VI"] * 12)  # a lab's own scale
    assert "asked" not in groups.measure_groups(test, fake, ["tone"], 5, rng)["by tone"]


def test_the_distance_of_tones_exceeds_its_null_only_for_darker_skin(tmp_path):
    rng = np.random.default_rng(0)
    every, tested = cohort(rng)
    real, patients = drawn(rng, tested, EACH)
    test = pictures(tmp_path / "test", real, patients)
    for name, shift, like in (("alike", 0, True), ("darker", -40, False)):
        one, patient = fresh(rng, every)
        fake = pictures(tmp_path / name, one + shift, patient)
        distance = groups.measure_groups(test, fake, [], 5, rng)[ALL]["tone_distance"]
        assert distance.like_real == like, name
        angles = [[tone.typology_angle(each) for each in side.pixels] for side in (test, fake)]
        assert distance.value == pytest.approx(wasserstein_distance(*angles), abs=0.5)  # the grid's
        assert distance.low >= 0 and distance.null > 0 and distance.noise > 0


def test_the_noise_of_a_distance_of_tones_is_the_spread_of_drawings(tmp_path):
    """Eight tones are asked for, 13 pictures each, and all are drawn a little too dark.

    Without the prompts, the stated noise is twice as large.
    """
    rng = np.random.default_rng(0)
    asked = np.repeat(np.linspace(-50, 50, 8), 13)
    prompts, single = [str(tone) for tone in asked], [str(k) for k in range(104)]
    real, patients = drawn(rng, rng.uniform(-50, 50, 26), EACH)
    test = pictures(tmp_path / "test", real, patients)
    spread, noise = [], {"asked": [], "unknown": []}
    for _ in range(24):
        angles = asked - 15 + rng.normal(0, 12, 104)
        for name, columns in (("asked", {"text": prompts}), ("unknown", {})):
            fake = pictures(tmp_path, angles, single, **columns)
            distance = groups.measure_groups(test, fake, [], 5, rng)[ALL]["tone_distance"]
            noise[name].append(distance.noise / Z)
        spread.append(distance.value)
    stated = {name: np.mean(each) / np.std(spread, ddof=1) for name, each in noise.items()}
    assert 0.75 <= stated["asked"] <= 1.33
    assert stated["unknown"] > 1.5


def test_shares_fixed_by_prompts_have_no_noise(tmp_path):
    rng = np.random.default_rng(0)
    one = [str(k) for k in range(104)]
    sites = ["arm"] * 30 + ["leg"] * 74
    test, width = pictures(tmp_path, np.zeros(104), one, site=sites), {}
    for name, prompts in (("asked", {"text": sites}), ("unknown", {})):
        fake = pictures(tmp_path, np.zeros(104), one, site=sites, **prompts)
        off = groups.measure_groups(test, fake, ["site"], 5, rng)["site: arm"]["share_off"]
        width[name] = off.high - off.low
    assert width["unknown"] / width["asked"] == pytest.approx(np.sqrt(2), rel=0.12)


def test_a_group_may_be_named_like_a_measure_of_its_column(tmp_path):
    angles, rng = np.linspace(-60, 60, 24), np.random.default_rng(0)
    single, sites = [str(k) for k in range(24)], ["asked", "p"] * 12
    side = pictures(tmp_path, angles, single, site=sites)
    by = groups.measure_groups(side, side, ["site"], 5, rng)
    assert by["by site"]["p"].value == 1.0
    assert by["site: p"]["n_real"].value == by["site: asked"]["n_real"].value == 12
