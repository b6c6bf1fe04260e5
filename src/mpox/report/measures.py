"""Section "Measures": every measure with its interval beside its null, in families."""

from dataclasses import dataclass
from math import isfinite
from typing import Any, NamedTuple

from mpox.report.run import Run
from mpox.statistics.estimate import Estimate


class Measure(NamedTuple):
    """What a reader needs to know of a measure."""

    name: str
    title: str
    worse: int  # 1: a higher value is worse, −1: a lower one
    n: str  # the key of `identity` that says how many pictures it is measured with
    sees: str
    misses: str


FAMILIES: dict[str, tuple[Measure, ...]] = {
    "Distance": (
        Measure("fid_excess", "Fréchet distance beyond the floor", 1, "n_half",
                "blur, wrong colour or content, missing variety", "copies"),
        Measure("kid", "kernel distance", 1, "n_fid",
                "the same, with less noise", "a set that repeats a few good pictures"),
    ),
    "Plausible and complete": (
        Measure("precision", "precision: plausible pictures", -1, "n_half",
                "pictures unlike any real one", "copies: they are plausible"),
        Measure("density", "density: how typical they are", -1, "n_half",
                "the same, less moved by outliers", "pictures that are too typical"),
        Measure("recall", "recall: real variety that is reached", -1, "n_half",
                "kinds of photos that are never drawn", "how often each is drawn"),
        Measure("coverage", "coverage: real photos with a synthetic neighbour", -1, "n_half",
                "the same, less moved by outliers", "pictures that are implausible"),
    ),
    "Tone": (
        Measure("tone_distance", "distance of the typology angles, degrees", 1, "n_synthetic",
                "lighter or darker skin, or less of either", "which lesions are on it"),
    ),
    "Diversity": (
        Measure("vendi_ratio", "Vendi score over that of real photos", -1, "n_fid",
                "collapse onto few kinds", "quality: noise is diverse"),
        Measure("ms_ssim", "MS-SSIM of pairs of synthetic pictures", 1, "n_synthetic",
                "pictures alike pixel by pixel", "repeats that are shifted or turned"),
        Measure("repeat_rate", "repeats among the synthetic pictures", 1, "n_fid",
                "the same picture again", "a narrow set without repeats"),
    ),
    "Copies of training photos": (
        Measure("copy_rate", "as like a training photo as a copy, by features", 1, "n_synthetic",
                "copies, flipped and turned too", "copied details in a new picture"),
        Measure("hash_rate", "the same by perceptual hash", 1, "n_synthetic",
                "copies through heavy compression", "crops"),
        Measure("fid_gap", "nearer to training than to test photos", 1, "n_half",
                "a model nearer to what it has seen", "single copies"),
    ),
}  # fmt: skip
MEASURES = {measure.name: measure for family in FAMILIES.values() for measure in family}
OTHERS = {
    "fid": "Fréchet distance at n_fid; only with inception_v3 the FID of the literature",
    "fid_half": "the same at n_half a side …",
    "fid_floor": "… and of real from other real photos: what so few pictures cost",
    "kid_p": "how often chance alone gives so large a kernel distance",
    "copy_threshold": "the cosine from which a picture counts as a copy",
    "hash_threshold": "or fewer bits of 64 that differ than this",
    "copy_cosine": "the largest cosine of any synthetic and training picture",
    "hash_bits": "the fewest bits",
    "ssim_nearest": "mean SSIM with the nearest training picture",
    "ssim": "of the i-th real with the i-th synthetic picture: says nothing, kept for comparison",
    "ssim_constant": "the same of a plain picture of the mean colour",
    "ssim_real": "and of other real photos",
}
EDGE = 4.0  # units of chance that the axis reaches on either side
WIDTH, MIDDLE = 320, 160  # of an axis' drawing


@dataclass(frozen=True)
class Row:
    """A measure with its place on the axis, where right is worse and −1 … 1 is chance."""

    about: Measure
    found: Estimate
    n: int

    @property
    def off(self) -> float:
        """In units of chance; above 1 worse than real photos, below −1 better than they."""
        return self.found.off * self.about.worse

    @property
    def verdict(self) -> str:
        if self.found.like_real:
            return "like real photos"
        return "worse than real photos" if self.off > 0 else "beyond real photos"

    @property
    def point(self) -> float:
        return place(self.off)

    @property
    def interval(self) -> tuple[float, float]:
        """The ends of the interval on the axis, left and right."""
        unit, null = self.found.unit, self.found.null
        if not unit:
            return self.point, self.point
        ends = [(end - null) / unit * self.about.worse for end in (self.found.low, self.found.high)]
        low, high = sorted(ends)
        return place(low), place(high)

    @property
    def beyond_edge(self) -> bool:
        return abs(self.off) > EDGE


def section(run: Run) -> dict[str, Any]:
    """The context of templates/measures.html."""
    return {
        "families": rows(run),
        "identity": run.identity,
        "others": {
            name: (found, said)
            for name, said in OTHERS.items()
            if (found := run.evaluation.get(name))
        },
        "axis": AXIS,
        "by": {
            column: (found, run.evaluation.within(f"{column}: "))
            for column, found in run.evaluation.within("by ").items()
            if "p" in found  # not a value of a column called "by …"
        },
    }


def rows(run: Run) -> dict[str, list[Row]]:
    """By family; without training pictures an evaluation has none of copies."""
    found = {
        family: [
            Row(about, estimate, run.identity[about.n])
            for about in measures
            if (estimate := run.evaluation.get(about.name))
        ]
        for family, measures in FAMILIES.items()
    }
    return {family: shown for family, shown in found.items() if shown}


def place(off: float) -> float:
    """Where on the drawing a number of units of chance is, at most at its edge."""
    near = max(-EDGE, min(EDGE, off)) if isfinite(off) else (EDGE if off > 0 else -EDGE)
    return round(MIDDLE + near / EDGE * (MIDDLE - 12), 1)


AXIS = {"width": WIDTH, "middle": MIDDLE, "left": place(-1), "right": place(1)}
