"""Pictures as latents: encoded once as posteriors, from which every step draws anew."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import reduce
from diffusers import AutoencoderKL
from torch import Tensor
from tqdm import tqdm

from mpox.core import images

BATCH = 4


class Posterior(NamedTuple):
    """Gaussian posteriors of N pictures, scaled, each (N, 4, H/f, W/f) in float32."""

    mean: Tensor
    std: Tensor

    def draw(self, chosen: Tensor, epsilon: Tensor) -> Tensor:
        """z = μ + σ ε for the chosen pictures (Kingma & Welling 2014, sec. 2.4)."""
        return self.mean[chosen] + self.std[chosen] * epsilon


@torch.no_grad()
def reconstruct(vae: AutoencoderKL, pictures: np.ndarray) -> np.ndarray:
    """Pictures, uint8 n×H×W×3, encoded and decoded again, by the mean of each posterior."""
    decoded = np.empty_like(pictures)
    for start in range(0, len(pictures), BATCH):
        batch = slice(start, start + BATCH)
        pixels = torch.from_numpy(pictures[batch].copy()).permute(0, 3, 1, 2)
        latents = vae.encode(pixels.to(vae.device, vae.dtype) / 127.5 - 1).latent_dist.mode()
        values = ((vae.decode(latents).sample + 1) / 2).clamp(0, 1)
        decoded[batch] = (255 * values).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return decoded


@torch.no_grad()
def encode(vae: AutoencoderKL, files: list[Path], resolution: int, name: str) -> Posterior:
    """The posteriors of `files`, in order, on the VAE's device; `name` labels the progress bar.

    Each of N processes encodes every N-th batch, and all processes get all posteriors.
    """
    state, side = PartialState(), resolution // 2 ** (len(vae.config.block_out_channels) - 1)
    shape = (len(files), vae.config.latent_channels, side, side)
    mean, std = (torch.zeros(shape, device=vae.device) for _ in range(2))
    starts = range(0, len(files), BATCH)[state.process_index :: state.num_processes]
    bar = tqdm(starts, desc=f"encode {name}", unit="batch", disable=not state.is_main_process)
    for start in bar:
        batch = slice(start, start + BATCH)
        pictures = torch.stack(
            [
                torch.from_numpy(images.square(images.read(file), resolution).copy())
                for file in files[batch]
            ]
        )
        pixels = pictures.permute(0, 3, 1, 2).to(vae.device, vae.dtype) / 127.5 - 1
        posterior = vae.encode(pixels).latent_dist
        mean[batch], std[batch] = posterior.mean, posterior.std
    # All but one process contribute zeros, so the sum is exact. Channels last is the layout that
    # convolutions produce on the CPU; it affects the last bits of later results.
    means_and_stds = reduce((mean, std), "sum")
    scale = vae.config.scaling_factor
    return Posterior(
        *(x.contiguous(memory_format=torch.channels_last) * scale for x in means_and_stds)
    )
