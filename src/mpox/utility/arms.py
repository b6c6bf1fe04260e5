"""The arms of a trial: what each classifier is trained on, and how it scores the test photos."""

from collections.abc import Callable
from dataclasses import dataclass
from math import log

import numpy as np

from mpox.utility import classifier
from mpox.utility.photos import Photos, Sets, Version

RATIOS = (0.5, 1.0, 2.0, 5.0)  # synthetic to real photos of mpox
REPEATS = 5  # of an arm in which something is drawn: variants, which synthetic pictures, patients
SHARES = (0.1, 0.25, 0.5, 1.0)  # of the learning curve, of the training patients with mpox
FEWEST = 2  # patients of a share


@dataclass(frozen=True)
class Arm:
    """R classifiers, one for each repeat, on the n test photos."""

    scores: np.ndarray  # R×n, probabilities
    thresholds: np.ndarray  # R
    strengths: np.ndarray  # R
    val_loss: float  # mean of the repeats
    n_mpox: int  # pictures that stand for mpox: real, variants, synthetic
    n_controls: int

    @property
    def repeats(self) -> int:
        return len(self.scores)


class Trainer:
    """Trains arms in one unit, that of the real training photos."""

    def __init__(self, sets: Sets):
        self.unit = classifier.Unit(sets.plain.train.rows)
        self.val = (self.unit(sets.val.rows), sets.val.mpox)
        self.test = self.unit(sets.test.rows)

    def arm(self, draws: list[tuple[np.ndarray, np.ndarray]]) -> Arm:
        """One classifier for each of `draws`, (rows, mpox) of its training pictures."""
        found = [classifier.fit(self.unit(rows), mpox, self.val) for rows, mpox in draws]
        mpox = draws[0][1]
        return Arm(
            np.array([each.score(self.test) for each in found]),
            np.array([each.threshold for each in found]),
            np.array([each.strength for each in found]),
            float(np.mean([each.val_loss for each in found])),
            int(mpox.sum()),
            int((~mpox).sum()),
        )


def ratios(n: int, m: int) -> list[float]:
    """RATIOS that m synthetic pictures reach beside n real ones, and the most they reach."""
    reached = [ratio for ratio in RATIOS if round(ratio * n) <= m]
    most = min(m / n, RATIOS[-1])
    if m and (not reached or most > reached[-1]):
        reached.append(most)
    return reached


def name(ratio: float) -> str:
    """`both_100` is one synthetic picture for each real one."""
    return f"both_{round(100 * ratio)}"


def main(found: list[float]) -> float:
    """The ratio that is judged, laid down beforehand: the nearest to one to one."""
    return min(found, key=lambda ratio: abs(log(ratio)))


def train(
    trainer: Trainer, version: Version, sets: Sets, rng: np.random.Generator
) -> dict[str, Arm]:
    """All arms of one version of the training photos, by name."""
    real, mpox = version.train.rows, version.train.mpox
    n, controls = int(mpox.sum()), real[~mpox]

    def added(pictures: np.ndarray, number: int) -> Callable[[], tuple[np.ndarray, np.ndarray]]:
        def draw() -> tuple[np.ndarray, np.ndarray]:
            own = pictures[rng.permutation(len(pictures))[:number]]
            return np.concatenate([real, own]), np.r_[mpox, np.ones(len(own), bool)]

        return draw

    found = {"real": trainer.arm([(real, mpox)])}
    if version.variants:
        repeats = REPEATS if len(version.variants) > 1 else 1
        found["augmented"] = trainer.arm(
            [(augmented(version, rng), np.r_[mpox, mpox]) for _ in range(repeats)]
        )
    reached = ratios(n, len(sets.synthetic))
    for ratio in reached:
        number = round(ratio * n)
        repeats = REPEATS if number < len(sets.synthetic) else 1
        draw = added(sets.synthetic, number)
        found[name(ratio)] = trainer.arm([draw() for _ in range(repeats)])
    both = np.concatenate([sets.synthetic, controls])
    alone = np.arange(len(both)) < len(sets.synthetic)
    found["synthetic"] = trainer.arm([(both, alone)])
    number = round(main(reached) * n)
    draw = added(sets.placebo, number)
    repeats = REPEATS if number < len(sets.placebo) else 1
    found["placebo"] = trainer.arm([draw() for _ in range(repeats)])
    return found


def augmented(version: Version, rng: np.random.Generator) -> np.ndarray:
    """The rows of the photos, and after them those of as many variants, one of each photo."""
    chosen = rng.integers(len(version.variants), size=len(version.train))
    drawn = np.stack(list(version.variants))[chosen, np.arange(len(chosen))]
    return np.concatenate([version.train.rows, drawn])


def curve(
    trainer: Trainer, version: Version, rng: np.random.Generator
) -> dict[str, dict[int, Arm]]:
    """`real` and `augmented` by number of patients with mpox, all controls beside them."""
    train = version.train
    names = np.array(train.patients)
    every = sorted(set(names[train.mpox]))
    found: dict[str, dict[int, Arm]] = {"real": {}}
    if version.variants:
        found["augmented"] = {}
    orders = [rng.permutation(every) for _ in range(REPEATS)]
    least = min(FEWEST, len(every))
    for number in dict.fromkeys(max(round(share * len(every)), least) for share in SHARES):
        draws: dict[str, list] = {kind: [] for kind in found}
        for order in orders:
            chosen = ~train.mpox | np.isin(names, order[:number])
            own = of(version, chosen)
            mpox = own.train.mpox
            draws["real"].append((own.train.rows, mpox))
            if version.variants:
                draws["augmented"].append((augmented(own, rng), np.r_[mpox, mpox]))
        if number == len(every):  # without variants every repeat is the same
            draws["real"] = draws["real"][:1]
        for kind, each in draws.items():
            found[kind][number] = trainer.arm(each)
    return found


def of(version: Version, chosen: np.ndarray) -> Version:
    """Those of the training photos where `chosen` (n, bool) is true."""
    return Version(version.train.subset(chosen), [each[chosen] for each in version.variants])


def photos_of(photos: Photos, label: str) -> np.ndarray:
    """n, bool: mpox, and the controls of a label."""
    return photos.mpox | (np.array(photos.labels) == label)
