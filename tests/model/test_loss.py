"""The formulas against those of diffusers."""

import pytest
import torch
from diffusers import DDPMScheduler
from diffusers.training_utils import compute_snr

from mpox.model import loss

SCHEDULER = DDPMScheduler(
    beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", num_train_timesteps=1000
)
T = torch.tensor([0, 1, 250, 500, 998, 999])


def test_noise_is_added_as_diffusers_adds_it():
    rng = torch.Generator().manual_seed(0)
    x0, epsilon = torch.randn((2, len(T), 4, 8, 8), generator=rng)
    noisy = loss.add_noise(x0, epsilon, SCHEDULER.alphas_cumprod[T])
    torch.testing.assert_close(noisy, SCHEDULER.add_noise(x0, epsilon, T), rtol=0, atol=1e-6)


@pytest.mark.parametrize("gamma", [1.0, 5.0, 20.0])
def test_min_snr_weight_is_the_papers(gamma):
    snr = compute_snr(SCHEDULER, T)
    expected = torch.minimum(snr, torch.full_like(snr, gamma)) / snr
    weights = loss.min_snr_weight(SCHEDULER.alphas_cumprod[T], gamma)
    torch.testing.assert_close(weights, expected, rtol=1e-5, atol=0)
    assert weights[0] < 0.1 and weights[-1] == 1


def test_mse_is_the_mean_of_each_sample():
    rng = torch.Generator().manual_seed(0)
    a, b = torch.randn((2, 3, 4, 5, 6), generator=rng)
    expected = torch.stack([torch.nn.functional.mse_loss(x, y) for x, y in zip(a, b, strict=True)])
    torch.testing.assert_close(loss.mse(a, b), expected)


def test_mse_of_bfloat16_is_computed_in_float32():
    ones = torch.ones((1, 4, 32, 32), dtype=torch.bfloat16)
    errors = loss.mse(ones, torch.full((1, 4, 32, 32), 1.001))
    assert errors.dtype == torch.float32
    assert errors.item() == pytest.approx(1e-6, rel=1e-2)
