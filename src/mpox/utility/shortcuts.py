"""Shortcuts that a classifier may take: signs other than the disease that tell pictures apart."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from mpox.statistics import halves, roc
from mpox.statistics.estimate import Estimate
from mpox.utility import bootstrap, classifier
from mpox.utility.bootstrap import Bootstrap
from mpox.utility.photos import Sets

FOLDS = 5
STRENGTH = 1.0  # of the probe's classifiers
NEARLY = 0.8  # of the whole picture's AUROC above ½: an alarm if colour or background reach it


def measure_shortcuts(
    sets: Sets, times: np.ndarray, rng: Callable[[str], np.random.Generator]
) -> dict[str, Estimate]:
    """AUROCs by name: probe, probe_encoded, colour, masked.

    times: draws of the test photos, from `bootstrap.redraw`; rng: a generator for each purpose.
    """
    train, test = sets.plain.train, sets.test
    mpox = train.mpox
    names = [train.patients[i] for i in np.flatnonzero(mpox)]

    def test_features(rows: np.ndarray, val: np.ndarray, asked: np.ndarray) -> Estimate:
        unit = classifier.Unit(rows)
        model = classifier.fit(unit(rows), mpox, (unit(val), sets.val.mpox))
        return _estimate(roc.auroc(model.score(unit(asked)), test.mpox, times), test.patients)

    return {
        "probe": probe(sets.plain.train.rows[mpox], names, sets.synthetic, rng("probe")),
        "probe_encoded": probe(
            sets.encoded.train.rows[mpox], names, sets.synthetic, rng("probe_encoded")
        ),
        "colour": test_features(train.colours, sets.val.colours, test.colours),
        "masked": test_features(*(photos.rows for photos in sets.masked)),
    }


def probe(
    real: np.ndarray, patients: Sequence[str], synthetic: np.ndarray, rng: np.random.Generator
) -> Estimate:
    """AUROC of a classifier that tells synthetic from real pictures (features n×d and m×d).

    Each picture is scored by one of FOLDS classifiers, which saw neither the picture nor its
    patient. Whatever the probe reads, a classifier of mpox can read too, and take for mpox.
    """
    rows = np.concatenate([real, synthetic])
    rows = classifier.Unit(rows)(rows)
    is_synthetic = np.arange(len(rows)) >= len(real)
    names = [*(f"real {name}" for name in patients), *(f"fake {k}" for k in range(len(synthetic)))]
    patient = halves.numbered(names)
    sides = [np.unique(patient[~is_synthetic]), np.unique(patient[is_synthetic])]
    folds = min(FOLDS, *map(len, sides))
    fold = np.empty(patient.max() + 1, int)
    for side in sides:
        fold[side] = rng.permutation(len(side)) % folds
    scores = np.full(len(rows), np.nan)
    for k in range(folds):
        left_out = fold[patient] == k
        model = classifier.fit(
            rows[~left_out], is_synthetic[~left_out], strengths=np.array([STRENGTH])
        )
        scores[left_out] = rows[left_out] @ model.weights
        scores[left_out] -= scores[left_out].mean()  # each fold's classifier has its own bias
    times = bootstrap.redraw(names, is_synthetic, rng)
    return _estimate(roc.auroc(scores, is_synthetic, times), names)


def _estimate(draws: np.ndarray, patients: Sequence[str]) -> Estimate:
    return Bootstrap(draws[None], bootstrap.stretch(len(set(patients)))).estimate()


def alarms(shortcuts: Mapping[str, Estimate], real: float) -> dict[str, bool]:
    """For each of the measured shortcuts, whether it is open.

    A probe's, if it tells synthetic from real pictures beyond chance; that of colour or background,
    if it tells mpox nearly as well as whole pictures do, whose AUROC is `real`.
    """
    rings = {name: estimate.low > 0.5 for name, estimate in shortcuts.items()}
    for name in ("colour", "masked"):
        rings[name] &= shortcuts[name].value - 0.5 >= NEARLY * (real - 0.5)
    return rings
