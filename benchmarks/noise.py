"""The noise that `evaluate` states, held against drawings and trainings.

python benchmarks/noise.py WORK draw     # after dvc repro; two hours on one core; resumes
python benchmarks/noise.py WORK tables   # minutes

`draw` trains LoRAs with other seeds, ranks and lengths and draws each of them again and again;
`tables` holds the spread of the measures over these against the noise that each evaluation states.
"""

import itertools
import json
import sys
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "src")]
import stages  # noqa: F401
from mpox import pins

pins.unpin()  # twice as fast, and no bits are compared here
import numpy as np
import torch

torch.set_num_threads(1)
from mpox import estimate, images, listing, table
from mpox.diffusion import lora, sampling, training
from mpox.embedded import phantom
from mpox.estimate import Influence, Z
from mpox.measures import collection, comparison, evaluation, features
from mpox.params import Params, read

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
        sets = [Path(each) for each in ("data/augmented", "data/prepared/val", "data/class")]
        training.train(*sets, MODEL, out, settings, SIDE, seed)
    return out / "result/lora"


def draw(adapter: Path, out: Path, seed: int, guidance: float = PARAMS.generate.guidance) -> None:
    if not (out / table.NAME).exists():
        settings = PARAMS.generate.model_copy(update={"guidance": guidance})
        sampling.generate(MODEL, adapter, out, settings, SIDE, seed)


def draw_fresh(out: Path, seed: int) -> None:
    """As many phantoms of patients nobody has seen: what a perfect generator would draw.

    Of patients at random: those of consecutive numbers have their tones spread evenly.
    """
    chosen = np.random.default_rng(seed).choice(10**6, PARAMS.generate.num_images, replace=False)
    for i, patient in enumerate(chosen.tolist()):
        picture = phantom.draw("mpox", patient, 0, seed=10_000, size=2 * SIDE).picture
        images.write(out / f"{i:05d}.png", images.square(picture, SIDE))


def draw_all(work: Path) -> None:
    for seed in DRAWINGS:
        draw_fresh(work / FRESH / f"drawing {seed}", seed)
    for kind, seed in REDRAWN.items():
        adapter = train(work, kind, seed)
        for own in DRAWINGS:
            draw(adapter, work / kind / f"drawing {own}", own)
    for kind, seeds in TRAININGS.items():
        for seed in seeds:
            adapter = train(work, kind, seed)
            draw(adapter, work / kind / f"replicate {seed}", seed)
            draw(adapter, work / kind / f"same drawing {seed}", PARAMS.seed)
            if kind == "rank 8" and seed in seeds[:3]:
                draw(adapter, work / "guidance 3" / f"replicate {seed}", seed, 3.0)


Measured = dict[str, dict[str, dict[str, Any]]]  # by kind and name: metrics and influences


def measure_all(work: Path) -> Measured:
    """Of every drawing that is whole; what is measured already is read."""
    extractor = features.load("efficientnet_lite0", None, torch.device("cpu"))
    real = {
        name: collection.collect(folder, listing.find(folder)[0], SIDE, extractor, turned)
        for name, folder, turned in (
            ("test", Path("data/prepared/test"), False),
            ("training", Path("data/prepared/train"), True),
        )
    }
    found: Measured = {}
    for folder in sorted(work.glob("*/*")):
        file, pictures = folder.with_suffix(".json"), listing.find(folder)[0]
        if not folder.is_dir() or len(pictures) < PARAMS.generate.num_images:
            continue
        if not file.exists():
            fake = collection.collect(folder, pictures, SIDE, extractor)
            measures = evaluation.measure(
                real["test"], fake, real["training"], extractor, PARAMS.seed
            )
            said = {"metrics": estimate.flatten(measures)}
            file.write_text(json.dumps(said | evaluation.influences(fake, measures)))
        found.setdefault(folder.parent.name, {})[folder.name] = json.loads(file.read_text())
    return found


def values(runs: list[dict[str, Any]], name: str) -> np.ndarray:
    return np.array([run["metrics"][name] for run in runs])


def calibration(found: Measured) -> None:
    """SD over drawings of one LoRA, and over differences of two, beside what evaluations state."""
    drawn = {
        kind: {name: run for name, run in runs.items() if name.startswith("drawing")}
        for kind, runs in found.items()
    }
    drawn = {kind: runs for kind, runs in drawn.items() if len(runs) > 4}
    print("drawings:", {kind: len(runs) for kind, runs in drawn.items()})
    print("| | SD | stated/SD | fresh: SD | stated/SD | of differences: SD | stated/SD |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    for name in comparison.MEASURES:
        noise = estimate.KEYS.get(f"{name}_noise", f"{name}_noise")
        spreads: dict[str, list[tuple[float, float]]] = {"LoRA": [], "fresh": [], "paired": []}
        for kind, runs in drawn.items():
            own = list(runs.values())
            stated = np.sqrt(np.mean(values(own, noise) ** 2)) / Z
            spreads["fresh" if kind == FRESH else "LoRA"].append(
                (values(own, name).std(ddof=1), stated)
            )
        for one, other in itertools.combinations([k for k in drawn if k != FRESH], 2):
            common = [(drawn[one][n], drawn[other][n]) for n in drawn[one] if n in drawn[other]]
            if name not in common[0][0]["measures"]:
                continue
            changes = [values([b], name)[0] - values([a], name)[0] for a, b in common]
            noises = [
                Influence(**b["measures"][name]).minus(Influence(**a["measures"][name])).noise
                for a, b in common
            ]
            stated = np.sqrt(np.mean(np.square(noises))) / Z
            spreads["paired"].append((np.std(changes, ddof=1), stated))
        cells = []
        for pairs in spreads.values():
            sd, stated = (
                (np.sqrt(np.mean(np.square(each))) for each in zip(*pairs)) if pairs else (0, 0)
            )
            cells += [f"{sd:.3g}", f"{stated / sd:.2f}" if sd else ""]
        print(f"| {name} | {' | '.join(cells)} |")


def trainings(found: Measured) -> None:
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


def verdicts(found: Measured) -> None:
    """What is beyond noise: one run each as before, by pairs of pictures, and by replicates."""
    print("\n| | independent drawings | same drawing, picture by picture | three trainings each |")
    print("|---|---|---|---|")
    kinds = {
        kind: [
            [run for n, run in sorted(runs.items()) if n.startswith(begin)][:3]
            for begin in ("replicate", "same drawing")
        ]
        for kind, runs in found.items()
    }
    for one, other in (("rank 4", "rank 16"), ("rank 8", "guidance 3"), ("60 steps", "rank 8")):
        if not all(kinds.get(kind, [[]])[0] for kind in (one, other)):
            continue
        (a, same_a), (b, same_b) = kinds[one], kinds[other]
        rows = [
            comparison.compare([x["metrics"]], [y["metrics"]]) for x, y in zip(a, b, strict=False)
        ]
        paired = [
            comparison.compare([x["metrics"]], [y["metrics"]], (x, y))
            for x, y in zip(same_a or a, same_b or b, strict=False)
        ]
        means = [comparison.compare([x["metrics"] for x in a], [y["metrics"] for y in b])]
        cells = []
        for each in (rows, paired, means):
            counts = {row.name: 0 for row in each[0]}
            for rows_of in each:
                for row in rows_of:
                    counts[row.name] += row.beyond_noise
            cells.append(
                ", ".join(f"{n} {c}/{len(each)}" for n, c in counts.items() if c) or "nothing"
            )
        print(f"| {one} → {other} | {' | '.join(cells)} |")
    equal = [(x, y) for kind in kinds for x, y in itertools.combinations(kinds[kind][0], 2)]
    alarms = [
        row.beyond_noise
        for x, y in equal
        for row in comparison.compare([x["metrics"]], [y["metrics"]])
    ]
    if alarms:
        print(
            f"\nequal settings, other trainings and drawings: {sum(alarms)} of {len(alarms)} "
            f"verdicts beyond noise ({len(equal)} pairs)"
        )


if __name__ == "__main__":
    if sys.argv[2] == "draw":
        draw_all(Path(sys.argv[1]))
    else:
        everything = measure_all(Path(sys.argv[1]))
        calibration(everything)
        trainings(everything)
        verdicts(everything)
