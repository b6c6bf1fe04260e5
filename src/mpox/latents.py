"""Pictures as latents: each encoded once, its posterior kept, a draw from it at every step."""

from pathlib import Path
from typing import NamedTuple

import torch
from diffusers import AutoencoderKL
from torch import Tensor
from tqdm import tqdm

from mpox import images

BATCH = 4


class Posterior(NamedTuple):
    """Gaussian posteriors of N pictures, each (N, 4, H/f, W/f) in float32, already scaled."""

    mean: Tensor
    std: Tensor

    def draw(self, chosen: Tensor, epsilon: Tensor) -> Tensor:
        """z = μ + σ ε for the chosen pictures (Kingma & Welling 2014, sec. 2.4)."""
        return self.mean[chosen] + self.std[chosen] * epsilon


@torch.no_grad()
def encode(vae: AutoencoderKL, files: list[Path], resolution: int, name: str) -> Posterior:
    """The posteriors of `files`, in their order, on the VAE's device; `name` labels the bar.

    The posterior, not a draw: keyed by sample, it can be drawn from anew at every step.
    """
    means, stds = [], []
    for start in tqdm(range(0, len(files), BATCH), desc=f"encode {name}", unit="batch"):
        pictures = torch.stack(
            [
                torch.from_numpy(images.square(images.read(file), resolution).copy())
                for file in files[start : start + BATCH]
            ]
        )
        pixels = pictures.permute(0, 3, 1, 2).to(vae.device, vae.dtype) / 127.5 - 1
        posterior = vae.encode(pixels).latent_dist
        means.append(posterior.mean)
        stds.append(posterior.std)
    scale = vae.config.scaling_factor
    return Posterior(torch.cat(means) * scale, torch.cat(stds) * scale)
