"""The pictures of a page, encoded uniformly within a budget of bytes."""

import base64
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mpox.core import images

QUALITY = 85  # of JPEG, 4:4:4
SIDES = (384, 256, 192, 160, 128, 96, 64)  # pixels; the largest that fits the budget is used
SAMPLE = 16  # pictures from which the size at a side is estimated


@dataclass(frozen=True)
class Shown:
    """One picture of a page, for templates/picture.html."""

    source: str  # a data: address
    side: int  # pixels
    kind: Literal["real", "synthetic"]
    alt: str
    words: Sequence[str] = ()  # lines in the enlarged view


def encode(pictures: Sequence[np.ndarray], budget: int) -> list[tuple[str, int]]:
    """Data: addresses of pictures (uint8, S×S×3, all of one side S), and their side in pixels.

    All get the largest of SIDES, at most S, at which together they fit into `budget` bytes, or
    else the smallest. Encode real and synthetic pictures in one call, so that both look alike.
    """
    if not pictures:
        return []
    sides = sorted({min(len(pictures[0]), side) for side in SIDES}, reverse=True)
    sample = [pictures[i] for i in np.linspace(0, len(pictures) - 1, SAMPLE).astype(int)]
    for side in sides:
        few = sum(map(len, _all(sample, side)))
        if few * len(pictures) / SAMPLE > budget and side != sides[-1]:
            continue
        sources = _all(pictures, side)
        if sum(map(len, sources)) <= budget:
            break
    return [(source, side) for source in sources]


def parallel(work: Callable, items: Iterable) -> list:
    """`work` on each item, in threads, because decoding and encoding release Python's lock."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(work, items))


def _all(pictures: Sequence[np.ndarray], side: int) -> list[str]:
    return parallel(lambda picture: _jpeg(picture, side), pictures)


def _jpeg(picture: np.ndarray, side: int) -> str:
    resized = picture if len(picture) == side else images.square(picture, side)
    content = images.encode(resized, quality=QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(content).decode()
