"""Halves of a set of pictures that share no patient: the null and the noise of a measure.

One half of the real pictures compared with the other is the null of every measure, its value where
nothing differs. The same halves give its noise. Half of n rows drawn without replacement vary
around the value of the whole set as that value varies between sets of n (the delete-half jackknife,
Shao & Wu 1989). Whole patients are left out, so pictures of one patient do not count as
independent. A bootstrap would repeat rows, which raises a Fréchet distance by itself.
"""

from collections.abc import Hashable, Sequence

import numpy as np

from mpox.statistics.estimate import Influence, Z

DRAWS = 200  # pairs of halves for a mean and its noise
MOST = 500  # rows of a half: limits the cost of a draw for large sets
FEWEST = 2  # pictures of a half, for a covariance


def draw(
    groups: Sequence[str], draws: int, rng: np.random.Generator
) -> list[tuple[np.ndarray, np.ndarray]]:
    """`draws` pairs of index arrays, all of one length h ≤ ⌊n/2⌋, that share no group.

    groups: the patient of each of n rows. Patients, in random order, go to the smaller side; all
    sides are then cut to the size of the smallest by leaving out random rows. h is 0 if all rows
    belong to one patient.
    """
    patient = numbered(groups)
    rows = [np.flatnonzero(patient == p) for p in range(max(patient) + 1)]
    pairs = [_deal(rows, rng) for _ in range(draws)]
    size = min(len(side) for pair in pairs for side in pair)
    one, other = ([rng.choice(pair[i], size, replace=False) for pair in pairs] for i in (0, 1))
    return list(zip(one, other, strict=True))


def numbered(groups: Sequence[str]) -> np.ndarray:
    """Each row's group as a number, in order of appearance, so that names change no result."""
    _, first, group = np.unique(np.asarray(groups), return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[group]


def spread(values: np.ndarray) -> float:
    """Half the width of a 95 % interval, from the values of a measure on random halves."""
    return Z * float(np.std(values, ddof=1))


def scale(h: int, groups: int) -> float:
    """The factor from the spread over halves of h rows to that of a set with `groups` patients.

    1 for true halves. Parts of MOST rows vary more than a larger set does, by √(n/h − 1) for n
    independent rows; only patients count as independent here. A mean over DRAWS parts keeps some of
    that variance.
    """
    if h < MOST or groups <= 2 * h:
        return 1.0
    return min(float(np.sqrt(h / (groups - h) + 1 / DRAWS)), 1.0)


def influence(
    differences: np.ndarray,
    sides: Sequence[tuple[np.ndarray, np.ndarray]],
    strata: Sequence[Hashable],
) -> Influence:
    """How much each of n rows, of `strata` (n), moves the mean of a measure over the halves.

    differences: for each of the B pairs `sides`, the measure on one side of h rows minus the
    measure on the other, with everything else equal. Row i moves the measure by their covariance
    with w (1 if i is on the first side, −1 on the second, 0 on neither): the infinitesimal
    jackknife of a mean over subsamples (Wager, Hastie & Efron 2014, eq. 5). For more than 2·MOST
    rows only the variance of the differences is known, that of one mean of h rows minus another.
    """
    h, draws, n = len(sides[0][0]), len(sides), len(strata)
    if n > 2 * MOST:  # a row is in too few draws to estimate its influence
        return Influence((), (), differences.tolist(), h / (2 * n))
    w = np.zeros((draws, n))
    for row, (one, other) in zip(w, sides, strict=True):
        row[one], row[other] = 1, -1
    share = 2 * h / n  # of the rows, in each draw
    influences = h / n * (differences @ w) / (draws * share)
    chance = (h / n) ** 2 / (draws * share)
    return Influence(influences.tolist(), strata, differences.tolist(), chance)


def influence_of_pairs(sums: np.ndarray, squares: float, strata: Sequence[Hashable]) -> Influence:
    """How much each of n rows, of `strata` (n), moves the mean over all pairs i ≠ j of p_ij = p_ji.

    sums: Σⱼ p_ij for each row (n); squares: Σ p_ij² over all pairs. The variance of such a
    U-statistic of order 2 (Hoeffding 1948, eq. 5.13) has a part from single rows and a part from
    pairs; the squares of estimated influences count the latter twice.
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
