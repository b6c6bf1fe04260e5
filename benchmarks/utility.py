"""The utility trial on cases with known answers: python benchmarks/utility.py

Phantoms of mpox and of look-alikes stand in for the photos. Fresh phantoms, training photos again,
look-alikes labelled mpox and others stand in for the generator's pictures. Each case is repeated on
other patients; a line gives how often the outcome was right. Takes a quarter of an hour on two
cores.
"""

import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "src")]
import stages  # noqa: F401
from mpox import augmentation, params
from mpox.core import images, table
from mpox.core.errors import InputError
from mpox.core.picture_set import PictureSet
from mpox.embedded import phantom
from mpox.pictures import features
from mpox.statistics import tone
from mpox.statistics.estimate import Estimate
from mpox.utility import arms, leaks, loading, shortcuts, worth
from mpox.utility.arms import Arm, Trainer
from mpox.utility.photos import MPOX, Photos, Sets, Version
from mpox.utility.scoring import Scorer

ROOT = Path(__file__).parents[1]
SIDE, EACH = 64, 4  # pixels; pictures of a patient
POOL = 160  # patients of mpox, and as many of look-alikes, from whom each repeat takes its own
PARTS = {"train": 32, "val": 6, "test": 26}  # patients of either, as in the embedded run
SEEDS, MANY = 20, 200


def square(picture: np.ndarray) -> np.ndarray:
    return images.recode(images.square(picture, SIDE))


def drawn(kind: str, patients: range, each: int, seed: int) -> list[np.ndarray]:
    return [phantom.draw(kind, i, j, seed, 2 * SIDE).picture for i in patients for j in range(each)]


class Pool:
    """Features of many phantoms, and of augmented variants of them."""

    def __init__(self) -> None:
        extractor = features.load("efficientnet_lite0", None, torch.device("cpu"))
        self.extractor = extractor
        settings = params.read(ROOT / "params.yaml", params.Params)
        chain = augmentation.transforms(settings.augment, SIDE)
        kinds = {MPOX: POOL} | dict.fromkeys(phantom.LOOK_ALIKES, POOL // 3 + 1)
        pictures = {k: drawn(k, range(n), EACH, seed=77) for k, n in kinds.items()}
        every = [picture for each in pictures.values() for picture in each]
        labels = [kind for kind, each in pictures.items() for _ in each]
        whose = [f"{kind} {k // EACH}" for kind, each in pictures.items() for k in range(len(each))]
        small = [square(picture) for picture in every]
        self.photos = Photos(
            self.look(small),
            labels,
            whose,
            [tone.word(tone.typology_angle(each)) for each in small],
            np.array([each.mean((0, 1)) for each in small]),
        )
        self.variants = [
            self.look(
                [
                    images.recode(augmentation.variant(chain, picture, 1000 * copy + k))
                    for k, picture in enumerate(every)
                ]
            )
            for copy in range(loading.VARIANTS)
        ]
        self.fresh = [square(p) for p in drawn(MPOX, range(1000, 1000 + 520), 1, seed=78)]
        self.fresh_rows = self.look(self.fresh)
        # New patients with as many pictures each as the real ones.
        self.more = self.look([square(p) for p in drawn(MPOX, range(2000, 2000 + POOL), EACH, 79)])
        self.false = self.look(
            [square(p) for p in drawn("chickenpox", range(3000, 3000 + 208), 1, 80)]
        )

    def look(self, pictures: list[np.ndarray]) -> np.ndarray:
        return features.extract(pictures, self.extractor, total=len(pictures))

    def sets(self, rng: np.random.Generator, mpox: int = PARTS["train"]) -> Sets:
        """Random patients for each part, `mpox` of them with mpox in training; none synthetic."""
        photos, names = self.photos, np.array(self.photos.patients)
        patients: dict[str, set[str]] = {part: set() for part in PARTS}
        for kind in (photos.mpox, ~photos.mpox):
            order = list(rng.permutation(sorted(set(names[kind]))))
            for part, number in PARTS.items():
                take = (
                    mpox
                    if part == "train" and kind is not None and order[0][:4] == MPOX
                    else number
                )
                patients[part] |= {order.pop() for _ in range(take)}
        chosen = {part: np.isin(names, list(each)) for part, each in patients.items()}
        train, val, test = (photos.subset(chosen[part]) for part in PARTS)
        version = Version(train, [each[chosen["train"]] for each in self.variants])
        none = np.empty((0, train.rows.shape[1]), np.float32)
        return Sets(version, version, val, test, (train, val, test), none, none)

    def some(self, rows: np.ndarray, number: int, rng: np.random.Generator) -> np.ndarray:
        return rows[rng.permutation(len(rows))[:number]]


class Course:
    """The classifiers of a trial, trained on request."""

    def __init__(self, sets: Sets, rng: np.random.Generator):
        self.sets, self.rng = sets, rng
        self.trainer = Trainer(sets)
        self.scorer = Scorer(sets.test.mpox, sets.test.patients, rng)

    def difference(self, one: Arm, other: Arm) -> Estimate:
        """AUROC of one arm minus that of another."""
        return self.scorer.auroc(one).minus(self.scorer.auroc(other))

    def real(self) -> Arm:
        train = self.sets.plain.train
        return self.trainer.arm([(train.rows, train.mpox)])

    def both(self, rows: np.ndarray) -> Arm:
        train = self.sets.plain.train
        pictures = np.concatenate([train.rows, rows])
        return self.trainer.arm([(pictures, np.r_[train.mpox, np.ones(len(rows), bool)])])

    def augmented(self) -> Arm:
        version = self.sets.plain
        return self.trainer.arm([arms.augmented(version, self.rng) for _ in range(arms.REPEATS)])


def count(
    name: str, wanted: str, case: Callable[[np.random.Generator], object], times: int = SEEDS
) -> None:
    outcomes = [case(np.random.default_rng(seed)) for seed in tqdm(range(times), name, leave=False)]
    rate = np.mean([bool(outcome) for outcome in outcomes])
    print(f"| {name} | {wanted} | {round(rate * times)} of {times} |", flush=True)


def main() -> None:
    torch.manual_seed(0)
    pool = Pool()
    print("| in the place of the synthetic pictures | must be | was |\n|---|---|--:|")

    def perfect(rng: np.random.Generator) -> bool:
        course = Course(pool.sets(rng, 3), rng)
        fresh = pool.some(pool.fresh_rows, 5 * 3 * EACH, rng)
        return course.difference(course.both(fresh), course.real()).low > 0

    count("fresh phantoms, 5 to 1, beside 3 real patients", "gain beyond its interval", perfect)

    def covered(rng: np.random.Generator) -> bool:
        course, who = Course(pool.sets(rng, 16), rng), rng.permutation(POOL)[:8]
        rows = np.concatenate([pool.more[EACH * k : EACH * (k + 1)] for k in who])
        curves = arms.train_curves(course.trainer, replace(course.sets.plain, variants=[]), rng)
        auroc = course.scorer.auroc
        points = {number: auroc(arm) for number, arm in curves["real"].items()}
        real, both = auroc(course.real()), auroc(course.both(rows))
        interval = worth.estimate(points, real, both, 8 / (16 + 8), rng)
        return interval.low <= 8 <= interval.high

    count("all photos of 8 new patients beside 16", "worth covers 8", covered)

    def again(rng: np.random.Generator) -> bool:
        course = Course(pool.sets(rng), rng)
        train = course.sets.plain.train
        both, augmented = course.both(train.rows[train.mpox]), course.augmented()
        return course.difference(both, augmented).low <= 0

    count("the training photos again", "no gain over augmented", again)

    def false(rng: np.random.Generator) -> bool:
        course = Course(pool.sets(rng), rng)
        both = course.both(pool.some(pool.false, 128, rng))
        return course.difference(both, course.real()).high < 0

    count("chickenpox called mpox", "a loss", false)

    def jpeg(quality: int) -> np.ndarray:
        import cv2

        pictures = []
        for each in pool.fresh[:208]:
            _, code = cv2.imencode(".jpg", each[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
            pictures.append(images.recode(cv2.imdecode(code, cv2.IMREAD_COLOR)[..., ::-1].copy()))
        return pool.look(pictures)

    tinted = pool.look(
        [images.recode((each * [1, 1, 0.9]).round().astype(np.uint8)) for each in pool.fresh[:208]]
    )
    spoilt = {"a tint (blue × 0.9)": tinted, "JPEG 50": jpeg(50), "JPEG 75": jpeg(75)}

    def probed(rows: np.ndarray) -> Callable[[np.random.Generator], bool]:
        def case(rng: np.random.Generator) -> bool:
            train = pool.sets(rng).plain.train
            who = [train.patients[i] for i in np.flatnonzero(train.mpox)]
            added = pool.some(rows, 104, rng)
            return shortcuts.probe(train.rows[train.mpox], who, added, rng).low > 0.5

        return case

    for name, rows in spoilt.items():
        count(f"fresh phantoms with {name}", "the probe's alarm", probed(rows))
    quiet = probed(pool.fresh_rows)
    count("fresh phantoms as they are", "no alarm", lambda rng: not quiet(rng))

    with tempfile.TemporaryDirectory() as folder:
        print(f"| a test photo among them | refused | {smuggled(Path(folder))} |", flush=True)

    def seeds(rng: np.random.Generator) -> bool:
        course = Course(pool.sets(rng), rng)
        gain = course.difference(course.augmented(), course.augmented())
        return gain.low <= 0 <= gain.high

    count("two arms, other augmentation seeds", "92–98 % hold 0", seeds, MANY)

    def permuted(rng: np.random.Generator) -> bool:
        sets = pool.sets(rng)
        dealt = {
            "plain": replace(sets.plain, train=shuffled(sets.plain.train, rng)),
            "val": shuffled(sets.val, rng),
            "test": shuffled(sets.test, rng),
        }
        course = Course(replace(sets, **dealt), rng)
        both = course.both(pool.some(pool.fresh_rows, 104, rng))
        gain = course.difference(both, course.real())
        return gain.low <= 0 <= gain.high

    count("permuted labels", "92–98 % hold 0", permuted, MANY)


def shuffled(photos: Photos, rng: np.random.Generator) -> Photos:
    """The photos with labels permuted between patients."""
    names = sorted(set(photos.patients))
    label = dict(zip(photos.patients, photos.labels, strict=True))
    dealt = dict(zip(names, rng.permutation([label[name] for name in names]), strict=True))
    return replace(photos, labels=[str(dealt[name]) for name in photos.patients])


def smuggled(folder: Path) -> str:
    """Put a test photo, mirrored and recompressed, among the synthetic pictures."""
    for part, first in (("test", 0), ("train", 40)):
        rows = {}
        for k, picture in enumerate(drawn(MPOX, range(first, first + 8), 2, seed=77)):
            images.write(_new(folder / part) / f"{k}.png", picture)
            rows[f"{k}.png"] = [str(first + k // 2)]
        table.write(folder / part, ["patient"], rows)
    for k, picture in enumerate(drawn(MPOX, range(1000, 1008), 1, seed=78)):
        images.write(_new(folder / "synthetic") / f"{k}.png", images.square(picture, SIDE))

    def check() -> None:
        sets = ([PictureSet.read(folder / name)] for name in ("test", "train", "synthetic"))
        leaks.check_leaks(*sets, 4)

    check()
    stolen = images.square(images.read(folder / "test/3.png"), SIDE)
    images.write(folder / "synthetic/99.png", images.recode(np.ascontiguousarray(stolen[:, ::-1])))
    try:
        check()
    except InputError:
        return "refused"
    return "NOT refused"


def _new(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder


if __name__ == "__main__":
    main()
