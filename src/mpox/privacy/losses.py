"""How much better a photo is denoised with the LoRA than without: what an attacker can measure."""

from pathlib import Path

import numpy as np
import torch
from diffusers import UNet2DConditionModel

from mpox.core import listing
from mpox.core.errors import InputError
from mpox.model import base, captions, concepts, lora, loss
from mpox.model.concepts import Concept

NOISES = 4  # a photo; patients rank by four as by eight (docs/metrics.md)


def gains(
    folders: dict[str, Path],
    model: Path,
    adapter: Path,
    instance_prompt: str,
    resolution: int,
    seed: int,
) -> dict[str, np.ndarray]:
    """By name of folder: loss without the LoRA minus loss with it, a mean for each photo (N).

    At noise and timesteps that are the same for both and spread evenly over the range, under each
    photo's caption. The base's own loss says how hard a photo is, so that what is left is what
    training has changed (Carlini et al. 2023, section 5.2, have other models in its place).
    Raises InputError for a LoRA that does not fit.
    """
    pipeline = base.place(base.load(model, resolution))
    sets = {}
    for name, folder in folders.items():
        files = listing.find(folder)[0]
        if not files:
            raise InputError(f"{folder}: holds no picture")
        names = [file.name for file in files]
        said = captions.read(folder, names, instance_prompt, "train.instance_prompt")
        sets[name] = concepts.encode(pipeline, files, said, resolution, seed, name)
    before = {name: _losses(pipeline.unet, each) for name, each in sets.items()}
    lora.fuse(pipeline, adapter)
    return {name: before[name] - _losses(pipeline.unet, each) for name, each in sets.items()}


@torch.no_grad()
def _losses(unet: UNet2DConditionModel, photos: Concept) -> np.ndarray:
    """The mean loss of each photo, N."""
    found = [
        loss.mse(unet(loss.add_noise(x0, epsilon, photos.alphas[t]), t, states).sample, epsilon)
        for x0, epsilon, t, states in photos.fixed(timesteps=NOISES)
    ]
    return torch.cat(found).double().cpu().numpy().reshape(-1, NOISES).mean(axis=1)
