"""A trial stops if the generator has seen a test patient or a test photo."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from mpox.core import images, table
from mpox.core.errors import InputError
from mpox.core.picture_set import PictureSet
from mpox.embedded import phantom
from mpox.utility.leaks import check_leaks


def write(folder: Path, pictures: Sequence[np.ndarray], patients: Sequence[str] = ()) -> PictureSet:
    folder.mkdir()
    names = [f"{k}.png" for k in range(len(pictures))]
    for name, picture in zip(names, pictures, strict=True):
        images.write(folder / name, picture)
    if patients:
        table.write(folder, ["patient"], {n: [p] for n, p in zip(names, patients, strict=True)})
    return PictureSet.read(folder)


def phantoms(first: int, size: int) -> list[np.ndarray]:
    return [phantom.draw("mpox", first + k // 2, k % 2, 5, size).picture for k in range(6)]


@pytest.fixture(scope="module")
def sets(tmp_path_factory) -> dict[str, PictureSet]:
    root, patients = tmp_path_factory.mktemp("photos"), ["0", "0", "1", "1", "2", "unknown"]
    test, drawn = phantoms(0, 128), phantoms(40, 64)
    stolen = images.recode(np.ascontiguousarray(np.rot90(images.square(test[3], 64))))
    return {
        "test": write(root / "test", test, patients),
        "train": write(root / "train", phantoms(20, 128), ["4", "4", "5", "5", "6", "unknown"]),
        "untold": write(root / "untold", phantoms(60, 128)),  # no table: no patient is known
        "again": write(root / "again", phantoms(80, 128), ["7", "7", "8", "8", "2", "9"]),
        "synthetic": write(root / "synthetic", drawn),
        "stolen": write(root / "stolen", [*drawn, stolen]),
        "stolen_train": write(root / "stolen_train", [stolen], ["99"]),
    }


def test_other_patients_and_new_pictures_pass(sets):
    check_leaks([sets["test"]], [sets["train"], sets["untold"]], [sets["synthetic"]], 4)


@pytest.mark.parametrize(("seen", "others"), [("train", "stolen"), ("stolen_train", "synthetic")])
def test_a_test_photo_turned_and_recompressed_is_refused(sets, seen, others):
    with pytest.raises(InputError, match=r"stolen.*png: is a near duplicate of the .*test.3\.png"):
        check_leaks([sets["test"]], [sets[seen]], [sets[others]], 4)


def test_a_test_patient_among_the_training_photos_is_refused(sets):
    with pytest.raises(InputError, match=r"again: has photos of 1 test patients .*, such as 2;"):
        check_leaks([sets["test"]], [sets["again"]], [], 4)
