"""Whether each measure answers to what it is meant for: python benchmarks/known_answers.py.

Phantoms of known kind stand in for all pictures. Fresh ones, as a perfect generator would draw
them, must lie inside the intervals, and two fresh sets must not differ beyond noise; a fresh set
spoilt in one known way must move the measure meant for that beyond noise. Prints a line a case;
about ten minutes on one core.
"""

import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "src")]
import stages  # noqa: F401
from mpox.compare import comparison
from mpox.core import images, table
from mpox.core.picture_set import PictureSet
from mpox.embedded import phantom
from mpox.measures import evaluation
from mpox.pictures import feature_set, features
from mpox.pictures.feature_set import FeatureSet, Sets
from mpox.statistics.estimate import Metrics

SIDE = 64  # pixels
PATIENTS = {"test": 26, "training": 32}
EACH = 4  # pictures of a real patient; no two synthetic ones are of one
FRESH = PATIENTS["test"] * EACH
COPIES = range(0, FRESH, 10)  # a tenth
SEEDS = 20


def draw(seed: int, patients: int, each: int) -> list[np.ndarray]:
    return [
        images.square(phantom.draw("mpox", i, j, seed=seed, size=2 * SIDE).picture, SIDE)
        for i in range(patients)
        for j in range(each)
    ]


def blurred(fresh: list[np.ndarray], _: list[np.ndarray]) -> list[np.ndarray]:
    return [cv2.GaussianBlur(each, (0, 0), 2) for each in fresh]


def collapsed(fresh: list[np.ndarray], _: list[np.ndarray]) -> list[np.ndarray]:
    return fresh[: FRESH // 2] * 2


def copied(
    change: Callable[[np.ndarray], np.ndarray], fresh: list[np.ndarray], training: list[np.ndarray]
) -> list[np.ndarray]:
    """A tenth of the fresh pictures replaced by training pictures."""
    return [change(training[i]) if i in COPIES else each for i, each in enumerate(fresh)]


def compressed(picture: np.ndarray) -> np.ndarray:
    _, code = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 50])
    return np.ascontiguousarray(cv2.imdecode(code, cv2.IMREAD_COLOR)[..., ::-1])


SPOILT: dict[str, tuple[Callable, set[str]]] = {
    "blur of 2 pixels": (blurred, {"fid_excess", "kid"}),
    "half of the pictures, twice": (collapsed, {"repeat_rate", "vendi_ratio"}),
    "10 % copies": (partial(copied, lambda each: each), {"copy_rate", "hash_rate"}),
    "10 % copies, flipped": (partial(copied, np.fliplr), {"copy_rate", "hash_rate"}),
    "10 % copies, turned": (partial(copied, np.rot90), {"copy_rate", "hash_rate"}),
    "10 % copies, JPEG 50": (partial(copied, compressed), {"copy_rate", "hash_rate"}),
}


def main() -> None:
    extractor = features.load("efficientnet_lite0", None, torch.device("cpu"))
    with tempfile.TemporaryDirectory() as folder:

        def collect(name: str, pictures: list[np.ndarray], turned: bool = False) -> FeatureSet:
            paths = [Path(folder, name, f"{i:03d}.png") for i in range(len(pictures))]
            each = EACH if name in PATIENTS else 1
            rows = {path.name: [i // each] for i, path in enumerate(paths)}
            table.write(Path(folder, name), ["patient"], rows)
            for path, picture in zip(paths, pictures, strict=True):
                images.write(path, np.ascontiguousarray(picture))
            shown = PictureSet.read(Path(folder, name))
            return feature_set.collect(shown, SIDE, extractor, turned)

        training = draw(1000, PATIENTS["training"], EACH)
        train = collect("training", training, turned=True)

        def measured(test: FeatureSet, fake: FeatureSet) -> Metrics:
            return evaluation.measure_sets(Sets(test, fake, train), extractor, 0).metrics

        inside = dict.fromkeys(comparison.MEASURES, 0)
        changed = dict.fromkeys(comparison.MEASURES, 0)
        for seed in reversed(range(SEEDS)):
            test = collect("test", draw(2000 + seed, PATIENTS["test"], EACH))
            first, second = (draw(start + seed, FRESH, 1) for start in (3000, 4000))
            old, new = (measured(test, collect("fresh", each)) for each in (second, first))
            for row in comparison.compare([old], [new]):
                inside[row.name] += row.new.like_real
                changed[row.name] += row.beyond_noise
        for name, count in inside.items():
            print(
                f"{name}: fresh inside the interval {count} of {SEEDS}, "
                f"two fresh sets beyond noise {changed[name]} of {SEEDS}"
            )
        for name, (spoil, meant) in SPOILT.items():
            spoilt = collect("spoilt", spoil(first, training))
            rows = comparison.compare([new], [measured(test, spoilt)])
            beyond = {
                row.name: f"{row.name} {row.old.value:.3g} → {row.new.value:.3g} ± {row.noise:.2g}"
                for row in rows
                if row.beyond_noise
            }
            verdict = "seen" if meant & beyond.keys() else "MISSED"
            print(f"{name}: {verdict} ({', '.join(beyond.values()) or 'nothing beyond noise'})")


if __name__ == "__main__":
    main()
