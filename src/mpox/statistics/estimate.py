"""`Estimate`, a number with its interval, null and noise; `Metrics`, all numbers of a stage.

A file in metrics/ begins with a few headlines, the scalars that `dvc metrics diff` shows. Tables
follow: lists of records, which DVC leaves out and `pandas.DataFrame` takes. Only this module writes
and reads these files.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from math import copysign, hypot, inf, isnan, nan, sqrt
from pathlib import Path
from statistics import pvariance, variance
from typing import Any, NamedTuple, Self

from mpox.core import folders
from mpox.core.errors import InputError

Z = 1.96  # standard deviations, for an interval of 95 %
ALL = "all"  # the group of all pictures
FIELDS = ("value", "low", "high", "null", "noise", "null_margin")  # of an estimate's record
NOTHING = {"ran": False}  # the file of a stage that had nothing to measure


class Influence(NamedTuple):
    """How much each synthetic picture moves a measure: the source of the measure's noise.

    Two runs that draw with the same seeds have more similar pictures than others. The influence of
    a picture on their difference is the difference of its influences.
    """

    pictures: Sequence[float]  # n; empty for large sets, whose noise is that of the draws
    strata: Sequence[Hashable]  # n; the number of pictures in each stratum is fixed
    draws: Sequence[float] = ()  # the measure's differences between halves, one for each draw
    # Times the variance of `draws`: the sampling variance of each influence (or, without
    # `pictures`, of the measure).
    chance: float = 0.0
    twice: float = 0.0  # the part of the sum of squares that counts effects of pairs twice

    def minus(self, other: "Influence") -> "Influence":
        """The influence on the difference of two sets with equal numbers of pictures and draws.

        The effects of pairs on a difference are unknown, and stay counted twice.
        """
        pairs = ((self.pictures, other.pictures), (self.draws, other.draws))
        pictures, draws = ([a - b for a, b in zip(*pair, strict=True)] for pair in pairs)
        strata = list(zip(self.strata, other.strata, strict=True))
        return Influence(pictures, strata, draws, self.chance)

    @property
    def noise(self) -> float:
        """Half the width of a 95 % interval over other pictures of the same strata.

        The variance of a sum over n independent pictures, with a fixed number in each stratum
        (Cochran 1977, eq. 5.6), minus the Monte Carlo variance of few draws (Wager, Hastie & Efron
        2014, eq. 7), and never below what the draws resolve. Strata of one picture are pooled.
        """
        by_chance = self.chance * pvariance(self.draws) if self.draws else 0.0
        if not self.pictures:
            return Z * sqrt(by_chance)
        sizes, strata = Counter(self.strata), defaultdict(list)
        for name, influence in zip(self.strata, self.pictures, strict=True):
            strata[name if sizes[name] > 1 else None].append(influence)
        total = sum(variance(each) * len(each) for each in strata.values() if len(each) > 1)
        n = len(self.pictures)
        least = sqrt(2 * n) * by_chance
        return Z * sqrt(max(total - self.twice - n * by_chance, least, 0.0))


@dataclass(frozen=True)
class Estimate:
    """The value of a measure, and what it must be compared with; NaN is unknown."""

    value: float
    low: float = nan  # an interval of 95 %: `value` ± the chance in value − null
    high: float = nan
    null: float = nan  # the value for held-out real pictures instead of synthetic ones
    noise: float = nan  # half the width of an interval over other synthetic pictures only
    null_margin: float = nan  # half the width of the null's interval, if `low`, `high` lack it
    influence: Influence | None = None  # the source of `noise`, if single pictures have one

    @property
    def unit(self) -> float:
        """The chance in value − null: the interval's width towards the null, and its margin."""
        width = self.high - self.value if self.null > self.value else self.value - self.low
        return width if isnan(self.null_margin) else hypot(width, self.null_margin)

    @property
    def off(self) -> float:
        """value − null in `unit`s; chance alone gives −1 to 1."""
        difference = self.value - self.null
        if not self.unit:
            return copysign(inf, difference) if difference else 0.0
        return difference / self.unit

    @property
    def like_real(self) -> bool:
        """Whether the difference from held-out real pictures is within chance."""
        return abs(self.off) <= 1

    def record(self) -> dict[str, float | None]:
        """For JSON: None is unknown, and the influence is left out.

        Numbers have six significant digits, the precision of a float32 network's features.
        """
        return {name: round_to(getattr(self, name), 6) for name in FIELDS}


def round_to(value: float, digits: int) -> float | None:
    """To `digits` significant digits; integers are unchanged, and NaN becomes None."""
    if isinstance(value, int):
        return value
    return None if isnan(value) else float(f"{value:.{digits}g}")


def influence_to_json(influence: Influence) -> dict[str, Any]:
    """Numbers have six significant digits; strata become numbers, in order of appearance."""
    place: dict[Hashable, int] = {}
    return {
        "pictures": [round_to(each, 6) for each in influence.pictures],
        "strata": [place.setdefault(each, len(place)) for each in influence.strata],
        "draws": [round_to(each, 6) for each in influence.draws],
        "chance": influence.chance,
        "twice": influence.twice,
    }


@dataclass(frozen=True)
class Metrics:
    """All numbers of a stage. A stage with nothing to measure has no estimates and no counts.

    A group is ALL, a value of a column ("tone: dark"), or another part of a stage, such as an arm
    of a trial.
    """

    estimates: Mapping[str, Mapping[str, Estimate]] = field(default_factory=dict)  # by group, name
    identity: Mapping[str, Any] = field(default_factory=dict)  # what was measured
    counts: Mapping[str, float] = field(default_factory=dict)
    headlines: Mapping[str, float] = field(default_factory=dict)  # for DVC's tables
    source: str = field(default="metrics", compare=False)  # the file, for messages

    @property
    def ran(self) -> bool:
        return bool(self.estimates or self.counts)

    def get(self, name: str, group: str = ALL) -> Estimate | None:
        return self.estimates.get(group, {}).get(name)

    def __getitem__(self, key: str | tuple[str, str]) -> Estimate:
        """`metrics[name]` or `metrics[name, group]`; InputError if it is not there."""
        name, group = (key, ALL) if isinstance(key, str) else key
        estimate = self.get(name, group)
        if estimate is None:
            raise InputError(f"{self.source}: {name} of {group}: missing")
        return estimate

    def within(self, prefix: str) -> dict[str, Mapping[str, Estimate]]:
        """The groups whose names begin with `prefix`, by the rest of their names."""
        return {
            name.removeprefix(prefix): estimates
            for name, estimates in self.estimates.items()
            if name.startswith(prefix)
        }

    def to_json(self) -> str:
        """One line for each headline and record; headlines have four significant digits."""
        if not self.ran:
            return json.dumps(NOTHING) + "\n"
        headlines = {name: round_to(value, 4) for name, value in self.headlines.items()}
        parts = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in headlines.items()]
        tables: dict[str, list[dict[str, Any]]] = {
            "identity": [{"name": name, "value": value} for name, value in self.identity.items()],
            "counts": [{"name": name, "value": value} for name, value in self.counts.items()],
            "estimates": [
                {"name": name, "group": group, **estimate.record()}
                for group, estimates in self.estimates.items()
                for name, estimate in estimates.items()
            ],
        }
        for name, records in tables.items():
            lines = ",\n    ".join(map(json.dumps, records))
            parts += [f'"{name}": [\n    {lines}\n  ]'] if records else []
        return "{\n  " + ",\n  ".join(parts) + "\n}\n"

    def write(self, file: Path) -> None:
        folders.write(file, self.to_json().encode())

    @classmethod
    def read(cls, file: Path) -> Self:
        """The numbers in a file; InputError if it is missing or `parse` rejects it."""
        try:
            return cls.parse(file.read_bytes(), str(file))
        except FileNotFoundError:
            raise InputError(f"{file}: not found; dvc repro writes it") from None

    @classmethod
    def parse(cls, content: bytes, source: str) -> Self:
        """The numbers that `to_json` wrote; InputError for anything else."""
        parts, tables = from_json(content, source), {}
        if isinstance(parts, dict):
            tables = {name: rows for name, rows in parts.items() if isinstance(rows, list)}
        if not tables and parts != NOTHING:
            raise InputError(
                f"{source}: is not in the layout that metrics have since commit 58f367c; run dvc "
                "repro (for readers' answers: python -m stages.reading)"
            )
        estimates: dict[str, dict[str, Estimate]] = {}
        for record in tables.get("estimates", ()):
            numbers: dict[str, Any] = {k: nan if record[k] is None else record[k] for k in FIELDS}
            estimates.setdefault(record["group"], {})[record["name"]] = Estimate(**numbers)
        identity, counts = (
            {record["name"]: record["value"] for record in tables.get(name, ())}
            for name in ("identity", "counts")
        )
        headlines = {name: value for name, value in parts.items() if name not in (*tables, "ran")}
        return cls(estimates, identity, counts, headlines, source)


def from_json(content: bytes, source: str) -> Any:
    """InputError for invalid JSON, such as a file with merge conflicts."""
    try:
        return json.loads(content)
    except ValueError as error:
        raise InputError(f"{source}: invalid JSON: {error}") from None
