"""The gain by number of patients: python benchmarks/patients.py WORK, after dvc repro.

Trains LoRAs on 4, 8 and 16 of the training patients with mpox, three subsets each, and draws with
them; the run's LoRA has all patients. Both classifiers are trained on the same patients and all
controls, with and without the pictures of that LoRA. Prints the gain over augmentation for each.
Takes about ten hours on one core; resumes in WORK.
"""

import sys
from dataclasses import replace
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "src")]
import stages  # noqa: F401
from mpox.core import pins

pins.unpin()  # twice as fast, and no bits are compared here
import numpy as np
import torch

torch.set_num_threads(1)

from mpox.core import listing, seeds, table
from mpox.core.picture_set import PictureSet
from mpox.core.seeds import derive
from mpox.model import base, lora
from mpox.params import Params, read
from mpox.pictures import feature_set, features
from mpox.sampling import sampler
from mpox.sampling.sampler import Job
from mpox.statistics.estimate import Estimate, Metrics
from mpox.training import dreambooth
from mpox.training.dreambooth import Recipe
from mpox.utility import end_to_end, loading, network, trial
from mpox.utility.end_to_end import Networks
from mpox.utility.photos import Pictures, Sets

PARAMS = read(Path("params.yaml"), Params)
MODEL, SIDE = Path(PARAMS.model.path), PARAMS.resolution
NUMBERS, SUBSETS = (4, 8, 16), 3
CPU = torch.device("cpu")


def draw(patients: list[str], out: Path) -> Path:
    """Draw pictures with a LoRA trained on these patients only."""
    photos = PictureSet.read(Path("data/augmented"))
    chosen = [k for k, patient in enumerate(photos.patients) if patient in patients]
    sets = dreambooth.Sets(
        photos.subset(chosen),
        PictureSet.read(Path("data/prepared/val")),
        PictureSet.read(Path("data/class")),
    )
    seed = seeds.first(PARAMS.train.seed, PARAMS.seed)
    adapter, pictures = out / "training/result/lora", out / "synthetic"
    if not (adapter / lora.FILE_NAME).exists():
        dreambooth.train(sets, Recipe(MODEL, PARAMS.train, SIDE, seed), out / "training")
    if not (pictures / table.NAME).exists():
        seed = seeds.first(PARAMS.generate.seed, PARAMS.train.seed, PARAMS.seed)
        sampler.generate(Job("generate", MODEL, PARAMS.generate, SIDE, seed, adapter), pictures)
    return pictures


def select(sets: Sets, patients: list[str], extractor: features.Extractor, pictures: Path) -> Sets:
    """The run's sets with only these patients with mpox, and with other synthetic pictures."""
    train = sets.plain.train
    chosen = ~train.mpox | np.isin(train.patients, patients)
    drawn = feature_set.read_pixels(listing.find(pictures)[0], SIDE)
    pixels = replace(
        sets.pixels,
        plain=sets.pixels.plain[chosen],
        encoded=sets.pixels.encoded[chosen],
        synthetic=drawn,
    )
    return replace(
        sets,
        plain=sets.plain.subset(chosen),
        encoded=sets.encoded.subset(chosen),
        masked=(sets.masked[0].subset(chosen), *sets.masked[1:]),
        synthetic=features.extract(iter(drawn), extractor, total=len(drawn)),
        pixels=pixels,
    )


def measure(sets: Sets, out: Path) -> Metrics:
    """The trial of both classifiers; of networks only the arms that are compared."""
    work = out / "networks"
    work.mkdir(parents=True, exist_ok=True)
    names = ("real", end_to_end.MAIN)
    networks = Networks(sets, network.SMALL, PARAMS.seed, work, CPU, names)
    return trial.compare_arms(sets, PARAMS.seed, networks).metrics


def row(metrics: Metrics, linear: bool) -> tuple[float, float, Estimate]:
    """AUROC without and with synthetic pictures, both with augmentation, and the gain.

    Networks are always trained with augmentation, so their baseline is `real`.
    """
    main = f"linear: {metrics.identity['linear_main']}" if linear else metrics.identity["main"]
    gain = metrics["over_augmented" if linear else "gain", main]
    both = metrics["auroc", main].value
    return both - gain.value, both, gain


def main(work: Path) -> None:
    folders = (
        "prepared", "prepared_controls", "augmented", "augmented_controls", "synthetic", "base",
    )  # fmt: skip
    pictures = Pictures.read(*(Path("data", folder) for folder in folders))
    every = sorted(set(pictures.mpox["train"].patients))
    subsets = {
        (n, k): np.random.default_rng(derive(PARAMS.seed, "patients", k)).permutation(every)[:n]
        for n in NUMBERS
        for k in range(SUBSETS)
    }
    subsets[len(every), 0] = np.array(every)
    extractor = features.load(PARAMS.evaluate.features, PARAMS.evaluate.weights, CPU)
    sets = None
    print("| patients | subset | classifier | augmented | and synthetic | gain |")
    print("|--:|--:|---|--:|--:|---|", flush=True)
    gains: dict[tuple[int, str], list[float]] = {}
    for (n, k), chosen in subsets.items():
        out = work / f"{n}-{k}"
        file, patients = out / "utility.json", chosen.tolist()
        if not file.exists():
            drawn = Path("data/synthetic") if n == len(every) else draw(patients, out)
            if sets is None:
                vae = base.load(MODEL, SIDE).vae
                sets = loading.load(pictures, extractor, vae, SIDE)
            measure(select(sets, patients, extractor, drawn), out).write(file)
        metrics = Metrics.read(file)
        for name in ("linear", "cnn"):
            augmented, both, gain = row(metrics, name == "linear")
            gains.setdefault((n, name), []).append(gain.value)
            interval = f"{gain.value:+.3f} ({gain.low:+.3f} … {gain.high:+.3f})"
            cells = f"{n} | {k + 1} | {name} | {augmented:.3f} | {both:.3f} | {interval}"
            print(f"| {cells} |", flush=True)
    for (n, name), values in gains.items():
        spread = f", SD {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
        print(f"{n} patients, {name}: mean gain {np.mean(values):+.3f}{spread}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
