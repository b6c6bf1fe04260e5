"""Encoded pictures with their captions, and the samples of each training step.

Order, noise, timesteps and posterior draws of a step depend on (seed, name, step) alone, not on
earlier steps. So a resumed training, or one with more processes, sees the same samples.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from torch import Tensor

from mpox.core import seeds
from mpox.core.picture_set import PictureSet
from mpox.model import base, latents

VAL_TIMESTEPS = 8  # for each held-out picture
VAL_BATCH = 16


class Batch(NamedTuple):
    """B samples: latents and the noise to add, timesteps and encoded captions."""

    x0: Tensor  # (B, 4, h, w)
    epsilon: Tensor  # (B, 4, h, w)
    t: Tensor  # (B,)
    alpha_bar: Tensor  # ᾱ of each timestep, (B,)
    states: Tensor  # (B, tokens, width)


@dataclass(frozen=True)
class Concept:
    """N encoded pictures and their captions."""

    posterior: latents.Posterior
    states: Tensor  # distinct captions, then the empty one: (K + 1, tokens, width)
    caption: Tensor  # the index of each picture's caption in `states`, (N,)
    alphas: Tensor  # ᾱ of every timestep, (T,)

    def __len__(self) -> int:
        return len(self.posterior.mean)

    def fixed(self, seed: int, timesteps: int = VAL_TIMESTEPS) -> list[Batch]:
        """Every picture with its caption at evenly spread timesteps.

        The same `seed` gives the same timesteps and noise.
        """
        rng = torch.Generator().manual_seed(seed)
        strata = torch.arange(timesteps) + torch.rand((len(self), 1), generator=rng)
        t = (strata * len(self.alphas) / timesteps).long().flatten()
        t = t.clamp(max=len(self.alphas) - 1)  # in float32, 7 + 0.99999999 is 8
        chosen = torch.arange(len(self)).repeat_interleave(timesteps)
        return [
            self.noised(c, k, rng)
            for c, k in zip(chosen.split(VAL_BATCH), t.split(VAL_BATCH), strict=True)
        ]

    def noised(self, chosen: Tensor, t: Tensor, rng: torch.Generator) -> Batch:
        """The `chosen` pictures (B,) at timesteps `t` (B,), with noise from `rng`."""
        # On the CPU, so that every device gets the same numbers.
        shape = (len(chosen), *self.posterior.mean.shape[1:])
        noise, epsilon = torch.randn(shape, generator=rng), torch.randn(shape, generator=rng)
        chosen, noise, epsilon, t = (
            _send(x, self.alphas.device) for x in (chosen, noise, epsilon, t)
        )
        states = self.states[self.caption[chosen]]
        return Batch(self.posterior.draw(chosen, noise), epsilon, t, self.alphas[t], states)


@dataclass(frozen=True)
class Lesson:
    """A concept's part of every training step; (seed, name, step) determine its samples."""

    concept: Concept
    name: str
    seed: int
    batch_size: int
    weight: float = 1.0  # factor of its mean loss
    target: Literal["noise", "base_prediction"] = "noise"
    caption_dropout: float = 0.0  # share of samples with the empty caption
    noise_offset: float = 0.0  # standard deviation of the shift of each channel's noise

    def batch(self, step: int) -> Batch:
        """The samples of a step; each picture appears once per epoch.

        Base predictions are preserved for the empty caption, which is the one that guidance uses.
        """
        number, size = len(self.concept), self.batch_size
        places = [divmod(place, number) for place in range(step * size, (step + 1) * size)]
        chosen = torch.tensor([_order(self.seed, self.name, e, number)[i] for e, i in places])
        rng = self._generator(step)
        t = torch.randint(len(self.concept.alphas), (size,), generator=rng)
        batch, empty = self.concept.noised(chosen, t, rng), self.concept.states[-1]
        if self.target == "base_prediction":
            return batch._replace(states=empty.expand_as(batch.states))
        # Separate generators: switching either option off changes nothing else.
        if self.noise_offset:
            rng = self._generator("offset", step)
            shift = torch.randn((*batch.epsilon.shape[:2], 1, 1), generator=rng)
            shifted = batch.epsilon + self.noise_offset * shift.to(batch.epsilon.device)
            batch = batch._replace(epsilon=shifted)
        if self.caption_dropout:
            rng = self._generator("drop", step)
            dropped = (torch.rand(size, generator=rng) < self.caption_dropout).to(empty.device)
            states = torch.where(dropped.view(-1, 1, 1), empty, batch.states)
            batch = batch._replace(states=states)
        return batch

    def _generator(self, *purpose: str | int) -> torch.Generator:
        return torch.Generator().manual_seed(seeds.derive(self.seed, self.name, *purpose))


def encode(
    pipeline: StableDiffusionPipeline, pictures: PictureSet, captions: Sequence[str], side: int
) -> Concept:
    """The pictures at side×side pixels and their `captions` (N), each encoded once."""
    path = dict(zip(captions, pictures.paths, strict=True))
    distinct = list(dict.fromkeys(captions))
    states = [base.encode_text(pipeline, c, f"the caption of {path[c]}") for c in distinct]
    states.append(base.encode_text(pipeline, "", "no caption"))
    place = {caption: k for k, caption in enumerate(distinct)}
    device = states[0].device
    return Concept(
        latents.encode(pipeline.vae, pictures.paths, side, pictures.folder.name),
        torch.cat(states),
        torch.tensor([place[caption] for caption in captions], device=device),
        pipeline.scheduler.alphas_cumprod.to(device),
    )


def _send(x: Tensor, device: torch.device) -> Tensor:
    """Moves x to `device`; pinned memory lets a copy to a GPU proceed beside its kernels."""
    return x.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else x.to(device)


@functools.lru_cache(maxsize=8)
def _order(seed: int, name: str, epoch: int, number: int) -> list[int]:
    rng = np.random.default_rng(seeds.derive(seed, name, "order", epoch))
    return rng.permutation(number).tolist()
