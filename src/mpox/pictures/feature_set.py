"""The sets of pictures an evaluation compares: which, of whom, and their features."""

import hashlib
import logging
import os
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mpox.core import images, listing, table
from mpox.core.errors import InputError
from mpox.pictures import copies, features
from mpox.statistics import halves

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pictures:
    """The test, the training or the synthetic pictures, each read once for all measures."""

    folder: Path
    paths: list[Path]  # n
    patients: list[str]  # n; where none is known, each picture a number of its own
    known: bool  # whether the patients are
    pixels: np.ndarray  # uint8 n×S×S×3, through the one geometry and codec all are measured in
    rows: np.ndarray  # float32 n×d features; of training pictures n×8×d, for all `images.ways`
    hashes: np.ndarray  # float32 n×64 of ±1; of training pictures n×8×64
    strata: list[str]  # n: the prompt of each, if any: how many there are of each is laid down

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def side(self) -> int:
        """S, in pixels."""
        return self.pixels.shape[1]

    def subset(self, places: np.ndarray) -> "Pictures":
        """Those at `places`, in that order."""
        return replace(
            self,
            paths=[self.paths[i] for i in places],
            patients=[self.patients[i] for i in places],
            pixels=self.pixels[places],
            rows=self.rows[places],
            hashes=self.hashes[places],
            strata=[self.strata[i] for i in places],
        )

    def drawn(self, count: int, rng: np.random.Generator) -> "Pictures":
        """`count` of them at random, in random order."""
        return self.subset(rng.permutation(len(self))[:count])


def choose(folder: Path, most: int | None, seed: int) -> list[Path]:
    """The folder's pictures by name, at most `most` of them, drawn by `seed`."""
    paths, others = listing.find(folder)
    logger.info("%s: %d pictures and %d other files", folder, len(paths), len(others))
    if len(paths) < 2 * halves.FEWEST:
        raise InputError(f"{folder}: {len(paths)} pictures, expected at least {2 * halves.FEWEST}")
    drawn = np.random.default_rng(seed).permutation(len(paths))[:most]
    return [paths[i] for i in np.sort(drawn)]


def collect(
    folder: Path,
    paths: list[Path],
    side: int,
    extractor: features.Extractor,
    orientations: bool = False,
) -> Pictures:
    """Pictures of a folder at side×side, with its table's patients, and features.

    `orientations`: features in all eight, as copies of training pictures are looked for.
    """
    names = [path.relative_to(folder).as_posix() for path in paths]
    patients, known = table.groups(folder, names)
    pixels = read(paths, side)

    def shown() -> Iterator[np.ndarray]:
        for picture in pixels:
            yield from images.ways(picture) if orientations else [picture]

    shape = (len(paths), images.WAYS, -1) if orientations else (len(paths), -1)
    total = len(paths) * (images.WAYS if orientations else 1)
    rows = features.extract(shown(), extractor, total=total)
    hashes = copies.hashes(shown()).reshape(shape)
    listed = table.read(folder)
    strata = [listed.row(name).get("text", "") if listed else "" for name in names]
    return Pictures(folder, paths, patients, known, pixels, rows.reshape(shape), hashes, strata)


def read(paths: Sequence[Path], side: int) -> np.ndarray:
    """The pictures, uint8 n×side×side×3, in a file without a name: they may be many gigabytes."""
    with tempfile.TemporaryFile() as stored:
        pixels = np.memmap(stored, np.uint8, "w+", shape=(len(paths), side, side, 3))

    def read(place: int) -> None:
        pixels[place] = images.recode(images.square(images.read(paths[place]), side))

    # Threads, for decoding and resizing leave Python free.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(read, range(len(paths))):
            pass
    return pixels


def fingerprint(sets: Sequence[Pictures]) -> str:
    """Of which pictures and patients the real sets are: eight hexadecimal digits."""
    digest = hashlib.sha256()
    for each in sets:
        for path, patient in zip(each.paths, halves.numbered(each.patients), strict=True):
            digest.update(hashlib.sha256(path.read_bytes()).digest())
            digest.update(hashlib.sha256(b"%d" % patient).digest())
        digest.update(b"end of set")
    return digest.hexdigest()[:8]
