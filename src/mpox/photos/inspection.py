"""Reads a photo once: its square, its hashes, its tone, or why it cannot be used."""

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


class Inspection(NamedTuple):
    """What one file shows. If `reason` states why it cannot be used, all else is empty."""

    sha256: str = ""  # of the file's bytes
    pixels: str = ""  # SHA-256 of the square's pixels
    hashes: np.ndarray = np.empty(0)  # uint64, WAYS: the square's perceptual hashes
    look: keypoints.Look = keypoints.NOTHING  # for the second search for near duplicates
    tone: float = 0.0  # the square's individual typology angle
    reason: str = ""


def inspect_all(
    paths: Sequence[Path], squares: Sequence[Path], resolution: int, workers: int | None
) -> Iterator[Inspection]:
    """Inspects the photos in several processes and writes each one's square to `squares`."""
    # spawn, the same on every system: a forked worker inherits locks that threads may hold.
    spawn = multiprocessing.get_context("spawn")
    done = 0
    with ProcessPoolExecutor(workers, mp_context=spawn, initializer=_start) as pool:
        results = pool.map(partial(inspect, resolution), paths, squares, chunksize=4)
        try:
            for result in tqdm(results, "reading photos", len(paths), unit="photo"):
                yield result
                done += 1
        except BrokenProcessPool:
            raise InputError(
                f"{line(paths[done])}: the process that read this photo, or one of the next few, "
                "was killed, perhaps for want of memory: the largest photos need 2 GB a core"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)  # on an error, read no further photos


def inspect(resolution: int, path: Path, out: Path) -> Inspection:
    """Reads one photo and writes its square to `out`."""
    try:
        picture = images.read(path)
    except InputError as error:
        return Inspection(reason=str(error).removeprefix(f"{path}: "))
    shorter = min(picture.shape[:2])
    if 2 * shorter < resolution:
        return Inspection(
            reason=f"is {shorter} pixels across, expected at least half of resolution "
            f"({resolution}); lower resolution to {2 * shorter} or less, or leave such photos out "
            "with data.on_invalid: skip"
        )
    square = images.square(picture, min(shorter, 2 * resolution))
    images.write(out, square)
    return Inspection(
        sha256=folders.sha256(path),
        pixels=hashlib.sha256(square.tobytes()).hexdigest(),
        hashes=duplicates.hashes(square),
        look=keypoints.describe(square),
        tone=tone.typology_angle(square),
    )


def _start() -> None:
    cv2.setNumThreads(1)  # there are as many processes as cores
