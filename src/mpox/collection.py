"""The sets of pictures an evaluation compares: which, of whom, and their features."""

import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mpox import copies, features, halves, images, table
from mpox.errors import InputError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pictures:
    """The test, the training or the synthetic pictures."""

    paths: list[Path]  # n
    patients: list[str]  # n; where none is known, each picture a number of its own
    known: bool  # whether the patients are
    rows: np.ndarray  # float32 n×d features; of training pictures n×8×d, for all `images.ways`
    hashes: np.ndarray  # float32 n×64 of ±1; of training pictures n×8×64


def choose(folder: Path, most: int | None, seed: int) -> list[Path]:
    """The folder's pictures by name, at most `most` of them, drawn by `seed`."""
    paths, others = images.find(folder)
    logger.info("%s: %d pictures and %d other files", folder, len(paths), len(others))
    if len(paths) < 2 * halves.FEWEST:
        raise InputError(f"{folder}: {len(paths)} pictures, expected at least {2 * halves.FEWEST}")
    drawn = np.random.default_rng(seed).permutation(len(paths))[:most]
    return [paths[i] for i in np.sort(drawn)]


def collect(
    folder: Path,
    paths: list[Path],
    resolution: int,
    extractor: features.Extractor,
    lying: bool,
) -> Pictures:
    """Pictures of a folder, with its table's patients, and features; `lying`: in all ways."""
    names = [path.relative_to(folder).as_posix() for path in paths]
    patients, known = table.groups(folder, names)

    def shown() -> Iterator[np.ndarray]:
        for picture in pictures(paths, resolution):
            yield from images.ways(picture) if lying else [picture]

    shape = (len(paths), images.WAYS, -1) if lying else (len(paths), -1)
    total = len(paths) * (images.WAYS if lying else 1)
    rows = features.extract(shown(), extractor, total=total)
    hashes = copies.hashes(shown()).reshape(shape)
    return Pictures(paths, patients, known, rows.reshape(shape), hashes)


def fingerprint(sets: Sequence[Pictures]) -> str:
    """Of which pictures and patients the real sets are: eight hexadecimal digits."""
    digest = hashlib.sha256()
    for each in sets:
        for path, patient in zip(each.paths, halves.numbered(each.patients), strict=True):
            digest.update(hashlib.sha256(path.read_bytes()).digest())
            digest.update(hashlib.sha256(b"%d" % patient).digest())
        digest.update(b"end of set")
    return digest.hexdigest()[:8]


def pictures(paths: list[Path], side: int) -> Iterator[np.ndarray]:
    """The pictures, side×side, through the one geometry and codec all are measured in."""
    for path in paths:
        yield images.recode(images.square(images.read(path), side))
