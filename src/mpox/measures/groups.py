"""For whom: how often each group of pictures is drawn, and how well, beside the test pictures.

A group is a value of a column: of `tone` the band that is *measured* in a picture, real or
synthetic alike; of any other column what the folder's table says, for a synthetic picture what was
asked of it.
"""

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import spearmanr

from mpox.core import table
from mpox.measures import coverage, distances
from mpox.pictures.feature_set import FeatureSet, Sets
from mpox.statistics import halves, tone
from mpox.statistics.estimate import ALL, Estimate

DRAWS = 999  # of the bootstrap
FEWEST = 20  # pictures of either side, from which on a group is judged …
FEWEST_PATIENTS = 5  # … and patients of the test pictures
GRID = np.arange(-90, 91)  # degrees


def measure_groups(
    test: FeatureSet,
    fake: FeatureSet,
    by_columns: Sequence[str],
    k: int,
    rng: np.random.Generator,
) -> dict[str, dict[str, Estimate]]:
    """By group and name.

    - all: tone_distance, the Wasserstein distance of the typology angles, in degrees, with the null
      of what as many pictures of the test pictures' own distribution would have;
    - by <column>: p, of how far the groups' shares (of tone, the angles' distribution) are apart, a
      bootstrap's over patients; of tone also asked, Spearman's correlation of the tone asked of
      synthetic pictures and the angle drawn, where tones were asked in `tone.BANDS`' words;
    - <column>: <value>: n_real, n_synthetic, share_real, share_synthetic; share_off, their
      difference with an interval over patients; precision and coverage of the group against its own
      test pictures, where neither side is too small to judge.
    """
    real, synthetic = angles(test), angles(fake)
    below = (real[:, None] <= GRID).astype(float), (synthetic[:, None] <= GRID).astype(float)
    even = pairs(real, test.patients)
    of_fake = redraw(below[1], fake.patients, rng, fake.strata)
    chance = of_fake - redraw(below[0], test.patients, rng, even)
    off = below[1].mean(0) - below[0].mean(0)
    measures = {ALL: {"tone_distance": _distance(off, chance, of_fake)}}
    for name in by_columns:
        if name == "tone":
            words = ([tone.word(angle) for angle in each] for each in (real, synthetic))
            column = Column(name, *words, list(tone.BANDS), even)
        else:
            values = _values(test, name), _values(fake, name)
            column = Column(name, *values, sorted({*values[0], *values[1]}), [0] * len(test))
        measures |= _of_column(test, fake, column, k, rng)
    if "tone" in by_columns:
        p = Estimate(difference(below[0], below[1], chance))
        measures["by tone"] = {"p": p} | _asked(fake, synthetic)
    return measures


def angles(pictures: FeatureSet) -> np.ndarray:
    return np.array([tone.typology_angle(each) for each in pictures.pixels])


def _values(each: FeatureSet, column: str) -> list[str]:
    """The value of each picture; without a column, or a table, `unknown`."""
    return [row.get(column) or table.UNKNOWN for row in each.pictures.rows]


def _distance(off: np.ndarray, chance: np.ndarray, of_fake: np.ndarray) -> Estimate:
    """Wasserstein distance from the means' difference `off` (K), beside what chance alone gives.

    `chance`, and of it what is the synthetic pictures' (B×K): as redraw has them.
    """
    value, null = float(np.abs(off).sum()), float(np.abs(chance).sum(1).mean())
    width, noise = (halves.spread(np.abs(off + each).sum(1)) for each in (chance, of_fake))
    return Estimate(value, max(value - width, 0.0), value + width, null, noise)


def difference(test: np.ndarray, fake: np.ndarray, chance: np.ndarray) -> float:
    """p of Σ|mean of `test`'s rows − mean of `fake`'s| (n×K, m×K), were both of one distribution.

    Of one-hot rows that is twice the total variation distance, of rows 1[x ≤ grid] the Wasserstein
    distance. `chance`: how far the means' difference goes from itself in a bootstrap, B×K.
    """
    off = np.abs(test.mean(0) - fake.mean(0)).sum()
    return float((1 + np.sum(np.abs(chance).sum(1) >= off)) / (1 + len(chance)))


def redraw(
    rows: np.ndarray,
    patients: Sequence[str],
    rng: np.random.Generator,
    strata: Sequence[Hashable],
) -> np.ndarray:
    """How far the mean of n×K rows goes from itself when patients are drawn again: DRAWS×K.

    A bootstrap of whole patients, each drawn again from those of its stratum alone, of which there
    is a fixed number. P patients of a stratum drawn from themselves vary less than P drawn anew:
    the deviations are stretched by √(P/(P−1)) (Rao & Wu 1988). `strata`: n, of a patient's rows the
    first one's counts; strata of one patient count as one (a last one alone as what cannot vary).
    """
    patient = halves.numbered(patients)
    number = int(patient.max()) + 1
    sums = np.zeros((number, rows.shape[1]))
    np.add.at(sums, patient, rows)
    sizes = np.bincount(patient, minlength=number)
    first = np.unique(patient, return_index=True)[1]
    label = halves.numbered([str(strata[i]) for i in first])
    label[np.bincount(label)[label] == 1] = -1
    times = np.ones((DRAWS, number))
    for each in np.unique(label):
        own = np.flatnonzero(label == each)
        m = len(own)
        drawn = rng.multinomial(m, np.full(m, 1 / m), size=DRAWS)
        times[:, own] += (drawn - 1) * np.sqrt(m / max(m - 1, 1))
    return (times @ sums) / (times @ sizes)[:, None] - rows.mean(0)


def pairs(order: np.ndarray, patients: Sequence[str]) -> list[int]:
    """Strata (n) of patients that were spread evenly by `order` (n), as `prepare` does by tone.

    Each patient and the next one in order of its mean are a stratum (a systematic sample as pairs
    of one stratum; Wolter 2007, section 8.2), for so spread they vary less than at random.
    """
    patient = halves.numbered(patients)
    means = np.bincount(patient, order) / np.bincount(patient)
    number = len(means)
    place = np.empty(number, int)
    place[np.argsort(means, kind="stable")] = np.arange(number)
    return np.minimum(place // 2, max(number // 2 - 1, 0))[patient].tolist()


class Column(NamedTuple):
    """A column by whose values pictures are grouped."""

    name: str
    real: Sequence[str]  # the value of each test picture, n …
    synthetic: Sequence[str]  # … and of each synthetic picture, m
    values: Sequence[str]  # that a group is made of
    strata: Sequence[Hashable]  # n, of the test pictures' patients, for the bootstrap


def _of_column(
    test: FeatureSet, fake: FeatureSet, column: Column, k: int, rng: np.random.Generator
) -> dict[str, dict[str, Estimate]]:
    one_hot = [
        np.array(side)[:, None] == np.array(column.values)
        for side in (column.real, column.synthetic)
    ]
    real, synthetic = (each.astype(float) for each in one_hot)
    chance = redraw(synthetic, fake.patients, rng, fake.strata)
    chance = chance - redraw(real, test.patients, rng, column.strata)
    low, high = np.quantile(chance, [0.025, 0.975], axis=0) + synthetic.mean(0) - real.mean(0)
    measures = {f"by {column.name}": {"p": Estimate(difference(real, synthetic, chance))}}
    for j, value in enumerate(column.values):
        own = [np.flatnonzero(each[:, j]) for each in one_hot]
        shares = float(real[:, j].mean()), float(synthetic[:, j].mean())
        group = f"{column.name}: {value}"
        measures[group] = {
            "n_real": Estimate(len(own[0])),
            "n_synthetic": Estimate(len(own[1])),
            "share_real": Estimate(shares[0]),
            "share_synthetic": Estimate(shares[1]),
            "share_off": Estimate(shares[1] - shares[0], float(low[j]), float(high[j]), 0.0),
        }
        patients = {test.patients[i] for i in own[0]}
        if min(map(len, own)) >= FEWEST and len(patients) >= FEWEST_PATIENTS:
            measures[group] |= _quality(test.subset(own[0]), fake.subset(own[1]), k, rng)
    return measures


def _quality(
    test: FeatureSet, fake: FeatureSet, k: int, rng: np.random.Generator
) -> dict[str, Estimate]:
    """Precision and coverage of a group among itself, at halves of it."""
    sets = Sets(test, fake)
    draws = distances.draw_halves(sets, rng)
    most = min(k, len(draws[0].one) - 1)

    def shares(one: np.ndarray, other: np.ndarray) -> dict[str, float]:
        measures = coverage.prdc(one, other, most)
        return {"precision": measures.precision, "coverage": measures.coverage}

    over = distances.summarise_draws(sets, draws, shares)
    return {name: summary.share() for name, summary in over.items()}


def _asked(fake: FeatureSet, angles: np.ndarray) -> dict[str, Estimate]:
    words, order = _values(fake, "tone"), list(tone.BANDS)
    if not {*words} <= {*order} or len({*words}) < 2:
        return {}
    light = [-order.index(word) for word in words]
    return {"asked": Estimate(float(spearmanr(light, angles)[0]))}
