"""A number with what it means: its interval, what real pictures get in its place, its noise.

And `Metrics`, the numbers of a stage. Their file in metrics/ is a few headlines, the scalars that
`dvc metrics diff` shows, above tables: lists of records, which DVC leaves out and
`pandas.DataFrame` takes. This is the one place that writes and reads it.
"""

import json
import subprocess
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
ALL = "all"  # the group of what is measured of all pictures
FIELDS = ("value", "low", "high", "null", "noise", "null_margin")  # of an estimate's record
NOTHING = {"ran": False}  # the file of a stage that had nothing to measure


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
    null_margin: float = nan  # half the width of the null's own, where `low` and `high` lack it
    influence: Influence | None = None  # what `noise` is made of, where pictures can be told apart

    @property
    def unit(self) -> float:
        """The chance in value − null: the interval's width towards the null, and the null's own."""
        width = self.high - self.value if self.null > self.value else self.value - self.low
        return width if isnan(self.null_margin) else hypot(width, self.null_margin)

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

    def record(self) -> dict[str, float | None]:
        """As JSON takes it: None is what is not known, the influence is left out.

        Numbers have six significant digits: what is left of a float32 network's precision.
        """
        return {name: round_to(getattr(self, name), 6) for name in FIELDS}


def round_to(value: float, digits: int) -> float | None:
    """To so many significant digits, integers as they are; None in the place of NaN."""
    if isinstance(value, int):
        return value
    return None if isnan(value) else float(f"{value:.{digits}g}")


def influence_to_json(influence: Influence) -> dict[str, Any]:
    """Numbers to six significant digits; strata as numbers, in order of appearance."""
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
    """What a stage measured. Without estimates and counts it had nothing to measure.

    A group is ALL, a value of a column ("tone: dark"), or what the stage tells apart, as the arms
    of a trial.
    """

    estimates: Mapping[str, Mapping[str, Estimate]] = field(default_factory=dict)  # by group, name
    identity: Mapping[str, Any] = field(default_factory=dict)  # of what was measured
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
        """A headline or a record a line; headlines to four significant digits."""
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
        """As `parse` reads its content; InputError where there is no such file."""
        try:
            return cls.parse(file.read_bytes(), str(file))
        except FileNotFoundError:
            raise InputError(f"{file}: not found; expected what dvc repro writes") from None

    @classmethod
    def parse(cls, content: bytes, source: str) -> Self:
        """What `to_json` wrote; InputError for anything else, and for an earlier layout."""
        found, tables = from_json(content, source), {}
        if isinstance(found, dict):
            tables = {name: rows for name, rows in found.items() if isinstance(rows, list)}
        if not tables and found != NOTHING:
            raise InputError(
                f"{source}: has the layout from before {_since()}; expected metrics written since "
                "(by dvc repro, of readers' answers by python -m stages.reading)"
            )
        estimates: dict[str, dict[str, Estimate]] = {}
        for record in tables.get("estimates", ()):
            numbers: dict[str, Any] = {k: nan if record[k] is None else record[k] for k in FIELDS}
            estimates.setdefault(record["group"], {})[record["name"]] = Estimate(**numbers)
        identity, counts = (
            {record["name"]: record["value"] for record in tables.get(name, ())}
            for name in ("identity", "counts")
        )
        headlines = {name: value for name, value in found.items() if name not in (*tables, "ran")}
        return cls(estimates, identity, counts, headlines, source)


def from_json(content: bytes, source: str) -> Any:
    """InputError for what is no JSON, as after a merge with conflicts."""
    try:
        return json.loads(content)
    except ValueError as error:
        raise InputError(f"{source}: no JSON: {error}") from None


def _since() -> str:
    """When the layout changed: the first commit whose metrics have it, if git knows of one."""
    command = ["git", "log", "--reverse", "--format=%h", '-S"estimates": [', "--", "metrics"]
    try:
        commits = subprocess.run(command, capture_output=True, text=True).stdout.split()
    except OSError:  # no git
        commits = []
    return f"commit {commits[0]}" if commits else "this version"
