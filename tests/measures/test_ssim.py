import cv2
import numpy as np
import pytest
import torch
from skimage.data import astronaut, coffee
from skimage.measure import block_reduce
from skimage.metrics import structural_similarity
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

from mpox.measures import ssim


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
    """Without structure, only the luminance term remains."""
    x, y = np.full((16, 16, 3), 40, np.uint8), np.full((16, 16, 3), 200, np.uint8)
    c1 = (0.01 * 255) ** 2
    expected = (2 * 40 * 200 + c1) / (40**2 + 200**2 + c1)
    assert ssim.similarity(x, y) == pytest.approx(expected, rel=1e-9)


def multiscale_reference(x: np.ndarray, y: np.ndarray, count: int) -> float:
    """Wang et al. 2003 by scikit-image, in which luminance is 1 for K1 → ∞."""
    options = {"channel_axis": 2, "data_range": 255, "gaussian_weights": True, "sigma": 1.5}
    options["use_sample_covariance"] = False
    weights = np.array([0.0448, 0.2856, 0.3001, 0.2363, 0.1333])[:count]
    x, y, value = x.astype(float), y.astype(float), 1.0
    for scale, weight in enumerate(weights / weights.sum()):
        luminance = {} if scale == count - 1 else {"K1": 1e9}
        value *= structural_similarity(x, y, **options, **luminance) ** weight
        x, y = (block_reduce(each, (2, 2, 1), np.mean) for each in (x, y))
    return value


@pytest.mark.parametrize(
    ("side", "count"), [(11, 1), (16, 1), (32, 2), (64, 3), (128, 4), (352, 5)]
)
def test_multiscale_equals_scikit_image_on_as_many_scales_as_fit(side, count):
    x, _ = photo(side, side)
    noisy = np.clip(x + np.random.default_rng(0).normal(0, 30, x.shape), 0, 255).astype(np.uint8)
    assert ssim.scales(side) == count and ssim.scales(4096) == 5
    assert ssim.multiscale(x, noisy) == pytest.approx(
        multiscale_reference(x, noisy, count), abs=1e-6
    )
    assert ssim.multiscale(x, x) == pytest.approx(1, abs=1e-12)


def test_five_scales_equal_torchmetrics_except_at_the_border():
    x, y = photo(352, 352)
    noisy = np.clip(0.7 * x + 0.3 * y, 0, 255).astype(np.uint8)
    theirs = multiscale_structural_similarity_index_measure(
        *(torch.tensor(each).permute(2, 0, 1)[None].double() for each in (x, noisy)),
        data_range=255.0,
    )
    assert ssim.multiscale(x, noisy) == pytest.approx(theirs.item(), abs=0.01)


def test_the_negative_of_a_picture_shares_no_structure():
    x, _ = photo(64, 64)
    assert ssim.multiscale(x, 255 - x) == 0
