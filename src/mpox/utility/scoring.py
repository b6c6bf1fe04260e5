"""How well arms tell mpox from controls on the test photos."""

from collections.abc import Sequence

import numpy as np

from mpox.statistics import roc, tone
from mpox.statistics.estimate import ALL, Estimate, Z
from mpox.utility import bootstrap
from mpox.utility.arms import Arm
from mpox.utility.bootstrap import Bootstrap
from mpox.utility.photos import MPOX, Photos

POWER = 1.959964 + 0.841621  # standard errors of the smallest gain found with 80 % power at 5 %
FEWEST = 8  # test pictures of mpox, and of controls, that a group needs to be judged …
FEWEST_PATIENTS = 3  # … and patients with either


class Scorer:
    """Scores arms on n test photos, all on the same draws of patients."""

    def __init__(self, mpox: np.ndarray, patients: Sequence[str], rng: np.random.Generator):
        self.mpox = mpox
        self.times = bootstrap.redraw(patients, mpox, rng)
        names = np.array(patients)
        self.stretch = bootstrap.stretch(min(len(set(names[kind])) for kind in (mpox, ~mpox)))

    def auroc(self, arm: Arm, chosen: np.ndarray | slice = slice(None)) -> Bootstrap:
        """On the test photos, or on those where `chosen` (n, bool) is true."""
        mpox, times = self.mpox[chosen], self.times[:, chosen]
        with np.errstate(invalid="ignore", divide="ignore"):  # draws that lack a class are NaN
            areas = [roc.auroc(scores[chosen], mpox, times) for scores in arm.scores]
        return Bootstrap(np.stack(areas), self.stretch)

    def measures(self, arm: Arm, chosen: np.ndarray | slice = slice(None)) -> dict[str, Bootstrap]:
        """All measures, by name; `chosen` as in `auroc`."""
        mpox, times = self.mpox[chosen], self.times[:, chosen]
        with np.errstate(invalid="ignore", divide="ignore"):
            repeats = [
                performance(scores[chosen], threshold, mpox, times)
                for scores, threshold in zip(arm.scores, arm.thresholds, strict=True)
            ]
        return {
            name: Bootstrap(np.stack([repeat[name] for repeat in repeats]), self.stretch)
            for name in repeats[0]
        }


def performance(
    scores: np.ndarray, threshold: float, mpox: np.ndarray, times: np.ndarray
) -> dict[str, np.ndarray]:
    """All measures of one classifier, one value for each of B rows of `times` (B×n).

    - auroc, auprc: of `scores` (n), probabilities of mpox;
    - sensitivity, specificity: at `threshold`;
    - brier: squared error of the probability; mpox and controls weigh the same.
    """

    def share(values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        weight = times * chosen
        return (weight @ values.astype(float)) / weight.sum(1)

    wrong = (scores - mpox) ** 2
    return {
        "auroc": roc.auroc(scores, mpox, times),
        "auprc": roc.average_precision(scores, mpox, times),
        "sensitivity": share(scores >= threshold, mpox),
        "specificity": share(scores < threshold, ~mpox),
        "brier": (share(wrong, mpox) + share(wrong, ~mpox)) / 2,
    }


def gain(arm: Bootstrap, baselines: Sequence[Bootstrap]) -> dict[str, Estimate]:
    """The gain over the better baseline, which must be above 0 to count as help.

    `gain_over_other` is that over the worse one: a loss counts only against both. `detectable` is
    the smallest gain that a trial with these test patients finds with a power of 80 %.
    """
    gains = [arm.minus(baseline) for baseline in baselines]
    smallest = min(gains, key=lambda each: each.value)
    other = max(gains, key=lambda each: each.high)
    error = (smallest.high - smallest.value) / Z
    return {"gain": smallest, "gain_over_other": other, "detectable": Estimate(POWER * error)}


def groups(test: Photos) -> dict[str, np.ndarray]:
    """Masks (n, bool) of ALL test photos, and of every tone and label that has enough of them."""
    tones, labels, names = map(np.array, (test.tones, test.labels, test.patients))
    masks = {f"tone: {word}": tones == word for word in tone.BANDS}
    for label in sorted(set(test.labels) - {MPOX}):
        masks[f"label: {label}"] = test.mpox | (labels == label)

    def enough(chosen: np.ndarray) -> bool:
        kinds = (chosen & test.mpox, chosen & ~test.mpox)
        return all(
            kind.sum() >= FEWEST and len(set(names[kind])) >= FEWEST_PATIENTS for kind in kinds
        )

    everything = {ALL: np.ones(len(test), bool)}
    return everything | {name: chosen for name, chosen in masks.items() if enough(chosen)}
