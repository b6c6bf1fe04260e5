"""Photos of other conditions: prepared like the mpox photos, and never apart from a patient."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import contents
from PIL import Image
from test_preparation import (
    in_process,  # noqa: F401
    manifest,
    settings,
    skin,
    table_rows,
)

from mpox.core import images, table
from mpox.core.errors import InputError
from mpox.photos import intake, preparation

PATTERN = r"([a-z]+\d+)_\d"


def put(folder: Path, who: str, numbers: range, shade: int = 90) -> None:
    """Photos of one patient."""
    folder.mkdir(parents=True, exist_ok=True)
    for k in numbers:
        seed = sum(who.encode()) * 100 + k
        Image.fromarray(skin(seed, 48, shade)).save(folder / f"{who}_{k}.png")


@pytest.fixture
def folders(tmp_path) -> tuple[Path, Path]:
    """Of photos, and of controls."""
    source, controls = tmp_path / "photos", tmp_path / "controls"
    for p in range(12):
        put(source, f"p{p}", range(2), 60 + 8 * p)
    for label in ("acne", "eczema"):
        for p in range(8):
            put(controls / label, f"{label[0]}{p}", range(2), 60 + 8 * p)
    return source, controls


def prepare(folders: tuple[Path, Path], out: Path, **changes) -> dict[str, float]:
    source, controls = folders
    data = settings(source, **{"controls": str(controls), "patients": PATTERN} | changes)
    places = out / "out/prepared", out / "out/controls"
    return preparation.prepare(data, places[0], 32, seed=0, controls_out=places[1], workers=1)


def test_sub_folders_are_labels_and_every_set_has_each(folders, tmp_path):
    (folders[1] / "notes.txt").write_text("of 2021")
    counts = prepare(folders, tmp_path)
    rows = table_rows(tmp_path / "out/controls")
    assert len(rows) == counts["controls"] == 32
    for part in ("train", "val", "test"):
        labels = {row["label"] for name, row in rows.items() if name.startswith(part)}
        assert part == "val" or labels == {"acne", "eczema"}
        assert counts[f"controls_{part}"] == sum(name.startswith(part) for name in rows)
    assert manifest(tmp_path / "out/controls")["notes.txt"]["reason"] == "not a picture"
    assert manifest(tmp_path / "out/controls")["acne/a0_1.png"]["file"] in rows
    numbers = {row["patient"] for row in rows.values()}
    assert not numbers & {row["patient"] for row in table_rows(tmp_path / "out/prepared").values()}


def test_the_mpox_photos_are_prepared_as_without_controls(folders, tmp_path):
    prepare(folders, tmp_path)
    data = settings(folders[0], patients=PATTERN)
    preparation.prepare(data, tmp_path / "alone", 32, seed=0, workers=1)
    assert contents(tmp_path / "out/prepared") == contents(tmp_path / "alone")


def parts(folder: Path) -> dict[str, str]:
    """Group → set of the mpox photos."""
    rows = table_rows(folder / "out/prepared")
    return {row["group"]: name.split("/")[0] for name, row in rows.items()}


def test_a_patient_of_both_folders_is_in_one_set(folders, tmp_path):
    for p in range(12):
        put(folders[1] / "healthy", f"p{p}", range(7, 8), 60 + 8 * p)
    prepare(folders, tmp_path)
    part_of = parts(tmp_path)
    healthy = {
        name.split("/")[0]: row
        for name, row in table_rows(tmp_path / "out/controls").items()
        if row["label"] == "healthy"
    }
    assert len(healthy) == 3
    assert all(part_of[row["group"]] == part for part, row in healthy.items())


def test_a_near_duplicate_in_the_other_folder_is_in_the_same_set(folders, tmp_path):
    for p in range(12):
        with Image.open(folders[0] / f"p{p}_0.png") as image:
            image.save(folders[1] / f"acne/x{p}_0.jpg", quality=90)
    counts = prepare(folders, tmp_path)
    assert counts["controls_near_duplicates"] == 12
    part_of = parts(tmp_path)
    rows, origin = table_rows(tmp_path / "out/controls"), manifest(tmp_path / "out/controls")
    for p in range(12):
        copy = origin[f"acne/x{p}_0.jpg"]
        assert copy["split"] == part_of[rows[copy["file"]]["group"]]


def test_the_same_photo_in_both_folders_is_refused(folders, tmp_path):
    shutil.copy(folders[0] / "p3_1.png", folders[1] / "acne/z9_0.png")
    with pytest.raises(InputError, match=r"acne/z9_0\.png \(acne\) is .*photos/p3_1\.png \(mpox\)"):
        prepare(folders, tmp_path)
    assert not (tmp_path / "out/prepared").exists() and not (tmp_path / "out/controls").exists()


def test_a_table_gives_the_labels_of_one_folder(folders, tmp_path):
    controls = tmp_path / "flat"
    for label in ("acne", "eczema"):
        for path in (folders[1] / label).iterdir():
            controls.mkdir(exist_ok=True)
            shutil.copy(path, controls)
    labels = {p.name: ["acne" if p.name[0] == "a" else "eczema"] for p in controls.glob("*.png")}
    table.write(controls, ["label"], labels)
    prepare((folders[0], controls), tmp_path)
    rows = table_rows(tmp_path / "out/controls")
    for name, row in manifest(tmp_path / "out/controls").items():
        if row["file"]:
            assert rows[row["file"]]["label"] == labels[name][0]


@pytest.mark.parametrize("choice", ["none", "folder"])
def test_patients_may_be_unknown_or_folders_below_the_label(folders, tmp_path, choice):
    if choice == "folder":
        for folder in (folders[0], folders[1] / "acne", folders[1] / "eczema"):
            for path in sorted(folder.glob("*.png")):
                patient = folder / path.name.split("_")[0]
                patient.mkdir(exist_ok=True)
                path.rename(patient / path.name)
    prepare(folders, tmp_path, patients=choice)
    rows = table_rows(tmp_path / "out/controls").values()
    assert len({row["group"] for row in rows}) == (32 if choice == "none" else 16)
    assert ({row["patient"] for row in rows} == {"unknown"}) == (choice == "none")


def test_a_table_without_rows_means_no_controls(folders, tmp_path):
    none = Path(__file__).parents[2] / "data/none"
    assert intake.is_none(none)
    counts = prepare((folders[0], none), tmp_path)
    assert "controls" not in counts
    assert not table_rows(tmp_path / "out/controls")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda s, c: shutil.copy(s / "p0_0.png", c / "p0_9.png"), r"p0_9\.png: no label"),
        (lambda s, c: table.write(c, ["site"], {}), "no column label"),
        (lambda s, c: shutil.rmtree(c), "no such folder"),
        (lambda s, c: [shutil.rmtree(each) for each in c.iterdir()], "no pictures"),
        (lambda s, c: put(c / "Mpox", "q0", range(2)), "its label is 'Mpox'; expected"),
        (lambda s, c: put(c / "none", "q0", range(2)), "its label is 'none'"),
        (lambda s, c: [shutil.rmtree(c), put(c / "acne", "q0", range(2))], "data.controls: "),
        (lambda s, c: shutil.copy(c / "acne/a0_0.png", c / "eczema/e0_7.png"), "two labels"),
        (lambda s, c: (c / "acne/a0_0.png").write_text("no"), r"a0_0\.png: is not a JPEG"),
        (lambda s, c: put(c / "acne", "A0", range(1)), "would be two patients"),
    ],
)
def test_wrong_controls_are_named_before_anything_is_written(folders, tmp_path, make, reason):
    make(*folders)
    with pytest.raises(InputError, match=reason):
        prepare(folders, tmp_path, patients=r"([a-zA-Z]+\d+)_\d")
    assert not (tmp_path / "out/prepared").exists() and not (tmp_path / "out/controls").exists()


def test_a_folder_in_the_other_is_refused(folders, tmp_path):
    inside = folders[0] / "more"
    shutil.copytree(folders[1], inside)
    with pytest.raises(InputError, match=r"overlaps data\.source"):
        prepare((folders[0], inside), tmp_path)


def test_tones_of_controls_are_spread_evenly(folders, tmp_path):
    prepare(folders, tmp_path)
    means = {}
    for part in ("train", "test"):
        pictures = sorted((tmp_path / "out/controls" / part).glob("*.png"))
        means[part] = np.mean([images.read(path).mean() for path in pictures])
    assert means["train"] == pytest.approx(means["test"], rel=0.15)
