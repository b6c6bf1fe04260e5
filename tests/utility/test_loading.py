"""From folders to sets: the order of photos, their variants, masks and features."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mpox.core import images, table
from mpox.core.errors import InputError
from mpox.model import base
from mpox.pictures.features import Extractor
from mpox.utility import loading
from mpox.utility.photos import Pictures

SIDE, COPIES = 16, 3
# The mean colour: what a picture is can be read from its features.
MEAN = Extractor("mean", 8, "", torch.device("cpu"), lambda pixels: pixels.float().mean((2, 3)))


def write(folder: Path, level: int, name: str) -> None:
    images.write(folder / name, np.full((SIDE, SIDE, 3), level, np.uint8))


def augment(photos: Path, out: Path) -> None:
    """Every copy of a photo 20 levels brighter than the one before, under unrelated names."""
    rows = {}
    for k, (name, row) in enumerate(reversed(table.read(photos).rows.items())):
        for copy in range(COPIES + 1):
            variant = f"{4 * k + (copy + 1) % 4:02d}.jpg"
            write(out, int(row["level"]) + 20 * copy, variant)
            rows[variant] = [copy, name]
    table.write(out, ["variant", "source"], rows)


@pytest.fixture
def folders(tmp_path) -> list[Path]:
    names = ["mpox", "controls", "augmented", "augmented_controls", "synthetic", "base"]
    folders = [tmp_path / name for name in names]
    for folder in folders[2:]:
        folder.mkdir()
    for k, folder in enumerate(folders[:2]):
        for part, patients in (("train", 3), ("val", 1), ("test", 2)):
            (folder / part).mkdir(parents=True)
            levels = [50 + 10 * k + 20 * patient for patient in range(patients)]
            for patient, level in enumerate(levels):
                write(folder / part, level, f"{patient}.png")
            rows = {f"{p}.png": [f"{part} {k} {p}", "acne", v] for p, v in enumerate(levels)}
            table.write(folder / part, ["group", "label", "level"], rows)
        augment(folder / "train", folders[2 + k])
    for folder, levels in zip(folders[4:], ((200, 210), (220,)), strict=True):
        for level in levels:
            write(folder, level, f"{level}.png")
    return folders


def test_photos_have_their_variants_and_all_pictures_their_features(folders, tiny_sd):
    sets = loading.load(Pictures.read(*folders), MEAN, base.load(tiny_sd, SIDE).vae, SIDE)
    train, test = sets.plain.train, sets.test
    assert train.labels == ["mpox"] * 3 + ["acne"] * 3
    assert test.patients == ["test 0 0", "test 0 1", "test 1 0", "test 1 1"]
    levels = np.array([50, 70, 90, 60, 80, 100])
    assert train.rows[:, 0] == pytest.approx(levels, abs=1)
    assert train.colours[:, 1] == pytest.approx(levels, abs=1)
    variants = [rows[:, 0] for rows in sets.plain.variants]
    assert len(variants) == loading.VARIANTS and len(sets.encoded.variants) == 1
    for copy, rows in enumerate(variants, 1):
        assert rows == pytest.approx(levels + 20 * copy, abs=1)
    assert sets.synthetic[:, 0] == pytest.approx([200, 210], abs=1)
    assert sets.placebo[:, 0] == pytest.approx([220], abs=1)
    edge = round(SIDE * 0.15)
    grey = (1 - 2 * edge / SIDE) ** 2
    expected = grey * 128 + (1 - grey) * np.array([50, 70, 60, 80])
    assert sets.masked[2].rows[:, 0] == pytest.approx(expected, abs=2)
    assert sets.pixels.test.shape == (4, SIDE, SIDE, 3)
    encoded = sets.pixels.encoded.mean((1, 2))
    assert sets.encoded.train.rows == pytest.approx(encoded, abs=1e-3)
    assert np.abs(encoded - sets.pixels.plain.mean((1, 2))).max() > 1


def test_without_variants_there_are_none(folders):
    augmented = Pictures.read(*folders).variants
    alone = augmented.subset(k for k, row in enumerate(augmented.rows) if row["variant"] == "0")
    assert loading.find_variants(Pictures.read(*folders).mpox["train"], alone) == []


def test_a_part_with_too_few_patients_is_named(folders):
    pictures = Pictures.read(*folders)
    for part, wanted in (("test", 2), ("val", 1)):
        few = {**pictures.controls, part: pictures.controls[part].subset(range(wanted - 1))}
        message = rf"^data\.split\.{part}: {wanted - 1} patients .* other conditions; .* {wanted}\."
        with pytest.raises(InputError, match=message):
            loading.load(pictures._replace(controls=few), MEAN, None, SIDE)
