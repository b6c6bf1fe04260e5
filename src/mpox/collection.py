"""The sets of pictures an evaluation compares: which, of whom, and their features."""

import csv
import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mpox import copies, features, halves, images
from mpox.errors import InputError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pictures:
    """The test, the training or the synthetic pictures."""

    paths: list[Path]  # n
    patients: list[str]  # n; where none is known, each picture a number of its own
    rows: np.ndarray  # float32 n×d features; of training pictures n×8×d, for all `copies.ways`
    hashes: np.ndarray  # float32 n×64 of ±1; of training pictures n×8×64


def choose(folder: Path, most: int | None, seed: int) -> list[Path]:
    """The folder's pictures by name, at most `most` of them, drawn by `seed`."""
    paths, others = images.find(folder)
    logger.info("%s: %d pictures and %d other files", folder, len(paths), others)
    if len(paths) < 2 * halves.FEWEST:
        raise InputError(f"{folder}: {len(paths)} pictures, expected at least {2 * halves.FEWEST}")
    drawn = np.random.default_rng(seed).permutation(len(paths))[:most]
    return [paths[i] for i in np.sort(drawn)]


def patients_of(paths: list[Path], manifest: Path) -> list[str]:
    """The `group` of each picture in the manifest, which names files from its own folder on."""
    if not manifest.is_file():
        raise InputError(f"{manifest}: no such file; expected the table that prepare writes")
    with manifest.open(encoding="utf-8", errors="surrogateescape", newline="") as table:
        groups = {manifest.parent / row["file"]: row["group"] for row in csv.DictReader(table)}
    for path in paths:
        if path not in groups:
            raise InputError(f"{manifest}: does not list {path}")
    return [groups[path] for path in paths]


def collect(
    paths: list[Path],
    patients: list[str],
    resolution: int,
    extractor: features.Extractor,
    lying: bool,
) -> Pictures:
    """The pictures with their features; `lying`: in all `copies.ways`."""

    def shown() -> Iterator[np.ndarray]:
        for picture in pictures(paths, resolution):
            yield from copies.ways(picture) if lying else [picture]

    shape = (len(paths), copies.WAYS, -1) if lying else (len(paths), -1)
    total = len(paths) * (copies.WAYS if lying else 1)
    rows = features.extract(shown(), extractor, total=total)
    return Pictures(paths, patients, rows.reshape(shape), copies.hashes(shown()).reshape(shape))


def fingerprint(sets: Sequence[Pictures]) -> str:
    """Of which pictures and patients the real sets are: eight hexadecimal digits."""
    digest = hashlib.sha256()
    for each in sets:
        for path, patient in zip(each.paths, each.patients, strict=True):
            digest.update(hashlib.sha256(path.read_bytes()).digest())
            digest.update(hashlib.sha256(patient.encode(errors="surrogateescape")).digest())
        digest.update(b"end of set")
    return digest.hexdigest()[:8]


def pictures(paths: list[Path], side: int) -> Iterator[np.ndarray]:
    """The pictures, side×side, through the one geometry and codec all are measured in."""
    for path in paths:
        yield images.recode(images.square(images.read(path), side))
