"""Variants of a photo like those in augmented public data sets, drawn with OpenCV alone."""

import cv2
import numpy as np

BORDERS = (cv2.BORDER_CONSTANT, cv2.BORDER_REFLECT_101, cv2.BORDER_REPLICATE)
GEOMETRY = ("flip", "quarter turn", "20° turn", "shear", "shift", "crop")
KINDS = (*GEOMETRY, "colour jitter", "noise", "all together")


def moved(picture: np.ndarray, matrix: np.ndarray, border: int) -> np.ndarray:
    """`picture` (H×H×3) under a 2×2 matrix about its centre."""
    side = len(picture)
    centre = np.full(2, (side - 1) / 2)
    affine = np.column_stack([matrix, centre - matrix @ centre])
    return cv2.warpAffine(picture, affine, (side, side), flags=cv2.INTER_CUBIC, borderMode=border)


def rotation(degrees: float) -> np.ndarray:
    angle = np.radians(degrees)
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def jitter(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Brightness, contrast, saturation by up to 20 %, hue by up to 10°."""
    bright = picture * rng.uniform(0.8, 1.2) + rng.uniform(-20, 20)
    even = (bright - bright.mean()) * rng.uniform(0.8, 1.2) + bright.mean()
    hsv = cv2.cvtColor(np.clip(even, 0, 255).astype(np.uint8), cv2.COLOR_RGB2HSV).astype(float)
    hsv[..., 0] = (hsv[..., 0] + rng.uniform(-5, 5)) % 180
    hsv[..., 1] *= rng.uniform(0.8, 1.2)
    return cv2.cvtColor(np.clip(hsv, 0, 255).astype(np.uint8), cv2.COLOR_HSV2RGB)


def variant(kind: str, picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One of KINDS of a square picture; uncovered borders are filled in a random way."""
    side, border = len(picture), BORDERS[rng.integers(3)]
    sign = rng.choice([-1, 1])
    if kind == "flip":
        return np.ascontiguousarray(picture[:, ::-1] if rng.integers(2) else picture[::-1])
    if kind == "quarter turn":
        return np.ascontiguousarray(np.rot90(picture, rng.integers(1, 4)))
    if kind == "20° turn":
        return moved(picture, rotation(20 * sign), border)
    if kind == "shear":
        return moved(picture, np.array([[1, sign * np.tan(np.radians(15))], [0, 1]]), border)
    if kind == "shift":
        by = 0.12 * side * rng.choice([-1, 1], 2)
        affine = np.column_stack([np.eye(2), by])
        return cv2.warpAffine(picture, affine, (side, side), borderMode=border)
    if kind == "crop":
        size = int(0.8 * side)
        top, left = rng.integers(0, side - size + 1, 2)
        inner = picture[top : top + size, left : left + size]
        return cv2.resize(inner, (side, side), interpolation=cv2.INTER_CUBIC)
    if kind == "colour jitter":
        return jitter(picture, rng)
    if kind == "noise":
        noisy = picture + rng.normal(0, 5, picture.shape)
        return np.clip(noisy, 0, 255).astype(np.uint8)
    matrix = rotation(rng.uniform(-40, 40)) * rng.uniform(0.85, 1.15)
    return jitter(moved(np.ascontiguousarray(picture[:, ::-1]), matrix, border), rng)
