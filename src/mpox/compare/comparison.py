"""Two evaluations compared, and which of their differences exceed noise."""

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
# Shown without a verdict: fid_excess has the one for `fid`; the others are extremes or say little.
BESIDE = ("fid", "kid_p", "copy_cosine", "hash_bits", "ssim_nearest", "ssim")


class Row(NamedTuple):
    """One measure of both runs and their replicates, which are runs with other seeds."""

    name: str
    old: Estimate
    new: Estimate
    olds: tuple[float, ...]  # values of the run itself and of its replicates
    news: tuple[float, ...]
    paired: float | None = None  # noise of the change, if both runs drew with the same seeds

    @property
    def replicated(self) -> bool:
        """Whether other trainings show how much varies by chance."""
        return len(self.olds) > 1 or len(self.news) > 1

    @property
    def means(self) -> tuple[float, float]:
        return fmean(self.olds), fmean(self.news)

    @property
    def change(self) -> float:
        return self.means[1] - self.means[0]

    @property
    def noise(self) -> float:
        """Half the width of the 95 % interval of the change."""
        if self.replicated:
            return welch(self.olds, self.news)
        if self.paired is not None:
            return self.paired
        return hypot(self.old.noise, self.new.noise)

    @property
    def beyond_noise(self) -> bool:
        return abs(self.change) > self.noise


def welch(one: Sequence[float], other: Sequence[float]) -> float:
    """Half the width of the 95 % interval for the difference of two means (Welch 1947).

    The degrees of freedom are those of Welch and Satterthwaite. If one side is a single value, both
    sides get the variance of the other: Student's interval with n − 1 degrees of freedom.
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
    """A row for each measure, from the evaluations of each run and its replicates, the run first.

    `influences`: content of each run's influences.json, if available. Both runs have the same test
    pictures, so only the training and the drawing differ by chance. The spread over replicates
    shows how much. Without replicates only sampling noise is known: from the influences if both
    runs drew with the same seeds, otherwise from the noise of both runs, added in squares. Raises
    InputError if the identities differ, because then a change says nothing about the model.
    """
    old, new = olds[0], news[0]
    differ = [
        f"{name}: {old.identity.get(name)} and {new.identity.get(name)}"
        for name in sorted({*old.identity, *new.identity})
        if old.identity.get(name) != new.identity.get(name)
    ]
    if differ:
        reason = "these evaluations cannot be compared, because their identity differs:"
        raise InputError("\n".join([reason, *differ]))
    paired = _paired(*influences)
    rows = []
    for name in MEASURES:
        if (one := old.get(name)) and (other := new.get(name)):
            before, after = (tuple(run[name].value for run in runs) for runs in (olds, news))
            rows.append(Row(name, one, other, before, after, paired.get(name)))
    return rows


def _paired(old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> dict[str, float]:
    """By measure, the noise of the change between two runs that drew with the same seeds."""
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
    """What the noise of the changes includes."""

    text: str
    command: str = ""  # makes replicates


def basis(rows: Sequence[Row]) -> Basis:
    """Of the noise of these rows."""
    if not rows or not rows[0].replicated:
        text = "Sampling noise only: another training with the same settings may differ by more."
        if any(row.paired is not None for row in rows):
            text += " Both runs drew with the same seeds, which the noise takes into account."
        return Basis(text, REPLICATE)
    old, new = len(rows[0].olds), len(rows[0].news)
    text = f"Means of trainings, by Welch's t: {old} with the old settings, {new} with the new."
    if 1 in (old, new):
        text += " A single training is assumed to vary as much as the others."
    return Basis(text)


def markdown(old: Metrics, new: Metrics, rows: Sequence[Row]) -> str:
    """A Markdown table of the rows, below a summary."""
    identity = new.identity
    changed = [row.name for row in rows if row.beyond_noise]
    text, command = basis(rows)
    lines = [
        f"**{text}**" + (f" `{command}` makes replicates." if command else ""),
        "",
        f"**Beyond noise: {', '.join(changed) or 'nothing'}.** "
        f"Features: {identity['features']}; pictures: {identity['n_test']} test, "
        f"{identity['n_training']} training, {identity['n_synthetic']} synthetic.",
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
    """A single value, or the mean of several with their standard deviation."""
    if len(values) == 1:
        return f"{values[0]:.4g}"
    return f"{fmean(values):.4g} (SD {stdev(values):.2g}, n {len(values)})"
