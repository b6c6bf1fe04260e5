"""Synthetic pictures held against real ones: the numbers, and what to read them beside.

docs/metrics.md explains each.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from mpox.core import images, table
from mpox.core.seeds import derive
from mpox.measures import distances, diversity, groups, memorisation, paired, sheets
from mpox.params import Evaluate
from mpox.pictures import features
from mpox.pictures.feature_set import Pictures, choose, collect, fingerprint
from mpox.statistics import estimate
from mpox.statistics.estimate import ALL, Estimate, Metrics

NEIGHBOURS = 5  # k of precision, recall, density, coverage
SHOWN_SIDE = 256  # pixels, the most a picture on the contact sheet gets
# In DVC's tables, which have room for twenty numbers of all stages (docs/metrics.md).
HEADLINES = (
    "fid", "fid_excess", "kid", "precision", "recall", "coverage", "vendi_ratio", "tone_distance",
    "copy_rate", "ssim",
)  # fmt: skip


class Result(NamedTuple):
    """What an evaluation gives."""

    metrics: Metrics
    contact_sheet: np.ndarray  # uint8 H×W×3
    pairs: list[memorisation.Pair]  # the suspicious ones; none without training pictures
    influences: dict[str, Any]  # of each synthetic picture, as JSON takes them


def evaluate(
    real: Path,
    synthetic: Path,
    settings: Evaluate,
    resolution: int,
    seed: int,
    training: Path | None = None,
) -> Result:
    """A folder of synthetic pictures against one of real ones.

    `training` holds what the model was trained on: without it nothing is said of copies.
    Patients are those of each folder's `metadata.csv`, as `prepare` writes it: without one each
    picture counts as a patient of its own. Every picture is cropped and resized to
    resolution×resolution and passes through one codec before anything is measured.

    Raises InputError for missing weights, a folder with fewer than four pictures, a picture that
    cannot be read or is not in its table, and test pictures of too few patients.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    extractor = features.load(settings.features, settings.weights, device)
    folders = {"real": real, "synthetic": synthetic}
    if training is not None:
        folders["training"] = training
    paths = {
        kind: choose(folder, settings.max_pictures, derive(seed, "evaluate", kind))
        for kind, folder in folders.items()
    }
    sets = {
        kind: collect(folder, paths[kind], resolution, extractor, kind == "training")
        for kind, folder in folders.items()
    }
    test, fake, train = sets["real"], sets["synthetic"], sets.get("training")
    sheet = contact_sheet(test, fake)
    if train is None:
        metrics = measure(test, fake, None, extractor, seed, settings.by)
        return Result(metrics, sheet, [], influences(fake, metrics))
    found = memorisation.neighbours(fake, train)
    pairs = memorisation.suspicious(fake, train, found, sheets.PAIRS)
    metrics = measure(test, fake, train, extractor, seed, settings.by, found)
    return Result(metrics, sheet, pairs, influences(fake, metrics))


def measure(
    test: Pictures,
    fake: Pictures,
    train: Pictures | None,
    extractor: features.Extractor,
    seed: int,
    by: Sequence[str] = (),
    found: memorisation.Neighbours | None = None,
) -> Metrics:
    """All measures, and in `identity` what they are of: where it differs, they do not compare.

    `by`: columns of which groups are measured apart. `found`: the neighbours of the synthetic
    pictures, if they are known already.
    """

    def rng(purpose: str) -> np.random.Generator:
        return np.random.default_rng(derive(seed, "evaluate", purpose))

    draws = distances.draw_halves(test, fake, train, rng("halves"))
    size = len(draws[0].one)
    k = min(NEIGHBOURS, size - 1)
    identity = {
        "features": extractor.name,
        "features_sha256": extractor.sha256[:8],
        "preprocessing": f"square {test.side}, JPEG 95, network {extractor.size}",
        "split": fingerprint([test] if train is None else [test, train]),
        "patients": "known" if test.known and (train is None or train.known) else "unknown",
        "n_test": len(test),
        "n_training": 0 if train is None else len(train),
        "n_synthetic": len(fake),
        "n_fid": min(len(test), len(fake)),
        "n_half": size,
        "neighbours": k,
        "ms_ssim_scales": diversity.scales(test.side),
    }
    measures = distances.measure(test, fake, draws, k, rng("distances"))
    measures["ms_ssim"] = diversity.ms_ssim(test, fake, rng("diversity"))
    measures["repeat_rate"] = diversity.repeat_rate(test, fake, rng("repeats"))
    if train is not None:
        held_out = memorisation.neighbours(test, train)
        found = found or memorisation.neighbours(fake, train)
        measures |= memorisation.measure(test, fake, train, draws, found, held_out)
    by_group = groups.measure(test, fake, by, k, rng("groups"))
    measures |= by_group[ALL] | paired.measure(test, fake)
    headlines = {name: measures[name].value for name in HEADLINES if name in measures}
    return Metrics({**by_group, ALL: measures}, identity, headlines=headlines)


def measure_features(real: np.ndarray, synthetic: np.ndarray, seed: int) -> dict[str, Estimate]:
    """What features alone tell, by name as in metrics/evaluation.json, of n×d and m×d float32.

    Each row counts as a patient of its own.
    """

    def pictures(rows: np.ndarray, name: str) -> Pictures:
        names = [str(i) for i in range(len(rows))]
        nothing = np.empty((len(rows), 0))
        paths = [Path(name, each) for each in names]
        return Pictures(Path(name), paths, names, False, nothing, rows, nothing, [""] * len(rows))

    def rng(purpose: str) -> np.random.Generator:
        return np.random.default_rng(derive(seed, "evaluate", purpose))

    test, fake = pictures(real, "real"), pictures(synthetic, "synthetic")
    draws = distances.draw_halves(test, fake, None, rng("halves"))
    k = min(NEIGHBOURS, len(draws[0].one) - 1)
    found = distances.measure(test, fake, draws, k, rng("distances"))
    found["repeat_rate"] = diversity.repeat_rate(test, fake, rng("repeats"))
    return found


def influences(fake: Pictures, metrics: Metrics) -> dict[str, Any]:
    """What comparison.compare needs to hold two runs of the same seeds against each other."""
    known = table.read(fake.folder)
    names = [path.relative_to(fake.folder).as_posix() for path in fake.paths]
    seeds = [known.row(name).get("seed", "") if known else "" for name in names]
    return {
        "seeds": seeds,
        "measures": {
            name: estimate.influence_to_json(each.influence)
            for name, each in metrics.estimates[ALL].items()
            if each.influence
        },
    }


def contact_sheet(test: Pictures, fake: Pictures) -> np.ndarray:
    """Real pictures on the left, synthetic ones on the right, spread evenly over the names."""
    rows = min(sheets.ROWS, len(test) // sheets.COLUMNS, len(fake) // sheets.COLUMNS)
    side = min(test.side, SHOWN_SIDE)
    return sheets.contact(
        *(
            [_at(each.pixels[i], side) for i in sheets.spread(len(each), rows)]
            for each in (test, fake)
        )
    )


def _at(picture: np.ndarray, side: int) -> np.ndarray:
    return picture if len(picture) == side else images.square(picture, side)
