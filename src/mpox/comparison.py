"""Two evaluations side by side, and which of their differences are more than noise."""

from collections.abc import Mapping, Sequence
from math import hypot
from typing import Any, NamedTuple

from mpox.errors import InputError

# What is compared, and the null it is read beside (a number: the null by definition).
MEASURES: dict[str, str | float] = {
    "fid_excess": 0.0,
    "kid": "kid_null",
    "precision": "precision_null",
    "recall": "recall_null",
    "density": "density_null",
    "coverage": "coverage_null",
    "vendi_ratio": "vendi_ratio_null",
    "ms_ssim": "ms_ssim_null",
    "repeat_rate": "repeat_rate_null",
    "copy_rate": "copy_rate_null",
    "hash_rate": "hash_rate_null",
    "fid_gap": 0.0,
}
# Shown without a verdict: `fid` has that of fid_excess, the others are extremes or say little.
BESIDE = ("fid", "kid_p", "copy_cosine", "hash_bits", "ssim_nearest", "ssim")


class Row(NamedTuple):
    """One measure in both evaluations."""

    name: str
    old: float
    new: float
    noise: float  # the change must exceed it: half the width of its interval of 95 %
    null: float  # what held-out pictures give in the new evaluation
    null_noise: float  # 0 where the interval holds it
    low: float  # the new value's interval …
    high: float

    @property
    def beyond_noise(self) -> bool:
        return abs(self.new - self.old) > self.noise

    @property
    def like_real(self) -> bool:
        """Whether what held-out pictures give is no further off than chance puts it.

        Beside the interval, that is the chance of the null itself, where it is known.
        """
        width = self.high - self.new if self.null > self.new else self.new - self.low
        return abs(self.null - self.new) <= hypot(width, self.null_noise)


def compare(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Row]:
    """The rows of two contents of metrics/evaluation.json.

    Both have the same test pictures, so what these contribute to the noise is the same on both
    sides; what differs is which synthetic pictures were drawn, independently for each, so their
    noises add in squares. Raises InputError where the identities differ: then no difference says
    anything of the model.
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
    rows = []
    for name, null in MEASURES.items():
        if name not in old or name not in new:
            continue
        noise = "fid_noise" if name == "fid_excess" else f"{name}_noise"
        rows.append(
            Row(
                name,
                old[name],
                new[name],
                hypot(old[noise], new[noise]),
                new[null] if isinstance(null, str) else null,
                new.get(f"{null}_noise", 0.0),
                new[f"{name}_lo"],
                new[f"{name}_hi"],
            )
        )
    return rows


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
        state = "like real" if row.like_real else "unlike real"
        lines.append(
            f"| {row.name} | {row.old:.4g} | {row.new:.4g} | {row.new - row.old:+.3g} "
            f"| ±{row.noise:.2g} | {verdict} | {row.null:.4g} | {state} |"
        )
    for name in BESIDE:
        if name in old and name in new:
            change = new[name] - old[name]
            lines.append(f"| {name} | {old[name]:.4g} | {new[name]:.4g} | {change:+.3g} | | | | |")
    return "\n".join([*lines, ""])
