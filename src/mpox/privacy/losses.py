"""How much better a photo is denoised with the LoRA than without it: the attacker's score."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from diffusers import UNet2DConditionModel

from mpox.core import captions, seeds
from mpox.core.errors import InputError
from mpox.core.picture_set import PictureSet
from mpox.model import base, concepts, lora, loss
from mpox.model.concepts import Batch

NOISES = 4  # for each photo; eight rank patients almost alike (docs/results.md)


class Target(NamedTuple):
    """The LoRA that is attacked."""

    model: Path
    adapter: Path  # the LoRA's folder
    instance_prompt: str
    side: int  # pixels
    seed: int


def gains(sets: Mapping[str, PictureSet], target: Target) -> dict[str, np.ndarray]:
    """By name of set: the loss without the LoRA minus the loss with it, a mean for each photo (N).

    Both use the same noise and timesteps, spread evenly over the range, and the photo's caption.
    The base model's loss shows how hard a photo is, so the difference is what training changed
    (Carlini et al. 2023, section 5.2, use other trained models for that). Raises InputError for an
    empty set and for a LoRA that does not fit the base model.
    """
    pipeline = base.place(base.load(target.model, target.side))
    batches = {}
    for name, pictures in sets.items():
        if not len(pictures):
            raise InputError(f"{pictures.folder}: holds no pictures; expected photos")
        prompts = captions.of(pictures, target.instance_prompt, "train.instance_prompt")
        concept = concepts.encode(pipeline, pictures, prompts, target.side)
        # By the name of the set, so that other sets do not change the noise.
        seed = seeds.derive(target.seed, name, "fixed", 0)
        batches[name] = concept.fixed(seed, timesteps=NOISES)
    without = {name: _losses(pipeline.unet, each) for name, each in batches.items()}
    lora.fuse(pipeline, target.adapter)
    return {name: without[name] - _losses(pipeline.unet, each) for name, each in batches.items()}


@torch.no_grad()
def _losses(unet: UNet2DConditionModel, batches: list[Batch]) -> np.ndarray:
    """The mean loss of each photo, N."""
    errors = [
        loss.mse(unet(loss.add_noise(x0, epsilon, alphas), t, states).sample, epsilon)
        for x0, epsilon, t, alphas, states in batches
    ]
    return torch.cat(errors).double().cpu().numpy().reshape(-1, NOISES).mean(axis=1)
