"""What one look at a photo's file finds: its square, its hashes, its tone, or what is wrong."""

import hashlib
import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

from mpox.core import folders, images
from mpox.core.errors import InputError, line
from mpox.photos import duplicates, keypoints
from mpox.statistics import tone


class Photo(NamedTuple):
    """What was found in one file; where `reason` says why it cannot be used, the rest is empty."""

    sha256: str = ""  # of the file's bytes
    pixels: str = ""  # SHA-256 of the square's pixels
    hashes: np.ndarray = np.empty(0)  # uint64, WAYS: the square's perceptual hashes
    look: keypoints.Seen = keypoints.NOTHING  # what a second look for near duplicates needs
    tone: float = 0.0  # the square's individual typology angle
    reason: str = ""

    @property
    def key(self) -> str:
        """The picture's name from here on: a photo's own name may be a patient's."""
        return self.sha256[:16]


def inspect_all(
    paths: Sequence[Path], squares: Sequence[Path], resolution: int, workers: int | None
) -> Iterator[Photo]:
    """Of each photo, in processes, its square written to its place in `squares`."""
    # spawn, the same on every system: a forked worker inherits locks that threads may hold.
    spawn = multiprocessing.get_context("spawn")
    done = 0
    with ProcessPoolExecutor(workers, mp_context=spawn, initializer=_start) as pool:
        found = pool.map(partial(inspect, resolution), paths, squares, chunksize=4)
        try:
            for photo in tqdm(found, "reading photos", len(paths), unit="photo"):
                yield photo
                done += 1
        except BrokenProcessPool:
            raise InputError(
                f"{line(paths[done])}: reading this photo, or one of the next, ended its "
                "process (2 GB of memory a core are enough for the largest)"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)  # who stops asking waits for no other photo


def inspect(resolution: int, path: Path, out: Path) -> Photo:
    """Read one photo and write its square to `out`, or say what is wrong with it."""
    try:
        picture = images.read(path)
    except InputError as error:
        return Photo(reason=str(error).removeprefix(f"{path}: "))
    shorter = min(picture.shape[:2])
    if 2 * shorter < resolution:
        return Photo(
            reason=f"is {shorter} pixels across, expected half of resolution ({resolution}) or "
            f"more: lower resolution to {2 * shorter} or less, or leave such out with "
            "data.on_invalid: skip"
        )
    square = images.square(picture, min(shorter, 2 * resolution))
    images.write(out, square)
    return Photo(
        sha256=folders.sha256(path),
        pixels=hashlib.sha256(square.tobytes()).hexdigest(),
        hashes=duplicates.hashes(square),
        look=keypoints.describe(square),
        tone=tone.typology_angle(square),
    )


def _start() -> None:
    cv2.setNumThreads(1)  # the processes are as many as the cores
