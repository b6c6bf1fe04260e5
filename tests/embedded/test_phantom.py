"""The phantoms are repeatable and varied, and their masks show where the lesions are."""

import re
from dataclasses import replace
from itertools import combinations

import cv2
import numpy as np
import pytest
from conftest import ROOT
from scipy.stats import spearmanr
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mpox import params
from mpox.core import images
from mpox.embedded import camera, lesions, phantom
from mpox.embedded.words import captions

COMMITTED = params.read(ROOT / "params/phantom.yaml", params.Phantoms)
LESIONS = [kind for kind in phantom.KINDS if kind != "healthy"]
SEED = 11


def _change_patients(monkeypatch, **traits):
    """Give every patient these traits and leave the others as they are."""
    patient = phantom.patient
    monkeypatch.setattr(phantom, "patient", lambda *key: replace(patient(*key), **traits))


def _spots(mask):
    """(y, x, radius) in pixels of each lesion that is wholly in the picture."""
    _, _, boxes, centres = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    return [
        (y, x, np.sqrt(area / np.pi))
        for (left, top, width, height, area), (x, y) in zip(boxes[1:], centres[1:], strict=True)
        if left and top and left + width < len(mask) and top + height < len(mask)
    ]


def _ring(values, spot, inner, outer):
    """Mean of the values between two radii around a lesion, in radii of the lesion."""
    y, x, radius = spot
    rows, columns = np.indices(values.shape[:2])
    r = np.hypot(rows - y, columns - x) / radius
    return values[(r >= inner) & (r < outer)].mean(axis=0)


def _redness(rgb):
    return np.log(rgb[0] / rgb[1])


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


@pytest.mark.parametrize("traits", [{}, {"tone": 0.99}], ids=["any tone", "darkest"])
@pytest.mark.parametrize("kind", LESIONS)
def test_the_mask_is_where_the_picture_differs_from_healthy_skin(kind, traits, monkeypatch):
    _change_patients(monkeypatch, **traits)
    ill = [phantom.draw(kind, i, 0, SEED) for i in range(8)]
    draw = lesions.LESIONS[kind]

    def heal(skin, who, rng):
        """Take the same random numbers but leave the skin as it was."""
        before = {name: value.copy() for name, value in vars(skin).items() if name != "size"}
        draw(skin, who, rng)
        vars(skin).update(before)

    monkeypatch.setitem(lesions.LESIONS, kind, heal)
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


# ---------------------------------------------------------------- lesions


@pytest.mark.parametrize(
    ("kind", "smallest", "largest", "most", "apart"),
    [("mpox", 0.08, 0.21, 4, 2.4), ("vesicle", 0.04, 0.105, 7, 1.9)],
)
def test_lesions_are_large_few_and_apart(kind, smallest, largest, most, apart):
    for index in range(24):
        mask = phantom.draw(kind, index, 0, SEED).mask
        spots = _spots(mask)
        number = cv2.connectedComponents(mask.astype(np.uint8))[0] - 1
        assert 1 <= number <= most
        assert all(smallest < radius / len(mask) < largest for _, _, radius in spots)
        for (y, x, one), (other_y, other_x, other) in combinations(spots, 2):
            assert np.hypot(y - other_y, x - other_x) > 0.95 * apart * (one + other) / 2


@pytest.mark.parametrize("tone", [0.1, 0.5, 0.97])
@pytest.mark.parametrize("maturity", [0.0, 0.3, 0.8, 1.0])
def test_mpox_of_every_stage_has_a_dark_middle_a_pale_rim_and_a_halo(tone, maturity, monkeypatch):
    _change_patients(monkeypatch, tone=tone, maturity=maturity, hairy=False)
    middle, rim, halo, skin = [], [], [], []
    for index in range(10):
        drawn = phantom.draw("mpox", index, 0, SEED)
        small = cv2.resize(drawn.picture, (64, 64), interpolation=cv2.INTER_AREA).astype(float)
        for y, x, radius in _spots(drawn.mask):
            spot = (y / 2 - 0.25, x / 2 - 0.25, radius / 2)
            middle.append(_ring(small, spot, 0, 0.2))
            rings = [_ring(small, spot, r, r + 0.2) for r in (0.4, 0.6, 0.8)]
            rim.append(max(rings, key=np.mean))
            halo.append(_ring(small, spot, 1.1, 1.35))
            skin.append(small[0:6].mean(axis=(0, 1)))
    middle, rim, halo, skin = (np.mean(part, axis=0) for part in (middle, rim, halo, skin))
    assert middle.mean() < 0.92 * rim.mean()
    assert halo.mean() < 0.96 * skin.mean()
    assert _redness(halo) > _redness(skin) + 0.05
    assert _redness(halo) > _redness(rim) + 0.03


def test_the_crust_of_mpox_grows_as_it_matures(monkeypatch):
    dark = []
    for maturity in (0.0, 0.4, 0.8, 1.0):
        with monkeypatch.context() as changed:
            _change_patients(changed, tone=0.3, maturity=maturity, hairy=False)
            drawn = [phantom.draw("mpox", index, 0, SEED) for index in range(10)]
        dark.append(np.mean([(p.mean(axis=2)[m] < 90).mean() for p, m in drawn]))
    assert dark[0] < 0.02 < dark[1] < dark[2] < dark[3]


def test_acne_is_red_and_sometimes_has_a_pale_head(monkeypatch):
    _change_patients(monkeypatch, tone=0.3, hairy=False)
    heads, pores = [], []
    for index in range(16):
        picture, mask = phantom.draw("acne", index, 0, SEED)
        for spot in _spots(mask):
            around = _ring(picture, spot, 2, 3)
            if spot[2] > 4:
                middle, ring = _ring(picture, spot, 0, 0.3), _ring(picture, spot, 0.6, 1.0)
                assert _redness(ring) > _redness(around) + 0.05
                heads.append(middle.mean() / ring.mean())
            elif spot[2] < 3:
                pores.append(_ring(picture, spot, 0, 1).mean() / around.mean())
    assert min(heads) > 0.85
    assert 0.2 < np.mean(np.array(heads) > 1.05) < 0.9
    assert len(pores) > 20 and np.mean(pores) < 0.85


# ---------------------------------------------------------------- what does not depend on the kind


def test_patients_of_every_kind_are_alike():
    for kind in phantom.KINDS:
        who = [phantom.patient(kind, i, SEED) for i in range(400)]
        shares = [np.mean([p.hairy, p.pale_hair, p.oiliness]) for p in who]
        expected = np.mean([phantom.HAIRY_SHARE, phantom.PALE_HAIRED_SHARE, 0.5])
        assert np.mean(shares) == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize("kind", phantom.KINDS)
@pytest.mark.parametrize(("tone", "pale"), [(0.1, False), (0.95, True)])
def test_hair_is_a_few_fine_lines_and_no_lesion(kind, tone, pale, monkeypatch):
    _change_patients(monkeypatch, tone=tone, pale_hair=pale, hairy=True)
    hairy = [phantom.draw(kind, index, 0, SEED) for index in range(8)]
    grow = phantom.Skin.grow_hair

    def shave(skin, rng):
        """Take the same random numbers but leave no hair."""
        grow(skin, rng)
        skin.hair[:] = 0

    monkeypatch.setattr(phantom.Skin, "grow_hair", shave)
    bald = [phantom.draw(kind, index, 0, SEED) for index in range(8)]
    pairs = list(zip(hairy, bald, strict=True))
    assert all(np.array_equal(with_hair.mask, without.mask) for with_hair, without in pairs)
    change = np.array([h.picture.mean(axis=2) - b.picture.mean(axis=2) for h, b in pairs])
    on_hair = np.abs(change) > 12
    assert 0.001 < on_hair.mean() < 0.10
    assert (np.sign(change[on_hair]) == (1 if pale else -1)).mean() > 0.7


def test_oily_skin_shines(monkeypatch):
    glitter = []
    for oiliness in (0.0, 1.0):
        with monkeypatch.context() as changed:
            _change_patients(changed, tone=0.9, oiliness=oiliness, hairy=False)
            drawn = [phantom.draw("healthy", index, 0, SEED).picture for index in range(8)]
        glitter.append(np.mean([p.mean(axis=2).std() / p.mean() for p in drawn]))
    assert glitter[1] > 1.4 * glitter[0]


def test_the_lens_is_sharp_along_a_line_and_darker_in_the_corners():
    noise = np.random.default_rng(0).random((128, 128, 3), np.float32)
    sharpness, corners = [], []
    for seed in range(12):
        seen = camera.through_lens(noise, np.random.default_rng(seed))
        cells = seen.reshape(8, 16, 8, 16, 3).std(axis=(1, 3, 4))
        sharpness.append(cells.max() / cells.min())
        flat = camera.through_lens(np.ones_like(noise), np.random.default_rng(seed))
        assert flat.max() <= 1.0 + 1e-5
        corners.append(flat[0, 0, 0] / flat[64, 64, 0])
    assert max(sharpness) > 2
    assert 1 - camera.MOST_VIGNETTING - 0.01 < min(corners) < 0.85 and max(corners) <= 1


def test_the_mean_colour_hardly_predicts_the_kind():
    """Chance would guess one in six; lesions of another colour than the skin add a little."""
    kinds = np.repeat(np.arange(len(phantom.KINDS)), 40)
    colours = [
        phantom.draw(phantom.KINDS[kind], i % 40, 0, SEED, 64).picture.mean((0, 1))
        for i, kind in enumerate(kinds)
    ]
    guess = make_pipeline(StandardScaler(), LogisticRegression())
    assert cross_val_score(guess, colours, kinds).mean() < 0.35


@pytest.mark.parametrize("kind", phantom.KINDS)
def test_captions_name_the_kind_and_only_mpox_says_mpox(kind):
    by_tone = [captions(kind, tone) for tone in np.linspace(0, 1, 200, endpoint=False)]
    for wordings in by_tone:
        assert all(("pox" in wording) == (kind == "mpox") for wording in wordings)
        with_tone = [wording for wording in wordings if ", " in wording]
        assert 2 * len(with_tone) == len(wordings) == len(set(wordings))
    assert list(dict.fromkeys(wordings[-1].rpartition(", ")[2] for wordings in by_tone)) == [
        "very light skin", "light skin", "medium brown skin", "dark skin", "very dark skin",
    ]  # fmt: skip


def test_every_lesion_but_mpox_is_also_called_a_skin_lesion():
    generic = {kind for kind in phantom.KINDS if "photo of a skin lesion" in captions(kind, 0.5)}
    assert generic == {"vesicle", "acne", "naevus", "plaque"}


# ---------------------------------------------------------------- the committed photos

PHOTOS = ROOT / "data/phantom/photos"


def test_the_committed_photos_are_small_files_named_by_patient():
    files = sorted(PHOTOS.glob("*"))
    default = params.read(ROOT / "params.yaml", params.Params)
    pattern = default.data.patients
    assert pattern
    patients = {re.search(pattern, file.name).group(1) for file in files}  # type: ignore[union-attr]
    assert len(files) == COMMITTED.patients * COMMITTED.pictures >= 240
    assert len(patients) == COMMITTED.patients >= 60
    assert sum(file.stat().st_size for file in files) <= 6e6
    assert images.read(files[0]).shape == (128, 128, 3)


@pytest.mark.parametrize(("patient", "picture"), [(0, 0), (31, 2)])
def test_phantoms_drawn_again_equal_the_committed_ones(patient, picture):
    """Up to rounding: one grey level on another processor becomes a few after JPEG."""
    drawn = phantom.draw("mpox", patient, picture, COMMITTED.seed, COMMITTED.size).picture
    committed = images.read(PHOTOS / f"mpox_p{patient:03d}_{picture}.jpg").astype(int)
    difference = np.abs(committed - images.recode(drawn))
    assert difference.mean() < 0.5 and difference.max() <= 8


CONTROLS = ROOT / "data/phantom/controls"


def test_the_committed_look_alikes_show_patients_of_their_own():
    files = sorted(CONTROLS.rglob("*.jpg"))
    assert (
        {file.parent.name for file in files}
        == {*phantom.LOOK_ALIKES}
        == {*COMMITTED.controls.model_dump()}
    )
    pattern = params.read(ROOT / "params.yaml", params.Params).data.patients
    patient = {file: re.search(pattern, file.name)[1] for file in files}  # type: ignore[index]
    assert len(set(patient.values())) == sum(COMMITTED.controls.model_dump().values())
    assert all(who.startswith(file.parent.name) for file, who in patient.items())
    assert sum(file.stat().st_size for file in files) <= 3e6


@pytest.mark.parametrize("kind", phantom.LOOK_ALIKES)
def test_look_alikes_drawn_again_equal_the_committed_ones(kind):
    drawn = phantom.draw(kind, 5, 1, COMMITTED.seed, COMMITTED.size)
    committed = images.read(CONTROLS / kind / f"{kind}_p005_1.jpg").astype(int)
    difference = np.abs(committed - images.recode(drawn.picture))
    assert difference.mean() < 0.5 and difference.max() <= 8
    assert 0.01 < drawn.mask.mean() < 0.6
