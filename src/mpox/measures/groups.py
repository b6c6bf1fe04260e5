"""For whom: how often and how well each group is drawn, compared with the test pictures.

A group is a value of a column. `tone` is the band *measured* in each picture, real or synthetic.
Other columns come from the folder's table, which states what was asked of a synthetic picture.
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
FEWEST = 20  # pictures on either side for which the quality of a group is measured
FEWEST_PATIENTS = 5  # patients of the test pictures, likewise
GRID = np.arange(-90, 91)  # degrees


def measure_groups(
    test: FeatureSet,
    fake: FeatureSet,
    by_columns: Sequence[str],
    k: int,
    rng: np.random.Generator,
) -> dict[str, dict[str, Estimate]]:
    """Estimates by group and name.

    - all: tone_distance, the Wasserstein distance of the typology angles in degrees; its null is
      the mean for as many pictures with the test pictures' own distribution.
    - by <column>: p of a bootstrap over patients, for the groups' shares (for tone, the angles).
      For tone also asked, Spearman's correlation of the tone asked for and the angle drawn, if
      tones were asked for by the names in `tone.BANDS`.
    - <column>: <value>: n_real, n_synthetic, share_real, share_synthetic; share_off, the difference
      of the shares with an interval over patients; precision and coverage within the group, if
      neither side is too small.
    """
    real, synthetic = angles(test), angles(fake)
    # Cumulative distributions: the difference of their means over the grid is the distance.
    below = (real[:, None] <= GRID).astype(float), (synthetic[:, None] <= GRID).astype(float)
    even = pairs(real, test.patients)
    fake_chance = redraw(below[1], fake.patients, rng, fake.strata)
    chance = fake_chance - redraw(below[0], test.patients, rng, even)
    off = below[1].mean(0) - below[0].mean(0)
    measures = {ALL: {"tone_distance": _distance(off, chance, fake_chance)}}
    for name in by_columns:
        if name == "tone":
            one, other = ([tone.word(angle) for angle in each] for each in (real, synthetic))
            column = Column(name, one, other, list(tone.BANDS), even)
        else:
            one, other = (_values(each, name) for each in (test, fake))
            column = Column(name, one, other, sorted({*one, *other}), [0] * len(test))
        measures |= _measure_column(test, fake, column, k, rng)
    if "tone" in by_columns:
        p = Estimate(difference(below[0], below[1], chance))
        measures["by tone"] = {"p": p} | _asked(fake, synthetic)
    return measures


def angles(pictures: FeatureSet) -> np.ndarray:
    """The individual typology angle of each picture (n), in degrees."""
    return np.array([tone.typology_angle(each) for each in pictures.pixels])


def _values(each: FeatureSet, column: str) -> list[str]:
    """The value of each picture; `unknown` without a value, a column or a table."""
    return [row.get(column) or table.UNKNOWN for row in each.pictures.rows]


def _distance(off: np.ndarray, chance: np.ndarray, fake_chance: np.ndarray) -> Estimate:
    """Wasserstein distance from the difference of the means `off` (K).

    `chance` (B×K): bootstrap deviations of that difference; `fake_chance`: the part of them that is
    due to the synthetic pictures.
    """
    value, null = float(np.abs(off).sum()), float(np.abs(chance).sum(1).mean())
    width, noise = (halves.spread(np.abs(off + each).sum(1)) for each in (chance, fake_chance))
    return Estimate(value, max(value - width, 0.0), value + width, null, noise)


def difference(test: np.ndarray, fake: np.ndarray, chance: np.ndarray) -> float:
    """p of Σ|mean of `test` − mean of `fake`| (n×K, m×K) if both have one distribution.

    The statistic is twice the total variation distance for one-hot rows, and the Wasserstein
    distance for rows 1[x ≤ grid]. `chance`: bootstrap deviations of the difference of means, B×K.
    """
    off = np.abs(test.mean(0) - fake.mean(0)).sum()
    return float((1 + np.sum(np.abs(chance).sum(1) >= off)) / (1 + len(chance)))


def redraw(
    rows: np.ndarray,
    patients: Sequence[str],
    rng: np.random.Generator,
    strata: Sequence[Hashable],
) -> np.ndarray:
    """Deviations of the mean of n×K rows when patients are drawn again: DRAWS×K.

    A bootstrap of whole patients within strata, whose sizes are fixed. P patients drawn from
    themselves vary less than P new ones, so the deviations are scaled by √(P/(P−1)) (Rao & Wu
    1988). A patient's stratum is that of its first row in `strata` (n). All strata with a single
    patient form one stratum; if it has only one patient, that patient does not vary.
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
        members = np.flatnonzero(label == each)
        m = len(members)
        drawn = rng.multinomial(m, np.full(m, 1 / m), size=DRAWS)
        times[:, members] += (drawn - 1) * np.sqrt(m / max(m - 1, 1))
    return (times @ sums) / (times @ sizes)[:, None] - rows.mean(0)


def pairs(order: np.ndarray, patients: Sequence[str]) -> list[int]:
    """Strata (n) for patients that were spread evenly by `order` (n), as `prepare` does by tone.

    Such patients vary less than random ones. Each pair of neighbours in the order of the patients'
    means forms a stratum (Wolter 2007, section 8.2, on systematic samples).
    """
    patient = halves.numbered(patients)
    means = np.bincount(patient, order) / np.bincount(patient)
    number = len(means)
    place = np.empty(number, int)
    place[np.argsort(means, kind="stable")] = np.arange(number)
    return np.minimum(place // 2, max(number // 2 - 1, 0))[patient].tolist()


class Column(NamedTuple):
    """A column that divides pictures into groups."""

    name: str
    real: Sequence[str]  # the value of each test picture, n
    synthetic: Sequence[str]  # the value of each synthetic picture, m
    values: Sequence[str]  # one group each
    strata: Sequence[Hashable]  # n, of the test pictures, for the bootstrap


def _measure_column(
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
        members = [np.flatnonzero(each[:, j]) for each in one_hot]
        shares = float(real[:, j].mean()), float(synthetic[:, j].mean())
        group = f"{column.name}: {value}"
        measures[group] = {
            "n_real": Estimate(len(members[0])),
            "n_synthetic": Estimate(len(members[1])),
            "share_real": Estimate(shares[0]),
            "share_synthetic": Estimate(shares[1]),
            "share_off": Estimate(shares[1] - shares[0], float(low[j]), float(high[j]), 0.0),
        }
        patients = {test.patients[i] for i in members[0]}
        if min(map(len, members)) >= FEWEST and len(patients) >= FEWEST_PATIENTS:
            measures[group] |= _quality(test.subset(members[0]), fake.subset(members[1]), k, rng)
    return measures


def _quality(
    test: FeatureSet, fake: FeatureSet, k: int, rng: np.random.Generator
) -> dict[str, Estimate]:
    """Precision and coverage within a group, over halves of it."""
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
