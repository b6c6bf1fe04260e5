"""Near duplicates by keypoints: photos that show the same skin, rotated, shifted or cropped.

A perceptual hash (`duplicates.hashes`) finds flips and quarter turns, but not a rotation by 20°, a
shear, a shift or a crop, which public data sets contain as augmentations. SIFT keypoints (Lowe
2004) do not change with rotation, shift, scale and brightness. Photos that share many of them are
candidates. Two candidates are duplicates if one affine map takes the keypoints of one to those of
the other, and if the pictures then agree in their middle.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import cv2
import numpy as np
from scipy.sparse import csr_array, hstack

from mpox.core import images
from mpox.photos.duplicates import components

SIDE = 128  # pixels, at which photos are compared
MOST = 100  # keypoints of a picture: the strongest, and those that tie with the last of them
CONTRAST = 0.01  # of a keypoint, at least: skin is smooth (OpenCV's default is 0.04)

TABLES, BITS = 8, 24  # of words
WORD = (1 << BITS) - 1  # the word's bits in an integer that holds a picture's number and a word
COMMON = 100  # pictures: a word that more of them share is ignored
CANDIDATES = 6  # that a picture is compared with
BLOCK = 256  # rows of votes in memory at once

MUTUAL = cv2.BFMatcher(cv2.NORM_L2, crossCheck=True)
APART = 0.45  # distance of two matching descriptors, both of length 1, at most
FEWEST = 7  # keypoints, at least, that one affine map takes to their match
TOLERANCE = 3.0  # pixels between a mapped keypoint and its match
SCALE = 1.7  # the most an affine map may enlarge or reduce along any axis
# Two pictures are compared cell by cell, and only in their middle: a black border or the ring of a
# dermatoscope, which unrelated photos share, would outweigh the skin.
MIDDLE, CELL = slice(SIDE // 4, 3 * SIDE // 4), 16  # pixels
CORRELATION = 0.85  # median over the cells, at least
UNMOVED = 0.6  # the same if perceptual hashes agree: allows for noise and compression
OVERLAP = 0.5  # of the cells, at least


class Look(NamedTuple):
    """What the comparison needs of a picture, some 30 kB."""

    grey: np.ndarray  # uint8 SIDE×SIDE
    places: np.ndarray  # float32 n×2: x, y in pixels
    descriptors: np.ndarray  # uint8 n×128


NOTHING = Look(
    np.empty((0, 0), np.uint8), np.empty((0, 2), np.float32), np.empty((0, 128), np.uint8)
)


def describe(square: np.ndarray) -> Look:
    """The keypoints of a square picture, uint8 H×H×3."""
    grey = cv2.cvtColor(square, cv2.COLOR_RGB2GRAY)
    method = cv2.INTER_AREA if len(grey) > SIDE else cv2.INTER_CUBIC
    grey = cv2.resize(grey, (SIDE, SIDE), interpolation=method)
    sift = cv2.SIFT.create(nfeatures=MOST, contrastThreshold=CONTRAST, edgeThreshold=20)
    points, descriptors = sift.detectAndCompute(grey, None)
    places = np.array([point.pt for point in points], np.float32).reshape(-1, 2)
    if descriptors is None:
        descriptors = np.empty((0, 128))
    return Look(grey, places, descriptors.astype(np.uint8))


def mirrored(look: Look) -> Look:
    """The look of the picture mirrored left to right, up to half a pixel."""
    places = look.places * [-1, 1] + [SIDE - 1, 0]
    return Look(
        np.ascontiguousarray(look.grey[:, ::-1]),
        places.astype(np.float32),
        _turned(look.descriptors),
    )


def _turned(descriptors: np.ndarray) -> np.ndarray:
    """Descriptors of the mirror image: 4×4 cells of 8 orientations, relative to the keypoint's."""
    cells = descriptors.reshape(-1, 4, 4, 8)[:, ::-1][..., -np.arange(8) % 8]
    return cells.reshape(-1, 128)


def near_duplicates(
    looks: Sequence[Look], joined: np.ndarray, workers: int | None = None
) -> list[tuple[int, int]]:
    """Pairs (later, earlier) of indices of pictures that show the same skin.

    joined: n integers, equal for pictures that are known to belong together, which are not
    compared. A picture is compared with the CANDIDATES that share most words with it, and again as
    long as this joins pictures, because joined pictures make room for other candidates. `workers`
    threads (default: as many as cores) change no result.
    """
    plain, both = words(looks)
    size = np.sqrt(np.maximum(np.diff(both.indptr), 1)).astype(np.float32)
    tried: set[tuple[int, int]] = set()
    pairs: list[tuple[int, int]] = []
    rows = np.arange(len(looks))
    with ThreadPoolExecutor(workers) as pool:
        while len(rows):
            before = len(pairs)
            for column in zip(*candidates(plain, both, size, joined, rows), strict=True):
                new = {
                    (max(pair), min(pair))
                    for pair in zip(rows.tolist(), column, strict=True)
                    if joined[pair[0]] != joined[pair[1]]
                }
                asked = sorted(new - tried)
                tried.update(asked)
                same = pool.map(lambda pair: same_skin(looks[pair[0]], looks[pair[1]]), asked)
                duplicates = [pair for pair, yes in zip(asked, same, strict=True) if yes]
                joined = components(joined, duplicates)
                pairs += duplicates
            grown = {joined[one] for one, _ in pairs[before:]}
            rows = np.flatnonzero(np.isin(joined, list(grown)))
    return pairs


def words(looks: Sequence[Look]) -> tuple[csr_array, csr_array]:
    """n×words, the weights of the words of each picture; and of those of its mirror image as well.

    A word is the signs of BITS random projections of a descriptor. Two descriptors at an angle θ
    share one with probability (1 − θ/π)^BITS (Charikar 2002). Words of a single picture, or of too
    many, are left out.
    """
    planes = np.random.default_rng(0).normal(size=(128, TABLES * BITS)).astype(np.float32)
    planes -= planes.mean(axis=0)  # removes what all descriptors have in common
    none, n = np.empty((0, TABLES), np.int32), len(looks)
    upright = [_words(look.descriptors, planes) for look in looks]
    row = np.repeat(np.arange(n) << BITS, [len(each) for each in upright])
    standing = np.concatenate([none, *upright])
    turned = np.concatenate([none, *(_words(_turned(each.descriptors), planes) for each in looks)])
    plain, both = [], []
    for table in range(TABLES):
        some = np.unique(row | standing[:, table])  # picture and word in one integer, sorted
        more = np.union1d(some, row | turned[:, table])
        known, count = np.unique(more & WORD, return_counts=True)
        shared = (count > 1) & (count <= COMMON)
        weight = np.log(1 + n / count[shared]).astype(np.float32)
        plain.append(_matrix(some, known[shared], weight, n))
        both.append(_matrix(more, known[shared], weight, n))
    return hstack(plain, "csr"), hstack(both, "csr")


def _words(descriptors: np.ndarray, planes: np.ndarray) -> np.ndarray:
    """Keypoints × TABLES, int32."""
    signs = (_root(descriptors) @ planes > 0).reshape(-1, TABLES, BITS)
    return (signs @ (1 << np.arange(BITS))).astype(np.int32)


def _matrix(pairs: np.ndarray, known: np.ndarray, weight: np.ndarray, n: int) -> csr_array:
    pairs = pairs[np.isin(pairs & WORD, known)]
    place = np.searchsorted(known, pairs & WORD)
    return csr_array((weight[place], (pairs >> BITS, place)), (n, len(known)))


def candidates(
    plain: csr_array, both: csr_array, size: np.ndarray, joined: np.ndarray, rows: np.ndarray
) -> Iterator[list[int]]:
    """For each of `rows`: CANDIDATES pictures that share most words and are not `joined` to it.

    The best comes first. A picture's score is divided by the root of the number of its words,
    `size`. The picture itself fills the places that are left.
    """
    for start in range(0, len(rows), BLOCK):
        block = rows[start : start + BLOCK]
        votes = csr_array(plain[block] @ both.T)
        for k, row in enumerate(block):
            part = slice(votes.indptr[k], votes.indptr[k + 1])
            others, shared = votes.indices[part], votes.data[part]
            apart = joined[others] != joined[row]
            others, score = others[apart], (shared / size[others])[apart]
            if len(others) > CANDIDATES:
                best_few = score >= np.partition(score, -CANDIDATES)[-CANDIDATES]
                others, score = others[best_few], score[best_few]
            best = others[np.lexsort((others, -score))[:CANDIDATES]].tolist()
            yield best + [int(row)] * (CANDIDATES - len(best))


def same_place(one: Look, other: Look, way: int) -> bool:
    """Whether `one`, turned in this of `images.ways`, agrees with `other` except for noise."""
    return _agree(images.ways(one.grey)[way], other.grey, np.eye(2, 3), UNMOVED)


def same_skin(one: Look, other: Look) -> bool:
    """Whether `one` or its mirror image, under one affine map, agrees with `other`."""
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
    return _agree(one.grey, other.grey, affine, CORRELATION)


def _agree(one: np.ndarray, other: np.ndarray, affine: np.ndarray, least: float) -> bool:
    size = (SIDE, SIDE)
    moved = cv2.warpAffine(one, affine, size, borderMode=cv2.BORDER_REPLICATE)
    inside = cv2.warpAffine(np.full(size, 1, np.uint8), affine, size, flags=cv2.INTER_NEAREST)
    covered = _cells(inside).all(axis=1)
    if covered.mean() < OVERLAP:
        return False
    a, b = (_cells(_detail(each))[covered] for each in (moved, other))
    a, b = (each - each.mean(axis=1, keepdims=True) for each in (a, b))
    norm = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    return bool(np.median((a * b).sum(axis=1) / np.maximum(norm, 1e-6)) >= least)


def _detail(grey: np.ndarray) -> np.ndarray:
    """Structures of 1 to 4 pixels: without noise and without shading."""
    fine = cv2.GaussianBlur(grey.astype(np.float32), (0, 0), 1.0)
    return fine - cv2.GaussianBlur(fine, (0, 0), 4.0)


def _cells(picture: np.ndarray) -> np.ndarray:
    middle = picture[MIDDLE, MIDDLE]
    n = len(middle) // CELL
    return middle.reshape(n, CELL, n, CELL).swapaxes(1, 2).reshape(n * n, CELL * CELL)


def _root(descriptors: np.ndarray) -> np.ndarray:
    """RootSIFT (Arandjelović & Zisserman 2012): their scalar product is the Hellinger kernel."""
    whole = descriptors.astype(np.float32)
    return np.sqrt(whole / np.maximum(whole.sum(axis=1, keepdims=True), 1))
