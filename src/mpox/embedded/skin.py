"""The skin of a phantom before it is lit: a height field, pigments, and what lies on top."""

from dataclasses import dataclass

import cv2
import numpy as np

FURROW_DEPTH = 0.18  # pixels
PORE_DEPTH = 0.35  # pixels
HAIRS = 6.0  # mean number in a picture of a hairy patient

Window = tuple[slice, slice]  # rows and columns


@dataclass(frozen=True)
class Patient:
    """What all pictures of one patient share; lengths in shares of the picture's side."""

    tone: float  # 0 lightest … 1 darkest
    light: float  # direction of the lamp in the picture's plane, radians
    lamp_height: float  # radians above the skin
    warmth: float  # white balance: red gain, inverse blue gain
    lesion_size: float  # 0 smallest … 1 largest of the kind
    redness: float  # strength of the inflammation around lesions
    maturity: float  # mpox: 0 papule … 1 crusted
    oiliness: float  # 0 dry and dull … 1 oily and shining
    hairy: bool
    pale_hair: bool


@dataclass(frozen=True)
class Outline:
    """The shape of a spot."""

    ellipse: float = 1.25  # longest axis over the shortest, at most
    ragged: float = 0.08  # relative amplitude of the irregular edge
    reach: float = 2.4  # half the side of the window around the spot, in radii


class Skin:
    """The fields that a picture is rendered from, each float32 (size, size)."""

    def __init__(self, size: int, rng: np.random.Generator):
        self.size = size
        self.height = self._relief(rng)  # pixels
        self.blood = 0.14 + 0.03 * noise(rng, size, 5) + 0.02 * noise(rng, size, 24)
        self.melanin = 0.03 * noise(rng, size, 4) + 0.02 * noise(rng, size, 16)
        # Covers: 0 … 1, opaque at 1.
        self.pus = np.zeros((size, size), np.float32)
        self.crust = np.zeros((size, size), np.float32)
        self.scale = np.zeros((size, size), np.float32)
        self.hair = np.zeros((size, size), np.float32)
        self.gloss = np.zeros((size, size), np.float32)  # added to the gloss of plain skin
        self.mask = np.zeros((size, size), bool)

    def _relief(self, rng: np.random.Generator) -> np.ndarray:
        """Furrows in two crossing directions, and pores, on a gently curved body."""
        angle = rng.uniform(0, np.pi)
        relief = 0.011 * self.size * noise(rng, self.size, 2)
        for turn in (angle, angle + rng.uniform(1.0, 1.6)):
            lines = noise(rng, self.size, 18, stretch=2.2, angle=turn)
            relief -= FURROW_DEPTH * np.exp(-((lines / 0.35) ** 2))
        pores = np.clip(noise(rng, self.size, 30) - 1.2, 0, 1)
        return relief + 0.07 * noise(rng, self.size, 40) - PORE_DEPTH * pores

    def grow_hair(self, rng: np.random.Generator) -> None:
        """Fine curved hairs, anywhere in the picture, that point in roughly one direction."""
        hairs = np.zeros((self.size, self.size), np.uint8)
        direction, fraction = rng.uniform(0, 2 * np.pi), 4  # bits after the binary point
        along = np.linspace(0, 1, 12)
        for _ in range(1 + rng.poisson(HAIRS)):
            turn = direction + rng.normal(0, 0.35) + rng.normal(0, 0.5) * along
            step = self.size * rng.uniform(0.25, 0.6) / len(along)
            track = step * np.cumsum(np.c_[np.cos(turn), np.sin(turn)], axis=0)
            track += rng.uniform(-0.1, 1.0, 2) * self.size
            points = np.round(track * 2**fraction).astype(np.int32)
            brightness = rng.uniform(70, 180)  # of 255: thinner than a pixel is drawn as fainter
            cv2.polylines(hairs, [points], False, brightness, 1, cv2.LINE_AA, fraction)
        self.hair += hairs / np.float32(255)

    def spot(
        self, place: np.ndarray, radius: float, rng: np.random.Generator, outline: Outline
    ) -> tuple[Window, np.ndarray]:
        """A window around `place` (x, y), and in it r: 1 on the outline, less inside."""
        x, y = place
        low_x, low_y = (max(0, int(c - outline.reach * radius)) for c in (x, y))
        high_x, high_y = (min(self.size, int(c + outline.reach * radius) + 2) for c in (x, y))
        window = np.s_[low_y:high_y, low_x:high_x]
        dy, dx = np.mgrid[window].astype(np.float32)
        dx, dy = dx - np.float32(x), dy - np.float32(y)
        theta = np.arctan2(dy, dx)
        ellipse = outline.ellipse
        stretch = rng.uniform(1, ellipse) * np.cos(2 * (theta - rng.uniform(0, np.pi)))
        edge = 1 + 0.12 * (ellipse - 1) / 0.25 * stretch
        for k in (3, 4, 5):
            phase = k * theta
            edge += outline.ragged * rng.normal() / k * np.cos(phase + rng.uniform(0, 2 * np.pi))
        return window, (np.hypot(dx, dy) / (radius * edge)).astype(np.float32)


def noise(
    rng: np.random.Generator, size: int, cells: float, stretch: float = 1.0, angle: float = 0.0
) -> np.ndarray:
    """Smooth noise of unit variance, about `cells` bumps along a side, float32 (size, size)."""
    rows, columns = max(2, round(cells)) + 3, max(2, round(cells / stretch)) + 3
    grid = rng.standard_normal((rows, columns)).astype(np.float32)
    # A rotated field needs a margin: draw it √2 wider, then rotate about its middle and crop.
    wide = int(size * 1.5) if angle else size
    field = cv2.resize(grid, (wide, wide), interpolation=cv2.INTER_CUBIC)
    if angle:
        turn = cv2.getRotationMatrix2D((wide / 2, wide / 2), np.degrees(angle), 1.0)
        field = cv2.warpAffine(field, turn, (wide, wide), flags=cv2.INTER_LINEAR)
        margin = (wide - size) // 2
        field = field[margin : margin + size, margin : margin + size]
    return field / np.float32(0.75)


def bump(r: np.ndarray, centre: float, width: float) -> np.ndarray:
    return np.exp(-(((r - centre) / width) ** 2))


def inside(r: np.ndarray, edge: float = 1.0, softness: float = 0.12) -> np.ndarray:
    """1 for r well below `edge`, 0 well above, smooth between."""
    return 1 / (1 + np.exp(np.clip((r - edge) / (softness / 2), -30, 30)))


def step(value: float, pair: tuple[float, float]) -> float:
    """0 below the pair, 1 above, smooth between."""
    share = min(max((value - pair[0]) / (pair[1] - pair[0]), 0.0), 1.0)
    return share * share * (3 - 2 * share)


def lay(cover: np.ndarray, window: Window, amount: np.ndarray) -> None:
    """Covers that overlap do not add up: the thicker one counts."""
    cover[window] = np.maximum(cover[window], amount)


def places(
    rng: np.random.Generator, size: int, number: int, spacing: float, spread: float
) -> list[np.ndarray]:
    """Up to `number` centres, at least `spacing` pixels apart.

    spread: how far from the middle they may be, in shares of the side along each axis.
    """
    middle = size / 2 + rng.uniform(-0.08, 0.08, 2) * size
    centres: list[np.ndarray] = []
    for _ in range(20 * number):
        place = middle + rng.uniform(-spread, spread, 2) * size
        if all(np.hypot(*(place - other)) > spacing for other in centres):
            centres.append(place)
        if len(centres) == number:
            break
    return centres
