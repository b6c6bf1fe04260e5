"""Two evaluations side by side, and which of their differences are more than noise."""

from collections.abc import Mapping, Sequence
from math import hypot
from typing import Any, NamedTuple

from mpox.errors import InputError
from mpox.estimate import Estimate, read

MEASURES = (
    "fid_excess", "kid", "precision", "recall", "density", "coverage", "tone_distance",
    "vendi_ratio", "ms_ssim", "repeat_rate", "copy_rate", "hash_rate", "fid_gap",
)  # fmt: skip
# Shown without a verdict: `fid` has that of fid_excess, the others are extremes or say little.
BESIDE = ("fid", "kid_p", "copy_cosine", "hash_bits", "ssim_nearest", "ssim")


class Row(NamedTuple):
    """One measure in both evaluations."""

    name: str
    old: Estimate
    new: Estimate

    @property
    def change(self) -> float:
        return self.new.value - self.old.value

    @property
    def noise(self) -> float:
        """What the change must exceed: half the width of its interval of 95 %."""
        return hypot(self.old.noise, self.new.noise)

    @property
    def beyond_noise(self) -> bool:
        return abs(self.change) > self.noise


def compare(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Row]:
    """The rows of two contents of metrics/evaluation.json.

    Both have the same test pictures, so what these contribute to the noise is the same on both
    sides; what differs is which synthetic pictures were drawn. Their noises add in squares, as of
    independent drawings: runs that share their seeds are more alike, so this errs on the wide side.
    Raises InputError where the identities differ: then no difference says anything of the model.
    """
    if "identity" not in old or "identity" not in new:
        side = "old" if "identity" not in old else "new"
        raise InputError(f"the {side} metrics have no identity: an earlier version wrote them")
    names = sorted({*old["identity"], *new["identity"]})
    differ = [
        f"{name}: {old['identity'].get(name)} and {new['identity'].get(name)}"
        for name in names
        if old["identity"].get(name) != new["identity"].get(name)
    ]
    if differ:
        raise InputError("\n".join(["these metrics do not compare, they differ in", *differ]))
    pairs = [(name, read(old, name), read(new, name)) for name in MEASURES]
    return [Row(name, one, other) for name, one, other in pairs if one and other]


def markdown(old: Mapping[str, Any], new: Mapping[str, Any], rows: Sequence[Row]) -> str:
    """The rows as a table of Markdown, below one line on what was measured."""
    identity = new["identity"]
    changed = [row.name for row in rows if row.beyond_noise]
    lines = [
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
            f"| {row.name} | {row.old.value:.4g} | {row.new.value:.4g} | {row.change:+.3g} "
            f"| ±{row.noise:.2g} | {verdict} | {row.new.null:.4g} | {state} |"
        )
    for name in BESIDE:
        if name in old and name in new:
            change = new[name] - old[name]
            lines.append(f"| {name} | {old[name]:.4g} | {new[name]:.4g} | {change:+.3g} | | | | |")
    return "\n".join([*lines, ""])
