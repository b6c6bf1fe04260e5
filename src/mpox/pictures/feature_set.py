"""Picture sets with the pixels and features used to compare them."""

import hashlib
import logging
import os
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from mpox.core import images
from mpox.core.errors import InputError
from mpox.core.picture_set import PictureSet
from mpox.pictures import copies, features
from mpox.statistics import halves

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FeatureSet:
    """Test, training or synthetic pictures, read once for all measures."""

    pictures: PictureSet  # n
    pixels: np.ndarray  # uint8 n×S×S×3, after the crop, resize and encoding common to all sets
    rows: np.ndarray  # float32 n×d features; n×8×d in all `images.ways` for training pictures
    hashes: np.ndarray  # float32 n×64 of ±1; n×8×64 for training pictures

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def side(self) -> int:
        """S, in pixels."""
        return self.pixels.shape[1]

    @property
    def patients(self) -> list[str]:
        """The patient of each picture, n; an unknown patient counts as one of its own."""
        return self.pictures.patients

    @property
    def strata(self) -> list[str]:
        """The prompt of each picture, n. The number of pictures per prompt is fixed."""
        return [row.get("text", "") for row in self.pictures.rows]

    def subset(self, places: np.ndarray) -> "FeatureSet":
        """The pictures at `places`, in that order."""
        pictures = self.pictures.subset(places.tolist())
        return FeatureSet(pictures, self.pixels[places], self.rows[places], self.hashes[places])

    def drawn(self, count: int, rng: np.random.Generator) -> "FeatureSet":
        """`count` random pictures, in random order."""
        return self.subset(rng.permutation(len(self))[:count])


T = TypeVar("T", PictureSet, FeatureSet)


class Sets(NamedTuple, Generic[T]):
    """The sets that an evaluation compares, with or without features."""

    test: T
    synthetic: T
    training: T | None = None  # of the model; without it, copies are not measured

    @property
    def real(self) -> list[T]:
        return [self.test] if self.training is None else [self.test, self.training]


def choose(pictures: PictureSet, most: int | None, seed: int) -> PictureSet:
    """At most `most` random pictures, in the order of their names."""
    logger.info("%s: %d pictures", pictures.folder, len(pictures))
    if len(pictures) < 2 * halves.FEWEST:
        raise InputError(
            f"{pictures.folder}: {len(pictures)} pictures, expected at least {2 * halves.FEWEST}"
        )
    drawn = np.random.default_rng(seed).permutation(len(pictures))[:most]
    return pictures.subset(np.sort(drawn).tolist())


def collect(
    pictures: PictureSet, side: int, extractor: features.Extractor, orientations: bool = False
) -> FeatureSet:
    """Pictures at side×side with features, in all eight orientations if copies are looked for."""
    pixels, number = read_pixels(pictures.paths, side), len(pictures)

    def shown() -> Iterator[np.ndarray]:
        for picture in pixels:
            yield from images.ways(picture) if orientations else [picture]

    shape = (number, images.WAYS, -1) if orientations else (number, -1)
    total = number * (images.WAYS if orientations else 1)
    rows = features.extract(shown(), extractor, total=total)
    hashes = copies.hashes(shown()).reshape(shape)
    return FeatureSet(pictures, pixels, rows.reshape(shape), hashes)


def read_pixels(paths: Sequence[Path], side: int) -> np.ndarray:
    """The pictures, uint8 n×side×side×3, in an unnamed file because they may be many gigabytes."""
    with tempfile.TemporaryFile() as stored:
        pixels = np.memmap(stored, np.uint8, "w+", shape=(len(paths), side, side, 3))

    def read(place: int) -> None:
        pixels[place] = images.recode(images.square(images.read(paths[place]), side))

    # Threads suffice: decoding and resizing release Python's lock.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(read, range(len(paths))):
            pass
    return pixels


def fingerprint(sets: Sequence[PictureSet]) -> str:
    """Eight hexadecimal digits that identify the pictures of the real sets and their patients."""
    digest = hashlib.sha256()
    for each in sets:
        for path, patient in zip(each.paths, halves.numbered(each.patients), strict=True):
            digest.update(hashlib.sha256(path.read_bytes()).digest())
            digest.update(hashlib.sha256(b"%d" % patient).digest())
        digest.update(b"end of set")
    return digest.hexdigest()[:8]
