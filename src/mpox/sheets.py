"""What a reviewer looks at: real beside synthetic pictures, and synthetic beside training ones."""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from mpox import images

ROWS, COLUMNS = 8, 4  # of each kind on a contact sheet
PAIRS = 3  # side by side in a row
SIDE = 192  # pixels, of a picture in a pair: room for what is written below it
LINE = 16  # pixels, the height of a written line


class Pair(NamedTuple):
    """A synthetic picture, the training picture it is most like, and a few words below each."""

    synthetic: np.ndarray
    training: np.ndarray
    words: tuple[Sequence[str], Sequence[str]]


def spread(count: int, rows: int) -> list[int]:
    """Which of `count` pictures a contact sheet of `rows` shows: evenly spread."""
    return np.linspace(0, count - 1, rows * COLUMNS).astype(int).tolist()


def contact(real: Sequence[np.ndarray], synthetic: Sequence[np.ndarray]) -> np.ndarray:
    """As many real pictures on the left as synthetic ones on the right, COLUMNS in a row."""
    left, right = (
        images.sheet([list(each[i : i + COLUMNS]) for i in range(0, len(each), COLUMNS)])
        for each in (real, synthetic)
    )
    between = np.full_like(left[:, : real[0].shape[1] // 4], 255)
    return np.hstack([left, between, right])


def pairs(suspicious: Sequence[Pair]) -> np.ndarray:
    """Pairs side by side, synthetic left, PAIRS in a row, words below."""
    cells = [
        np.hstack([_captioned(p.synthetic, p.words[0]), _captioned(p.training, p.words[1])])
        for p in suspicious
    ]
    return images.sheet([cells[i : i + PAIRS] for i in range(0, len(cells), PAIRS)], gap=8)


def _captioned(picture: np.ndarray, words: Sequence[str]) -> np.ndarray:
    """`picture` at SIDE×SIDE above lines of black on white."""
    enlarged = cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    below = np.full((LINE * len(words) + LINE // 2, SIDE, 3), 255, np.uint8)
    for number, line in enumerate(words, 1):
        cv2.putText(
            below,
            line,
            (2, LINE * number),
            cv2.FONT_HERSHEY_SIMPLEX,
            0.4,
            (0, 0, 0),
            1,
            cv2.LINE_AA,
        )
    return np.vstack([enlarged, below])
