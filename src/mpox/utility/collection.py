"""Reads every picture of a trial once, through one geometry and one JPEG encoder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mpox.core import images, listing
from mpox.core.errors import InputError
from mpox.model import latents
from mpox.pictures import feature_set, features
from mpox.statistics import tone
from mpox.utility.photos import MPOX, PARTS, Photos, Pixels, Sets, Version, find

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
    files = {part: find(folders.prepared, folders.controls, part) for part in PARTS}
    for part, own in files.items():
        pixels[part] = feature_set.read_pixels(own.paths, side)
        real[part] = Photos(
            look(pixels[part]),
            own.labels,
            own.patients,
            [tone.word(tone.typology_angle(each)) for each in pixels[part]],
            pixels[part].mean((1, 2)),
        )
    _check(real)
    masked = []
    for part, photos in real.items():
        shown = pixels[part].copy()
        edge = round(side * (1 - MASKED) / 2)
        shown[:, edge : side - edge, edge : side - edge] = GREY
        masked.append(photos.having(look(np.stack([images.recode(each) for each in shown]))))
    variants = []
    for copy in range(1, VARIANTS + 1):
        varied = [
            (folders.variants if label == MPOX else folders.control_variants)
            / f"{path.stem}-{copy}.jpg"
            for path, label in zip(files["train"].paths, files["train"].labels, strict=True)
        ]
        if not varied[0].exists():  # augment.copies is smaller
            break
        variants.append(feature_set.read_pixels(varied, side))
    synthetic, placebo = (
        feature_set.read_pixels(listing.find(each)[0], side)
        for each in (folders.synthetic, folders.placebo)
    )
    train, decoded = real["train"], encoded(pixels["train"])
    return Sets(
        Version(train, [look(each) for each in variants]),
        Version(
            train.having(look(decoded)),
            [look(encoded(each)) for each in variants[:1]],  # features are what takes the time
        ),
        real["val"],
        real["test"],
        (masked[0], masked[1], masked[2]),
        look(synthetic),
        look(placebo),
        Pixels(pixels["train"], decoded, pixels["val"], pixels["test"], synthetic, placebo),
    )


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
