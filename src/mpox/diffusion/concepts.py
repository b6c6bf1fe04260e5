"""What is learnt: encoded pictures, their words, and what of them each training step sees.

Order, noise, timestep and posterior draw of a step are functions of (seed, step): nothing that ran
before enters, so a resumed run, or one on more processes, sees what an uninterrupted one sees.
"""

import functools
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mpox import seeds
from mpox.diffusion import latents

VAL_TIMESTEPS = 8  # a held-out picture
VAL_BATCH = 16


@dataclass
class Concept:
    """Encoded pictures and the words they are learnt under."""

    name: str
    posterior: latents.Posterior
    states: Tensor  # (1, tokens, width)
    alphas: Tensor  # ᾱ of every timestep, (T,)
    seed: int

    def batch(self, step: int, size: int) -> tuple[Tensor, Tensor, Tensor]:
        """(x₀, ε, t) of a step: (B, 4, h, w), (B, 4, h, w), (B,); each picture once an epoch."""
        number = len(self.posterior.mean)
        places = [divmod(place, number) for place in range(step * size, (step + 1) * size)]
        chosen = torch.tensor([_order(self.seed, self.name, e, number)[i] for e, i in places])
        rng = torch.Generator().manual_seed(seeds.derive(self.seed, self.name, step))
        t = torch.randint(len(self.alphas), (size,), generator=rng)
        return self._noised(chosen, t, rng)

    def fixed(self, draw: int = 0) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Every picture at timesteps spread evenly over the range, the same at every call."""
        number = len(self.posterior.mean)
        rng = torch.Generator().manual_seed(seeds.derive(self.seed, self.name, "fixed", draw))
        strata = torch.arange(VAL_TIMESTEPS) + torch.rand((number, 1), generator=rng)
        t = (strata * len(self.alphas) / VAL_TIMESTEPS).long().flatten()
        t = t.clamp(max=len(self.alphas) - 1)  # 7 + 0.99999999 is 8 in float32
        chosen = torch.arange(number).repeat_interleave(VAL_TIMESTEPS)
        return [
            self._noised(c, k, rng)
            for c, k in zip(chosen.split(VAL_BATCH), t.split(VAL_BATCH), strict=True)
        ]

    def _noised(self, chosen: Tensor, t: Tensor, rng: torch.Generator) -> tuple:
        # Drawn on the CPU: the same numbers whatever the device.
        shape = (len(chosen), *self.posterior.mean.shape[1:])
        noise, epsilon = torch.randn(shape, generator=rng), torch.randn(shape, generator=rng)
        chosen, noise, epsilon, t = (
            _send(x, self.alphas.device) for x in (chosen, noise, epsilon, t)
        )
        return self.posterior.draw(chosen, noise), epsilon, t


class Lesson(NamedTuple):
    """What a concept has of every training step."""

    concept: Concept
    batch_size: int
    weight: float = 1.0  # of its mean loss


def _send(x: Tensor, device: torch.device) -> Tensor:
    """To `device`; to a GPU from pinned memory, so that nobody waits for the step it is at."""
    return x.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else x.to(device)


@functools.lru_cache(maxsize=8)
def _order(seed: int, name: str, epoch: int, number: int) -> list[int]:
    rng = np.random.default_rng(seeds.derive(seed, name, "order", epoch))
    return rng.permutation(number).tolist()
