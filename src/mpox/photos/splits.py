"""Training, validation and test sets: by patient, evenly in skin tone."""

from collections.abc import Mapping, Sequence

import numpy as np

from mpox.core import seeds
from mpox.core.errors import InputError
from mpox.statistics import halves

SHAKE = 4  # places by which a seed may move a group in the order of tones


def split(
    tones: Mapping[str, Sequence[float]], shares: Mapping[str, float], seed: int
) -> dict[str, str]:
    """Group → set: from dark to light, each group goes to the set that is furthest below its share.

    tones: the tones of each group's pictures; shares: of each set in all pictures. A random set of
    few patients often has hardly any of the rarer skin tones. In this order, every set has its
    share of each tone that 1/share or more groups have. `seed` moves the groups by a few places.
    """
    rng = np.random.default_rng(seeds.derive(seed, "split"))
    order = sorted(tones, key=lambda group: (np.mean(tones[group]), group))
    places = np.arange(len(order)) + rng.uniform(0, SHAKE, len(order))
    behind = dict.fromkeys(shares, 0.0)
    splits = {}
    for group in (order[k] for k in np.argsort(places)):
        for name, share in shares.items():
            behind[name] += share * len(tones[group])
        splits[group] = max(behind, key=lambda name: behind[name])
        behind[splits[group]] -= len(tones[group])
    empty = sorted(set(shares) - set(splits.values()))
    if empty:
        raise InputError(
            f"no pictures left for {', '.join(empty)}: {sum(map(len, tones.values()))} pictures of "
            f"{len(tones)} patients (or groups of duplicates) are too few for data.split"
        )
    return splits


def check_halves(part: str, groups: Sequence[str]) -> None:
    """InputError now, not after hours of training, if a set is too small for the evaluation."""
    half = len(halves.draw(groups, halves.DRAWS, np.random.default_rng(0))[0][0])
    if half < halves.FEWEST:
        raise InputError(
            f"data.split.{part}: {len(groups)} pictures of {len(set(groups))} patients (or groups "
            f"of duplicates) give halves of {half} pictures that share no patient, and the "
            f"evaluation needs {halves.FEWEST}; add patients, or enlarge this share"
        )
