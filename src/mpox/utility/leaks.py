"""Stops a trial whose test patients or test photos the generator has seen."""

from collections.abc import Sequence

import numpy as np

from mpox.core import images
from mpox.core.errors import InputError, line
from mpox.core.picture_set import PictureSet
from mpox.photos import duplicates, keypoints


def check_leaks(
    test: Sequence[PictureSet],
    seen: Sequence[PictureSet],
    others: Sequence[PictureSet],
    distance: int,
) -> None:
    """Raise InputError for a test patient in `seen`, or a near duplicate of a test photo anywhere.

    `seen` are the photos that the generator was trained on, `others` pictures without patients.
    Near duplicates are found as in `prepare`: by perceptual hash, at most `distance` bits apart,
    and confirmed by local features.
    """
    tested = {patient for photos in test for patient in _named_patients(photos)}
    for photos in seen:
        if both := sorted(tested & _named_patients(photos)):
            raise InputError(
                f"{photos.folder}: has photos of {len(both)} test patients (or groups), such as "
                f"{line(both[0])}; expected none, because the generator was trained on this folder"
            )
    paths = [path for photos in (*test, *seen, *others) for path in photos.paths]
    pictures = [_square(images.read(path)) for path in paths]
    looks = [keypoints.describe(picture) for picture in pictures]

    def confirm(later: int, earlier: int, way: int) -> bool:
        return keypoints.same_place(looks[later], looks[earlier], way)

    codes = np.array([duplicates.hashes(picture) for picture in pictures], np.uint64)
    if pairs := duplicates.near(codes, distance, confirm, first=sum(map(len, test))):
        later, earlier = pairs[0]
        raise InputError(
            f"{line(paths[later])}: is a near duplicate of the test photo {line(paths[earlier])}; "
            f"expected none of test photos ({len(pairs)} pairs)"
        )


def _named_patients(photos: PictureSet) -> set[str]:
    """The patients (or groups) that the table names."""
    return {
        patient
        for patient, row in zip(photos.patients, photos.rows, strict=True)
        if patient in (row.get("group"), row.get("patient"))
    }


def _square(picture: np.ndarray) -> np.ndarray:
    return images.square(picture, min(picture.shape[:2]))
