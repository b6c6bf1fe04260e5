"""The arms of a trial: what each classifier is trained on, and how it scores the test photos."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import log
from typing import NamedTuple

import numpy as np

from mpox.utility import classifier
from mpox.utility.photos import Sets, Version

RATIOS = (0.5, 1.0, 2.0, 5.0)  # synthetic pictures for each real photo of mpox
REPEATS = 5  # of an arm that draws variants, synthetic pictures or patients at random
SHARES = (0.1, 0.25, 0.5, 1.0)  # of the training patients with mpox: the learning curve
FEWEST = 2  # patients at a point of the learning curve

Examples = tuple[np.ndarray, np.ndarray]  # training pictures: features n×d; n, bool: is it mpox?


@dataclass(frozen=True)
class Arm:
    """R classifiers, one for each repeat, on the n test photos."""

    scores: np.ndarray  # R×n, probabilities of mpox
    thresholds: np.ndarray  # R
    strengths: np.ndarray  # R
    val_loss: float  # mean of the repeats
    n_mpox: int  # training pictures of mpox: photos, variants, synthetic pictures
    n_controls: int


class Trained(NamedTuple):
    """All arms of one kind of classifier."""

    classifier: str  # as in params.yaml
    versions: Mapping[str, Mapping[str, Arm]]  # plain and encoded → name → arm
    main: str  # the arm that is judged
    curves: Mapping[str, Mapping[int, Arm]]  # name → training patients with mpox → arm


class Trainer:
    """Trains arms on features in one unit, that of the real training photos."""

    def __init__(self, sets: Sets):
        self.unit = classifier.Unit(sets.plain.train.rows)
        self.val = (self.unit(sets.val.rows), sets.val.mpox)
        self.test = self.unit(sets.test.rows)

    def arm(self, repeats: list[Examples]) -> Arm:
        """One classifier for each of the repeats' training pictures."""
        models = [classifier.fit(self.unit(rows), mpox, self.val) for rows, mpox in repeats]
        mpox = repeats[0][1]
        return Arm(
            np.array([model.score(self.test) for model in models]),
            np.array([model.threshold for model in models]),
            np.array([model.strength for model in models]),
            float(np.mean([model.val_loss for model in models])),
            int(mpox.sum()),
            int((~mpox).sum()),
        )


def ratios(n: int, m: int) -> list[float]:
    """RATIOS that m synthetic pictures reach for n real photos, and the highest they reach."""
    reached = [ratio for ratio in RATIOS if round(ratio * n) <= m]
    most = min(m / n, RATIOS[-1])
    if m and (not reached or most > reached[-1]):
        reached.append(most)
    return reached


def name(ratio: float) -> str:
    """`both_100` has one synthetic picture for each real one."""
    return f"both_{round(100 * ratio)}"


def main_ratio(reached: list[float]) -> float:
    """The ratio that is judged, declared beforehand: the nearest to one to one."""
    return min(reached, key=lambda ratio: abs(log(ratio)))


def train(
    trainer: Trainer, version: Version, sets: Sets, rng: np.random.Generator
) -> dict[str, Arm]:
    """All arms of one version of the training photos, by name."""
    photos, mpox = version.train.rows, version.train.mpox
    n, controls = int(mpox.sum()), photos[~mpox]

    def add(pictures: np.ndarray, number: int) -> Arm:
        repeats = []
        for _ in range(REPEATS if number < len(pictures) else 1):
            chosen = pictures[rng.permutation(len(pictures))[:number]]
            is_mpox = np.r_[mpox, np.ones(len(chosen), bool)]
            repeats.append((np.concatenate([photos, chosen]), is_mpox))
        return trainer.arm(repeats)

    arms = {"real": trainer.arm([(photos, mpox)])}
    if version.variants:
        number = REPEATS if len(version.variants) > 1 else 1
        arms["augmented"] = trainer.arm([augmented(version, rng) for _ in range(number)])
    reached = ratios(n, len(sets.synthetic))
    for ratio in reached:
        arms[name(ratio)] = add(sets.synthetic, round(ratio * n))
    alone = np.concatenate([sets.synthetic, controls])
    arms["synthetic"] = trainer.arm([(alone, np.arange(len(alone)) < len(sets.synthetic))])
    arms["placebo"] = add(sets.placebo, round(main_ratio(reached) * n))
    return arms


def augmented(version: Version, rng: np.random.Generator) -> Examples:
    """The photos, followed by one variant of each, drawn at random."""
    chosen = rng.integers(len(version.variants), size=len(version.train))
    drawn = np.stack(list(version.variants))[chosen, np.arange(len(chosen))]
    return np.concatenate([version.train.rows, drawn]), np.tile(version.train.mpox, 2)


def train_curves(
    trainer: Trainer, version: Version, rng: np.random.Generator
) -> dict[str, dict[int, Arm]]:
    """`real` and `augmented` by number of training patients with mpox, all with all controls."""
    train = version.train
    names = np.array(train.patients)
    everybody = sorted(set(names[train.mpox]))
    orders = [rng.permutation(everybody) for _ in range(REPEATS)]
    least = min(FEWEST, len(everybody))
    curves: dict[str, dict[int, Arm]] = {"real": {}}
    if version.variants:
        curves["augmented"] = {}
    for number in dict.fromkeys(max(round(share * len(everybody)), least) for share in SHARES):
        parts = [version.subset(~train.mpox | np.isin(names, order[:number])) for order in orders]
        real = [(part.train.rows, part.train.mpox) for part in parts]
        # Of all patients every repeat is the same, unless variants are drawn.
        curves["real"][number] = trainer.arm(real if number < len(everybody) else real[:1])
        if version.variants:
            curves["augmented"][number] = trainer.arm([augmented(part, rng) for part in parts])
    return curves
