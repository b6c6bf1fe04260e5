"""Distances between synthetic and test pictures, and how much each set covers of the other."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from mpox.core.errors import InputError
from mpox.measures import coverage, frechet, kernel, vendi
from mpox.pictures.feature_set import FeatureSet, Sets
from mpox.statistics import halves
from mpox.statistics.estimate import Estimate, Influence

SWAPS = 999  # of the permutation test
TESTED = 2000  # pictures on each side that the permutation test uses at most


class Draw(NamedTuple):
    """Random indices of h pictures from each set, for one repetition of a measure."""

    one: np.ndarray  # test pictures
    other: np.ndarray  # test pictures of other patients
    synthetic: np.ndarray
    redrawn: np.ndarray  # other synthetic pictures
    training: np.ndarray | None = None


def draw_halves(sets: Sets[FeatureSet], rng: np.random.Generator) -> list[Draw]:
    """Halves of every set, all cut to one size because distances depend on the sample size.

    Raises InputError if a set has too few patients.
    """
    present = [each for each in sets if each is not None]
    drawn = [halves.draw(each.patients, halves.DRAWS, rng) for each in present]
    smallest, pairs = min(zip(present, drawn, strict=True), key=lambda pair: len(pair[1][0][0]))
    size = len(pairs[0][0])
    if size < halves.FEWEST:
        raise InputError(
            f"{smallest.pictures.folder}: too few patients: two halves without a common patient "
            f"have {size} pictures each, expected at least {halves.FEWEST}"
        )
    size = min(size, halves.MOST)
    return [
        Draw(*[side[:size] for pair in pairs for side in pair][:5])  # one half of the training set
        for pairs in zip(*drawn, strict=True)
    ]


class Summary(NamedTuple):
    """A measure over all draws."""

    mean: float
    null: float
    width: float  # half the width of the 95 % interval
    influence: Influence

    def estimate(self, value: float, least: float = -np.inf, most: float = np.inf) -> Estimate:
        """`value` with its null and an interval cut to the bounds of the measure."""
        low, high = max(value - self.width, least), min(value + self.width, most)
        return Estimate(value, low, high, self.null, self.influence.noise, influence=self.influence)

    def share(self) -> Estimate:
        """The estimate of a measure in [0, 1]."""
        return self.estimate(self.mean, 0.0, 1.0)


def measure_distances(
    test: FeatureSet, fake: FeatureSet, draws: Sequence[Draw], k: int, rng: np.random.Generator
) -> dict[str, Estimate]:
    """Distances, shares by k-th neighbours, and the Vendi ratio.

    - fid: Fréchet distance between n_fid test pictures and as many synthetic ones;
    - fid_half: its mean over the draws, with n_half pictures on each side;
    - fid_floor: the same between the halves of the test pictures;
    - fid_excess: fid_half − fid_floor, which is due to the synthetic pictures alone;
    - kid: kernel distance between all pictures of both sets;
    - kid_p: p of a permutation test with n_fid pictures on each side, at most TESTED;
    - precision, recall, density, coverage: means over the draws, with n_half on each side;
    - vendi_ratio: Vendi score of n_fid synthetic pictures over that of as many test pictures.
    """

    def all_measures(half: np.ndarray, rows: np.ndarray) -> dict[str, float]:
        return {
            "fid": frechet.distance(half, rows),
            "kid": kernel.distance(half, rows),
            **coverage.prdc(half, rows, k)._asdict(),
            "vendi_ratio": vendi.score(rows) / vendi.score(half),
        }

    over = summarise_draws(Sets(test, fake), draws, all_measures)
    fid, density = over["fid"], over["density"]
    kid = over["kid"]._replace(influence=kernel.influence(test.rows, fake.rows, fake.strata))
    n = min(len(test), len(fake))
    real, synthetic = test.drawn(n, rng), fake.drawn(n, rng)
    sides = real.rows[:TESTED], synthetic.rows[:TESTED]
    return {
        "fid": Estimate(frechet.distance(real.rows, synthetic.rows)),
        "fid_half": Estimate(fid.mean),
        "fid_floor": Estimate(fid.null),
        "fid_excess": replace(fid.estimate(fid.mean - fid.null), null=0.0),
        "kid": kid.estimate(kernel.distance(test.rows, fake.rows)),
        "kid_p": Estimate(kernel.p_value(*sides, real.patients[:TESTED], SWAPS, rng)),
        "precision": over["precision"].share(),
        "recall": over["recall"].share(),
        "density": density.estimate(density.mean, 0.0),
        "coverage": over["coverage"].share(),
        # The whole set, because half of a set contains fewer repeats.
        "vendi_ratio": over["vendi_ratio"].estimate(
            vendi.score(synthetic.rows) / vendi.score(real.rows), 0.0
        ),
    }


def summarise_draws(
    sets: Sets[FeatureSet],
    draws: Sequence[Draw],
    measure: Callable[[np.ndarray, np.ndarray], dict[str, float]],
) -> dict[str, Summary]:
    """By name, all draws of `measure`, which takes h×d features of test and of other pictures."""
    test, fake = sets.test.rows, sets.synthetic.rows

    def measure_all(draw: Draw) -> tuple[dict[str, float], ...]:
        others = fake[draw.synthetic], fake[draw.redrawn], test[draw.other]
        return tuple(measure(test[draw.one], rows) for rows in others)

    # Threads suffice: LAPACK and BLAS do the work and release Python's lock.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = list(tqdm(pool.map(measure_all, draws), "halves", len(draws), unit="draw"))
    return {
        name: summarise(
            sets, draws, *(np.array([each[i][name] for each in results]) for i in range(3))
        )
        for name in results[0][0]
    }


def summarise(
    sets: Sets[FeatureSet],
    draws: Sequence[Draw],
    first: np.ndarray,
    again: np.ndarray,
    null: np.ndarray,
) -> Summary:
    """A measure over the draws, from its values (B) for `synthetic`, `redrawn` and the null."""
    fewest = min(len({*each.patients}) for each in sets if each is not None)
    sides = [(draw.synthetic, draw.redrawn) for draw in draws]
    return Summary(
        float(np.mean([first, again])),
        float(np.mean(null)),
        halves.scale(len(draws[0].one), fewest) * halves.spread(first - null),
        halves.influence(first - again, sides, sets.synthetic.strata),
    )
