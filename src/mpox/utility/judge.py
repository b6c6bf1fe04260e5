"""What arms score on the test photos, and how their scores differ, with the chance in it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mpox.statistics import halves, roc, tone
from mpox.statistics.estimate import ALL, Estimate
from mpox.utility import arms, scores, worth
from mpox.utility.arms import Arm
from mpox.utility.photos import MPOX, Photos

POWER = 1.959964 + 0.841621  # standard errors of the smallest gain found with 80 % power at 5 %
FEWEST = 8  # test pictures of mpox, and of controls, from which on a group is judged …
FEWEST_PATIENTS = 3  # … and patients of either
COLUMNS = (
    "classifier", "arm", "version", "group", "n_mpox", "n_controls", "patients", "strength",
    "measure", "value", "low", "high",
)  # fmt: skip


class Judge:
    """Scores arms on the test photos, all on the same draws of patients."""

    def __init__(self, test: Photos, rng: np.random.Generator):
        self.test, self.rng = test, rng
        self.times = scores.redraw(test.patients, test.mpox, rng)
        kinds = (test.mpox, ~test.mpox)
        names = np.array(test.patients)
        least = max(min(len(set(names[kind])) for kind in kinds), 2)
        self.stretch = np.sqrt(
            least / (least - 1)
        )  # P patients drawn again vary less than P others

    def draws(self, arm: Arm, chosen: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """Every measure on the test photos (or those chosen), R×(1+B)."""
        keep = np.ones(len(self.test), bool) if chosen is None else chosen
        mpox, times = self.test.mpox[keep], self.times[:, keep]
        # A draw without mpox, or without a control, of a small group says nothing.
        with np.errstate(invalid="ignore", divide="ignore"):
            each = [
                scores.measure(own[keep], threshold, mpox, times)
                for own, threshold in zip(arm.scores, arm.thresholds, strict=True)
            ]
        return {name: np.stack([one[name] for one in each]) for name in each[0]}

    def aurocs(self, arm: Arm) -> np.ndarray:
        """R×(1+B)."""
        return np.stack([roc.auroc(own, self.test.mpox, self.times) for own in arm.scores])

    def value(self, arm: Arm) -> float:
        return float(self.aurocs(arm)[:, 0].mean())

    def estimate(self, drawn: np.ndarray) -> Estimate:
        """Of R×(1+B): the repeats' mean, and the chance in patients and in what repeats draw."""
        width = halves.Z * self.error(drawn)
        value = float(drawn[:, 0].mean())
        return Estimate(value, max(value - width, 0.0), min(value + width, 1.0))

    def error(self, drawn: np.ndarray) -> float:
        """The standard error of the mean of the repeats."""
        tested = self.stretch * np.nanstd(drawn[:, 1:].mean(0), ddof=1)
        return float(np.sqrt(tested**2 + _repeated(drawn)))

    def measures(self, arm: Arm) -> dict[str, Estimate]:
        return {name: self.estimate(drawn) for name, drawn in self.draws(arm).items()}

    def auroc(self, arm: Arm) -> Estimate:
        return self.estimate(self.aurocs(arm))

    def difference(self, arm: Arm, other: Arm) -> tuple[Estimate, float]:
        """AUROC of `arm` minus that of `other` on the same draws, and its standard error."""
        one, two = self.aurocs(arm), self.aurocs(other)
        tested = self.stretch * np.std(one[:, 1:].mean(0) - two[:, 1:].mean(0), ddof=1)
        error = float(np.sqrt(tested**2 + _repeated(one) + _repeated(two)))
        value = float(one[:, 0].mean() - two[:, 0].mean())
        return Estimate(value, value - halves.Z * error, value + halves.Z * error), error

    def gain(self, arm: Arm, baselines: Sequence[Arm]) -> dict[str, Estimate]:
        """Over the better of the baselines, beyond which it helps; and over the other one.

        Only what is below 0 over both is a loss. `detectable`: the smallest gain that 80 % power
        would have found.
        """
        found = [self.difference(arm, each) for each in baselines]
        gain, error = min(found, key=lambda each: each[0].value)
        other = max(found, key=lambda each: each[0].high)[0]
        return {"gain": gain, "gain_over_other": other, "detectable": Estimate(POWER * error)}

    def worth(self, points: Mapping[int, Arm], real: Arm, arm: Arm) -> Estimate:
        """Which patients are in training is chance too: repeats are drawn again.

        Of n patients as much as halves of them vary (the delete-half jackknife), of m pictures
        added to n √(m/(n+m)) of that.
        """

        def redrawn(of: Arm) -> np.ndarray:
            every = self.aurocs(of)
            r, b = every.shape
            chosen = self.rng.integers(r, size=(b, r))
            drawn = every[chosen, np.arange(b)[:, None]].mean(1)
            return np.r_[every[:, 0].mean(), drawn[1:]]

        curve = np.stack([redrawn(each) for each in points.values()], axis=1)
        half = min(points, key=lambda n: abs(n - max(points) / 2))
        halved = worth.probit(self.aurocs(points[half])[:, 0])
        share = (arm.n_mpox - real.n_mpox) / arm.n_mpox
        chance = np.std(halved, ddof=1) * np.sqrt(share) if len(halved) > 1 else 0.0
        drawn = chance * self.rng.standard_normal(len(self.times) - 1)
        return worth.patients(list(points), curve, redrawn(real), redrawn(arm), drawn)

    def groups(self) -> dict[str, np.ndarray]:
        """ALL, and the test photos of each tone and label that are enough to judge by."""
        test = self.test
        found = {ALL: np.ones(len(test), bool)}
        tones, names = np.array(test.tones), np.array(test.patients)
        for word in tone.BANDS:
            found[f"tone: {word}"] = tones == word
        for label in sorted(set(test.labels) - {MPOX}):
            found[f"label: {label}"] = arms.photos_of(test, label)

        def enough(chosen: np.ndarray) -> bool:
            kinds = (chosen & test.mpox, chosen & ~test.mpox)
            pictures = min(int(kind.sum()) for kind in kinds)
            return pictures >= FEWEST and min(len(set(names[kind])) for kind in kinds) >= (
                FEWEST_PATIENTS
            )

        return {name: chosen for name, chosen in found.items() if name == ALL or enough(chosen)}

    def by_group(self, arm: Arm) -> dict[str, dict[str, Estimate]]:
        """AUROC by tone and by label."""
        return {
            group: {"auroc": self.estimate(self.draws(arm, chosen)["auroc"])}
            for group, chosen in self.groups().items()
            if group != ALL
        }

    def rows(
        self,
        arm: Arm,
        name: str,
        version: str,
        group: str,
        chosen: np.ndarray,
        patients: int | None = None,
    ) -> list[dict[str, Any]]:
        """The table's, one a measure, COLUMNS but the first; `patients` of a point of the curve."""
        row = {
            "arm": name, "version": version, "group": group,
            "n_mpox": arm.n_mpox, "n_controls": arm.n_controls,
            "patients": "all" if patients is None else patients,
            "strength": float(np.exp(np.log(arm.strengths).mean())),
        }  # fmt: skip
        measured = {k: self.estimate(drawn) for k, drawn in self.draws(arm, chosen).items()}
        return [row | {"measure": k, **each.record()} for k, each in measured.items()]


def _repeated(drawn: np.ndarray) -> float:
    """The variance that what repeats draw adds to the mean of R: of one it is none.

    Of R×(1+B) values. Repeats differ on one set of test patients by more than they would on all:
    that part, how differently patients take to them (the interaction of a two-way table of repeats
    and draws), is in the bootstrap of the mean already, and is not counted twice.
    """
    repeats, draws = drawn[:, 0], drawn[:, 1:][:, np.isfinite(drawn[:, 1:]).all(0)]
    if len(repeats) < 2 or draws.shape[1] < 2:
        return 0.0
    off = draws - draws.mean(0)
    off -= off.mean(1, keepdims=True)
    interaction = np.sum(off**2) / ((len(repeats) - 1) * (draws.shape[1] - 1))
    return max(float(np.var(repeats, ddof=1) - interaction), 0.0) / len(repeats)
