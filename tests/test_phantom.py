"""The phantoms: repeatable, as varied as skin is, and honest about where the lesions are."""

import re
import time

import cv2
import numpy as np
import pytest
from conftest import ROOT
from scipy.stats import spearmanr

from mpox import images, params, phantom

COMMITTED = params.read(ROOT / "params/phantom.yaml", params.Phantoms)
LESIONS = [kind for kind in phantom.KINDS if kind != "healthy"]
SEED = 11


@pytest.mark.parametrize("kind", phantom.KINDS)
def test_the_same_arguments_draw_the_same_picture(kind):
    first, mask = phantom.draw(kind, 3, 1, SEED, 64)
    again, _ = phantom.draw(kind, 3, 1, SEED, 64)
    assert first.shape == (64, 64, 3) and first.dtype == np.uint8
    assert mask.shape == (64, 64) and mask.dtype == bool
    assert np.array_equal(first, again)
    others = [(4, 1, SEED), (3, 2, SEED), (3, 1, SEED + 1)]
    assert not any(
        np.array_equal(first, phantom.draw(kind, *other, 64).picture) for other in others
    )


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="'wart', expected one of mpox, vesicle"):
        phantom.draw("wart", 0, 0, SEED)


@pytest.mark.parametrize("number", [8, 21, 64])
def test_tones_cover_the_range_evenly(number):
    tones = sorted(phantom.patient("mpox", i, SEED).tone for i in range(number))
    gaps = np.diff([0, *tones, 1])
    # Steps of the golden ratio leave gaps of at most φ²/N (three-distance theorem); random tones
    # would leave about ln(N)/N.
    assert tones[0] >= 0 and tones[-1] < 1
    assert gaps.max() < 2.62 / number


def test_a_darker_tone_is_a_darker_picture():
    who = [phantom.patient("healthy", i, SEED).tone for i in range(24)]
    light = [phantom.draw("healthy", i, 0, SEED, 48).picture.mean() for i in range(24)]
    assert spearmanr(who, light).statistic < -0.95
    assert max(light) > 2 * min(light)


def test_pictures_of_a_patient_share_their_colour():
    drawn = [[phantom.draw("mpox", i, k, SEED, 48).picture for k in range(4)] for i in range(12)]
    colours = np.array(drawn, float).mean(axis=(2, 3))  # (patients, pictures, RGB)
    within = colours.var(axis=1, ddof=1).mean(axis=0)
    between = colours.mean(axis=1).var(axis=0, ddof=1)
    assert (between > 10 * within).all()


def test_pictures_of_a_patient_share_their_light():
    """A blister is brighter on the side of the lamp, so the brightness slopes its way."""
    assert np.ptp([phantom.patient("vesicle", i, SEED).light for i in range(6)]) > np.pi / 2
    for index in range(6):
        angle = phantom.patient("vesicle", index, SEED).light
        slopes = []
        for picture in range(6):
            skin, mask = phantom.draw("vesicle", index, picture, SEED, 128)
            grey = skin.mean(axis=2)
            spots, labels = cv2.connectedComponents(mask.astype(np.uint8))
            for spot in range(1, spots):
                y, x = np.nonzero(labels == spot)
                plane = np.c_[x - x.mean(), y - y.mean()]
                slopes.append(np.linalg.lstsq(plane, grey[y, x] - grey[y, x].mean())[0])
        x, y = np.mean(slopes, axis=0)
        off = (np.arctan2(y, x) - angle + np.pi) % (2 * np.pi) - np.pi
        assert abs(off) < np.radians(40), f"patient {index}: {np.degrees(off):.0f}° off"


@pytest.mark.parametrize("kind", LESIONS)
def test_the_mask_is_where_the_picture_differs_from_healthy_skin(kind, monkeypatch):
    ill = [phantom.draw(kind, i, 0, SEED) for i in range(8)]
    lesions = phantom._LESIONS[kind]

    def healed(skin, who, rng):
        """Draws the same random numbers, and leaves the skin as it was."""
        before = {name: value.copy() for name, value in vars(skin).items() if name != "size"}
        lesions(skin, who, rng)
        vars(skin).update(before)

    monkeypatch.setitem(phantom._LESIONS, kind, healed)
    for index, (picture, mask) in enumerate(ill):
        healthy = phantom.draw(kind, index, 0, SEED)
        assert not healthy.mask.any()
        change = np.abs(picture.astype(float) - healthy.picture).mean(axis=2)
        far = ~cv2.dilate(mask.astype(np.uint8), np.ones((31, 31), np.uint8)).astype(bool)
        # The halo and the exposure reach beyond the mask, but nothing there changes as much.
        assert change[mask].mean() > 2 * change[far].mean() + 2
        assert 0.01 < mask.mean() < 0.7


def test_healthy_skin_has_no_lesion():
    assert not any(phantom.draw("healthy", i, 0, SEED, 48).mask.any() for i in range(10))


def test_a_picture_takes_milliseconds():
    phantom.draw("mpox", 0, 0, SEED)
    started = time.process_time()
    for index in range(10):
        phantom.draw("mpox", index, 0, SEED)
    assert (time.process_time() - started) / 10 < 0.15


@pytest.mark.parametrize("kind", phantom.KINDS)
def test_captions_name_the_kind_and_only_mpox_says_mpox(kind):
    rng = np.random.default_rng(0)
    tones = np.linspace(0, 1, 200, endpoint=False)
    words = [phantom.caption(kind, tone, rng) for tone in tones]
    assert all(("pox" in caption) == (kind == "mpox") for caption in words)
    assert len(set(words)) > 5
    named = [caption.rpartition(", ")[2] for caption in words if ", " in caption]
    assert 60 < len(named) < 140
    assert list(dict.fromkeys(named)) == [
        "very light skin", "light skin", "medium brown skin", "dark skin", "very dark skin",
    ]  # fmt: skip


# ---------------------------------------------------------------- the committed photos

PHOTOS = ROOT / "data/phantom/photos"


def test_the_committed_photos_are_many_small_and_named_by_patient():
    files = sorted(PHOTOS.glob("*"))
    default = params.read(ROOT / "params.yaml", params.Params)
    pattern = default.data.group_pattern
    assert pattern
    patients = {re.search(pattern, file.name).group(1) for file in files}  # type: ignore[union-attr]
    assert len(files) == COMMITTED.patients * COMMITTED.pictures >= 240
    assert len(patients) == COMMITTED.patients >= 60
    assert sum(file.stat().st_size for file in files) <= 6e6
    assert images.read(files[0]).shape == (128, 128, 3)


@pytest.mark.parametrize(("patient", "picture"), [(0, 0), (7, 3), (31, 2), (63, 1)])
def test_drawn_again_they_are_the_committed_ones(patient, picture):
    """Another processor may round a pixel by 1 of 255; JPEG makes a few of that."""
    drawn = phantom.draw("mpox", patient, picture, COMMITTED.seed, COMMITTED.size).picture
    committed = images.read(PHOTOS / f"mpox_p{patient:03d}_{picture}.jpg").astype(int)
    difference = np.abs(committed - images.recode(drawn))
    assert difference.mean() < 0.5 and difference.max() <= 8
