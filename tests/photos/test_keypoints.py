"""Near duplicates by keypoints, on phantoms, and on photos if MPOX_TEST_PHOTOS names some."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import variants

from mpox.core import images, listing
from mpox.embedded import phantom
from mpox.photos import duplicates, keypoints
from mpox.photos.duplicates import components


def draw(patient: int, seed: int = 11) -> np.ndarray:
    return images.recode(phantom.draw("mpox", patient, 0, seed, 128).picture)


@pytest.fixture(scope="module")
def looks() -> list[keypoints.Look]:
    return [keypoints.describe(draw(patient)) for patient in range(40)]


def test_mirrored_look_is_that_of_the_mirrored_picture(looks):
    """Nearly the same keypoints and descriptors, half a pixel off."""
    for patient, look in enumerate(looks[:10]):
        wanted = keypoints.describe(np.ascontiguousarray(draw(patient)[:, ::-1]))
        mirrored = keypoints.mirrored(look)
        assert np.array_equal(mirrored.grey, wanted.grey)
        cosines = keypoints._root(mirrored.descriptors) @ keypoints._root(wanted.descriptors).T
        best = cosines.argmax(axis=1)
        same = cosines.max(axis=1) > 0.98
        assert same.mean() > 0.8
        off = np.linalg.norm(mirrored.places[same] - wanted.places[best[same]], axis=1)
        assert np.median(off) < 0.8
        upright = keypoints._root(look.descriptors) @ keypoints._root(wanted.descriptors).T
        assert (upright.max(axis=1) > 0.98).mean() < 0.2


@pytest.mark.parametrize("kind", variants.KINDS)
def test_a_variant_shows_the_same_skin(kind, looks):
    rng = np.random.default_rng(0)
    missed = [
        patient
        for patient, look in enumerate(looks)
        if not keypoints.same_skin(
            look, keypoints.describe(images.recode(variants.variant(kind, draw(patient), rng)))
        )
    ]
    # Noise of 5 of 255 hides the keypoints of smooth skin; the hash is not affected.
    assert len(missed) <= (12 if kind == "noise" else 0)


def test_no_two_patients_show_the_same_skin(looks):
    pairs = [(a, b) for a in range(40) for b in range(a)]
    assert not [pair for pair in pairs if keypoints.same_skin(*(looks[k] for k in pair))]


def test_a_picture_without_detail_has_no_duplicates(looks):
    plain = keypoints.describe(np.full((64, 64, 3), 120, np.uint8))
    assert plain.descriptors.shape == (0, 128) and plain.places.shape == (0, 2)
    assert not keypoints.same_skin(plain, plain)
    assert keypoints.near_duplicates([plain, plain, *looks[:3]], np.arange(5)) == []
    assert keypoints.near_duplicates([plain, plain], np.arange(2)) == []
    assert keypoints.near_duplicates([], np.arange(0)) == []


def test_a_mark_on_every_photo_makes_no_duplicates():
    """Keypoints of a ruler or a logo agree, the skin around them does not."""
    stamped = []
    for patient in range(12):
        picture = draw(patient).copy()
        cv2.putText(picture, "CLINIC 7", (2, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 2)
        cv2.putText(picture, "2022-05", (60, 124), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 1)
        stamped.append(keypoints.describe(picture))
    assert keypoints.near_duplicates(stamped, np.arange(12)) == []


@pytest.mark.parametrize("radius", [40, 60])
def test_a_dermatoscopes_ring_makes_no_duplicates(radius):
    """A rotated picture within the ring is still found."""
    across, down = np.mgrid[:128, :128] - 63.5
    outside = np.hypot(across, down) > radius
    rng = np.random.default_rng(0)
    ringed = []
    for patient in range(40):
        for picture in (draw(patient), variants.variant("20° turn", draw(patient), rng)):
            ringed.append(np.where(outside[..., None], 0, picture).astype(np.uint8))
    looks = [keypoints.describe(images.recode(each)) for each in ringed]
    pairs = keypoints.near_duplicates(looks, np.arange(80))
    assert {(a // 2, b // 2) for a, b in pairs} <= {(k, k) for k in range(40)}
    assert len(pairs) >= 36
    codes = np.array([duplicates.hashes(images.recode(each)) for each in ringed])
    near = duplicates.near(
        codes, 4, lambda a, b, way: keypoints.same_place(looks[a], looks[b], way)
    )
    assert {(a // 2, b // 2) for a, b in near} <= {(k, k) for k in range(40)}


def test_photos_with_one_black_border_are_not_the_same():
    """Their hashes agree, the skin does not. Noise and compression still count as the same."""
    rng = np.random.default_rng(0)
    shifted, same = [], []
    for patient in range(30):
        picture = draw(patient).copy()
        picture[-16:] = picture[:, -16:] = 0
        shifted.append(keypoints.describe(picture))
        noisy = np.clip(picture + rng.normal(0, 6, picture.shape), 0, 255).astype(np.uint8)
        way = int(rng.integers(images.WAYS))
        # A quarter turn is undone by the opposite one, each other way by itself.
        back = {1: 3, 3: 1}.get(way, way)
        turned = keypoints.describe(images.recode(images.ways(noisy)[back]))
        same.append(keypoints.same_place(turned, shifted[-1], way))
    assert np.mean(same) > 0.9
    assert not [
        (a, b)
        for a in range(30)
        for b in range(a)
        if keypoints.same_place(shifted[a], shifted[b], 0)
    ]


def test_joined_pictures_are_not_compared(looks, monkeypatch):
    copies = [*looks[:6], *looks[:6]]
    monkeypatch.setattr(keypoints, "same_skin", lambda one, other: pytest.fail("compared"))
    assert keypoints.near_duplicates(copies, np.zeros(12, int)) == []


def test_more_copies_than_candidates_are_all_joined(looks):
    """Thirty copies of a picture fill all places of candidates, so more rounds are needed."""
    rng = np.random.default_rng(0)
    cut = [keypoints.describe(variants.variant("crop", draw(0), rng)) for _ in range(30)]
    joined = components(np.arange(70), keypoints.near_duplicates([*looks, *cut], np.arange(70)))
    assert len(set(joined[40:])) == 1 and joined[0] == joined[40]
    assert len(set(joined)) == 40


def test_neither_workers_nor_the_order_change_the_pairs(looks):
    rng = np.random.default_rng(1)
    every = looks + [
        keypoints.describe(variants.variant("all together", draw(patient), rng))
        for patient in range(10)
    ]
    pairs = keypoints.near_duplicates(every, np.arange(50), workers=1)
    assert pairs == keypoints.near_duplicates(every, np.arange(50), workers=4)
    order = rng.permutation(50)
    again = keypoints.near_duplicates([every[k] for k in order], np.arange(50))
    assert {frozenset(map(int, order[list(pair)])) for pair in again} == set(map(frozenset, pairs))
    assert {frozenset(pair) for pair in pairs} == {frozenset((k, 40 + k)) for k in range(10)}


def of_photos(folder: Path, rng: np.random.Generator) -> tuple[list[keypoints.Look], np.ndarray]:
    """Looks of a folder's photos and of variants of every fifth; and the number of each photo."""
    looks, photo = [], []
    for number, file in enumerate(listing.find(folder)[0]):
        picture = images.square(images.read(file), 512)
        shown = [picture]
        if number % 5 == 0:
            shown += [variants.variant(kind, picture, rng) for kind in variants.KINDS]
        looks += [keypoints.describe(each) for each in shown]
        photo += [number] * len(shown)
    return looks, np.array(photo)


@pytest.mark.slow
@pytest.mark.skipif("MPOX_TEST_PHOTOS" not in os.environ, reason="MPOX_TEST_PHOTOS names no photos")
def test_photos_are_joined_with_their_variants_and_no_others():
    looks, photo = of_photos(Path(os.environ["MPOX_TEST_PHOTOS"]), np.random.default_rng(0))
    joined = components(
        np.arange(len(looks)), keypoints.near_duplicates(looks, np.arange(len(looks)))
    )
    groups: dict[int, set[int]] = {}
    for number, group in zip(photo.tolist(), joined.tolist(), strict=True):
        groups.setdefault(group, set()).add(number)
    assert all(len(members) == 1 for members in groups.values())
    assert len(groups) == len(set(photo.tolist()))
