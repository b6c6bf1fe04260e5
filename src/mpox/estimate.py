"""A number with what it means: its interval, what real pictures get in its place, its noise.

In metrics/evaluation.json a measure `x` is flattened into `x`, `x_lo`, `x_hi`, `x_null`, `x_noise`
and `x_null_noise`, of which some may be missing. This is the one place that knows.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import copysign, hypot, inf
from typing import Any

# Whose null is 0 by definition, and whose noise has another name.
ZERO = ("fid_excess", "fid_gap")
NOISE = {"fid_excess": "fid_noise"}


@dataclass(frozen=True)
class Estimate:
    """A measure's value, its interval of 95 %, its null, and the noises a change must exceed."""

    value: float
    low: float
    high: float
    null: float  # of held-out real pictures in the place of synthetic ones
    noise: float  # half the width of the interval over other synthetic pictures alone
    null_noise: float = 0.0  # half the width of the null's own; 0 where the interval holds it

    @property
    def off(self) -> float:
        """value − null, in units of the chance in it: −1 … 1 is what chance alone may give.

        The unit is the interval's width towards the null and, added in squares, the null's own.
        """
        width = self.high - self.value if self.null > self.value else self.value - self.low
        unit = hypot(width, self.null_noise)
        difference = self.value - self.null
        return difference / unit if unit else copysign(inf, difference) if difference else 0.0

    @property
    def like_real(self) -> bool:
        """Whether held-out pictures' value is no further off than chance puts it."""
        return abs(self.off) <= 1


def read(metrics: Mapping[str, Any], name: str) -> Estimate | None:
    """The estimate of a measure in the content of metrics/evaluation.json; None if not there."""
    if name not in metrics:
        return None
    return Estimate(
        metrics[name],
        metrics[f"{name}_lo"],
        metrics[f"{name}_hi"],
        0.0 if name in ZERO else metrics[f"{name}_null"],
        metrics[NOISE.get(name, f"{name}_noise")],
        metrics.get(f"{name}_null_noise", 0.0),
    )
