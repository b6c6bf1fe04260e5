"""The guards: each must ring where it should, and only there."""

import numpy as np
import pytest

from mpox.core import images, table
from mpox.core.errors import InputError
from mpox.embedded import phantom
from mpox.statistics.estimate import Estimate
from mpox.utility import guards


def test_the_probe_tells_a_shift_and_finds_none_where_none_is():
    rng = np.random.default_rng(0)
    who = [str(k // 4) for k in range(80)]
    patient = rng.standard_normal((20, 30)).repeat(4, axis=0)  # what a patient's photos share
    real = patient + rng.standard_normal((80, 30))
    fake = np.sqrt(2) * rng.standard_normal((80, 30))
    quiet = guards.probe(real, who, fake, np.random.default_rng(1))
    assert quiet.low <= 0.5 <= quiet.high
    fake[:, 0] += 4
    loud = guards.probe(real, who, fake, np.random.default_rng(1))
    assert loud.low > 0.8


def test_the_probe_of_three_patients_reads_all_pictures_and_is_the_same_again():
    rng = np.random.default_rng(0)
    real, fake = rng.standard_normal((12, 30)), rng.standard_normal((60, 30))
    who = [str(k // 4) for k in range(12)]
    one, two = (guards.probe(real, who, fake, np.random.default_rng(1)) for _ in range(2))
    assert (one.value, one.low) == (two.value, two.low) and 0.2 < one.value < 0.8


def test_colour_or_background_that_tells_nearly_as_much_is_an_alarm():
    told, nothing = Estimate(0.85, 0.8, 0.9), Estimate(0.52, 0.45, 0.59)
    names = ("probe", "probe_encoded", "colour", "masked")
    assert guards.alarms(dict.fromkeys(names, nothing), 0.9) == dict.fromkeys(names, False)
    assert all(guards.alarms(dict.fromkeys(names, told), 0.9).values())
    some = Estimate(0.7, 0.6, 0.8)
    found = guards.alarms(dict.fromkeys(names, some), 0.9)
    assert found["probe"] and not found["colour"] and not found["masked"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("photos")
    for part, first in (("test", 0), ("train", 20)):
        (root / part).mkdir()
        rows = {}
        for k in range(12):
            picture = phantom.draw("mpox", first + k // 2, k % 2, seed=5, size=128).picture
            images.write(root / part / f"{k}.png", picture)
            rows[f"{k}.png"] = [str(first + k // 2)]
        table.write(root / part, ["patient"], rows)
    (root / "synthetic").mkdir()
    for k in range(12):
        picture = phantom.draw("mpox", 40 + k, 0, seed=5, size=64).picture
        images.write(root / "synthetic" / f"{k}.png", picture)
    return root


def check(root) -> None:
    guards.check_leaks([root / "test"], [root / "train"], [root / "synthetic"], 4)


def test_other_patients_and_fresh_pictures_pass(folders):
    check(folders)


@pytest.mark.parametrize("where", ["train", "synthetic"])
def test_a_test_photo_turned_and_recompressed_stops_the_stage(folders, where):
    photo = images.square(images.read(folders / "test/3.png"), 64)
    stolen = folders / where / "stolen.png"
    images.write(stolen, images.recode(np.ascontiguousarray(np.rot90(photo))))
    rows = table.read(folders / "train").rows
    rows |= {"stolen.png": {"patient": "99"}} if where == "train" else {}
    table.write(folders / "train", ["patient"], {n: [row["patient"]] for n, row in rows.items()})
    try:
        with pytest.raises(InputError, match=r"stolen\.png: is nearly the same as the test photo"):
            check(folders)
    finally:
        stolen.unlink()
        rows.pop("stolen.png", None)
        table.write(folders / "train", ["patient"], {n: [r["patient"]] for n, r in rows.items()})


def test_a_test_patient_among_the_training_photos_stops_the_stage(folders):
    rows = {name: [row["patient"]] for name, row in table.read(folders / "train").rows.items()}
    table.write(folders / "train", ["patient"], rows | {"3.png": ["2"]})
    try:
        with pytest.raises(InputError, match=r"train: holds photos of 1 patients .*, as 2;"):
            check(folders)
    finally:
        table.write(folders / "train", ["patient"], rows)
