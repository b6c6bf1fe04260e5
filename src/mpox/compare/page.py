"""The page that compares two runs: parameters, measures with verdicts, pictures of equal seeds."""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import copysign, inf
from typing import Any

from mpox.compare import comparison
from mpox.core.errors import InputError
from mpox.report import html
from mpox.report.measures import AXIS, EDGE, MEASURES, place
from mpox.statistics.estimate import Estimate, Metrics

MOST = 48  # pairs of pictures, spread evenly over the seeds
BUDGET = 4_000_000  # bytes for all of them


@dataclass(frozen=True)
class Side:
    """One of the two runs."""

    name: str  # the revision, or "the working tree"
    params: Mapping[str, str]  # by dotted key
    runs: Sequence[Metrics]  # evaluation of the run, then of its replicates
    influences: Mapping[str, Any] | None  # data/evaluation/influences.json, if available
    prompts: Mapping[str, str]  # of the synthetic pictures, by seed; empty if not available
    picture: Callable[[str], bytes | None]  # the PNG file of a seed, if available

    @property
    def metrics(self) -> Metrics:
        return self.runs[0]


@dataclass(frozen=True)
class Change:
    """A measure of both runs, with the place of its change on an axis where right is worse."""

    row: comparison.Row

    @property
    def about(self) -> Any:
        return MEASURES[self.row.name]

    @property
    def off(self) -> float:
        """The change in units of noise; above 1 it is worse beyond noise."""
        return self._in_noise(self.row.change)

    @property
    def point(self) -> float:
        return place(self.off)

    @property
    def replicates(self) -> dict[str, list[float]] | None:
        """The place of each training on the axis, whose middle is the mean of the old trainings."""
        if not self.row.replicated:
            return None
        return {
            side: [place(self._in_noise(value - self.row.means[0])) for value in values]
            for side, values in (("old", self.row.olds), ("new", self.row.news))
        }

    def _in_noise(self, change: float) -> float:
        noise, worse = self.row.noise, change * self.about.worse
        if noise:
            return worse / noise
        return copysign(inf, worse) if worse else 0.0

    @property
    def beyond_edge(self) -> bool:
        return abs(self.off) > EDGE

    @property
    def verdict(self) -> str:
        if not self.row.beyond_noise:
            return "within noise"
        return "worse, beyond noise" if self.off > 0 else "better, beyond noise"


def build(old: Side, new: Side) -> str:
    """The page as one HTML file that needs no other file and no network."""
    try:
        changes, refusal = [Change(row) for row in rows(old, new)], ""
    except InputError as error:
        changes, refusal = [], str(error)
    pairs = _pairs(old, new)
    return html.render(
        "diff.html",
        old=old,
        new=new,
        parameters=differing(old.params, new.params),
        changes=changes,
        basis=comparison.basis([change.row for change in changes]),
        replicated=any(change.row.replicated for change in changes),
        refusal=refusal,
        others=[] if changes else _values(old.metrics, new.metrics),
        pairs=pairs,
        lacking=[side for k, side in enumerate((old, new)) if not any(pair[k] for pair in pairs)],
        axis=AXIS,
    )


def rows(old: Side, new: Side) -> list[comparison.Row]:
    """The measures of both sides; InputError if they cannot be compared."""
    return comparison.compare(old.runs, new.runs, (old.influences, new.influences))


def differing(old: Mapping[str, str], new: Mapping[str, str]) -> list[tuple[str, Any, Any]]:
    """Key, old and new value of each parameter that differs; None for a missing key."""
    keys = dict.fromkeys([*new, *old])
    pairs = [(key, old.get(key), new.get(key)) for key in keys]
    return [(key, before, after) for key, before, after in pairs if before != after]


def _values(old: Metrics, new: Metrics) -> list[tuple[str, Estimate | None, Estimate | None]]:
    """Measures without a verdict."""
    values = [(name, old.get(name), new.get(name)) for name in MEASURES]
    return [each for each in values if any(each[1:])]


def _pairs(old: Side, new: Side) -> list[tuple[Any, Any]]:
    """Pictures of equal seeds in both runs; if one run has no pictures, those of the other."""
    common = [seed for seed in new.prompts if seed in old.prompts]
    seeds = common if old.prompts and new.prompts else [*old.prompts, *new.prompts]
    count = min(MOST, len(seeds))
    chosen = [seeds[i * (len(seeds) - 1) // max(count - 1, 1)] for i in range(count)]
    wanted = [(side, seed) for seed in chosen for side in (old, new) if seed in side.prompts]
    files = {(side.name, seed): side.picture(seed) for side, seed in wanted}
    present = [(side, seed) for side, seed in wanted if files[side.name, seed]]
    if not present:
        return []
    # A review of numbers alone, without pictures, does not need these packages.
    import numpy as np
    from PIL import Image

    from mpox.core import images
    from mpox.report.pictures import Shown, encode

    decoded = [
        np.asarray(Image.open(io.BytesIO(files[side.name, seed] or b"")).convert("RGB"))
        for side, seed in present
    ]
    side_length = min(map(len, decoded))  # the resolutions may differ
    encoded = encode([images.square(each, side_length) for each in decoded], BUDGET)
    pictures: dict[tuple[str, str], Shown] = {}
    for (side, seed), picture in zip(present, encoded, strict=True):
        title = f"{side.name}, seed {seed}"
        words = (title, f"prompt: {side.prompts[seed]}")
        pictures[side.name, seed] = Shown(*picture, "synthetic", title, words)
    return [(pictures.get((old.name, seed)), pictures.get((new.name, seed))) for seed in chosen]
