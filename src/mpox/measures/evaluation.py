"""Synthetic pictures held against real ones: the numbers, and what to read them beside.

docs/metrics.md explains each.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from mpox.core import images
from mpox.core.picture_set import PictureSet
from mpox.core.seeds import derive
from mpox.measures import distances, diversity, groups, memorisation, paired, sheets
from mpox.params import Evaluate
from mpox.pictures import features
from mpox.pictures.feature_set import FeatureSet, Sets, choose, collect, fingerprint
from mpox.statistics import estimate
from mpox.statistics.estimate import ALL, Metrics

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


class Compared(NamedTuple):
    """The pictures of an evaluation."""

    test: PictureSet
    synthetic: PictureSet
    training: PictureSet | None  # of the model; without them nothing is said of copies


def evaluate(pictures: Compared, settings: Evaluate, side: int, seed: int) -> Result:
    """Synthetic pictures against real ones.

    Every picture is cropped and resized to side×side and passes through one codec before anything
    is measured.

    Raises InputError for missing weights, a set of fewer than four pictures, a picture that cannot
    be read, and test pictures of too few patients.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    extractor = features.load(settings.features, settings.weights, device)
    chosen = {
        kind: choose(each, settings.max_pictures, derive(seed, "evaluate", kind))
        for kind, each in zip(("real", "synthetic", "training"), pictures, strict=True)
        if each is not None
    }
    sets = Sets(
        *(collect(each, side, extractor, kind == "training") for kind, each in chosen.items())
    )
    nearest, pairs = None, []
    if sets.training is not None:
        nearest = memorisation.neighbours(sets.synthetic, sets.training)
        pairs = memorisation.suspicious(sets.synthetic, sets.training, nearest, sheets.PAIRS)
    metrics = measure(sets, extractor, seed, settings.by, nearest)
    influence = influences(sets.synthetic, metrics)
    return Result(metrics, contact_sheet(sets.test, sets.synthetic), pairs, influence)


def measure(
    sets: Sets,
    extractor: features.Extractor,
    seed: int,
    by: Sequence[str] = (),
    nearest: memorisation.Neighbours | None = None,
) -> Metrics:
    """All measures, and in `identity` what they are of: where it differs, they do not compare.

    `by`: columns of which groups are measured apart. `nearest`: the training pictures nearest to
    the synthetic ones, if they are known already.
    """

    def rng(purpose: str) -> np.random.Generator:
        return np.random.default_rng(derive(seed, "evaluate", purpose))

    test, fake, train = sets
    draws = distances.draw_halves(sets, rng("halves"))
    size = len(draws[0].one)
    k = min(NEIGHBOURS, size - 1)
    known = all(each.pictures.known for each in sets.real)
    identity = {
        "features": extractor.name,
        "features_sha256": extractor.sha256[:8],
        "preprocessing": f"square {test.side}, JPEG 95, network {extractor.size}",
        "split": fingerprint([each.pictures for each in sets.real]),
        "patients": "known" if known else "unknown",
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
        nearest = nearest or memorisation.neighbours(fake, train)
        measures |= memorisation.measure(sets, draws, nearest)
    by_group = groups.measure(test, fake, by, k, rng("groups"))
    measures |= by_group[ALL] | paired.measure(test, fake)
    headlines = {name: measures[name].value for name in HEADLINES if name in measures}
    return Metrics({**by_group, ALL: measures}, identity, headlines=headlines)


def influences(fake: FeatureSet, metrics: Metrics) -> dict[str, Any]:
    """What comparison.compare needs to compare two runs of the same seeds picture by picture."""
    return {
        "seeds": [row.get("seed", "") for row in fake.pictures.rows],
        "measures": {
            name: estimate.influence_to_json(each.influence)
            for name, each in metrics.estimates[ALL].items()
            if each.influence
        },
    }


def contact_sheet(test: FeatureSet, fake: FeatureSet) -> np.ndarray:
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
