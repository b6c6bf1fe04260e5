"""Transforms follow their parameters; the seed alone decides what is drawn."""

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from conftest import contents

from mpox import augmentation
from mpox.core import images, seeds, table
from mpox.core.errors import InputError
from mpox.core.picture_set import PictureSet
from mpox.params import Augment

VALUES = {
    "horizontal_flip": {},
    "vertical_flip": {},
    "rotate90": {},
    "shift_scale_rotate": {"shift": 0.05, "scale": 0.1, "rotate": 15.0},
    "random_resized_crop": {"scale_min": 0.7},
    "colour_jitter": {"brightness": 0.15, "contrast": 0.15, "saturation": 0.15, "hue": 0.02},
    "gaussian_noise": {"sigma_min": 2.2, "sigma_max": 5.0},
    "gaussian_blur": {"sigma_min": 0.4, "sigma_max": 0.8},
    "elastic": {"alpha": 1.0, "sigma": 8.0},
    "clahe": {"clip_limit": 2.0, "tiles": 4},
}


def settings(p: float = 0.0, copies: int = 2, **changes: dict[str, float]) -> Augment:
    """All transforms with probability `p`; those in `changes` always, with these values."""
    sections = {name: {"p": p} | values for name, values in VALUES.items()}
    for name, values in changes.items():
        sections[name] |= {"p": 1.0} | values
    return Augment(copies=copies, **sections)


def draw(picture: np.ndarray, size: int, seed: int = 0, **changes: dict[str, float]) -> np.ndarray:
    chain = augmentation.transforms(settings(**changes), size)
    return augmentation.variant(chain, picture, seed)


@pytest.fixture
def picture() -> np.ndarray:
    noise = np.random.default_rng(0).integers(40, 210, (12, 12, 3), dtype=np.uint8)
    return images.square(noise, 64)


def test_no_transform_changes_nothing(picture):
    assert np.array_equal(draw(picture, 64), picture)


@pytest.mark.parametrize("name", VALUES)
def test_each_transform_alone_changes_the_picture(picture, name):
    same = [np.array_equal(draw(picture, 64, seed, **{name: {}}), picture) for seed in range(8)]
    assert sum(same) <= (5 if name == "rotate90" else 0)  # one of its four rotations is none


def test_flips_and_turns_only_move_pixels(picture):
    assert np.array_equal(draw(picture, 64, horizontal_flip={}), picture[:, ::-1])
    assert np.array_equal(draw(picture, 64, vertical_flip={}), picture[::-1])
    turned = draw(picture, 64, rotate90={})
    assert any(np.array_equal(turned, np.rot90(picture, turns)) for turns in range(4))


def test_flips_of_one_probability_are_independent(picture):
    """A quarter of the variants each: none, one, the other, both."""
    chain = augmentation.transforms(
        settings(horizontal_flip={"p": 0.5}, vertical_flip={"p": 0.5}), 64
    )
    sides = {picture.tobytes(): "none", picture[:, ::-1].tobytes(): "horizontal"}
    sides |= {picture[::-1].tobytes(): "vertical", picture[::-1, ::-1].tobytes(): "both"}
    drawn = Counter(
        sides[augmentation.variant(chain, picture, seed).tobytes()] for seed in range(400)
    )
    # 5 standard deviations of a binomial count around its mean.
    assert all(abs(drawn[side] - 100) < 5 * math.sqrt(400 * 0.25 * 0.75) for side in sides.values())


def test_noise_has_its_sigma():
    """Up to rounding: albumentations truncates the noise towards zero, which removes some of it."""
    grey = np.full((256, 256, 3), 128, np.uint8)
    noisy = draw(grey, 256, gaussian_noise={"sigma_min": 4.0, "sigma_max": 4.0})
    expected = np.trunc(np.random.default_rng(1).normal(0, 4, 1_000_000)).std()
    assert noisy.std() == pytest.approx(expected, rel=0.01)
    assert noisy.mean() == pytest.approx(128, abs=0.05)


def test_elastic_moves_pixels_by_alpha():
    """On a ramp of 2 grey levels a pixel, grey levels show the displacement."""
    ramp = np.arange(128, dtype=np.uint8)[None, :, None].repeat(128, 0).repeat(3, 2) * 2
    strength = {"alpha": 4.0, "sigma": 6.0}
    moved = [draw(ramp, 128, seed, elastic=strength) for seed in range(10)]
    inner = np.stack(moved)[:, 24:-24, 24:-24].astype(float) - ramp[24:-24, 24:-24]
    assert math.sqrt(np.mean((inner / 2) ** 2)) == pytest.approx(4, rel=0.1)


def test_crop_keeps_the_aspect_and_the_share():
    """On a ramp, the range of grey levels shows how much of the picture each side covers."""
    across = np.arange(128, dtype=np.uint8)[None, :].repeat(128, 0) * 2
    ramps = np.stack([across, across.T, across], axis=2)
    for seed in range(10):
        crop = draw(ramps, 64, seed, random_resized_crop={"scale_min": 0.5}).astype(float)
        width, height = crop[32, 60, 0] - crop[32, 4, 0], crop[60, 32, 1] - crop[4, 32, 1]
        assert width == pytest.approx(height, abs=4)
        assert math.sqrt(0.5) - 0.04 <= width / (2 * 2 * 56) <= 1.02


def test_shift_scale_rotate_keeps_within_its_bounds():
    """A dot moves by at most the shift, the scale and the rotation together."""
    dot = np.zeros((120, 120, 3), np.uint8)
    dot[58:62, 98:102] = 255  # 40 pixels right of the centre
    for seed in range(20):
        moved = draw(dot, 120, seed, shift_scale_rotate={})
        rows, columns = np.nonzero(moved[..., 0] > 100)
        x, y = columns.mean() - 59.5, rows.mean() - 59.5
        assert 40 * 0.9 * math.cos(math.radians(15)) - 7 < x < 40 * 1.1 + 7
        assert abs(y) < 40 * 1.1 * math.sin(math.radians(15)) + 7


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> PictureSet:
    folder = tmp_path_factory.mktemp("train")
    rng = np.random.default_rng(0)
    for key in range(5):
        noise = rng.integers(40, 210, (10, 10, 3), dtype=np.uint8)
        images.write(folder / f"{key:016x}.png", images.square(noise, [64, 64, 48, 40, 25][key]))
    table.write(folder, ["tone"], {path.name: ["dark"] for path in folder.iterdir()})
    return PictureSet.read(folder)


@pytest.fixture(scope="module")
def augmented(source, tmp_path_factory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("augmented") / "out"
    augmentation.augment(source, out, settings(p=0.5, copies=2), 32, seed=7, workers=2)
    return contents(out)


def test_augment_is_a_function_of_seed_key_and_copy_alone(source, augmented, tmp_path):
    """Drawn again here, one by one and backwards, pictures equal those of the processes."""
    named = {f"{key:016x}-{copy}.jpg": copy for key in range(5) for copy in range(3)}
    assert set(augmented) == {*named, table.NAME}
    rows = table.parse(Path(table.NAME), augmented[table.NAME]).rows
    assert {name: int(row["variant"]) for name, row in rows.items()} == named
    assert all(row["source"] == f"{name[:16]}.png" for name, row in rows.items())
    assert {row["tone"] for row in rows.values()} == {"dark"}
    assert len(set(augmented.values())) == len(augmented)
    chain, again = augmentation.transforms(settings(p=0.5), 32), tmp_path / "again.jpg"
    for path in reversed(source.paths):
        picture = images.read(path)
        images.write(again, images.square(picture, 32))
        assert again.read_bytes() == augmented[f"{path.stem}-0.jpg"]
        for copy in (2, 1):
            seed = seeds.derive(7, "augment", path.stem, copy)
            images.write(again, augmentation.variant(chain, picture, seed))
            assert images.read(again).shape == (32, 32, 3)
            assert again.read_bytes() == augmented[f"{path.stem}-{copy}.jpg"]


def test_the_number_of_workers_changes_nothing(source, augmented, tmp_path):
    augmentation.augment(source, tmp_path / "one", settings(p=0.5), 32, seed=7, workers=1)
    assert contents(tmp_path / "one") == augmented


def test_seeds_differ(picture):
    chain = augmentation.transforms(settings(p=0.5), 64)
    variants = [augmentation.variant(chain, picture, seed) for seed in (1, 2, 1)]
    assert np.array_equal(variants[0], variants[2])
    assert not np.array_equal(variants[0], variants[1])


def test_augment_refuses_an_empty_folder(tmp_path):
    with pytest.raises(InputError, match="holds no pictures to augment"):
        augmentation.augment(PictureSet.read(tmp_path), tmp_path / "out", settings(), 32, seed=0)
    table.write(tmp_path, ["patient"], {"deleted.png": ["1"]})
    with pytest.raises(InputError, match="holds no pictures to augment"):
        augmentation.augment(PictureSet.read(tmp_path), tmp_path / "out", settings(), 32, seed=0)


def test_an_empty_table_gives_an_empty_table(tmp_path):
    """As without controls."""
    (tmp_path / "none").mkdir()
    table.write(tmp_path / "none", ["patient"], {})
    empty = PictureSet.read(tmp_path / "none")
    augmentation.augment(empty, tmp_path / "out", settings(), 32, seed=0, workers=1)
    assert contents(tmp_path / "out") == {table.NAME: b"file_name,variant,source,patient\n"}
