"""How far the synthetic pictures are from the test pictures, and how much of them they cover."""

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

SWAPS, TESTED = 999, 2000  # of the permutation test, and of how many pictures a side at most


class Draw(NamedTuple):
    """Indices of h pictures each, at random: what one repetition of a measure looks at."""

    one: np.ndarray  # of the test pictures …
    other: np.ndarray  # … and as many of other patients
    synthetic: np.ndarray
    redrawn: np.ndarray  # other synthetic ones
    training: np.ndarray | None = None


def draw_halves(sets: Sets[FeatureSet], rng: np.random.Generator) -> list[Draw]:
    """Halves of every set, cut to the smallest or to MOST: a distance compares only at equal N.

    InputError for a set of too few patients.
    """
    every = [each for each in sets if each is not None]
    drawn = [halves.draw(each.patients, halves.DRAWS, rng) for each in every]
    smallest, pairs = min(zip(every, drawn, strict=True), key=lambda pair: len(pair[1][0][0]))
    size = len(pairs[0][0])
    if size < halves.FEWEST:
        raise InputError(
            f"{smallest.pictures.folder}: too few patients: halves that share none have {size} "
            f"pictures, expected at least {halves.FEWEST}"
        )
    size = min(size, halves.MOST)
    return [
        Draw(*[side[:size] for pair in pairs for side in pair][:5])  # of training pictures one half
        for pairs in zip(*drawn, strict=True)
    ]


class Summary(NamedTuple):
    """A measure over all draws."""

    mean: float
    null: float
    width: float  # half of an interval's
    influence: Influence

    def estimate(self, value: float, least: float = -np.inf, most: float = np.inf) -> Estimate:
        """`value` beside the null, its interval within the bounds of the measure."""
        low, high = max(value - self.width, least), min(value + self.width, most)
        return Estimate(value, low, high, self.null, self.influence.noise, influence=self.influence)

    def share(self) -> Estimate:
        """Of a measure that is in [0, 1]."""
        return self.estimate(self.mean, 0.0, 1.0)


def measure_distances(
    test: FeatureSet, fake: FeatureSet, draws: Sequence[Draw], k: int, rng: np.random.Generator
) -> dict[str, Estimate]:
    """The measures of two sets, k-th neighbours.

    - fid: Fréchet distance of n_fid test pictures from as many synthetic ones;
    - fid_half, fid_floor, fid_excess: the mean over the draws of the same at n_half pictures a
      side, of one half of the test pictures from the other, and the difference of the two, which
      alone is the synthetic pictures' doing;
    - kid, kid_p: kernel distance of all from all, and a permutation p at n_fid pictures a side, or
      at TESTED of them;
    - precision, recall, density, coverage: means over the draws, at n_half pictures a side;
    - vendi_ratio: Vendi score of n_fid synthetic pictures over that of as many test pictures.
    """

    def all_of(half: np.ndarray, rows: np.ndarray) -> dict[str, float]:
        return {
            "fid": frechet.distance(half, rows),
            "kid": kernel.distance(half, rows),
            **coverage.prdc(half, rows, k)._asdict(),
            "vendi_ratio": vendi.score(rows) / vendi.score(half),
        }

    over = summarise_draws(Sets(test, fake), draws, all_of)
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
        # repeats show in a whole set, less in half of it
        "vendi_ratio": over["vendi_ratio"].estimate(
            vendi.score(synthetic.rows) / vendi.score(real.rows), 0.0
        ),
    }


def summarise_draws(
    sets: Sets[FeatureSet],
    draws: Sequence[Draw],
    measure: Callable[[np.ndarray, np.ndarray], dict[str, float]],
) -> dict[str, Summary]:
    """By name what `measure` gives of h×d features of test and of other pictures."""
    test, fake = sets.test.rows, sets.synthetic.rows

    def measure_all(draw: Draw) -> tuple[dict[str, float], ...]:
        others = fake[draw.synthetic], fake[draw.redrawn], test[draw.other]
        return tuple(measure(test[draw.one], rows) for rows in others)

    # Threads, for the work is LAPACK's and BLAS', which leave Python free; one draw, one thread.
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
    """Of a measure of every draw's synthetic pictures, of its redrawn ones, and the null's."""
    fewest = min(len({*each.patients}) for each in sets if each is not None)
    sides = [(draw.synthetic, draw.redrawn) for draw in draws]
    return Summary(
        float(np.mean([first, again])),
        float(np.mean(null)),
        halves.scale(len(draws[0].one), fewest) * halves.spread(first - null),
        halves.influence(first - again, sides, sets.synthetic.strata),
    )
