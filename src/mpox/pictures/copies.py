"""Whether a synthetic picture is a copy of a training picture.

Augmentation flips and rotates pictures, so each training picture is compared in all eight
orientations of a square. The training set itself shows how similar pictures of different patients
can be. Held-out pictures show how often that alone raises an alarm.
"""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import imagehash
import numpy as np
from PIL import Image

PERCENTILE = 99.0  # of real pictures count as different from those of all other patients
BLOCK = 512  # rows of cosines in memory at once


class Nearest(NamedTuple):
    """The most similar training picture of each of n pictures."""

    cosine: np.ndarray  # n
    picture: np.ndarray  # n, index of the training picture
    way: np.ndarray  # n, its orientation, index into `images.ways`


def nearest(rows: np.ndarray, training: np.ndarray) -> Nearest:
    """The nearest by cosine of training features (t×WAYS×d), for each of n×d features."""
    return _nearest(rows, training, np.zeros((len(rows), len(training)), bool))


def among(rows: np.ndarray, groups: Sequence[str]) -> np.ndarray:
    """Cosine (n) of each picture to the nearest one of another patient; groups: the patients (n).

    rows: n×d features, or n×WAYS×d to compare each picture with the others in all orientations.
    """
    patient, oriented = np.asarray(groups), rows.reshape(len(rows), -1, rows.shape[-1])
    return _nearest(oriented[:, 0], oriented, patient[:, None] == patient).cosine


def threshold(cosines: np.ndarray) -> float:
    """The cosine above which two pictures count as copies, from the cosines of `among`.

    Those are between patients, so a photo collected twice does not raise the threshold.
    """
    return float(np.percentile(cosines, PERCENTILE))


def hashes(pictures: Iterable[np.ndarray]) -> np.ndarray:
    """64-bit perceptual hashes of pictures (Zauner 2010), float32 n×64 of ±1.

    They depend on shapes alone, while a network also reacts to noise and JPEG blocks.
    """
    codes = [imagehash.phash(Image.fromarray(each)).hash.ravel() for each in pictures]
    return np.where(np.stack(codes), 1, -1).astype(np.float32)


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    """The cosine of two vectors (d)."""
    return float(_unit(one) @ _unit(other))


def bits(cosine: float) -> int:
    """Number of the 64 bits in which two `hashes` of that cosine differ."""
    return round(_bits(cosine))


def fewer_than(cosine: float) -> int:
    """The limit in bits: hashes of a larger cosine differ in fewer bits than this.

    The cosine is a percentile and may lie between two whole numbers of bits.
    """
    return math.ceil(_bits(cosine))


def _bits(cosine: float) -> float:
    return round(32 * (1 - cosine), 6)  # removes rounding errors of whole numbers


def _nearest(rows: np.ndarray, training: np.ndarray, excluded: np.ndarray) -> Nearest:
    """As `nearest`, without the pairs that are `excluded` (n×t)."""
    oriented = _unit(training.reshape(-1, training.shape[-1]))
    blocks = []
    for start in range(0, len(rows), BLOCK):
        block = slice(start, start + BLOCK)
        cosines = _unit(rows[block]) @ oriented.T
        cosines[np.repeat(excluded[block], training.shape[1], axis=1)] = -np.inf
        best = cosines.argmax(axis=1)
        blocks.append((cosines.max(axis=1), *np.divmod(best, training.shape[1])))
    return Nearest(*map(np.concatenate, zip(*blocks, strict=True)))


def _unit(rows: np.ndarray) -> np.ndarray:
    """Rows (…×d) at length 1, in float64."""
    rows = np.asarray(rows, np.float64)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)
