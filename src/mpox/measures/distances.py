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
SHARES = ("precision", "recall", "coverage")  # in [0, 1]


class Draw(NamedTuple):
    """Indices of h pictures each, at random: what one repetition of a measure looks at."""

    one: np.ndarray  # of the test pictures …
    other: np.ndarray  # … and as many of other patients
    synthetic: np.ndarray
    redrawn: np.ndarray  # other synthetic ones
    training: np.ndarray  # empty without training pictures


def draw_halves(sets: Sets, rng: np.random.Generator) -> list[Draw]:
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
    tests, fakes = drawn[:2]
    nothing = [np.empty(0, int)] * len(tests)
    trained = nothing if sets.training is None else [one[:size] for one, _ in drawn[2]]
    return [
        Draw(one[:size], other[:size], synthetic[:size], redrawn[:size], training)
        for (one, other), (synthetic, redrawn), training in zip(tests, fakes, trained, strict=True)
    ]


def measure(
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
            **coverage.measure(half, rows, k)._asdict(),
            "vendi_ratio": vendi.score(rows) / vendi.score(half),
        }

    value, null, width, influence = over_draws(test, fake, draws, all_of)
    influence["kid"] = kernel.influence(test.rows, fake.rows, fake.strata)
    n = min(len(test), len(fake))
    real, synthetic = test.drawn(n, rng), fake.drawn(n, rng)
    excess = value["fid"] - null["fid"]

    def estimate(name: str, of: float, least: float = -np.inf, most: float = np.inf) -> Estimate:
        low, high = max(of - width[name], least), min(of + width[name], most)
        own = influence[name]
        return Estimate(of, low, high, null[name], own.noise, influence=own)

    return {
        "fid": Estimate(frechet.distance(real.rows, synthetic.rows)),
        "fid_half": Estimate(value["fid"]),
        "fid_floor": Estimate(null["fid"]),
        "fid_excess": replace(estimate("fid", excess), null=0.0),
        "kid": estimate("kid", kernel.distance(test.rows, fake.rows)),
        "kid_p": Estimate(
            kernel.p_value(
                real.rows[:TESTED], synthetic.rows[:TESTED], real.patients[:TESTED], SWAPS, rng
            )
        ),
        **{
            name: estimate(name, value[name], 0.0, 1.0 if name in SHARES else np.inf)
            for name in ("precision", "recall", "density", "coverage")
        },
        # repeats show in a whole set, less in half of it
        "vendi_ratio": estimate(
            "vendi_ratio", vendi.score(synthetic.rows) / vendi.score(real.rows), 0.0
        ),
    }


def over_draws(
    test: FeatureSet,
    fake: FeatureSet,
    draws: Sequence[Draw],
    measure: Callable[[np.ndarray, np.ndarray], dict[str, float]],
) -> tuple[dict[str, float], dict[str, float], dict[str, float], dict[str, Influence]]:
    """By name: the mean over the draws, the null, half the interval's width, and the influences.

    `measure` takes h×d features of test and of other pictures.
    """

    def measure_all(draw: Draw) -> tuple[dict[str, float], ...]:
        others = fake.rows[draw.synthetic], fake.rows[draw.redrawn], test.rows[draw.other]
        return tuple(measure(test.rows[draw.one], rows) for rows in others)

    # Threads, for the work is LAPACK's and BLAS', which leave Python free; one draw, one thread.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = pool.map(measure_all, draws)
        columns = zip(*tqdm(found, "halves", len(draws), unit="draw"), strict=True)
        first, again, null = (
            {name: np.array([each[name] for each in rows]) for name in rows[0]} for rows in columns
        )
    sides = [(draw.synthetic, draw.redrawn) for draw in draws]
    scale = whole(draws, test, fake)
    return (
        {name: float(np.mean([first[name], again[name]])) for name in first},
        {name: float(np.mean(null[name])) for name in first},
        {name: scale * halves.spread(first[name] - null[name]) for name in first},
        {name: halves.influence(first[name] - again[name], sides, fake.strata) for name in first},
    )


def whole(draws: Sequence[Draw], *sets: FeatureSet) -> float:
    """What the spread over the draws is multiplied by, for that of the whole sets."""
    return halves.scale(len(draws[0].one), min(len({*each.patients}) for each in sets))
