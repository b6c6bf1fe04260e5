"""Two evaluations side by side, and which of their differences are more than noise."""

from collections.abc import Mapping, Sequence
from math import hypot, inf, sqrt
from statistics import fmean, stdev, variance
from typing import Any, NamedTuple

from mpox.core.errors import InputError
from mpox.statistics.estimate import Estimate, Influence, Metrics

MEASURES = (
    "fid_excess", "kid", "precision", "recall", "density", "coverage", "tone_distance",
    "vendi_ratio", "ms_ssim", "repeat_rate", "copy_rate", "hash_rate", "fid_gap",
)  # fmt: skip
# Shown without a verdict: `fid` has that of fid_excess, the others are extremes or say little.
BESIDE = ("fid", "kid_p", "copy_cosine", "hash_bits", "ssim_nearest", "ssim")


class Row(NamedTuple):
    """One measure of both runs, and of the replicates of either: the same with other seeds."""

    name: str
    old: Estimate
    new: Estimate
    olds: tuple[float, ...]  # values of the run itself and of its replicates
    news: tuple[float, ...]
    paired: float | None = None  # noise of the change, where both drew by the same seeds

    @property
    def replicated(self) -> bool:
        """Whether other trainings say how much chance there is."""
        return len(self.olds) > 1 or len(self.news) > 1

    @property
    def means(self) -> tuple[float, float]:
        return fmean(self.olds), fmean(self.news)

    @property
    def change(self) -> float:
        return self.means[1] - self.means[0]

    @property
    def noise(self) -> float:
        """What the change must exceed: half the width of its interval of 95 %."""
        if self.replicated:
            return welch(self.olds, self.news)
        if self.paired is not None:
            return self.paired
        return hypot(self.old.noise, self.new.noise)

    @property
    def beyond_noise(self) -> bool:
        return abs(self.change) > self.noise


def welch(one: Sequence[float], other: Sequence[float]) -> float:
    """Half the width of a 95 % interval for the difference of two means (Welch 1947).

    By the degrees of freedom of Welch and Satterthwaite. Where one side is a single value, the
    variance of the other stands for both: Student's interval with n − 1 degrees of freedom.
    """
    from scipy.stats import t

    sizes = len(one), len(other)
    variances = [variance(each) for each in (one, other) if len(each) > 1]
    if len(variances) == 1:
        error, freedom = variances[0] * (1 / sizes[0] + 1 / sizes[1]), max(sizes) - 1.0
    else:
        shares = [v / n for v, n in zip(variances, sizes, strict=True)]
        error = sum(shares)
        parts = sum(s**2 / (n - 1) for s, n in zip(shares, sizes, strict=True))
        freedom = error**2 / parts if parts else inf
    return float(t.ppf(0.975, freedom)) * sqrt(error) if error else 0.0


def compare(
    olds: Sequence[Metrics],
    news: Sequence[Metrics],
    influences: tuple[Mapping[str, Any] | None, Mapping[str, Any] | None] = (None, None),
) -> list[Row]:
    """The rows of what metrics/evaluation.json holds of either side, its own first.

    After it come those of its replicates; `influences`: of both sides, data/evaluation's
    influences.json, if it is to be had. Both have the same test pictures, so what these contribute
    to the noise is the same on both sides. What is left to chance is the training and which
    pictures it draws: by the spread over replicates, if there are any. Else only the noise of
    drawing is known: of the difference picture by picture where both drew by the same seeds, and
    else that of both sides, which adds in squares. Raises InputError where the identities differ:
    then no difference says anything of the model.
    """
    old, new = olds[0], news[0]
    differ = [
        f"{name}: {old.identity.get(name)} and {new.identity.get(name)}"
        for name in sorted({*old.identity, *new.identity})
        if old.identity.get(name) != new.identity.get(name)
    ]
    if differ:
        raise InputError("\n".join(["these metrics do not compare, they differ in", *differ]))
    paired = _paired(*influences)
    rows = []
    for name in MEASURES:
        if (one := old.get(name)) and (other := new.get(name)):
            before, after = (tuple(run[name].value for run in runs) for runs in (olds, news))
            rows.append(Row(name, one, other, before, after, paired.get(name)))
    return rows


def _paired(old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> dict[str, float]:
    """By measure: the noise of the difference of two runs that drew by the same seeds."""
    if not old or not new or old["seeds"] != new["seeds"] or not all(old["seeds"]):
        return {}
    sides = (old["measures"], new["measures"])
    return {
        name: Influence(**sides[1][name]).minus(Influence(**sides[0][name])).noise
        for name in sides[0]
        if name in sides[1]
    }


REPLICATE = "dvc exp run --queue -S train.seed=1,2,3 && dvc queue start"


class Basis(NamedTuple):
    """What the noise of changes is of, and how to get to know more."""

    said: str
    how: str = ""  # a command


def basis(rows: Sequence[Row]) -> Basis:
    if not rows or not rows[0].replicated:
        said = "Sampling noise only: another training of the same settings may differ by more."
        if any(row.paired is not None for row in rows):
            said += " Both runs drew by the same seeds, so the noise is that of their difference."
        return Basis(said, REPLICATE)
    old, new = len(rows[0].olds), len(rows[0].news)
    said = f"Trainings: {old} of the old and {new} of the new settings; their means, by Welch's t."
    if 1 in (old, new):
        said += " The single one is taken to vary as the others do."
    return Basis(said)


def markdown(old: Metrics, new: Metrics, rows: Sequence[Row]) -> str:
    """The rows as a table of Markdown, below lines on what was measured."""
    identity = new.identity
    changed = [row.name for row in rows if row.beyond_noise]
    said, how = basis(rows)
    lines = [
        f"**{said}**" + (f" `{how}` makes replicates." if how else ""),
        "",
        f"**Beyond noise: {', '.join(changed) or 'nothing'}.** "
        f"Features of {identity['features']}, {identity['n_test']} test, "
        f"{identity['n_training']} training, {identity['n_synthetic']} synthetic pictures.",
        "",
        "| metric | old | new | change | noise | verdict | real pictures | new is |",
        "|---|--:|--:|--:|--:|---|--:|---|",
    ]
    for row in rows:
        verdict = "**beyond noise**" if row.beyond_noise else "within noise"
        state = "like real" if row.new.like_real else "unlike real"
        lines.append(
            f"| {row.name} | {_values(row.olds)} | {_values(row.news)} | {row.change:+.3g} "
            f"| ±{row.noise:.2g} | {verdict} | {row.new.null:.4g} | {state} |"
        )
    for name in BESIDE:
        if (one := old.get(name)) and (other := new.get(name)):
            numbers = f"{one.value:.4g} | {other.value:.4g} | {other.value - one.value:+.3g}"
            lines.append(f"| {name} | {numbers} | | | | |")
    return "\n".join([*lines, ""])


def _values(values: Sequence[float]) -> str:
    """One value, or the mean of several and their standard deviation."""
    if len(values) == 1:
        return f"{values[0]:.4g}"
    return f"{fmean(values):.4g} (SD {stdev(values):.2g}, n {len(values)})"
