"""The arms of a trial by networks trained end to end, each with the same online augmentation.

docs/utility.md has the arms. A network that is trained is kept in a folder, so that a killed trial
goes on with the next one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from mpox.checks import check_weights
from mpox.core.seeds import derive
from mpox.model import checkpoints
from mpox.utility import classifier, network
from mpox.utility.arms import Arm
from mpox.utility.photos import Sets

REPEATS = 3  # networks of an arm, from different seeds
# What is added to the photos, and its share of mpox's weight in either half of the training.
ARMS: dict[str, tuple[str, tuple[float, float]]] = {
    "real": ("synthetic", (0.0, 0.0)),
    "share_20": ("synthetic", (0.2, 0.2)),
    "share_40": ("synthetic", (0.4, 0.4)),
    "placebo": ("placebo", (0.4, 0.4)),
    "synthetic": ("synthetic", (1.0, 1.0)),
    "synthetic_first": ("synthetic", (1.0, 0.0)),
}
MAIN = "share_40"  # the arm that is judged, declared beforehand


class Plan(NamedTuple):
    """Which network is trained, and how."""

    name: str
    build: Callable[[], nn.Module]
    recipe: network.Recipe


def plan(weights: str | None) -> Plan:
    """A ResNet-18 from a file of weights, or without one the small network from scratch.

    InputError where the weights are not there or not the published ones.
    """
    if weights is None:
        return Plan("small", network.small, network.SMALL)
    file = check_weights("resnet18", weights)
    return Plan("resnet18", lambda: network.pretrained(file), network.RESNET18)


@dataclass(frozen=True)
class Networks:
    """Trains the networks of a trial, or reads those that are in the folder `work`."""

    sets: Sets  # with pixels
    plan: Plan
    seed: int
    work: Path
    device: torch.device
    names: Sequence[str] = tuple(ARMS)
    repeats: int = REPEATS

    def train(self) -> dict[str, dict[str, Arm]]:
        """Version → name → arm, as `arms.train` gives them."""
        versions = ("plain", "encoded")
        networks = len(versions) * len(self.names) * self.repeats
        with tqdm(total=networks * self.plan.recipe.steps, unit="step") as bar:
            bar.set_description(f"training {networks} networks")
            return {
                version: {name: self._arm(name, version, bar) for name in self.names}
                for version in versions
            }

    def _arm(self, name: str, version: str, bar: tqdm) -> Arm:
        added, shares = ARMS[name]
        mpox = self.sets.plain.train.mpox
        photos = self._tensors[version]
        pool = network.Pool(photos[mpox], photos[~mpox], self._tensors[added])
        found = [
            self._margins(pool, shares, f"{version}-{name}", k, bar) for k in range(self.repeats)
        ]
        val = self.sets.val.mpox
        return Arm(
            np.stack([classifier.probability(each["test"].numpy()) for each in found]),
            np.array([classifier.threshold(each["val"].numpy(), val) for each in found]),
            np.full(self.repeats, np.nan),
            float(np.mean([classifier.log_loss(each["val"].numpy(), val) for each in found])),
            int(min(shares) < 1) * len(pool.mpox) + int(max(shares) > 0) * len(pool.added),
            len(pool.controls),
        )

    def _margins(
        self, pool: network.Pool, shares: tuple[float, float], name: str, repeat: int, bar: tqdm
    ) -> Mapping[str, Tensor]:
        """What one network says of `val` and `test`."""
        file = self.work / f"{name}-{repeat}.pt"
        if file.exists():
            bar.update(self.plan.recipe.steps)
            return checkpoints.load(file)
        seed = derive(self.seed, "utility", "network", repeat)
        net = network.train(self.plan.build, self.plan.recipe, pool, shares, seed, bar.update)
        found = {
            part: torch.from_numpy(network.margins(net, self._tensors[part]))
            for part in ("val", "test")
        }
        checkpoints.save(found, file)
        return found

    @cached_property
    def _tensors(self) -> dict[str, Tensor]:
        size = self.plan.recipe.size
        pixels = vars(self.sets.pixels)
        return {name: network.tensor(each, size, self.device) for name, each in pixels.items()}
