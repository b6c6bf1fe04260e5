import numpy as np
import pytest
import torch
from torch_fidelity.metric_kid import kernel_mmd
from torchmetrics.image.kid import poly_mmd

from mpox.measures import kernel


def features(n: int, seed: int, shift: float = 0.0) -> np.ndarray:
    return np.abs(np.random.default_rng(seed).normal(shift, 1, size=(n, 48)))


@pytest.mark.parametrize("block", [7, 512])
def test_equals_torch_fidelity_and_torchmetrics(monkeypatch, block):
    """In one block and in blocks that do not divide the set."""
    monkeypatch.setattr(kernel, "BLOCK", block)
    x, y = features(60, 0), features(60, 1, shift=0.5)
    ours = kernel.distance(x, y)
    assert ours > 0.01
    assert ours == pytest.approx(kernel_mmd(x, y), rel=1e-12)
    assert ours == pytest.approx(poly_mmd(torch.tensor(x), torch.tensor(y)).item(), rel=1e-12)


def test_sets_of_different_size_by_hand():
    """d = 1: k(1, 2) = 27; k(0, 1) = 1, k(0, 3) = 1, k(1, 3) = 64."""
    x, y = np.array([[1.0], [2.0]]), np.array([[0.0], [1.0], [3.0]])
    across = (1 + 8 + 64) + (1 + 27 + 343)
    expected = 27 + (1 + 1 + 64) * 2 / 6 - 2 * across / 6
    assert kernel.distance(x, y) == pytest.approx(expected, rel=1e-12)


def test_is_unbiased():
    """Zero on average for sets of one kind, even with 6 rows, where a biased estimate is not."""
    values = [kernel.distance(features(6, 2 * i), features(6, 2 * i + 1)) for i in range(400)]
    spread = np.std(values) / np.sqrt(len(values))
    assert abs(np.mean(values)) < 3 * spread
    assert min(values) < 0


def test_float32_features_are_measured_in_float64():
    x, y = features(50, 3).astype(np.float32), features(50, 4).astype(np.float32)
    doubled = kernel.distance(x.astype(np.float64), y.astype(np.float64))
    assert kernel.distance(x, y) == pytest.approx(doubled, rel=1e-12)


def pooled_p(x: np.ndarray, y: np.ndarray, swaps: int, rng: np.random.Generator) -> float:
    """The permutation test by its definition: swap rows and measure again."""
    observed, as_far = kernel.distance(x, y), 0
    for _ in range(swaps):
        coin = rng.random(len(x)) < 0.5
        a, b = np.where(coin[:, None], y, x), np.where(coin[:, None], x, y)
        as_far += kernel.distance(a, b) >= observed
    return (1 + as_far) / (1 + swaps)


@pytest.mark.parametrize("block", [7, 512])
def test_p_equals_the_definition(monkeypatch, block):
    monkeypatch.setattr(kernel, "BLOCK", block)
    x, y = features(30, 0), features(30, 1, shift=0.35)
    expected = pooled_p(x, y, 2000, np.random.default_rng(0))
    assert 0.02 < expected < 0.5
    p = kernel.p_value(x, y, [str(i) for i in range(30)], 4000, np.random.default_rng(1))
    assert p == pytest.approx(expected, abs=0.04)


def test_p_of_sets_far_apart_is_as_small_as_possible():
    x, y = features(30, 0), features(30, 1, shift=2)
    groups = [str(i) for i in range(30)]
    assert kernel.p_value(x, y, groups, 99, np.random.default_rng(0)) == 0.01
    # With one patient, swapping all rows changes nothing.
    assert kernel.p_value(x, y, ["p"] * 30, 99, np.random.default_rng(0)) == 1


def test_p_keeps_its_level_if_patients_have_several_pictures():
    """Four pictures per patient against one picture per patient."""
    groups = [f"p{i // 4}" for i in range(40)]
    below = {"patients": 0, "pictures": 0}
    for seed in range(100):
        rng = np.random.default_rng(seed)
        x = np.repeat(rng.normal(size=(10, 8)), 4, axis=0) + rng.normal(0, 0.3, (40, 8))
        y = rng.normal(size=(40, 8)) + rng.normal(0, 0.3, (40, 8))
        singly = [str(i) for i in range(40)]
        below["patients"] += kernel.p_value(x, y, groups, 199, rng) <= 0.05
        below["pictures"] += kernel.p_value(x, y, singly, 199, rng) <= 0.05
    assert below["pictures"] > 30  # far beyond 5 %: the reason for swapping by patient
    assert below["patients"] <= 10
