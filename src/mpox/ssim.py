"""Structural similarity of two pictures."""

import cv2
import numpy as np

WINDOW = 11  # pixels
SIGMA = 1.5  # pixels
C1 = (0.01 * 255) ** 2
C2 = (0.03 * 255) ** 2


def similarity(x: np.ndarray, y: np.ndarray) -> float:
    """Mean SSIM of two uint8 H×W×3 pictures, H, W ≥ 11: in [−1, 1], 1 only for equal pictures.

    Wang et al. 2004, eq. 13, with its Gaussian window (11×11, σ 1.5) and population moments, the
    mean over channels and over the pixels whose whole window lies inside the picture (scikit-image
    with `gaussian_weights=True, use_sample_covariance=False`).
    """
    x, y = x.astype(np.float64), y.astype(np.float64)
    mean_x, mean_y = _blur(x), _blur(y)
    var_x = _blur(x * x) - mean_x**2
    var_y = _blur(y * y) - mean_y**2
    cov = _blur(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + C1) / (mean_x**2 + mean_y**2 + C1)
    structure = (2 * cov + C2) / (var_x + var_y + C2)
    return float(np.mean(luminance * structure))


def _blur(values: np.ndarray) -> np.ndarray:
    """Gaussian-weighted means of H×W×3 values, (H−10)×(W−10)×3: the border is cropped."""
    edge = WINDOW // 2
    return cv2.GaussianBlur(values, (WINDOW, WINDOW), SIGMA)[edge:-edge, edge:-edge]
