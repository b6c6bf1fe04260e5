"""A second look for near duplicates: does one photo show the same skin as another, turned or cut?

A perceptual hash sees flips and quarter turns (`duplicates.hashes`), not a turn by 20°, a shear, a
shift or a crop, as public data sets hold them ready made. Here the same local structure is looked
for: SIFT keypoints (Lowe 2004) do not change with turn, shift, scale and brightness. Photos that
share many of them are candidates; they are duplicates where one affine map carries the keypoints of
one to those of the other, and the pictures agree all over once they lie on each other.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import cv2
import numpy as np
from scipy.sparse import csr_array

from mpox.duplicates import components

SIDE = 128  # pixels, at which photos are compared
MOST = 100  # keypoints of a picture, the strongest
CONTRAST = 0.01  # of a keypoint, at least: skin is smooth (OpenCV's own value is 0.04)

TABLES, BITS = 8, 20  # of words: signs of random projections (Charikar 2002)
COMMON = 200  # pictures: a word that more of them have says nothing, nor one that a single has
CANDIDATES = 6  # a picture is held against
BLOCK = 256  # rows of votes in memory at once

MUTUAL = cv2.BFMatcher(cv2.NORM_L2, crossCheck=True)
APART = 0.45  # of two keypoints' descriptors, both of length 1, at most
FEWEST = 6  # keypoints that one affine map carries within …
TOLERANCE = 3.0  # … pixels
SCALE = 2.0  # the most an affine map may enlarge or reduce along any axis
CELL = 16  # pixels: the correlation is looked at cell by cell
CORRELATION = 0.85  # median over the cells, at least; of other skin at most 0.75 was seen
OVERLAP = 1 / 3  # of the cells, at least


class Look(NamedTuple):
    """What is kept of a picture: 30 kB at most."""

    grey: np.ndarray  # uint8 SIDE×SIDE
    places: np.ndarray  # float32 n×2: x, y in pixels
    descriptors: np.ndarray  # uint8 n×128


NO_WORDS = np.empty(0, np.int32)
NOTHING = Look(np.empty((0, 0)), np.empty((0, 2)), np.empty((0, 128)))


def describe(square: np.ndarray) -> Look:
    """The keypoints of a square picture, uint8 H×H×3: at most MOST."""
    grey = cv2.cvtColor(square, cv2.COLOR_RGB2GRAY)
    way = cv2.INTER_AREA if len(grey) > SIDE else cv2.INTER_CUBIC
    grey = cv2.resize(grey, (SIDE, SIDE), interpolation=way)
    sift = cv2.SIFT.create(nfeatures=MOST, contrastThreshold=CONTRAST, edgeThreshold=20)
    found, descriptors = sift.detectAndCompute(grey, None)
    places = np.array([point.pt for point in found], np.float32).reshape(-1, 2)
    if descriptors is None:
        descriptors = np.empty((0, 128))
    return Look(grey, places, descriptors.astype(np.uint8))


def mirrored(look: Look) -> Look:
    """What `describe` would find in the picture mirrored left to right, to within half a pixel.

    A descriptor holds 4×4 cells of 8 orientations each, all relative to the keypoint's own.
    """
    cells = look.descriptors.reshape(-1, 4, 4, 8)[:, ::-1][..., -np.arange(8) % 8]
    places = look.places * [-1, 1] + [SIDE - 1, 0]
    return Look(
        np.ascontiguousarray(look.grey[:, ::-1]), places.astype(np.float32), cells.reshape(-1, 128)
    )


def near_duplicates(
    looks: Sequence[Look], joined: np.ndarray, workers: int | None = None
) -> list[tuple[int, int]]:
    """Pairs (later, earlier) of indices of pictures that show the same skin.

    joined: n integers, the same where two pictures are known to belong together: of these nothing
    is asked. A picture is held against the CANDIDATES that share most words with it, and again as
    long as that joins pictures, since what is joined makes room for other candidates. `workers`
    threads (default: as many as cores) change no result.
    """
    plain, both = words(looks)
    tried: set[tuple[int, int]] = set()
    pairs: list[tuple[int, int]] = []
    with ThreadPoolExecutor(workers) as pool:
        while True:
            before = len(pairs)
            for column in candidates(plain, both, joined).T:
                new = {
                    (max(pair), min(pair))
                    for pair in enumerate(column.tolist())
                    if joined[pair[0]] != joined[pair[1]]
                }
                asked = sorted(new - tried)
                tried.update(asked)
                same = pool.map(lambda pair: same_skin(looks[pair[0]], looks[pair[1]]), asked)
                found = [pair for pair, yes in zip(asked, same, strict=True) if yes]
                joined = components(joined, found)
                pairs += found
            if len(pairs) == before:
                return pairs


def words(looks: Sequence[Look]) -> tuple[csr_array, csr_array]:
    """Which words each picture's keypoints have: n×(TABLES·2^BITS), with and without mirror images.

    A word is the signs of BITS random projections of a descriptor. Two descriptors at an angle θ
    share one with probability (1 − θ/π)^BITS. Each word weighs the logarithm of its rarity.
    """
    planes = np.random.default_rng(0).normal(size=(128, TABLES * BITS)).astype(np.float32)
    planes -= planes.mean(axis=0)  # what all descriptors have in common
    plain = [_words(look.descriptors, planes) for look in looks]
    other = [_words(mirrored(look).descriptors, planes) for look in looks]
    both = [np.union1d(*each) for each in zip(plain, other, strict=True)]
    known, count = np.unique(np.concatenate([NO_WORDS, *both]), return_counts=True)
    shared = (count > 1) & (count <= COMMON)
    known, count = known[shared], count[shared]
    weight = np.log(len(looks) / count).astype(np.float32)

    def table(rows: list[np.ndarray]) -> csr_array:
        where = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
        column = np.concatenate([NO_WORDS, *rows])
        kept = np.isin(column, known)
        place = np.searchsorted(known, column[kept])
        return csr_array((weight[place], (where[kept], place)), (len(rows), len(known)))

    return table(plain), table(both)


def candidates(plain: csr_array, both: csr_array, joined: np.ndarray) -> np.ndarray:
    """n×CANDIDATES: those not joined to a picture that share most words with it, the most first.

    Where fewer share any, the picture itself stands.
    """
    size = np.sqrt(np.maximum(np.diff(both.indptr), 1)).astype(np.float32)
    ranked = np.repeat(np.arange(len(joined))[:, None], CANDIDATES, axis=1)
    for start in range(0, len(joined), BLOCK):
        votes = (plain[start : start + BLOCK] @ both.T).toarray() / size
        votes[joined[start : start + BLOCK, None] == joined] = 0
        best = np.argsort(-votes, axis=1, kind="stable")[:, :CANDIDATES]
        some = np.take_along_axis(votes, best, axis=1) > 0
        ranked[start : start + BLOCK, : best.shape[1]][some] = best[some]
    return ranked


def same_skin(one: Look, other: Look) -> bool:
    """Whether `one` or its mirror image, moved by one affine map, is `other` where they overlap."""
    return any(_laid_over(way, other) for way in (one, mirrored(one)))


def _laid_over(one: Look, other: Look) -> bool:
    if min(len(one.places), len(other.places)) < FEWEST:
        return False
    matches = [
        match
        for match in MUTUAL.match(_root(one.descriptors), _root(other.descriptors))
        if match.distance < APART
    ]
    if len(matches) < FEWEST:
        return False
    affine, inliers = cv2.estimateAffine2D(
        one.places[[match.queryIdx for match in matches]],
        other.places[[match.trainIdx for match in matches]],
        method=cv2.RANSAC,
        ransacReprojThreshold=TOLERANCE,
        maxIters=500,
        confidence=0.999,
    )
    if affine is None or inliers.sum() < FEWEST:
        return False
    scales = np.linalg.svd(affine[:, :2], compute_uv=False)
    if scales[0] > SCALE or scales[1] < 1 / SCALE:
        return False
    return _agree(one.grey, other.grey, affine)


def _agree(one: np.ndarray, other: np.ndarray, affine: np.ndarray) -> bool:
    size = (SIDE, SIDE)
    moved = cv2.warpAffine(one, affine, size, borderMode=cv2.BORDER_REPLICATE)
    inside = cv2.warpAffine(np.full(size, 1, np.uint8), affine, size, flags=cv2.INTER_NEAREST)
    covered = _cells(inside).all(axis=1)
    if covered.mean() < OVERLAP:
        return False
    a, b = (_cells(_detail(each))[covered] for each in (moved, other))
    a, b = (each - each.mean(axis=1, keepdims=True) for each in (a, b))
    norm = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    return bool(np.median((a * b).sum(axis=1) / np.maximum(norm, 1e-6)) >= CORRELATION)


def _detail(grey: np.ndarray) -> np.ndarray:
    """Without noise and without shading: what lies between 1 and 6 pixels."""
    fine = cv2.GaussianBlur(grey.astype(np.float32), (0, 0), 1.0)
    return fine - cv2.GaussianBlur(fine, (0, 0), 6.0)


def _cells(picture: np.ndarray) -> np.ndarray:
    n = SIDE // CELL
    return picture.reshape(n, CELL, n, CELL).swapaxes(1, 2).reshape(n * n, CELL * CELL)


def _root(descriptors: np.ndarray) -> np.ndarray:
    """RootSIFT (Arandjelović & Zisserman 2012): their scalar product is the Hellinger kernel."""
    whole = descriptors.astype(np.float32)
    return np.sqrt(whole / np.maximum(whole.sum(axis=1, keepdims=True), 1))


def _words(descriptors: np.ndarray, planes: np.ndarray) -> np.ndarray:
    signs = (_root(descriptors) @ planes > 0).reshape(-1, TABLES, BITS)
    numbers = signs @ (1 << np.arange(BITS)) + (np.arange(TABLES) << BITS)
    return np.unique(numbers.astype(np.int32))
