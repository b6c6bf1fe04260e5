"""All measures of an evaluation of synthetic against real pictures; see docs/metrics.md."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from mpox.core.picture_set import PictureSet
from mpox.core.seeds import derive
from mpox.measures import distances, diversity, groups, memorisation, paired, sheets
from mpox.params import Evaluate
from mpox.pictures import features
from mpox.pictures.feature_set import FeatureSet, Sets, choose, collect, fingerprint
from mpox.statistics import estimate
from mpox.statistics.estimate import ALL, Estimate, Metrics

NEIGHBOURS = 5  # k of precision, recall, density, coverage
# Shown by `dvc metrics diff`, whose table has room for twenty numbers of all stages together.
HEADLINES = (
    "fid", "fid_excess", "kid", "precision", "recall", "coverage", "vendi_ratio", "tone_distance",
    "copy_rate", "ssim",
)  # fmt: skip


class Result(NamedTuple):
    """The results of an evaluation."""

    metrics: Metrics
    contact_sheet: np.ndarray  # uint8 H×W×3
    pairs: list[memorisation.Pair]  # the most suspicious ones; empty without training pictures
    influences: dict[str, Any]  # content of influences.json


def evaluate(pictures: Sets[PictureSet], settings: Evaluate, side: int, seed: int) -> Result:
    """Read the pictures, compute their features and measure.

    Every picture gets the same crop, the same resize to side×side and the same JPEG encoding first.
    Raises InputError for missing weights, fewer than four pictures in a set, an unreadable picture
    and too few patients.
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
    return measure_sets(sets, extractor, seed, settings.by)


def measure_sets(
    sets: Sets[FeatureSet], extractor: features.Extractor, seed: int, by: Sequence[str] = ()
) -> Result:
    """All measures, and an `identity` that must be equal for two evaluations to be compared.

    Pictures are also measured in groups by the values of the columns `by`.
    """

    def rng(purpose: str) -> np.random.Generator:
        return np.random.default_rng(derive(seed, "evaluate", purpose))

    test, fake, train = sets
    draws = distances.draw_halves(sets, rng("halves"))
    n_half = len(draws[0].one)
    k = min(NEIGHBOURS, n_half - 1)
    measures = distances.measure_distances(test, fake, draws, k, rng("distances"))
    measures["ms_ssim"] = diversity.ms_ssim(test, fake, rng("diversity"))
    measures["repeat_rate"] = diversity.repeat_rate(test, fake, rng("repeats"))
    pairs = []
    if train is not None:
        nearest = memorisation.neighbours(fake, train)
        pairs = memorisation.suspicious(fake, train, nearest, sheets.PAIRS)
        measures |= memorisation.measure_copies(sets, draws, nearest)
    by_group = groups.measure_groups(test, fake, by, k, rng("groups"))
    measures |= by_group[ALL] | paired.measure_ssim(test, fake)
    identity = {
        "features": extractor.name,
        "features_sha256": extractor.sha256[:8],
        "preprocessing": f"square {test.side}, JPEG 95, network {extractor.size}",
        "split": fingerprint([each.pictures for each in sets.real]),
        "patients": "known" if all(each.pictures.known for each in sets.real) else "unknown",
        "n_test": len(test),
        "n_training": 0 if train is None else len(train),
        "n_synthetic": len(fake),
        "n_fid": min(len(test), len(fake)),
        "n_half": n_half,
        "neighbours": k,
        "ms_ssim_scales": diversity.scales(test.side),
    }
    headlines = {name: measures[name].value for name in HEADLINES if name in measures}
    metrics = Metrics({**by_group, ALL: measures}, identity, headlines=headlines)
    return Result(metrics, sheets.contact(test, fake), pairs, influences(fake, measures))


def influences(fake: FeatureSet, measures: Mapping[str, Estimate]) -> dict[str, Any]:
    """By measure, the influence of each picture, for comparing runs with equal seeds."""
    return {
        "seeds": [row.get("seed", "") for row in fake.pictures.rows],
        "measures": {
            name: estimate.influence_to_json(each.influence)
            for name, each in measures.items()
            if each.influence
        },
    }
