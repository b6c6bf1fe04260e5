"""Pictures as they stand in a page: encoded alike, within a budget of bytes."""

import base64
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mpox.core import images

QUALITY = 85  # of JPEG, 4:4:4
SIDES = (384, 256, 192, 160, 128, 96, 64)  # pixels; the largest that the budget takes is used
SAMPLE = 16  # pictures that say what a side will cost


@dataclass(frozen=True)
class Shown:
    """One picture of a page, as templates/picture.html draws it."""

    source: str  # a data: address
    side: int  # pixels
    kind: Literal["real", "synthetic"]
    alt: str
    words: Sequence[str] = ()  # lines in the enlarged view


def encode(pictures: Sequence[np.ndarray], budget: int) -> list[tuple[str, int]]:
    """Pictures (uint8, S×S×3, all of one side S) as data: addresses, and their side in pixels.

    All are of the largest of SIDES, at most S, at which they are `budget` bytes or less together
    (or of the smallest): real and synthetic ones that are encoded in one call are treated alike.
    """
    if not pictures:
        return []
    sides = sorted({min(len(pictures[0]), side) for side in SIDES}, reverse=True)
    sample = [pictures[i] for i in np.linspace(0, len(pictures) - 1, SAMPLE).astype(int)]
    for side in sides:
        few = sum(map(len, _all(sample, side)))
        if few * len(pictures) / SAMPLE > budget and side != sides[-1]:
            continue
        found = _all(pictures, side)
        if sum(map(len, found)) <= budget:
            break
    return [(source, side) for source in found]


def parallel(work: Callable, of: Iterable) -> list:
    """`work` of each, in threads: decoding, resizing and encoding leave Python free."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(work, of))


def _all(pictures: Sequence[np.ndarray], side: int) -> list[str]:
    return parallel(lambda picture: _jpeg(picture, side), pictures)


def _jpeg(picture: np.ndarray, side: int) -> str:
    resized = picture if len(picture) == side else images.square(picture, side)
    content = images.encode(resized, quality=QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(content).decode()
