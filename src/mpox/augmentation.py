"""Variants of the training pictures: the same skin as another photo might show it."""

import functools
import math
import multiprocessing
import random
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from tqdm import tqdm

from mpox.core import folders, images, seeds, table
from mpox.core.errors import InputError
from mpox.core.picture_set import PictureSet
from mpox.params import Augment

if TYPE_CHECKING:
    import albumentations as A


def augment(
    pictures: PictureSet,
    out: Path,
    settings: Augment,
    resolution: int,
    seed: int,
    workers: int | None = None,
) -> None:
    """Write `out`/<key>-<copy>.jpg for every picture <key>.png, `resolution` pixels a side.

    Copy 0 is the picture itself (`images.square`), copies 1 … `settings.copies` are variants. Each
    is a function of the picture, `seed`, key and copy alone; `workers` (default: all cores) changes
    no result. `out`/metadata.csv has the copy as `variant`, the picture's file name as `source`,
    and the columns of the pictures' own table. Pictures whose table is empty give an empty table;
    no pictures and no table are an InputError.
    """
    if not len(pictures) and ((known := table.read(pictures.folder)) is None or known.rows):
        raise InputError(f"{pictures.folder}: holds no pictures to augment")
    rows: dict[str, list[object]] = {
        _name(path, copy): [copy, path.name, *(row[column] for column in pictures.columns)]
        for path, row in zip(pictures.paths, pictures.rows, strict=True)
        for copy in range(settings.copies + 1)
    }
    spawn = multiprocessing.get_context("spawn")
    with (
        folders.whole(out) as folder,
        ProcessPoolExecutor(workers, mp_context=spawn, initializer=_start) as pool,
    ):
        vary = functools.partial(
            _vary, folder=folder, settings=settings, resolution=resolution, seed=seed
        )
        written = pool.map(vary, pictures.paths)
        for _ in tqdm(written, "augmenting", len(pictures), unit="photo"):
            pass
        table.write(folder, ["variant", "source", *pictures.columns], rows)


@functools.lru_cache(maxsize=1)  # once a process: building the chain takes milliseconds
def transforms(settings: Augment, resolution: int) -> "A.Compose":
    """The chain, in the order that light takes: pose and skin, then colour, then lens and sensor.

    From uint8 H×H×3 to `resolution` pixels a side. Rotations and crops work on the whole picture,
    which is larger, and so cost no sharpness. From `elastic` on, lengths are pixels of the result.
    """
    import albumentations as A  # the import takes seconds, and only the workers need it

    s = settings
    pose, crop, colour = s.shift_scale_rotate, s.random_resized_crop, s.colour_jitter
    blur, noise, clahe = s.gaussian_blur, s.gaussian_noise, s.clahe
    size = (resolution, resolution)
    # albumentations smooths noise of variance 1/3 by a Gaussian and multiplies it by its alpha.
    # With this factor our alpha is the displacement in pixels: the root mean square along an axis.
    unit_shift = math.sqrt(3) * 2 * math.sqrt(math.pi) * s.elastic.sigma
    return A.Compose(
        [
            A.HorizontalFlip(p=s.horizontal_flip.p),
            A.VerticalFlip(p=s.vertical_flip.p),
            A.RandomRotate90(p=s.rotate90.p),
            A.Affine(
                translate_percent=(-pose.shift, pose.shift),
                scale=(1 - pose.scale, 1 + pose.scale),
                rotate=(-pose.rotate, pose.rotate),
                keep_ratio=True,
                interpolation=cv2.INTER_CUBIC,
                border_mode=cv2.BORDER_REFLECT_101,
                p=pose.p,
            ),
            A.RandomResizedCrop(
                size,
                scale=(crop.scale_min, 1),
                ratio=(1, 1),  # round lesions stay round
                interpolation=cv2.INTER_AREA,
                p=crop.p,
            ),
            A.Resize(*size, interpolation=cv2.INTER_AREA),  # where the crop did not happen
            A.ElasticTransform(
                alpha=s.elastic.alpha * unit_shift,
                sigma=s.elastic.sigma,
                noise_distribution="uniform",
                border_mode=cv2.BORDER_REFLECT_101,
                p=s.elastic.p,
            ),
            A.ColorJitter(
                brightness=(1 - colour.brightness, 1 + colour.brightness),
                contrast=(1 - colour.contrast, 1 + colour.contrast),
                saturation=(1 - colour.saturation, 1 + colour.saturation),
                hue=(-colour.hue, colour.hue),
                p=colour.p,
            ),
            A.CLAHE((1, clahe.clip_limit), tile_grid_size=(clahe.tiles, clahe.tiles), p=clahe.p),
            A.GaussianBlur(sigma_limit=(blur.sigma_min, blur.sigma_max), p=blur.p),
            A.GaussNoise(std_range=(noise.sigma_min / 255, noise.sigma_max / 255), p=noise.p),
        ]
    )


def variant(chain: "A.Compose", picture: np.ndarray, seed: int) -> np.ndarray:
    """`chain` applied to `picture`, with all random numbers from `seed`."""
    # Not set_random_seed: it gives every transform the same random numbers, so that flips and
    # rotations of equal probability would happen together or not at all.
    chain.set_random_state(np.random.default_rng(seed), random.Random(seed))
    return chain(image=picture)["image"]


def _start() -> None:
    cv2.setNumThreads(1)  # there are as many processes as cores
    # albumentations would import torch, 500 MB a process, for a transform that is not used here.
    sys.modules["torch"] = None  # type: ignore[assignment]


def _vary(path: Path, folder: Path, settings: Augment, resolution: int, seed: int) -> None:
    picture = images.read(path)
    images.write(folder / _name(path, 0), images.square(picture, resolution))
    chain = transforms(settings, resolution)
    for copy in range(1, settings.copies + 1):
        drawn = variant(chain, picture, seeds.derive(seed, "augment", path.stem, copy))
        images.write(folder / _name(path, copy), drawn)


def _name(path: Path, copy: int) -> str:
    return f"{path.stem}-{copy}.jpg"
