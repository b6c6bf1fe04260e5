import cv2
import numpy as np
import pytest
from skimage.data import astronaut, coffee
from skimage.metrics import structural_similarity

from mpox import ssim


def reference(x: np.ndarray, y: np.ndarray) -> float:
    return structural_similarity(
        x,
        y,
        channel_axis=2,
        data_range=255,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )


def photo(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    one, other = astronaut()[:400, :400], coffee()[:400, :400]
    return cv2.resize(one, (width, height)), cv2.resize(other, (width, height))


@pytest.mark.parametrize("shape", [(64, 64), (33, 90), (11, 11)])
def test_equals_scikit_image(shape):
    x, y = photo(*shape)
    noisy = np.clip(x + np.random.default_rng(0).normal(0, 20, x.shape), 0, 255).astype(np.uint8)
    for other in (y, noisy, 255 - x, np.full_like(x, 128)):
        assert ssim.similarity(x, other) == pytest.approx(reference(x, other), abs=1e-9)


def test_only_equal_pictures_score_one():
    x, y = photo(64, 64)
    assert ssim.similarity(x, x) == pytest.approx(1, abs=1e-12)
    assert ssim.similarity(x, y) == pytest.approx(ssim.similarity(y, x), abs=1e-12)
    assert ssim.similarity(x, y) < 0.5


def test_plain_pictures_have_the_closed_form():
    """Without structure the luminance term alone is left."""
    x, y = np.full((16, 16, 3), 40, np.uint8), np.full((16, 16, 3), 200, np.uint8)
    c1 = (0.01 * 255) ** 2
    expected = (2 * 40 * 200 + c1) / (40**2 + 200**2 + c1)
    assert ssim.similarity(x, y) == pytest.approx(expected, rel=1e-9)
