"""Reads every picture of a trial once, through one geometry and one JPEG encoder."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mpox.core import images
from mpox.core.errors import InputError
from mpox.core.picture_set import PictureSet
from mpox.model import latents
from mpox.pictures import feature_set, features
from mpox.statistics import tone
from mpox.utility.photos import MPOX, Photos, Pictures, Pixels, Sets, Version

VARIANTS = 2  # augmented variants of a photo, of which each repeat draws one
MASKED = 0.7  # of the side: the square that is masked in the middle of a picture
GREY = 128


def load(pictures: Pictures, extractor: features.Extractor, vae: Any, side: int) -> Sets:
    """Pixels and features of all pictures at `side` pixels.

    Raises InputError if a part has too few patients.
    """

    def look(pixels: np.ndarray) -> np.ndarray:
        if not len(pixels):
            return np.empty((0, 0), np.float32)
        return features.extract(iter(pixels), extractor, total=len(pixels))

    def encode(pixels: np.ndarray) -> np.ndarray:
        return np.stack([images.recode(each) for each in latents.reconstruct(vae, pixels)])

    _check_patients(pictures)
    real, masked, pixels = {}, {}, {}
    for part, mpox in pictures.mpox.items():
        controls = pictures.controls[part]
        shown = pixels[part] = feature_set.read_pixels(mpox.paths + controls.paths, side)
        real[part] = Photos(
            look(shown),
            [MPOX] * len(mpox) + [row["label"] for row in controls.rows],
            mpox.patients + controls.patients,
            [tone.word(tone.typology_angle(each)) for each in shown],
            shown.mean((1, 2)),
        )
    for part, photos in real.items():
        masked[part] = replace(photos, rows=look(mask(pixels[part])))
    mpox_variants = find_variants(pictures.mpox["train"], pictures.variants)
    control_variants = find_variants(pictures.controls["train"], pictures.control_variants)
    variants = [
        feature_set.read_pixels(one + other, side)
        for one, other in zip(mpox_variants, control_variants, strict=True)
    ]
    synthetic = feature_set.read_pixels(pictures.synthetic.paths, side)
    placebo = feature_set.read_pixels(pictures.placebo.paths, side)
    train, encoded = real["train"], encode(pixels["train"])
    return Sets(
        Version(train, [look(each) for each in variants]),
        # One variant here: the autoencoder and the features take most of a trial's time.
        Version(
            replace(train, rows=look(encoded)),
            [look(encode(each)) for each in variants[:1]],
        ),
        real["val"],
        real["test"],
        (masked["train"], masked["val"], masked["test"]),
        look(synthetic),
        look(placebo),
        Pixels(pixels["train"], encoded, pixels["val"], pixels["test"], synthetic, placebo),
    )


def mask(pixels: np.ndarray) -> np.ndarray:
    """n×S×S×3 pictures with a grey square of MASKED of the side in the middle."""
    side = pixels.shape[1]
    edge = round(side * (1 - MASKED) / 2)
    masked = pixels.copy()
    masked[:, edge : side - edge, edge : side - edge] = GREY
    return np.stack([images.recode(each) for each in masked])


def find_variants(photos: PictureSet, augmented: PictureSet) -> list[list[Path]]:
    """At most VARIANTS lists, each with one augmented variant of every photo, in their order.

    The table of `augmented` names the photo in `source` and the number of the copy in `variant`;
    copy 0 is the photo itself.
    """
    paths = {
        (row["source"], int(row["variant"])): path
        for path, row in zip(augmented.paths, augmented.rows, strict=True)
    }
    copies = min(VARIANTS, max((copy for _, copy in paths), default=0))
    return [[paths[name, copy] for name in photos.names] for copy in range(1, copies + 1)]


def _check_patients(pictures: Pictures) -> None:
    kinds = {"mpox": pictures.mpox, "other conditions": pictures.controls}
    for kind, parts in kinds.items():
        for part, photos in parts.items():
            number, least = len(set(photos.patients)), 1 if part == "val" else 2
            if number < least:
                raise InputError(
                    f"data.split.{part}: {number} patients with photos of {kind}; a classifier "
                    f"needs at least {least}. Add patients, or set data.controls: data/none"
                )
