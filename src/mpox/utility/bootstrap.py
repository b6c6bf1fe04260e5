"""How much of a measure is chance: a bootstrap over test patients, and the repeats of an arm."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mpox.statistics import halves
from mpox.statistics.estimate import Estimate, Z

DRAWS = 499  # of the bootstrap: a standard error to 3 %


def redraw(patients: Sequence[str], mpox: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """How often each of n pictures counts in each draw of whole patients, (1 + DRAWS)×n.

    The first row is the pictures as they are. Patients with pictures of mpox only, of controls
    only and of both are drawn separately, so that every draw has both classes (a stratified
    cluster bootstrap).
    """
    patient = halves.numbered(patients)
    times = np.ones((1 + DRAWS, int(patient.max()) + 1))
    everybody = np.arange(times.shape[1])
    stratum = np.isin(everybody, patient[mpox]) + 2 * np.isin(everybody, patient[~mpox])
    for members in (np.flatnonzero(stratum == kind) for kind in (1, 2, 3)):
        if n := len(members):
            times[1:, members] = rng.multinomial(n, np.full(n, 1 / n), DRAWS)
    return times[:, patient]


def stretch(patients: int) -> float:
    """√(P/(P−1)): P patients drawn again vary less than P other patients."""
    number = max(patients, 2)
    return float(np.sqrt(number / (number - 1)))


@dataclass(frozen=True)
class Bootstrap:
    """A measure of R repeats of an arm, on the test photos and on B draws of their patients."""

    values: np.ndarray  # R×(1+B), the first column on the test photos as they are
    stretch: float  # of the standard deviation over draws

    @property
    def value(self) -> float:
        """The mean of the repeats."""
        return float(self.values[:, 0].mean())

    @property
    def error(self) -> float:
        """The standard error of the mean of the repeats, over patients and over repeats."""
        over_patients = self.stretch * np.nanstd(self._drawn, ddof=1)
        return float(np.sqrt(over_patients**2 + self._between_repeats))

    def estimate(self) -> Estimate:
        """With an interval of 95 % within [0, 1]."""
        width = Z * self.error
        return Estimate(self.value, max(self.value - width, 0.0), min(self.value + width, 1.0))

    def minus(self, other: "Bootstrap") -> Estimate:
        """The difference on the same draws, with an interval of 95 %."""
        over_patients = self.stretch * np.std(self._drawn - other._drawn, ddof=1)
        error = np.sqrt(over_patients**2 + self._between_repeats + other._between_repeats)
        value, width = self.value - other.value, float(Z * error)
        return Estimate(value, value - width, value + width)

    def redraw_repeats(self, rng: np.random.Generator) -> np.ndarray:
        """The mean of R repeats as it is, and in each draw that of R drawn with replacement: 1+B.

        For an arm whose repeats are trained on different patients.
        """
        repeats, draws = self.values.shape
        chosen = rng.integers(repeats, size=(draws, repeats))
        means = self.values[chosen, np.arange(draws)[:, None]].mean(1)
        return np.r_[self.value, means[1:]]

    @property
    def _drawn(self) -> np.ndarray:
        return self.values[:, 1:].mean(0)

    @property
    def _between_repeats(self) -> float:
        """The variance that differences between repeats add to their mean; 0 for one repeat.

        Repeats differ more on one set of test patients than they would on all patients. That part
        (the interaction in a two-way table of repeats and draws) is in the variance over draws
        already, and is taken off here.
        """
        repeats, draws = self.values[:, 0], self.values[:, 1:]
        draws = draws[:, np.isfinite(draws).all(0)]
        if len(repeats) < 2 or draws.shape[1] < 2:
            return 0.0
        residuals = draws - draws.mean(0)
        residuals -= residuals.mean(1, keepdims=True)
        interaction = np.sum(residuals**2) / ((len(repeats) - 1) * (draws.shape[1] - 1))
        return max(float(np.var(repeats, ddof=1) - interaction), 0.0) / len(repeats)
