"""What could fool a trial: test photos that were seen; what is not skin and tells them apart."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mpox.core import images, listing, table
from mpox.core.errors import InputError, line
from mpox.photos import duplicates, keypoints
from mpox.statistics import halves, roc
from mpox.statistics.estimate import Estimate
from mpox.utility import classifier, scores

FOLDS = 5
STRENGTH = 1.0  # of the probe's classifiers
NEARLY = 0.8  # of what the whole picture tells: so much from colour or background alone is an alarm


def check_leaks(
    test: Sequence[Path], seen: Sequence[Path], others: Sequence[Path], distance: int
) -> None:
    """InputError for a test patient, or a near duplicate of a test photo, where none may be.

    `test` are folders of test photos; `seen` of photos that the generator was trained on, whose
    tables say of whom they are; `others` of pictures without patients. Near duplicates are those
    of prepare: by perceptual hash within `distance` bits, confirmed by local features.
    """
    paths = {folder: listing.find(folder)[0] for folder in (*test, *seen, *others)}
    known = {folder: _groups(folder) for folder in (*test, *seen)}
    tested = {group for folder in test for group in known[folder]}
    for folder in seen:
        if both := sorted(tested & known[folder]):
            raise InputError(
                f"{folder}: holds photos of {len(both)} patients (or groups) of the test photos, "
                f"as {line(both[0])}; the generator must have seen none"
            )
    every = [path for folder in (*test, *seen, *others) for path in paths[folder]]
    number = sum(len(paths[folder]) for folder in test)
    pictures = [_square(images.read(path)) for path in every]
    looks = [keypoints.describe(picture) for picture in pictures]

    def confirm(later: int, earlier: int, way: int) -> bool:
        return keypoints.same_place(looks[later], looks[earlier], way)

    codes = np.array([duplicates.hashes(picture) for picture in pictures], np.uint64)
    if pairs := duplicates.near(codes, distance, confirm, first=number):
        later, earlier = pairs[0]
        raise InputError(
            f"{line(every[later])}: is nearly the same as the test photo {line(every[earlier])}; "
            f"expected none like it ({len(pairs)} pairs)"
        )


def _groups(folder: Path) -> set[str]:
    """Who is in it, by its table's `group` or else `patient`."""
    known = table.read(folder)
    column = next((c for c in ("group", "patient") if known and c in known.columns), None)
    if known is None or column is None:
        return set()
    return {row[column] for row in known.rows.values()} - table.NOTHING


def _square(picture: np.ndarray) -> np.ndarray:
    return images.square(picture, min(picture.shape[:2]))


def probe(
    real: np.ndarray, patients: Sequence[str], fake: np.ndarray, rng: np.random.Generator
) -> Estimate:
    """AUROC of a classifier that tells n synthetic (`fake`) from real pictures, of other patients.

    Each picture is scored by one of FOLDS classifiers that saw neither it nor its patient. What it
    reads in them, a classifier of mpox can read too: "synthetic" would mean mpox.
    """
    rows = np.concatenate([real, fake])
    rows = classifier.Unit(rows)(rows)
    of_fake = np.arange(len(rows)) >= len(real)
    who = [*(f"real {each}" for each in patients), *(f"fake {k}" for k in range(len(fake)))]
    patient = halves.numbered(who)
    sides = [np.unique(patient[~of_fake]), np.unique(patient[of_fake])]
    folds = min(FOLDS, *map(len, sides))
    fold = np.empty(patient.max() + 1, int)
    for chosen in sides:
        fold[chosen] = rng.permutation(len(chosen)) % folds
    said = np.full(len(rows), np.nan)
    for k in range(folds):
        out = fold[patient] == k
        fitted = classifier.fit(rows[~out], of_fake[~out], strengths=np.array([STRENGTH]))
        said[out] = rows[out] @ fitted.weights
        said[out] -= said[out].mean()  # classifiers of other folds have other biases
    return interval(roc.auroc(said, of_fake, scores.redraw(who, of_fake, rng)), who)


def interval(draws: np.ndarray, patients: Sequence[str]) -> Estimate:
    """The first value and ±1.96 standard deviations of the others, within 0 … 1."""
    number = max(len(set(patients)), 2)
    width = halves.spread(draws[1:]) * np.sqrt(number / (number - 1))
    value = float(draws[0])
    return Estimate(value, max(value - width, 0.0), min(value + width, 1.0))


def alarms(guards: Mapping[str, Estimate], real: float) -> dict[str, bool]:
    """Whether synthetic pictures are told, and colour or background alone tell mpox nearly as well.

    `real` is the AUROC of whole pictures.
    """
    found = {name: guards[name].low > 0.5 for name in ("probe", "probe_encoded")}
    for name in ("colour", "masked"):
        tells = guards[name].low > 0.5
        found[name] = tells and guards[name].value - 0.5 >= NEARLY * (real - 0.5)
    return found
