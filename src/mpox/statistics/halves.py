"""Halves of a set of pictures that share no patient, and what their spread says.

Real against real, half against half, is the null of every measure: what it shows where there is
nothing to see. The same halves give its noise. Half of n rows without replacement vary about the
whole set's value as the whole set's value varies from one set of n to the next (the delete-half
jackknife, Shao & Wu 1989), and since whole patients are left out, pictures of one patient do not
count as independent. A bootstrap would repeat rows, which alone raises a Fréchet distance.
"""

from collections.abc import Hashable, Sequence

import numpy as np

from mpox.statistics.estimate import Influence, Z

DRAWS = 200  # pairs of halves for a mean and its noise
MOST = 500  # rows of a half: what a draw costs has an end, however many pictures there are
FEWEST = 2  # pictures of a half: a covariance


def draw(
    groups: Sequence[str], draws: int, rng: np.random.Generator
) -> list[tuple[np.ndarray, np.ndarray]]:
    """`draws` pairs of index arrays, all of one length h ≤ ⌊n/2⌋, that share no group.

    groups: the patient of each of n rows. In random order, each patient goes to the smaller side;
    every side is then cut to the smallest of all by leaving out random rows. h is 0 if all rows
    are one patient's.
    """
    patient = numbered(groups)
    rows = [np.flatnonzero(patient == p) for p in range(max(patient) + 1)]
    pairs = [_deal(rows, rng) for _ in range(draws)]
    size = min(len(side) for pair in pairs for side in pair)
    one, other = ([rng.choice(pair[i], size, replace=False) for pair in pairs] for i in (0, 1))
    return list(zip(one, other, strict=True))


def numbered(groups: Sequence[str]) -> np.ndarray:
    """Each row's group as a number, in order of appearance: no name changes anything."""
    _, first, found = np.unique(np.asarray(groups), return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[found]


def spread(values: np.ndarray) -> float:
    """Half the width of a 95 % interval, from a measure's values on random halves."""
    return Z * float(np.std(values, ddof=1))


def scale(h: int, groups: int) -> float:
    """What the spread over halves of h rows is multiplied by, for sets of as many `groups`.

    1 for halves proper. Parts of MOST rows of larger sets vary more than the whole, by a factor of
    √(n/h − 1) for n independent rows, and here no more than n groups are counted as such; and a
    mean over DRAWS of them has some of that chance left.
    """
    if h < MOST or groups <= 2 * h:
        return 1.0
    return min(float(np.sqrt(h / (groups - h) + 1 / DRAWS)), 1.0)


def influence(
    differences: np.ndarray,
    sides: Sequence[tuple[np.ndarray, np.ndarray]],
    strata: Sequence[Hashable],
) -> Influence:
    """How much each of n rows, of `strata` (n), moves a measure's mean over the halves.

    differences: a measure on one h-row side of the set minus the same on another, for each of the
    B pairs `sides`, the rest of what is measured being the same for both. How much row i moves the
    measure is their covariance with w (1 where i is on the first side, −1 on the second, 0 on
    neither): the infinitesimal jackknife of a mean over subsamples (Wager, Hastie & Efron 2014,
    eq. 5). Of more than 2·MOST rows only the differences' own variance is known, as that of a mean
    of h rows minus that of h others.
    """
    h, draws, n = len(sides[0][0]), len(sides), len(strata)
    if n > 2 * MOST:  # h of n rows, so few draws say nothing of single ones
        return Influence((), (), differences.tolist(), h / (2 * n))
    w = np.zeros((draws, n))
    for row, (one, other) in zip(w, sides, strict=True):
        row[one], row[other] = 1, -1
    share = 2 * h / n  # of the rows that a draw looks at
    found = h / n * (differences @ w) / (draws * share)
    chance = (h / n) ** 2 / (draws * share)
    return Influence(found.tolist(), strata, differences.tolist(), chance)


def influence_of_pairs(sums: np.ndarray, squares: float, strata: Sequence[Hashable]) -> Influence:
    """How much each of n rows, of `strata` (n), moves the mean over all pairs i ≠ j of p_ij = p_ji.

    sums: Σⱼ p_ij of each row (n); squares: Σ p_ij² of all pairs. The variance of such a U-statistic
    of order 2 (Hoeffding 1948, eq. 5.13) is that of its projection on single rows and of what is
    left of pairs; squares of estimated influences count the latter twice.
    """
    n = len(sums)
    means = sums / (n - 1)
    centred = means - means.mean()
    # Σ (p_ij − m_i − m_j + m)², multiplied out
    together = squares - 2 * n * np.sum(centred**2) - n * (n - 1) * means.mean() ** 2
    twice = 2 * together / (n - 1) / n**3
    return Influence((2 / n * means).tolist(), strata, twice=float(max(twice, 0.0)))


def _deal(rows: list[np.ndarray], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    sides: tuple[list[int], list[int]] = ([], [])
    for p in rng.permutation(len(rows)):
        min(sides, key=len).extend(rows[p].tolist())
    return np.array(sides[0], int), np.array(sides[1], int)
