"""Synthetic pictures held against the training pictures: is one of them a copy?

A copy may be flipped or turned, as augmentation shows them, so each training picture is compared
in all eight orientations of a square. How alike two pictures of different patients can be is taken
from the training set itself, and how often that alone raises an alarm from held-out pictures.
"""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import imagehash
import numpy as np
from PIL import Image

PERCENTILE = 99.0  # of real pictures count as unlike those of all other patients
BLOCK = 512  # rows of cosines in memory at once


class Nearest(NamedTuple):
    """The most similar training picture of each of n pictures."""

    cosine: np.ndarray  # n
    picture: np.ndarray  # n, index of the training picture
    way: np.ndarray  # n, its orientation: index into `images.ways`


def nearest(rows: np.ndarray, training: np.ndarray) -> Nearest:
    """For features n×d of pictures, the nearest by cosine of training features t×WAYS×d."""
    return _nearest(rows, training, np.zeros((len(rows), len(training)), bool))


def among(rows: np.ndarray, groups: Sequence[str]) -> np.ndarray:
    """Cosine (n) of each of n×d features to its nearest one of another of `groups` (n).

    n×WAYS×d: of each as it is to the others in all their orientations.
    """
    patient, lying = np.asarray(groups), rows.reshape(len(rows), -1, rows.shape[-1])
    return _nearest(lying[:, 0], lying, patient[:, None] == patient).cosine


def threshold(cosines: np.ndarray) -> float:
    """The cosine above which two pictures count as one, from real ones `among` other patients.

    A photo collected twice must not make copies look usual: it is one patient's.
    """
    return float(np.percentile(cosines, PERCENTILE))


def hashes(pictures: Iterable[np.ndarray]) -> np.ndarray:
    """64-bit perceptual hashes of pictures (Zauner 2010), float32 n×64 of ±1.

    As features they see shapes, whatever the network makes of a picture's noise and blocks.
    """
    found = [imagehash.phash(Image.fromarray(each)).hash.ravel() for each in pictures]
    return np.where(np.stack(found), 1, -1).astype(np.float32)


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    """Of two vectors (d)."""
    return float(_unit(one) @ _unit(other))


def bits(cosine: float) -> int:
    """In how many of 64 bits two `hashes` of that cosine differ."""
    return round(_bits(cosine))


def fewer_than(cosine: float) -> int:
    """The number of bits than which those of a larger cosine than this one differ in fewer.

    This one, a percentile, may lie between two whole numbers of bits.
    """
    return math.ceil(_bits(cosine))


def _bits(cosine: float) -> float:
    return round(32 * (1 - cosine), 6)  # less what floats make of whole numbers


def _nearest(rows: np.ndarray, training: np.ndarray, excluded: np.ndarray) -> Nearest:
    """As `nearest`, where `excluded` (n×t) is not true."""
    lying = _unit(training.reshape(-1, training.shape[-1]))
    found = []
    for start in range(0, len(rows), BLOCK):
        block = slice(start, start + BLOCK)
        cosines = _unit(rows[block]) @ lying.T
        cosines[np.repeat(excluded[block], training.shape[1], axis=1)] = -np.inf
        best = cosines.argmax(axis=1)
        found.append((cosines.max(axis=1), *np.divmod(best, training.shape[1])))
    return Nearest(*map(np.concatenate, zip(*found, strict=True)))


def _unit(rows: np.ndarray) -> np.ndarray:
    """Rows (…×d) at length 1, in float64."""
    rows = np.asarray(rows, np.float64)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)
