"""Photos of other conditions: prepared as the mpox photos are, and never apart from a patient."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_preparation import settings, skin

from mpox.core import images, table
from mpox.core.errors import InputError
from mpox.photos import intake, preparation

PATTERN = r"([a-z]+\d+)_\d"


def put(folder: Path, who: str, numbers: range, shade: int = 90) -> None:
    """So many photos of a patient."""
    folder.mkdir(parents=True, exist_ok=True)
    for k in numbers:
        seed = sum(who.encode()) * 100 + k
        Image.fromarray(skin(seed, 48, shade)).save(folder / f"{who}_{k}.png")


@pytest.fixture
def given(tmp_path) -> tuple[Path, Path]:
    source, controls = tmp_path / "photos", tmp_path / "controls"
    for p in range(12):
        put(source, f"p{p}", range(2), 60 + 8 * p)
    for label in ("acne", "eczema"):
        for p in range(8):
            put(controls / label, f"{label[0]}{p}", range(2), 60 + 8 * p)
    return source, controls


def prepare(given: tuple[Path, Path], out: Path, **changes) -> dict[str, float]:
    changes = {"patients": PATTERN} | changes
    return preparation.prepare(
        given[0], out / "out/prepared", settings(**changes), 32, seed=0, workers=1,
        controls=(given[1], out / "out/controls"),
    )  # fmt: skip


def rows(folder: Path) -> dict[str, dict[str, str]]:
    return {
        f"{part}/{name}": row
        for part in ("train", "val", "test")
        for name, row in table.read(folder / part).rows.items()
    }


def manifest(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "manifest.csv").open(newline="") as stream:
        return {row["source"]: row for row in csv.DictReader(stream)}


def test_labels_are_the_sub_folders_and_every_set_has_each(given, tmp_path):
    (given[1] / "notes.txt").write_text("of 2021")
    counts = prepare(given, tmp_path)
    found = rows(tmp_path / "out/controls")
    assert len(found) == counts["controls"] == 32
    for part in ("train", "val", "test"):
        labels = {row["label"] for name, row in found.items() if name.startswith(part)}
        assert part == "val" or labels == {"acne", "eczema"}
        assert counts[f"controls_{part}"] == sum(name.startswith(part) for name in found)
    assert manifest(tmp_path / "out/controls")["notes.txt"]["reason"] == "not a picture"
    assert manifest(tmp_path / "out/controls")["acne/a0_1.png"]["file"] in found
    numbers = {row["patient"] for row in found.values()}
    assert not numbers & {row["patient"] for row in rows(tmp_path / "out/prepared").values()}


def test_the_mpox_photos_are_prepared_as_without_controls(given, tmp_path):
    prepare(given, tmp_path)
    data = settings(patients=PATTERN)
    preparation.prepare(given[0], tmp_path / "alone", data, 32, seed=0, workers=1)
    one, two = (
        {p.relative_to(each): p.read_bytes() for p in each.rglob("*.*")}
        for each in (tmp_path / "out/prepared", tmp_path / "alone")
    )
    assert one == two


def test_a_patient_of_both_folders_is_in_one_set(given, tmp_path):
    for p in range(12):
        put(given[1] / "healthy", f"p{p}", range(7, 8), 60 + 8 * p)
    prepare(given, tmp_path)
    of = {row["group"]: name.split("/")[0] for name, row in rows(tmp_path / "out/prepared").items()}
    healthy = {
        name.split("/")[0]: row
        for name, row in rows(tmp_path / "out/controls").items()
        if row["label"] == "healthy"
    }
    assert len(healthy) == 3
    assert all(of[row["group"]] == part for part, row in healthy.items())


def test_a_near_duplicate_in_the_other_folder_is_in_the_same_set(given, tmp_path):
    for p in range(12):
        with Image.open(given[0] / f"p{p}_0.png") as image:
            image.save(given[1] / f"acne/x{p}_0.jpg", quality=90)
    counts = prepare(given, tmp_path)
    assert counts["controls_near_duplicates"] == 12
    of = {row["group"]: name.split("/")[0] for name, row in rows(tmp_path / "out/prepared").items()}
    written, found = rows(tmp_path / "out/controls"), manifest(tmp_path / "out/controls")
    for p in range(12):
        copy = found[f"acne/x{p}_0.jpg"]
        assert copy["split"] == of[written[copy["file"]]["group"]]


def test_the_same_photo_in_both_folders_is_refused(given, tmp_path):
    shutil.copy(given[0] / "p3_1.png", given[1] / "acne/z9_0.png")
    with pytest.raises(InputError, match=r"acne/z9_0\.png \(acne\) is .*photos/p3_1\.png \(mpox\)"):
        prepare(given, tmp_path)
    assert not (tmp_path / "out/prepared").exists() and not (tmp_path / "out/controls").exists()


def test_a_table_says_the_labels_of_one_folder(given, tmp_path):
    controls = tmp_path / "flat"
    for label in ("acne", "eczema"):
        for path in (given[1] / label).iterdir():
            controls.mkdir(exist_ok=True)
            shutil.copy(path, controls)
    said = {p.name: ["acne" if p.name[0] == "a" else "eczema"] for p in controls.glob("*.png")}
    table.write(controls, ["label"], said)
    prepare((given[0], controls), tmp_path)
    found = manifest(tmp_path / "out/controls")
    for name, row in rows(tmp_path / "out/controls").items():
        source = next(n for n, each in found.items() if each["file"] == name)
        assert row["label"] == said[source][0]


@pytest.mark.parametrize("choice", ["none", "folder"])
def test_patients_may_be_unknown_or_folders_below_the_label(given, tmp_path, choice):
    if choice == "folder":
        for folder in (given[0], given[1] / "acne", given[1] / "eczema"):
            for path in sorted(folder.glob("*.png")):
                own = folder / path.name.split("_")[0]
                own.mkdir(exist_ok=True)
                path.rename(own / path.name)
    prepare(given, tmp_path, patients=choice)
    found = rows(tmp_path / "out/controls")
    groups = {row["group"] for row in found.values()}
    assert len(groups) == (32 if choice == "none" else 16)
    assert ({row["patient"] for row in found.values()} == {"unknown"}) == (choice == "none")


def test_none_is_a_table_that_says_so(given, tmp_path):
    none = Path(__file__).parents[2] / "data/none"
    assert intake.is_none(none)
    counts = prepare((given[0], none), tmp_path)
    assert "controls" not in counts
    assert not rows(tmp_path / "out/controls")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda s, c: shutil.copy(s / "p0_0.png", c / "p0_9.png"), r"p0_9\.png: has no label"),
        (lambda s, c: table.write(c, ["site"], {}), "has no column label"),
        (lambda s, c: shutil.rmtree(c), "no such folder"),
        (lambda s, c: [shutil.rmtree(each) for each in c.iterdir()], "holds no picture"),
        (lambda s, c: put(c / "Mpox", "q0", range(2)), "its label is 'Mpox'; expected"),
        (lambda s, c: put(c / "none", "q0", range(2)), "its label is 'none'"),
        (lambda s, c: [shutil.rmtree(c), put(c / "acne", "q0", range(2))], "data.controls: "),
        (lambda s, c: shutil.copy(c / "acne/a0_0.png", c / "eczema/e0_7.png"), "two labels"),
        (lambda s, c: (c / "acne/a0_0.png").write_text("no"), r"a0_0\.png: is not a JPEG"),
        (lambda s, c: put(c / "acne", "A0", range(1)), "would be two patients"),
    ],
)
def test_what_is_wrong_with_controls_is_named_before_anything_is_written(
    given, tmp_path, make, said
):
    make(*given)
    with pytest.raises(InputError, match=said):
        prepare(given, tmp_path, patients=r"([a-zA-Z]+\d+)_\d")
    assert not (tmp_path / "out/prepared").exists() and not (tmp_path / "out/controls").exists()


def test_a_folder_in_the_other_is_refused(given, tmp_path):
    inside = given[0] / "more"
    shutil.copytree(given[1], inside)
    with pytest.raises(InputError, match="one holds the other"):
        prepare((given[0], inside), tmp_path)


def test_tones_of_controls_are_spread_evenly(given, tmp_path):
    prepare(given, tmp_path)
    means = {}
    for part in ("train", "test"):
        pictures = sorted((tmp_path / "out/controls" / part).glob("*.png"))
        means[part] = np.mean([images.read(path).mean() for path in pictures])
    assert means["train"] == pytest.approx(means["test"], rel=0.15)
