"""Pictures as they stand in a page: encoded alike, within a budget of bytes."""

import base64
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from PIL import Image

from mpox import images

QUALITY = 85  # of JPEG, 4:4:4
SIDES = (384, 256, 192, 128, 96, 64)  # pixels, of which the largest that the budget takes is used


@dataclass(frozen=True)
class Shown:
    """One picture of a page, as templates/picture.html draws it."""

    source: str  # a data: address
    side: int  # pixels
    kind: Literal["real", "synthetic"]
    alt: str
    words: Sequence[str] = field(default_factory=tuple)  # lines in the enlarged view


def encode(pictures: Iterable[np.ndarray], budget: int) -> list[tuple[str, int]]:
    """Pictures (uint8, S×S×3, all of one side S) as data: addresses, and their side in pixels.

    All are of the largest of SIDES, at most S, at which they are `budget` bytes or less together
    (or of the smallest): real and synthetic ones that are encoded in one call are treated alike.
    """
    given = list(pictures)
    if not given:
        return []
    largest = given[0].shape[0]
    for side in (min(largest, side) for side in SIDES):
        found = [_jpeg(images.square(each, side)) for each in given]
        if sum(map(len, found)) <= budget:
            break
    return [(source, side) for source in found]


def _jpeg(picture: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=QUALITY, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
