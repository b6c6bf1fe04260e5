"""Structural similarity of two pictures."""

import cv2
import numpy as np

WINDOW = 11  # pixels
SIGMA = 1.5  # pixels
C1 = (0.01 * 255) ** 2
C2 = (0.03 * 255) ** 2

# Of the scales, finest first (Wang, Simoncelli & Bovik 2003, section 3.2).
WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def similarity(x: np.ndarray, y: np.ndarray) -> float:
    """Mean SSIM of two uint8 H×W×3 pictures, H, W ≥ 11: in [−1, 1], 1 only for equal pictures.

    Wang et al. 2004, eq. 13, with a Gaussian window (11×11, σ 1.5) and population moments. The mean
    is over channels and all pixels whose window lies inside the picture (scikit-image with
    `gaussian_weights=True, use_sample_covariance=False`).
    """
    luminance, structure = _terms(x.astype(np.float64), y.astype(np.float64))
    return float(np.mean(luminance * structure))


def scales(side: int) -> int:
    """Number of scales, each half the size of the previous one, that fit the window: at most 5."""
    return int(np.clip(np.log2(side / WINDOW) + 1, 1, len(WEIGHTS)))


def multiscale(x: np.ndarray, y: np.ndarray) -> float:
    """Mean MS-SSIM of two uint8 H×W×3 pictures, H, W ≥ 11: in [0, 1], 1 only for equal pictures.

    Wang, Simoncelli & Bovik 2003, eq. 7, on as many of the five scales as fit the window, with
    weights divided by their sum. A negative mean structure counts as 0, because a negative number
    has no fractional power.
    """
    weights = np.array(WEIGHTS[: scales(min(x.shape[:2]))])
    x, y = x.astype(np.float64), y.astype(np.float64)
    means = []
    for _ in weights:
        luminance, structure = _terms(x, y)
        means.append(np.mean(structure))
        x, y = _halved(x), _halved(y)
    means[-1] = np.mean(luminance * structure)
    return float(np.prod(np.maximum(means, 0) ** (weights / weights.sum())))


def _terms(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Luminance, and contrast times structure, around each pixel of H×W×3: (H−10)×(W−10)×3."""
    mean_x, mean_y = _blur(x), _blur(y)
    var_x = _blur(x * x) - mean_x**2
    var_y = _blur(y * y) - mean_y**2
    cov = _blur(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + C1) / (mean_x**2 + mean_y**2 + C1)
    return luminance, (2 * cov + C2) / (var_x + var_y + C2)


def _halved(values: np.ndarray) -> np.ndarray:
    """Means of 2×2 pixels, without an odd last row or column."""
    height, width = (side // 2 * 2 for side in values.shape[:2])
    return values[:height, :width].reshape(height // 2, 2, width // 2, 2, -1).mean(axis=(1, 3))


def _blur(values: np.ndarray) -> np.ndarray:
    """Gaussian-weighted means of H×W×3 values, (H−10)×(W−10)×3: the border is cropped."""
    edge = WINDOW // 2
    return cv2.GaussianBlur(values, (WINDOW, WINDOW), SIGMA)[edge:-edge, edge:-edge]
