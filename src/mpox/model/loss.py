"""The diffusion training loss, one line per formula."""

import torch
from torch import Tensor


def add_noise(x0: Tensor, epsilon: Tensor, alpha_bar: Tensor) -> Tensor:
    """x_t = √ᾱ_t x₀ + √(1−ᾱ_t) ε (Ho et al. 2020, eq. 4); x₀, ε (B, C, H, W), ᾱ (B,)."""
    alpha_bar = alpha_bar.view(-1, 1, 1, 1)
    return alpha_bar.sqrt() * x0 + (1 - alpha_bar).sqrt() * epsilon


def min_snr_weight(alpha_bar: Tensor, gamma: float) -> Tensor:
    """min(SNR, γ) / SNR for ε-prediction, SNR = ᾱ/(1−ᾱ) (Hang et al. 2023, eq. 6–7); (B,)."""
    snr = alpha_bar / (1 - alpha_bar)
    return torch.clamp(gamma / snr, max=1.0)


def mse(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean squared error per sample, in float32: (B, C, H, W) → (B,)."""
    return (predicted.float() - target.float()).square().flatten(1).mean(1)
