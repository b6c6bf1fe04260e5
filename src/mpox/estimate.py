"""A number with what it means: its interval, what real pictures get in its place, its noise.

In metrics/evaluation.json a measure `x` is flattened into `x`, `x_lo`, `x_hi`, `x_null`, `x_noise`
and `x_null_noise`, of which those that are not known are left out. This is the one place that
knows.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from math import copysign, hypot, inf, isnan, nan
from typing import Any

SUFFIXES = {
    "value": "", "low": "_lo", "high": "_hi", "null": "_null", "noise": "_noise",
    "null_noise": "_null_noise",
}  # fmt: skip
ZERO = ("fid_excess", "fid_gap", "share_off")  # whose null is 0 by definition, and is not written
KEYS = {"fid_excess_noise": "fid_noise"}  # that differ from name and suffix


@dataclass(frozen=True)
class Estimate:
    """A measure's value and what it is read with; NaN is what is not known."""

    value: float
    low: float = nan  # an interval of 95 %: `value` ± the chance in value − null
    high: float = nan
    null: float = nan  # of held-out real pictures in the place of synthetic ones
    noise: float = nan  # half the width of an interval over other synthetic pictures alone
    null_noise: float = nan  # half the width of the null's own, where `low` and `high` lack it

    @property
    def unit(self) -> float:
        """The chance in value − null: the interval's width towards the null, and the null's own."""
        width = self.high - self.value if self.null > self.value else self.value - self.low
        return width if isnan(self.null_noise) else hypot(width, self.null_noise)

    @property
    def off(self) -> float:
        """value − null in `unit`s: −1 … 1 is what chance alone may give."""
        difference = self.value - self.null
        if not self.unit:
            return copysign(inf, difference) if difference else 0.0
        return difference / self.unit

    @property
    def like_real(self) -> bool:
        """Whether held-out pictures' value is no further off than chance puts it."""
        return abs(self.off) <= 1


def flatten(measures: Mapping[str, Any]) -> dict[str, Any]:
    """Measures by name as JSON takes them: estimates by key, numbers to six significant digits.

    Six are what is left of a float32 network's precision.
    """
    flat: dict[str, Any] = {}
    for name, measure in measures.items():
        if isinstance(measure, Mapping):
            flat[name] = flatten(measure)
            continue
        if not isinstance(measure, Estimate):
            flat[name] = _six_digits(measure) if isinstance(measure, float) else measure
            continue
        for field in fields(measure):
            number = getattr(measure, field.name)
            if not isnan(number) and not (field.name == "null" and name in ZERO):
                flat[_key(name, field.name)] = _six_digits(number)
    return flat


def read(metrics: Mapping[str, Any], name: str) -> Estimate | None:
    """The estimate of a measure in the content of metrics/evaluation.json; None if not there."""
    if name not in metrics:
        return None
    found = {field: metrics.get(_key(name, field), nan) for field in SUFFIXES}
    return Estimate(**found | ({"null": 0.0} if name in ZERO else {}))


def _key(name: str, field: str) -> str:
    key = name + SUFFIXES[field]
    return KEYS.get(key, key)


def _six_digits(value: float) -> float:
    return value if isinstance(value, int) else float(f"{value:.6g}")
