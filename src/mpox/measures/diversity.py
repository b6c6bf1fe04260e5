"""Whether the synthetic pictures are too similar to each other."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations

import numpy as np
from tqdm import tqdm

from mpox.core import images
from mpox.measures import ssim
from mpox.pictures import copies
from mpox.pictures.feature_set import FeatureSet
from mpox.statistics import halves
from mpox.statistics.estimate import Estimate
from mpox.statistics.rates import rate

MOST = 50  # pictures of each set whose pairs are compared by MS-SSIM
SIDE = 128  # pixels, at most, as in Odena et al. 2017


def scales(side: int) -> int:
    """Number of MS-SSIM's five scales used for pictures of `side` pixels."""
    return ssim.scales(min(side, SIDE))


def ms_ssim(test: FeatureSet, fake: FeatureSet, rng: np.random.Generator) -> Estimate:
    """Mean MS-SSIM of all pairs of synthetic pictures; higher means more similar.

    The null is that of test pictures. Both use the same number of pictures, at most MOST.
    """
    n = min(MOST, len(test), len(fake))
    synthetic, real = fake.drawn(n, rng), test.drawn(n, rng)
    tables = [all_pairs(_small(each)) for each in (synthetic, real)]

    def mean(table: np.ndarray) -> float:
        return float(table.sum() / (len(table) * (len(table) - 1)))

    def over(table: np.ndarray, sides: list[np.ndarray]) -> np.ndarray:
        return np.array([mean(table[np.ix_(side, side)]) for side in sides])

    names = [str(i) for i in range(n)]
    drawn = [[one for one, _ in halves.draw(names, halves.DRAWS, rng)] for _ in tables]
    value = mean(tables[0])
    width = halves.spread(over(tables[0], drawn[0]) - over(tables[1], drawn[1]))
    scores = tables[0]
    influence = halves.influence_of_pairs(scores.sum(1), float(np.sum(scores**2)), synthetic.strata)
    return Estimate(
        value,
        value - width,
        value + width,
        mean(tables[1]),
        influence.noise,
        influence=influence,
    )


def all_pairs(shown: Sequence[np.ndarray]) -> np.ndarray:
    """MS-SSIM of all pairs of n pictures, n×n; 0 on the diagonal."""
    pairs, table = list(combinations(range(len(shown)), 2)), np.zeros((len(shown), len(shown)))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        scores = pool.map(lambda pair: ssim.multiscale(shown[pair[0]], shown[pair[1]]), pairs)
        for (i, j), score in zip(tqdm(pairs, "ms-ssim", unit="pair"), scores, strict=True):
            table[i, j] = table[j, i] = score
    return table


def _small(pictures: FeatureSet) -> list[np.ndarray]:
    if pictures.side <= SIDE:
        return list(pictures.pixels)
    return [images.recode(images.square(each, SIDE)) for each in pictures.pixels]


def repeat_rate(test: FeatureSet, fake: FeatureSet, rng: np.random.Generator) -> Estimate:
    """Share of n_fid synthetic pictures that repeat another synthetic picture.

    A repeat is closer than 99 % of the test pictures are to the nearest one of another patient, so
    the null is about 0.01. Repeats come in pairs at least, so the interval is that of n/2
    independent pictures.
    """
    n = min(len(test), len(fake))
    real, synthetic = test.drawn(n, rng), fake.drawn(n, rng)
    known = copies.among(real.rows, real.patients)
    limit = copies.threshold(known)
    nearest = copies.among(synthetic.rows, synthetic.patients)
    return rate(int(np.sum(nearest > limit)), n, int(np.sum(known > limit)), n, together=2)
