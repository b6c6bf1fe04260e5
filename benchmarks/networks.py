"""Networks on cases with known answers: python benchmarks/networks.py WORK

Phantoms of mpox and of look-alikes stand in for the photos, pictures of known worth for synthetic
ones. 48 networks are trained on real photos only: intervals between disjoint groups of three must
contain 0, and every other case is compared with all 48. Each case is repeated with one network,
another seed and other pictures. Trains 108 networks, a minute each on one core; resumes in WORK.
"""

import itertools
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "src")]
import stages  # noqa: F401
from mpox.core import pins

pins.unpin()  # twice as fast, and no bits are compared here
import numpy as np
import torch

torch.set_num_threads(1)
from tqdm import tqdm

from benchmarks.utility import EACH, PARTS, drawn, square
from mpox.core.seeds import derive
from mpox.embedded import phantom
from mpox.model import checkpoints
from mpox.pictures import features
from mpox.statistics import halves
from mpox.utility import classifier, end_to_end, network, shortcuts
from mpox.utility.arms import Arm
from mpox.utility.photos import MPOX
from mpox.utility.scoring import Scorer

GROUPS, REPEATS = 16, 10  # groups of end_to_end.REPEATS networks; repeats of each other answer
SHARE = end_to_end.ARMS[end_to_end.MAIN][1]
FEW = 3  # patients
DRAWN = 104  # pictures in the place of the synthetic ones
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Part:
    """Real pictures of one part, mpox before look-alikes."""

    pictures: np.ndarray  # uint8 n×S×S×3
    mpox: np.ndarray  # n, bool
    patients: list[str]  # n

    @classmethod
    def draw(cls, first: int, patients: int) -> "Part":
        """As many patients with mpox as with look-alikes, the first of them by number."""
        look_alikes = list(phantom.LOOK_ALIKES)
        pictures = drawn(MPOX, range(first, first + patients), EACH, seed=77)
        for i in range(first, first + patients):
            pictures += drawn(look_alikes[i % len(look_alikes)], range(i, i + 1), EACH, seed=77)
        names = [str(k // EACH) for k in range(len(pictures))]
        mpox = np.arange(len(pictures)) < patients * EACH
        return cls(np.stack([square(each) for each in pictures]), mpox, names)

    def dealt(self, rng: np.random.Generator) -> "Part":
        """The pictures with labels permuted between patients."""
        first = np.arange(0, len(self.mpox), EACH)
        mpox = np.repeat(rng.permutation(self.mpox[first]), EACH)
        return Part(self.pictures, mpox, self.patients)


class Bench:
    """Trains networks on request, each once."""

    def __init__(self, work: Path):
        self.work = work
        first = dict(zip(PARTS, np.cumsum([0, *PARTS.values()]).tolist(), strict=False))
        self.train, self.test = (Part.draw(first[p], PARTS[p]) for p in ("train", "test"))
        fresh = drawn(MPOX, range(1000, 1000 + 5 * DRAWN), 1, seed=78)
        self.fresh = np.stack([square(each) for each in fresh])
        false = drawn("chickenpox", range(3000, 3000 + 5 * DRAWN), 1, seed=80)
        self.false = np.stack([square(each) for each in false])
        self.scorer = self.scorer_of(self.test)

    def scorer_of(self, part: Part) -> Scorer:
        return Scorer(part.mpox, part.patients, np.random.default_rng(0))

    def scores(
        self, name: str, train: Part, added: np.ndarray | None, chosen: np.ndarray | None = None
    ) -> np.ndarray:
        """Probabilities of the test pictures (n) by the network `name`.

        `added` have the share of the judged arm; `chosen` (n, bool) limits the photos of mpox.
        """
        file = self.work / f"{name}.pt"
        if not file.exists():
            mpox = train.mpox if chosen is None else train.mpox & chosen
            parts = (
                train.pictures[mpox],
                train.pictures[~train.mpox],
                train.pictures[:0] if added is None else added,
            )
            tensors = (network.tensor(part, network.SMALL.size, CPU) for part in parts)
            pool = network.Pool(*tensors, (0.0, 0.0) if added is None else SHARE)
            net = network.train(network.SMALL, pool, derive(0, name))
            test = network.tensor(self.test.pictures, network.SMALL.size, CPU)
            checkpoints.save({"test": torch.from_numpy(network.margins(net, test))}, file)
        return classifier.probability(checkpoints.load(file)["test"].numpy())


def arm(probabilities: list[np.ndarray]) -> Arm:
    nothing = np.full(len(probabilities), np.nan)
    return Arm(np.stack(probabilities), nothing, nothing, np.nan, 0, 0)


def gain(scorer: Scorer, one: np.ndarray, others: list[np.ndarray], seeds: float) -> tuple:
    """AUROC of one network minus the mean of R others with its interval.

    `seeds` is the variance between networks of one arm, which a single network cannot show.
    """
    a, b = scorer.auroc(arm([one])), scorer.auroc(arm(others))
    tested = scorer.stretch * np.std(a.values[0, 1:] - b.values[:, 1:].mean(0), ddof=1)
    width = halves.Z * np.sqrt(tested**2 + seeds * (1 + 1 / len(others)))
    value = a.value - b.value
    return value, value - width, value + width


def report(name: str, wanted: str, holds: list[bool]) -> None:
    print(f"| {name} | {wanted} | {sum(holds)} of {len(holds)} |", flush=True)


def answer(name: str, wanted: str, case: Callable[[int, np.random.Generator], bool]) -> None:
    repeats = tqdm(range(REPEATS), name, leave=False)
    report(name, wanted, [case(k, np.random.default_rng(derive(0, name, k))) for k in repeats])


def main(work: Path) -> None:
    bench = Bench(work)
    scorer, train = bench.scorer, bench.train
    size = end_to_end.REPEATS
    numbers = tqdm(range(GROUPS * size), "real photos", leave=False)
    real = [bench.scores(f"real-{k}", train, None) for k in numbers]
    every = scorer.auroc(arm(real))
    areas = every.values[:, 0]
    tested = scorer.stretch * every.values[:, 1:].mean(0).std(ddof=1)
    seeds = len(real) * (every.error**2 - tested**2)
    print(f"real photos: AUROC {areas.mean():.3f}, SD between networks {areas.std(ddof=1):.4f}")
    print("\n| networks trained on real photos and | must be | was |\n|---|---|--:|")

    starts = range(0, len(real), size)
    groups = [scorer.auroc(arm(real[start : start + size])) for start in starts]
    differences = [one.minus(other) for one, other in itertools.combinations(groups, 2)]
    report(
        f"nothing: two groups of {size}",
        "90–98 % hold 0",
        [d.low <= 0 <= d.high for d in differences],
    )

    def some(pictures: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return pictures[rng.permutation(len(pictures))[:DRAWN]]

    def perfect(k: int, rng: np.random.Generator) -> bool:
        patients = rng.permutation(PARTS["train"])[:FEW]
        chosen = np.isin(train.patients, patients.astype(str))
        alone = bench.scores(f"few-{k}", train, None, chosen)
        both = bench.scores(f"few-fresh-{k}", train, some(bench.fresh, rng), chosen)
        return gain(scorer, both, [alone], seeds)[1] > 0

    def false(k: int, rng: np.random.Generator) -> bool:
        added = bench.scores(f"false-{k}", train, some(bench.false, rng))
        return gain(scorer, added, real, seeds)[2] < 0

    def again(k: int, rng: np.random.Generator) -> bool:
        added = bench.scores(f"again-{k}", train, train.pictures[train.mpox])
        return gain(scorer, added, real, seeds)[1] <= 0

    def permuted(k: int, rng: np.random.Generator) -> bool:
        dealt = train.dealt(rng)
        alone = bench.scores(f"dealt-{k}", dealt, None)
        both = bench.scores(f"dealt-fresh-{k}", dealt, some(bench.fresh, rng))
        other = bench.scorer_of(bench.test.dealt(rng))
        return gain(other, both, [alone], seeds)[1] <= 0

    answer(f"fresh phantoms, but {FEW} real patients", "a gain", perfect)
    answer("chickenpox called mpox", "a loss", false)
    answer("the training photos again", "no gain", again)
    answer("fresh phantoms, permuted labels", "no gain", permuted)

    extractor = features.load("efficientnet_lite0", None, CPU)

    def look(pictures: np.ndarray) -> np.ndarray:
        return features.extract(iter(pictures), extractor, total=len(pictures))

    rows = look(train.pictures[train.mpox])
    who = [name for name, is_mpox in zip(train.patients, train.mpox, strict=True) if is_mpox]
    tinted = look(np.stack([tint(each) for each in bench.fresh]))
    answer(
        "fresh phantoms with a tint (blue × 0.9)",
        "the probe's alarm",
        lambda k, rng: shortcuts.probe(rows, who, some(tinted, rng), rng).low > 0.5,
    )


def tint(picture: np.ndarray) -> np.ndarray:
    return (picture * [1, 1, 0.9]).round().astype(np.uint8)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
