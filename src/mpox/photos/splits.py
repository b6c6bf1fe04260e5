"""Training, validation and test: by patient, evenly in skin tone."""

from collections.abc import Mapping, Sequence

import numpy as np

from mpox.core import seeds
from mpox.core.errors import InputError
from mpox.statistics import halves

SHAKE = 4  # places in the order of tones by which a seed moves a group


def split(
    tones: Mapping[str, Sequence[float]], shares: Mapping[str, float], seed: int
) -> dict[str, str]:
    """Group → split: from dark to light, each to the split that is furthest behind its share.

    `tones` are the tones of a group's pictures, `shares` the splits' parts of all pictures. A set
    drawn at random from few patients often has hardly any of the rarer skin tones; in order every
    set has its share of those that 1/share or more groups have. `seed` shakes the order by a few
    places.
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
            f"{len(tones)} patients (or groups of duplicates) cannot be split as data.split says"
        )
    return splits


def check_halves(part: str, groups: Sequence[str]) -> None:
    """Stops here, not after hours of training, what evaluation could not measure."""
    half = len(halves.draw(groups, halves.DRAWS, np.random.default_rng(0))[0][0])
    if half < halves.FEWEST:
        raise InputError(
            f"data.split.{part}: {len(groups)} pictures of {len(set(groups))} patients (or groups "
            f"of duplicates) give halves of {half} that share no patient, and evaluation needs "
            f"{halves.FEWEST} or more: more patients, or a larger share"
        )
