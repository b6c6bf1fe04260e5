"""A number with what it means: its interval, what real pictures get in its place, its noise.

In metrics/evaluation.json a measure `x` is flattened into `x`, `x_lo`, `x_hi`, `x_null`, `x_noise`
and `x_null_noise`, of which those that are not known are left out. This is the one place that
knows.
"""

from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from math import copysign, hypot, inf, isnan, nan, sqrt
from statistics import pvariance, variance
from typing import Any, NamedTuple

SUFFIXES = {
    "value": "", "low": "_lo", "high": "_hi", "null": "_null", "noise": "_noise",
    "null_noise": "_null_noise",
}  # fmt: skip
ZERO = ("fid_excess", "fid_gap", "share_off")  # whose null is 0 by definition, and is not written
Z = 1.96  # standard deviations, for an interval of 95 %
KEYS = {"fid_excess_noise": "fid_noise"}  # that differ from name and suffix


class Influence(NamedTuple):
    """How much each synthetic picture moves a measure, by which its noise is known.

    Two runs whose pictures are drawn by the same seeds are more alike than by others: the influence
    of a picture on their difference is the difference of its influences.
    """

    pictures: Sequence[float]  # n; none of sets too large for it: then the draws alone count
    strata: Sequence[Hashable]  # n: of each of which there is a number laid down
    draws: Sequence[float] = ()  # what each draw of halves that they are estimated from had …
    chance: float = 0.0  # … and times what their variance is in each influence squared; or in all
    twice: float = 0.0  # of their squares' sum, what counts twice what two pictures do together

    def minus(self, other: "Influence") -> "Influence":
        """On the difference of a measure in two sets of as many pictures, in as many draws.

        What two pictures do together is not known of a difference, and stays counted twice.
        """
        pairs = ((self.pictures, other.pictures), (self.draws, other.draws))
        pictures, draws = ([a - b for a, b in zip(*pair, strict=True)] for pair in pairs)
        strata = list(zip(self.strata, other.strata, strict=True))
        return Influence(pictures, strata, draws, self.chance)

    @property
    def noise(self) -> float:
        """Half the width of a 95 % interval over other pictures of the same strata.

        The variance of a sum of n independent pictures of which each stratum has a fixed number
        (Cochran 1977, eq. 5.6), less what few draws alone would give it (Wager, Hastie & Efron
        2014, eq. 7), and never below what they can resolve. Strata of one picture count as one.
        """
        by_chance = self.chance * pvariance(self.draws) if self.draws else 0.0
        if not self.pictures:
            return Z * sqrt(by_chance)
        sizes, own = Counter(self.strata), defaultdict(list)
        for name, influence in zip(self.strata, self.pictures, strict=True):
            own[name if sizes[name] > 1 else None].append(influence)
        total = sum(variance(each) * len(each) for each in own.values() if len(each) > 1)
        n = len(self.pictures)
        least = sqrt(2 * n) * by_chance
        return Z * sqrt(max(total - self.twice - n * by_chance, least, 0.0))


@dataclass(frozen=True)
class Estimate:
    """A measure's value and what it is read with; NaN is what is not known."""

    value: float
    low: float = nan  # an interval of 95 %: `value` ± the chance in value − null
    high: float = nan
    null: float = nan  # of held-out real pictures in the place of synthetic ones
    noise: float = nan  # half the width of an interval over other synthetic pictures alone
    null_noise: float = nan  # half the width of the null's own, where `low` and `high` lack it
    influence: Influence | None = None  # what `noise` is made of, where pictures can be told apart

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
        for field in SUFFIXES:
            number = getattr(measure, field)
            if not isnan(number) and not (field == "null" and name in ZERO):
                flat[_key(name, field)] = _six_digits(number)
    return flat


def influence_to_json(influence: Influence) -> dict[str, Any]:
    """Numbers to six significant digits; strata as numbers, in order of appearance."""
    place: dict[Hashable, int] = {}
    return {
        "pictures": [_six_digits(each) for each in influence.pictures],
        "strata": [place.setdefault(each, len(place)) for each in influence.strata],
        "draws": [_six_digits(each) for each in influence.draws],
        "chance": influence.chance,
        "twice": influence.twice,
    }


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
