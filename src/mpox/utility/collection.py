"""Reads every picture of a trial once, through one geometry and one JPEG encoder."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mpox.core import images, listing, table
from mpox.core.errors import InputError
from mpox.model import latents
from mpox.pictures import feature_set, features
from mpox.statistics import tone
from mpox.utility.photos import MPOX, Photos, Sets, Version

VARIANTS = 2  # augmented variants of a photo, from which each repeat draws one
MASKED = 0.7  # of the side: the square that is masked in a picture's middle
GREY = 128


class Folders(NamedTuple):
    """Where everything lies; of `controls` and `prepared` each has train, val, test."""

    prepared: Path
    controls: Path
    variants: Path
    control_variants: Path
    synthetic: Path
    placebo: Path


def collect(folders: Folders, extractor: features.Extractor, vae: Any, side: int) -> Sets:
    """Reads every picture once, through one geometry and one JPEG encoder, and takes features."""

    def look(pixels: np.ndarray) -> np.ndarray:
        if not len(pixels):
            return np.empty((0, 0), np.float32)
        return features.extract(iter(pixels), extractor, total=len(pixels))

    def encoded(pixels: np.ndarray) -> np.ndarray:
        return np.stack([images.recode(each) for each in latents.reconstruct(vae, pixels)])

    real, pixels = {}, {}
    for part in ("train", "val", "test"):
        sides = [_read(each / part, side) for each in (folders.prepared, folders.controls)]
        paths = [path for each, _ in sides for path in each]
        pixels[part] = np.concatenate([each for _, each in sides])
        labels = [MPOX] * len(sides[0][0]) + _labels(folders.controls / part, sides[1][0])
        real[part] = Photos(
            look(pixels[part]),
            labels,
            _patients(paths),
            [tone.word(tone.typology_angle(each)) for each in pixels[part]],
            pixels[part].mean((1, 2)),
        )
    _check(real)
    masked = []
    for part, own in real.items():
        shown = pixels[part].copy()
        edge = round(side * (1 - MASKED) / 2)
        shown[:, edge : side - edge, edge : side - edge] = GREY
        masked.append(own.having(look(np.stack([images.recode(each) for each in shown]))))
    stems = [path.stem for path in _paths(folders.prepared / "train")]
    of_controls = [path.stem for path in _paths(folders.controls / "train")]
    variants = []
    for copy in range(1, VARIANTS + 1):
        files = [folders.variants / f"{stem}-{copy}.jpg" for stem in stems]
        files += [folders.control_variants / f"{stem}-{copy}.jpg" for stem in of_controls]
        if not files[0].exists():  # augment.copies is smaller
            break
        variants.append(feature_set.read(files, side))
    synthetic, placebo = (_read(each, side)[1] for each in (folders.synthetic, folders.placebo))
    train = real["train"]
    return Sets(
        Version(train, [look(each) for each in variants]),
        Version(
            train.having(look(encoded(pixels["train"]))),
            [look(encoded(each)) for each in variants[:1]],  # features are what takes the time
        ),
        real["val"],
        real["test"],
        (masked[0], masked[1], masked[2]),
        look(synthetic),
        look(placebo),
    )


def _paths(folder: Path) -> list[Path]:
    return listing.find(folder)[0]


def _read(folder: Path, side: int) -> tuple[list[Path], np.ndarray]:
    paths = _paths(folder)
    return paths, feature_set.read(paths, side)


def _labels(folder: Path, paths: Sequence[Path]) -> list[str]:
    known = table.read(folder)
    return [known.row(path.name)["label"] for path in paths] if known else []


def _patients(paths: Sequence[Path]) -> list[str]:
    """By prepare's tables, in which a group has one number whether mpox or control."""
    found: list[str] = []
    for folder in dict.fromkeys(path.parent for path in paths):
        names = [path.name for path in paths if path.parent == folder]
        found += table.groups(folder, names)[0]
    return found


def _check(real: Mapping[str, Photos]) -> None:
    for part, photos in real.items():
        for kind, chosen in (("mpox", photos.mpox), ("controls", ~photos.mpox)):
            patients = {p for p, own in zip(photos.patients, chosen, strict=True) if own}
            least = 1 if part == "val" else 2
            if len(patients) < least:
                raise InputError(
                    f"data.split.{part}: photos of {len(patients)} patients of {kind}, and a "
                    f"classifier needs {least}: more patients, or data.controls: data/none"
                )
