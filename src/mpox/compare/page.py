"""The page of two runs: parameters, measures with verdicts, the same seeds' pictures."""

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
BUDGET = 4_000_000  # bytes of them


@dataclass(frozen=True)
class Side:
    """One of the two runs."""

    name: str  # the revision, or "the working tree"
    params: Mapping[str, str]  # by dotted key
    runs: Sequence[Metrics]  # metrics/evaluation.json, and those of its replicates
    influences: Mapping[str, Any] | None  # data/evaluation/influences.json, if it is to be had
    prompts: Mapping[str, str]  # of the synthetic pictures, by seed; none where they are not here
    picture: Callable[[str], bytes | None]  # the PNG file of a seed, if it is to be had

    @property
    def metrics(self) -> Metrics:
        return self.runs[0]


@dataclass(frozen=True)
class Change:
    """A measure in both, with the place of its change on an axis where right is worse."""

    row: comparison.Row

    @property
    def about(self) -> Any:
        return MEASURES[self.row.name]

    @property
    def off(self) -> float:
        """In units of noise; above 1 worse beyond it."""
        return self._in_noise(self.row.change)

    @property
    def point(self) -> float:
        return place(self.off)

    @property
    def replicates(self) -> dict[str, list[float]] | None:
        """Where each training is on the axis, whose middle is the mean of the old ones."""
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
    """The page, one HTML file that needs no other and no network."""
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
    """The measures of both; InputError where they do not compare."""
    return comparison.compare(old.runs, new.runs, (old.influences, new.influences))


def differing(old: Mapping[str, str], new: Mapping[str, str]) -> list[tuple[str, Any, Any]]:
    """Key, old and new value of the parameters that differ; None where there is no such key."""
    keys = dict.fromkeys([*new, *old])
    pairs = [(key, old.get(key), new.get(key)) for key in keys]
    return [(key, before, after) for key, before, after in pairs if before != after]


def _values(old: Metrics, new: Metrics) -> list[tuple[str, Estimate | None, Estimate | None]]:
    """Measures without a verdict."""
    found = [(name, old.get(name), new.get(name)) for name in MEASURES]
    return [each for each in found if any(each[1:])]


def _pairs(old: Side, new: Side) -> list[tuple[Any, Any]]:
    """The pictures of one seed in both runs; where one has none, the other's alone."""
    common = [seed for seed in new.prompts if seed in old.prompts]
    seeds = common if old.prompts and new.prompts else [*old.prompts, *new.prompts]
    count = min(MOST, len(seeds))
    chosen = [seeds[i * (len(seeds) - 1) // max(count - 1, 1)] for i in range(count)]
    wanted = [(side, seed) for seed in chosen for side in (old, new) if seed in side.prompts]
    files = {(side.name, seed): side.picture(seed) for side, seed in wanted}
    present = [(side, seed) for side, seed in wanted if files[side.name, seed]]
    if not present:
        return []
    # Where there are no pictures, as in a review of numbers, these need not be installed.
    import numpy as np
    from PIL import Image

    from mpox.core import images
    from mpox.report.pictures import Shown, encode

    decoded = [
        np.asarray(Image.open(io.BytesIO(files[side.name, seed] or b"")).convert("RGB"))
        for side, seed in present
    ]
    side_length = min(map(len, decoded))  # runs may be of another resolution
    encoded = encode([images.square(each, side_length) for each in decoded], BUDGET)
    found: dict[tuple[str, str], Shown] = {}
    for (side, seed), picture in zip(present, encoded, strict=True):
        title = f"{side.name}, seed {seed}"
        words = (title, f"prompt: {side.prompts[seed]}")
        found[side.name, seed] = Shown(*picture, "synthetic", title, words)
    return [(found.get((old.name, seed)), found.get((new.name, seed))) for seed in chosen]
