"""The noise that `evaluate` states, held against drawings and trainings.

python benchmarks/noise.py WORK drawings    # after dvc repro; an hour on one core; resumes
python benchmarks/noise.py WORK trainings   # an hour and a half; in the same WORK or another

`drawings` draws three LoRAs again and again and holds the spread of the measures against the noise
that each evaluation states; `trainings` trains with other seeds, ranks and lengths and says how far
trainings of one setting differ, and what is told apart of two. What is in WORK is not made again,
nor measured again: another version of the code wants another WORK.
"""

import itertools
import json
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "src")]
import stages  # noqa: F401
from mpox.core import pins

pins.unpin()  # twice as fast, and no bits are compared here
import numpy as np
import torch

torch.set_num_threads(1)
from scipy.stats import wasserstein_distance
from tqdm import tqdm

from mpox.compare import comparison
from mpox.core import images, listing, table
from mpox.core.picture_set import PictureSet
from mpox.embedded import phantom
from mpox.measures import distances, diversity, evaluation, groups, memorisation
from mpox.model import lora
from mpox.params import Params, read
from mpox.pictures import feature_set, features
from mpox.pictures.feature_set import FeatureSet, Sets
from mpox.sampling import sampler
from mpox.sampling.sampler import Job
from mpox.statistics.estimate import Influence, Metrics, Z
from mpox.training import dreambooth
from mpox.training.dreambooth import Recipe

PARAMS = read(Path("params.yaml"), Params)
MODEL, SIDE = Path(PARAMS.model.path), PARAMS.resolution
SETTINGS = {
    "rank 8": {},
    "60 steps": {"max_steps": 60, "warmup_steps": 10},
    "rank 16": {"rank": 16, "alpha": 16.0},
    "rank 4": {"rank": 4, "alpha": 4.0},
}
TRAININGS = {
    "60 steps": (1, 2, 3),
    "rank 16": (1, 2, 3),
    "rank 8": (PARAMS.seed, 1, 2, 3, 4),
    "rank 4": (1, 2, 3),
}
REDRAWN = {"rank 8": PARAMS.seed, "60 steps": 1, "rank 16": 1}  # twenty times
DRAWINGS = range(100, 120)
FRESH = "fresh phantoms"


def train(work: Path, kind: str, seed: int) -> Path:
    """The folder of a LoRA: the run's own, or trained now."""
    if kind == "rank 8" and seed == PARAMS.seed:
        return Path("models/lora")
    out = work / kind / f"training {seed}"
    if not (out / "result/lora" / lora.FILE_NAME).exists():
        settings = PARAMS.train.model_copy(update=SETTINGS[kind])
        folders = (Path(each) for each in ("data/augmented", "data/prepared/val", "data/class"))
        sets = dreambooth.Sets(*map(PictureSet.read, folders))
        dreambooth.train(sets, Recipe(MODEL, settings, SIDE, seed), out)
    return out / "result/lora"


def draw(adapter: Path, out: Path, seed: int, guidance: float = PARAMS.generate.guidance) -> None:
    if not (out / table.NAME).exists():
        settings = PARAMS.generate.model_copy(update={"guidance": guidance})
        sampler.generate(Job("generate", MODEL, settings, SIDE, seed, adapter), out)


def draw_fresh(out: Path, seed: int) -> None:
    """As many phantoms of patients nobody has seen: what a perfect generator would draw.

    Of patients at random: those of consecutive numbers have their tones spread evenly.
    """
    chosen = np.random.default_rng(seed).choice(10**6, PARAMS.generate.num_images, replace=False)
    for i, patient in enumerate(chosen.tolist()):
        picture = phantom.draw("mpox", patient, 0, seed=10_000, size=2 * SIDE).picture
        images.write(out / f"{i:05d}.png", images.square(picture, SIDE))


def draw_again(work: Path) -> None:
    for seed in DRAWINGS:
        draw_fresh(work / FRESH / f"drawing {seed}", seed)
    for kind, seed in REDRAWN.items():
        adapter = train(work, kind, seed)
        for own in DRAWINGS:
            draw(adapter, work / kind / f"drawing {own}", own)


def train_again(work: Path) -> None:
    for kind, seeds in TRAININGS.items():
        for seed in seeds:
            adapter = train(work, kind, seed)
            draw(adapter, work / kind / f"replicate {seed}", seed)
            draw(adapter, work / kind / f"same drawing {seed}", PARAMS.seed)
            if kind == "rank 8" and seed in seeds[:3]:
                draw(adapter, work / "guidance 3" / f"replicate {seed}", seed, 3.0)


SETS = 60  # put together of the drawings' pictures, to know the spread better than by so few


class Real(NamedTuple):
    """The test and the training pictures, and the halves that measures are means over."""

    test: FeatureSet
    training: FeatureSet
    extractor: features.Extractor


class Drawing(NamedTuple):
    pictures: FeatureSet
    metrics: Metrics
    influences: dict[str, Any]  # as in influences.json


def load(work: Path) -> tuple[Real, dict[str, dict[str, Drawing]]]:
    """By kind and name every drawing that is whole; what is measured already is read."""
    extractor = features.load("efficientnet_lite0", None, torch.device("cpu"))

    def collect(folder: Path, turned: bool = False) -> FeatureSet:
        return feature_set.collect(PictureSet.read(folder), SIDE, extractor, turned)

    test, training_photos = (Path("data/prepared", part) for part in ("test", "train"))
    real = Real(collect(test), collect(training_photos, True), extractor)
    found: dict[str, dict[str, Drawing]] = {}
    for folder in sorted(work.glob("*/*")):
        file = folder.with_suffix(".json")
        if not folder.is_dir() or len(listing.find(folder)[0]) < PARAMS.generate.num_images:
            continue
        fake = collect(folder)
        if not file.exists():
            sets = Sets(real.test, fake, real.training)
            result = evaluation.measure_sets(sets, extractor, PARAMS.seed)
            said = [result.metrics.to_json(), result.influences]
            file.write_text(json.dumps(said))
        measured, influences = json.loads(file.read_text())
        drawing = Drawing(fake, Metrics.parse(measured.encode(), str(file)), influences)
        found.setdefault(folder.parent.name, {})[folder.name] = drawing
    return real, found


def values(runs: Sequence[Drawing], name: str) -> np.ndarray:
    return np.array([run.metrics[name].value for run in runs])


def mixed(drawings: Sequence[FeatureSet], chosen: np.ndarray) -> FeatureSet:
    """Picture i of drawing chosen[i]: independent pictures, as many of each prompt."""
    parts = [drawings[k].subset(np.array([i])) for i, k in enumerate(chosen)]
    pictures = replace(
        drawings[0].pictures,
        paths=[path for each in parts for path in each.pictures.paths],
        rows=[row for each in parts for row in each.pictures.rows],
    )
    arrays = (
        np.concatenate([getattr(each, name) for each in parts])
        for name in ("pixels", "rows", "hashes")
    )
    return FeatureSet(pictures, *arrays)


def measure_mixed(
    real: Real, drawings: Sequence[FeatureSet], chosen: np.ndarray
) -> dict[str, float]:
    fake = mixed(drawings, chosen)
    rng = np.random.default_rng(0)
    sets = Sets(real.test, fake, real.training)
    draws = distances.draw_halves(sets, rng)[:40]
    found = distances.measure_distances(real.test, fake, draws, evaluation.NEIGHBOURS, rng)
    found["fid_gap"] = memorisation.gap(sets, draws)
    table = diversity.all_pairs(fake.pixels[: diversity.MOST])
    return {name: each.value for name, each in found.items()} | {
        "ms_ssim": float(table.sum() / (len(table) * (len(table) - 1))),
        "tone_distance": float(wasserstein_distance(*map(groups.angles, (real.test, fake)))),
    }


def calibration(real: Real, found: dict[str, dict[str, Drawing]]) -> None:
    """The spread of drawings of one LoRA, and of differences of two that share their seeds."""
    drawn = {
        kind: {name: run for name, run in runs.items() if name.startswith("drawing")}
        for kind, runs in found.items()
    }
    drawn = {kind: runs for kind, runs in drawn.items() if len(runs) > 4}
    print("drawings:", {kind: len(runs) for kind, runs in drawn.items()})
    common = sorted(set.intersection(*(set(runs) for kind, runs in drawn.items() if kind != FRESH)))
    rng = np.random.default_rng(1)
    chosen = rng.integers(0, len(common), (SETS, PARAMS.generate.num_images))
    unbiased = np.sqrt(len(common) / (len(common) - 1))
    sets = {
        kind: [
            measure_mixed(real, [runs[name].pictures for name in common], own)
            for own in tqdm(chosen, kind)
        ]
        for kind, runs in drawn.items()
    }

    def rms(numbers: Sequence[float]) -> float:
        return float(np.sqrt(np.mean(np.square(numbers))))

    loras = [kind for kind in drawn if kind != FRESH]
    pairs = list(itertools.combinations(loras, 2))
    print("| | stated | SD of drawings | of sets | stated/SD | fresh: stated | of sets | stated/SD "
          "| differences: stated | of sets | stated/SD |")  # fmt: skip
    print(f"|---|{'--:|' * 10}")
    for name in comparison.MEASURES:
        cells = []
        for kinds in (loras, [FRESH]):
            stated = rms(
                [run.metrics[name].noise / Z for kind in kinds for run in drawn[kind].values()]
            )
            own = rms([values([*drawn[kind].values()], name).std(ddof=1) for kind in kinds])
            cells += [stated] if kinds == [FRESH] else [stated, own]
            if name in sets[kinds[0]][0]:
                spread = rms([np.std([each[name] for each in sets[k]], ddof=1) for k in kinds])
                cells += [spread * unbiased, stated / (spread * unbiased)]
            else:
                cells += [own, stated / own] if own else [0, 0]
        if name in drawn[loras[0]][common[0]].influences["measures"]:
            noises, spreads = [], []
            for one, other in pairs:
                for at in common:
                    a, b = (drawn[k][at].influences["measures"][name] for k in (one, other))
                    noises.append(Influence(**b).minus(Influence(**a)).noise / Z)
                changes = [y[name] - x[name] for x, y in zip(sets[one], sets[other], strict=True)]
                spreads.append(np.std(changes, ddof=1) * unbiased)
            cells += [rms(noises), rms(spreads), rms(noises) / rms(spreads)]
        print(f"| {name} | {' | '.join(f'{cell:.3g}' for cell in cells)} |", flush=True)


def trainings(found: dict[str, dict[str, Drawing]]) -> None:
    """SD between trainings of one setting, each with its own drawing or all with the same."""
    print("\n| | trainings | own drawings: mean | SD | same drawing: mean | SD |")
    print("|---|--:|--:|--:|--:|--:|")
    for name in comparison.MEASURES:
        for kind, runs in found.items():
            own, same = (
                values([run for n, run in runs.items() if n.startswith(begin)], name)
                for begin in ("replicate", "same drawing")
            )
            if len(own) > 2:
                cells = [
                    f"{f(each):.3g}"
                    for each in (own, same)
                    if len(each)
                    for f in (np.mean, lambda x: np.std(x, ddof=1))
                ]
                print(f"| {name}, {kind} | {len(own)} | {' | '.join(cells)} |")


def verdicts(found: dict[str, dict[str, Drawing]]) -> None:
    """What is beyond noise: single runs, by the noise of both or picture by picture; trainings."""
    own, same = (
        {
            kind: [run for name, run in sorted(runs.items()) if name.startswith(begin)]
            for kind, runs in found.items()
        }
        for begin in ("replicate", "same drawing")
    )

    def single(one: Drawing, other: Drawing, paired: bool = False) -> list[comparison.Row]:
        influences = (one.influences, other.influences) if paired else (None, None)
        return comparison.compare([one.metrics], [other.metrics], influences)

    def trained(one: Sequence[Drawing], other: Sequence[Drawing]) -> list[comparison.Row]:
        return comparison.compare([x.metrics for x in one], [y.metrics for y in other])

    def said(comparisons: Sequence[list[comparison.Row]]) -> str:
        counts = Counter(row.name for rows in comparisons for row in rows if row.beyond_noise)
        if len(comparisons) == 1:
            return ", ".join(counts) or "nothing"
        return ", ".join(f"{name} {count}" for name, count in counts.items()) or "nothing"

    print("\n| of three pairs of runs | noise of both | same drawing, picture by picture |")
    print("|---|---|---|")
    for one, other in (("rank 4", "rank 16"), ("rank 8", "guidance 3"), ("60 steps", "rank 8")):
        rows = [single(x, y) for x, y in zip(own[one], own[other], strict=False)]
        # Of each seed another guidance draws by the same seeds as the committed one.
        sides = (same[one], same[other]) if same[other] else (own[one], own[other])
        paired = [single(x, y, True) for x, y in zip(*sides, strict=False)]
        print(f"| {one} → {other} | {said(rows)} | {said(paired)} |")

    print("\n| all trainings | own drawings | same drawing |\n|---|---|---|")
    for one, other in [("rank 4", "rank 16"), *(("rank 8", kind) for kind in own)]:
        if one != other:
            cells = [said([trained(x[one], x[other])]) if x[other] else "" for x in (own, same)]
            print(f"| {one} → {other} | {' | '.join(cells)} |")

    committed = own["rank 8"]
    halves = [
        trained([committed[i] for i in two], [x for i, x in enumerate(committed) if i not in two])
        for two in itertools.combinations(range(len(committed)), 2)
    ]
    print("\nverdicts beyond noise on equal settings:")
    for name, comparisons in {
        "single runs, noise of both": [single(*pair) for pair in _pairs(own.values())],
        "of rank 8 alone": [single(*pair) for pair in _pairs([committed])],
        "same drawing, picture by picture": [single(*p, True) for p in _pairs(same.values())],
        "rank 8's trainings, two against the others": halves,
    }.items():
        of = [row.beyond_noise for rows in comparisons for row in rows]
        print(f"{name}: {sum(of)} of {len(of)}")


def _pairs(kinds: Iterable[Sequence[Drawing]]) -> list[tuple[Drawing, Drawing]]:
    return [pair for runs in kinds for pair in itertools.combinations(runs, 2)]


def main(work: Path, what: str) -> None:
    WHAT[what](work)
    real, found = load(work)
    if what == "drawings":
        calibration(real, found)
    else:
        trainings(found)
        verdicts(found)


WHAT = {"drawings": draw_again, "trainings": train_again}

if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[2] not in WHAT:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), sys.argv[2])
