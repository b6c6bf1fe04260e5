import cv2
import imagehash
import numpy as np
import pytest
from PIL import Image
from sklearn.metrics.pairwise import cosine_similarity

from mpox.core import images
from mpox.embedded import phantom
from mpox.pictures import copies

SIDE = 64


@pytest.fixture(scope="module")
def pictures():
    drawn = [phantom.draw("mpox", i, 0, seed=9, size=SIDE).picture for i in range(40)]
    return drawn[:24], drawn[24:]


def features(shown) -> np.ndarray:
    """A thumbnail, which is enough to find copies and depends on the orientation."""
    return np.stack(
        [cv2.resize(each, (8, 8), interpolation=cv2.INTER_AREA).ravel() for each in shown]
    )


def oriented(shown) -> np.ndarray:
    return np.stack([features(images.ways(each)) for each in shown])


def test_a_square_has_eight_orientations():
    picture = np.arange(27, dtype=np.uint8).reshape(3, 3, 3)
    ways = images.ways(picture)
    assert len({each.tobytes() for each in ways}) == images.WAYS == len(ways)
    assert np.array_equal(ways[0], picture)
    for each in ways:  # complete: any rotation or reflection of one is another of them
        for again in (np.rot90(each), each[::-1], each.transpose(1, 0, 2)):
            assert any(np.array_equal(again, other) for other in ways)


@pytest.mark.parametrize("block", [5, 512])
def test_nearest_is_the_largest_of_all_cosines(monkeypatch, block):
    monkeypatch.setattr(copies, "BLOCK", block)
    rng = np.random.default_rng(0)
    rows, training = rng.normal(size=(12, 30)), rng.normal(size=(9, images.WAYS, 30))
    all_cosines = cosine_similarity(rows, training.reshape(-1, 30)).reshape(12, 9, images.WAYS)
    nearest = copies.nearest(rows, training)
    largest = pytest.approx(all_cosines.max(axis=(1, 2)), rel=1e-12)
    assert nearest.cosine == largest
    assert all_cosines[np.arange(12), nearest.picture, nearest.way] == largest


def test_copies_are_found_in_every_orientation_and_new_pictures_are_not(pictures):
    training, fresh = pictures
    known = oriented(training)
    limit = copies.threshold(copies.among(known, [str(i) for i in range(len(training))]))
    for way in range(images.WAYS):
        copied = [images.recode(images.ways(each)[way]) for each in training]
        nearest = copies.nearest(features(copied), known)
        assert nearest.picture.tolist() == list(range(len(training)))
        assert set(nearest.way.tolist()) == {way}
        assert nearest.cosine.min() > limit
    assert np.mean(copies.nearest(features(fresh), known).cosine > limit) < 0.2


def test_threshold_is_the_percentile_of_the_others_nearest(pictures):
    known = oriented(pictures[0])
    flat = cosine_similarity(known[:, 0], known.reshape(-1, known.shape[-1]))
    apart = flat.reshape(len(known), len(known), images.WAYS)
    groups = [f"p{i // 2}" for i in range(len(known))]
    nearest = [
        max(apart[i, j].max() for j in range(len(known)) if groups[i] != groups[j])
        for i in range(len(known))
    ]
    assert copies.threshold(copies.among(known, groups)) == pytest.approx(
        np.percentile(nearest, 99), rel=1e-12
    )


def test_features_without_orientations_are_compared_as_they_are(pictures):
    rows = features(pictures[0])
    cosines = cosine_similarity(rows)
    np.fill_diagonal(cosines, -1)
    nearest = copies.among(rows, [str(i) for i in range(len(rows))])
    assert nearest == pytest.approx(cosines.max(axis=1), rel=1e-12)


def test_photos_collected_twice_do_not_change_the_threshold(pictures):
    known = oriented(pictures[0])
    single = [str(i) for i in range(len(known))]
    assert copies.threshold(
        copies.among(np.concatenate([known, known]), single * 2)
    ) == pytest.approx(copies.threshold(copies.among(known, single)), abs=1e-3)


def test_hash_distances_equal_those_of_imagehash(pictures):
    training, fresh = pictures
    expected = [
        min(
            imagehash.phash(Image.fromarray(a)) - imagehash.phash(Image.fromarray(b))
            for b in training
        )
        for a in fresh
    ]
    near = copies.nearest(copies.hashes(fresh), copies.hashes(training)[:, None])
    assert [copies.bits(cosine) for cosine in near.cosine] == expected and min(expected) > 0


def test_hashes_find_copies_after_heavy_compression(pictures):
    training, fresh = pictures
    known = np.stack([copies.hashes(images.ways(each)) for each in training])
    limit = copies.threshold(copies.among(known, [str(i) for i in range(len(training))]))
    quality = [cv2.IMWRITE_JPEG_QUALITY, 50]
    codes = [cv2.imencode(".jpg", np.rot90(each), quality)[1] for each in training]
    spoilt = [cv2.imdecode(code, cv2.IMREAD_COLOR) for code in codes]
    nearest = copies.nearest(copies.hashes(spoilt), known)
    assert nearest.picture.tolist() == list(range(len(training)))
    assert nearest.cosine.min() > limit
    assert np.mean(copies.nearest(copies.hashes(fresh), known).cosine > limit) < 0.2


@pytest.mark.parametrize(("bits", "fewer"), [(10, 10), (10.4, 11), (10.6, 11), (0, 0)])
def test_a_limit_between_whole_numbers_of_bits_is_rounded_up(bits, fewer):
    """A cosine above the limit belongs to a pair that differs in fewer bits."""
    limit = 1 - bits / 32
    assert copies.fewer_than(limit) == fewer
    for whole in range(16):
        cosine = 1 - whole / 32
        assert (cosine > limit) is (whole < fewer)
