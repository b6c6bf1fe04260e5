"""Sheets for reviewers: real and synthetic pictures, and pairs that may be copies."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from mpox.core import folders, images
from mpox.measures.memorisation import Pair
from mpox.pictures.feature_set import FeatureSet

ROWS, COLUMNS = 8, 4  # of each half of a contact sheet
SHOWN_SIDE = 256  # pixels, largest side of a picture on the contact sheet
COLUMNS_OF_TABLE = ("by", "synthetic", "training", "orientation", "cosine", "bits", "ssim")
PAIRS = 3  # in a row
SIDE = 192  # pixels, of a picture in a pair: wide enough for the caption below
LINE = 16  # pixels, the height of a line of text
QUALITY = 95  # of a sheet's JPEG


def contact(test: FeatureSet, fake: FeatureSet) -> np.ndarray:
    """Real pictures on the left, as many synthetic ones on the right: uint8 H×W×3.

    The pictures are spread evenly over each set in the order of names.
    """
    rows = min(ROWS, len(test) // COLUMNS, len(fake) // COLUMNS)
    side = min(test.side, SHOWN_SIDE)
    halves = []
    for each in (test, fake):
        places = np.linspace(0, len(each) - 1, rows * COLUMNS).astype(int).reshape(rows, COLUMNS)
        halves.append(images.sheet([[_at(each.pixels[i], side) for i in row] for row in places]))
    between = np.full_like(halves[0][:, : side // 4], 255)
    return np.hstack([halves[0], between, halves[1]])


def _at(picture: np.ndarray, side: int) -> np.ndarray:
    return picture if len(picture) == side else images.square(picture, side)


def pairs(suspicious: Sequence[Pair]) -> np.ndarray:
    """Pairs with the synthetic picture on the left, a caption below each picture."""
    cells = []
    for pair in suspicious:
        likeness = (
            f"cosine {pair.cosine:.4f}" if pair.by == "features" else f"{pair.bits} of 64 bits"
        )
        left = _captioned(pair.pictures[0], (Path(pair.synthetic).name, likeness))
        right = _captioned(pair.pictures[1], (Path(pair.training).name, f"SSIM {pair.ssim:.3f}"))
        cells.append(np.hstack([left, right]))
    return images.sheet([cells[i : i + PAIRS] for i in range(0, len(cells), PAIRS)], gap=8)


def write_table(file: Path, suspicious: Sequence[Pair]) -> None:
    """Write the pairs as CSV, one row for each, with six significant digits."""
    buffer = io.StringIO(newline="")
    rows = csv.writer(buffer, lineterminator="\n")
    rows.writerow(COLUMNS_OF_TABLE)
    for pair in suspicious:
        values = (getattr(pair, column) for column in COLUMNS_OF_TABLE)
        rows.writerow(f"{v:.6g}" if isinstance(v, float) else v for v in values)
    folders.write(file, buffer.getvalue().encode())


def _captioned(picture: np.ndarray, words: Sequence[str]) -> np.ndarray:
    """`picture` at SIDE×SIDE above lines of black text on white."""
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
