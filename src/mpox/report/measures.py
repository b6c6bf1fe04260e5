"""Section "Measures": every measure with its interval and its null, in families."""

from dataclasses import dataclass
from math import isfinite
from typing import Any, NamedTuple

from mpox.report.run import Run
from mpox.statistics.estimate import Estimate


class Measure(NamedTuple):
    """What a reader needs to know about a measure."""

    name: str
    title: str
    worse: int  # 1: a higher value is worse, −1: a lower one
    n: str  # the key of `identity` that says how many pictures it is measured with
    sees: str
    misses: str


FAMILIES: dict[str, tuple[Measure, ...]] = {
    "Distance": (
        Measure("fid_excess", "Excess Fréchet distance", 1, "n_half",
                "blur, wrong colour or content, missing variety", "copies"),
        Measure("kid", "Kernel distance", 1, "n_fid",
                "the same, with less noise", "a set that repeats a few good pictures"),
    ),
    "Plausible and complete": (
        Measure("precision", "Precision: plausible pictures", -1, "n_half",
                "pictures unlike any real photo", "copies, which are plausible"),
        Measure("density", "Density: how typical the pictures are", -1, "n_half",
                "the same, less sensitive to outliers", "pictures that are too typical"),
        Measure("recall", "Recall: real variety that is reached", -1, "n_half",
                "kinds of photos that are never drawn", "how often each kind is drawn"),
        Measure("coverage", "Coverage: real photos with a synthetic neighbour", -1, "n_half",
                "the same, less sensitive to outliers", "implausible pictures"),
    ),
    "Tone": (
        Measure("tone_distance", "Distance between the typology angles, degrees", 1, "n_synthetic",
                "skin too light, too dark or too uniform", "the lesions"),
    ),
    "Diversity": (
        Measure("vendi_ratio", "Vendi score relative to real photos", -1, "n_fid",
                "a set of only a few kinds of pictures", "quality: noise is diverse too"),
        Measure("ms_ssim", "MS-SSIM of pairs of synthetic pictures", 1, "n_synthetic",
                "pictures that match pixel by pixel", "repeats that are shifted or turned"),
        Measure("repeat_rate", "Repeats among the synthetic pictures", 1, "n_fid",
                "the same picture again", "a narrow set without repeats"),
    ),
    "Copies of training photos": (
        Measure("copy_rate", "As close to a training photo as a copy, by image features", 1,
                "n_synthetic", "copies, also mirrored or turned", "copied details in new pictures"),
        Measure("hash_rate", "As close as a copy, by perceptual hash", 1, "n_synthetic",
                "copies after heavy compression", "cropped copies"),
        Measure("fid_gap", "Closer to training than to test photos", 1, "n_half",
                "a set closer to its training photos than to new ones", "individual copies"),
    ),
}  # fmt: skip
MEASURES = {measure.name: measure for family in FAMILIES.values() for measure in family}
OTHERS = {
    "fid": "Fréchet distance at n_fid; comparable with a published FID only with inception_v3",
    "fid_half": "the same with n_half pictures on each side",
    "fid_floor": "the same between halves of the real photos: what so few pictures give by chance",
    "kid_p": "how often chance alone gives so large a kernel distance",
    "copy_threshold": "the cosine above which a picture counts as a copy",
    "hash_threshold": "the number of differing bits, of 64, below which a picture counts as a copy",
    "copy_cosine": "the largest cosine between a synthetic picture and a training photo",
    "hash_bits": "the fewest bits that differ between a synthetic picture and a training photo",
    "ssim_nearest": "mean SSIM with the nearest training photo",
    "ssim": "SSIM of the i-th real and synthetic picture: for comparison only, no evidence",
    "ssim_constant": "the same for a plain picture of the mean colour",
    "ssim_real": "the same for other real photos",
}
EDGE = 4.0  # units of chance at either end of an axis
WIDTH, MIDDLE = 320, 160  # of an axis in the drawing


@dataclass(frozen=True)
class Row:
    """A measure with its place on an axis, where right is worse and −1 … 1 is chance."""

    about: Measure
    estimate: Estimate
    n: int

    @property
    def off(self) -> float:
        """The distance from real photos in units of chance; above 1 is worse, below −1 better."""
        return self.estimate.off * self.about.worse

    @property
    def verdict(self) -> str:
        if self.estimate.like_real:
            return "within chance"
        return "worse than real photos" if self.off > 0 else "beyond chance, better side"

    @property
    def point(self) -> float:
        return place(self.off)

    @property
    def interval(self) -> tuple[float, float]:
        """The left and right end of the interval on the axis."""
        unit, null = self.estimate.unit, self.estimate.null
        if not unit:
            return self.point, self.point
        ends = [
            (end - null) / unit * self.about.worse
            for end in (self.estimate.low, self.estimate.high)
        ]
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
            name: (estimate, meaning)
            for name, meaning in OTHERS.items()
            if (estimate := run.evaluation.get(name))
        },
        "axis": AXIS,
        "by": {
            column: (test, run.evaluation.within(f"{column}: "))
            for column, test in run.evaluation.within("by ").items()
            if "p" in test  # not a value of a column called "by …"
        },
    }


def rows(run: Run) -> dict[str, list[Row]]:
    """The measures by family; without training photos there are none of copies."""
    families = {
        family: [
            Row(about, estimate, run.identity[about.n])
            for about in measures
            if (estimate := run.evaluation.get(about.name))
        ]
        for family, measures in FAMILIES.items()
    }
    return {family: shown for family, shown in families.items() if shown}


def place(off: float) -> float:
    """The place on the drawing of a value in units of chance, at most at its edge."""
    near = max(-EDGE, min(EDGE, off)) if isfinite(off) else (EDGE if off > 0 else -EDGE)
    return round(MIDDLE + near / EDGE * (MIDDLE - 12), 1)


AXIS = {"width": WIDTH, "middle": MIDDLE, "left": place(-1), "right": place(1)}
