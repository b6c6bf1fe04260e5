"""What is learnt: encoded pictures, their words, and what of them each training step sees.

Order, noise, timestep and posterior draw of a step are functions of (seed, step): nothing that ran
before enters, so a resumed run, or one on more processes, sees what an uninterrupted one sees.
"""

import functools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from torch import Tensor

from mpox.core import seeds
from mpox.model import base, latents

VAL_TIMESTEPS = 8  # a held-out picture
VAL_BATCH = 16


@dataclass
class Concept:
    """Encoded pictures and the words they are learnt under."""

    name: str
    posterior: latents.Posterior
    states: Tensor  # of the distinct captions, and last of the empty one: (K + 1, tokens, width)
    caption: Tensor  # which of them is each picture's, (N,)
    alphas: Tensor  # ᾱ of every timestep, (T,)
    seed: int
    dropout: float = 0.0  # how often a step has the empty caption instead
    noise_offset: float = 0.0  # standard deviation of what each channel's noise is shifted by

    def batch(self, step: int, size: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(x₀, ε, t, c) of a step: (B, 4, h, w), (B, 4, h, w), (B,), (B, tokens, width).

        Each picture once an epoch.
        """
        number = len(self.posterior.mean)
        places = [divmod(place, number) for place in range(step * size, (step + 1) * size)]
        chosen = torch.tensor([_order(self.seed, self.name, e, number)[i] for e, i in places])
        rng = torch.Generator().manual_seed(seeds.derive(self.seed, self.name, step))
        t = torch.randint(len(self.alphas), (size,), generator=rng)
        x0, epsilon, t, states = self._noised(chosen, t, rng)
        # Drawn apart: with either switched off all else is as it was.
        if self.noise_offset:
            rng = torch.Generator().manual_seed(seeds.derive(self.seed, self.name, "offset", step))
            shift = torch.randn((*epsilon.shape[:2], 1, 1), generator=rng).to(epsilon.device)
            epsilon = epsilon + self.noise_offset * shift
        if self.dropout:
            rng = torch.Generator().manual_seed(seeds.derive(self.seed, self.name, "drop", step))
            dropped = (torch.rand(size, generator=rng) < self.dropout).to(states.device)
            states = torch.where(dropped.view(-1, 1, 1), self.states[-1], states)
        return x0, epsilon, t, states

    def fixed(
        self, draw: int = 0, timesteps: int = VAL_TIMESTEPS
    ) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """Every picture at so many timesteps, spread evenly over the range, the same at every call.

        With its own caption: nothing is left out.
        """
        number = len(self.posterior.mean)
        rng = torch.Generator().manual_seed(seeds.derive(self.seed, self.name, "fixed", draw))
        strata = torch.arange(timesteps) + torch.rand((number, 1), generator=rng)
        t = (strata * len(self.alphas) / timesteps).long().flatten()
        t = t.clamp(max=len(self.alphas) - 1)  # 7 + 0.99999999 is 8 in float32
        chosen = torch.arange(number).repeat_interleave(timesteps)
        return [
            self._noised(c, k, rng)
            for c, k in zip(chosen.split(VAL_BATCH), t.split(VAL_BATCH), strict=True)
        ]

    def without_caption(self, name: str) -> "Concept":
        """The same pictures under the empty caption, with draws of their own, by `name`."""
        caption = torch.full_like(self.caption, len(self.states) - 1)
        return replace(self, name=name, caption=caption, dropout=0.0, noise_offset=0.0)

    def _noised(self, chosen: Tensor, t: Tensor, rng: torch.Generator) -> tuple:
        # Drawn on the CPU: the same numbers whatever the device.
        shape = (len(chosen), *self.posterior.mean.shape[1:])
        noise, epsilon = torch.randn(shape, generator=rng), torch.randn(shape, generator=rng)
        chosen, noise, epsilon, t = (
            _send(x, self.alphas.device) for x in (chosen, noise, epsilon, t)
        )
        states = self.states[self.caption[chosen]]
        return self.posterior.draw(chosen, noise), epsilon, t, states


def encode(
    pipeline: StableDiffusionPipeline,
    files: list[Path],
    said: list[str],
    resolution: int,
    seed: int,
    name: str,
    dropout: float = 0.0,
    noise_offset: float = 0.0,
) -> Concept:
    """`files` and what is `said` of each, encoded once; the `name` is part of every draw's seed."""
    distinct = list(dict.fromkeys(said))
    of = {caption: f"the caption of {file}" for file, caption in zip(files, said, strict=True)}
    states = torch.cat(
        [base.encode_text(pipeline, each, of.get(each, "no caption")) for each in [*distinct, ""]]
    )
    place = {caption: k for k, caption in enumerate(distinct)}
    return Concept(
        name,
        latents.encode(pipeline.vae, files, resolution, name),
        states,
        torch.tensor([place[each] for each in said], device=states.device),
        pipeline.scheduler.alphas_cumprod.to(states.device),
        seed,
        dropout,
        noise_offset,
    )


class Lesson(NamedTuple):
    """A concept's part of every training step."""

    concept: Concept
    batch_size: int
    weight: float = 1.0  # of its mean loss
    target: Literal["noise", "base_prediction"] = "noise"


def _send(x: Tensor, device: torch.device) -> Tensor:
    """To `device`; to a GPU from pinned memory, so that nobody waits for the step it is at."""
    return x.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else x.to(device)


@functools.lru_cache(maxsize=8)
def _order(seed: int, name: str, epoch: int, number: int) -> list[int]:
    rng = np.random.default_rng(seeds.derive(seed, name, "order", epoch))
    return rng.permutation(number).tolist()
