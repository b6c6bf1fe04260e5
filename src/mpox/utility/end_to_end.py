"""The arms of a trial with networks trained end to end, all with the same online augmentation.

docs/utility-and-privacy.md describes the arms. Each trained network is kept in a folder, so that a
killed trial resumes with the next one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from mpox.core.seeds import derive
from mpox.model import checkpoints
from mpox.utility import classifier, network
from mpox.utility.arms import Arm
from mpox.utility.photos import Sets

REPEATS = 3  # networks of an arm, with different seeds
# The pictures added to the photos, and their share of mpox's weight in each half of the training.
ARMS: dict[str, tuple[str, tuple[float, float]]] = {
    "real": ("synthetic", (0.0, 0.0)),
    "share_20": ("synthetic", (0.2, 0.2)),
    "share_40": ("synthetic", (0.4, 0.4)),
    "placebo": ("placebo", (0.4, 0.4)),
    "synthetic": ("synthetic", (1.0, 1.0)),
    "synthetic_first": ("synthetic", (1.0, 0.0)),
}
MAIN = "share_40"  # the arm that is judged, declared beforehand


@dataclass(frozen=True)
class Networks:
    """Trains the networks of a trial, or reads those that are in the folder `work`."""

    sets: Sets  # with pixels
    recipe: network.Recipe
    seed: int
    work: Path
    device: torch.device
    names: Sequence[str] = tuple(ARMS)

    def train(self) -> dict[str, dict[str, Arm]]:
        """Version → name → arm."""
        versions = ("plain", "encoded")
        number = len(versions) * len(self.names) * REPEATS
        with tqdm(total=number * self.recipe.steps, unit="step") as bar:
            bar.set_description(f"training {number} networks")
            return {
                version: {name: self._arm(name, version, bar) for name in self.names}
                for version in versions
            }

    def _arm(self, name: str, version: str, bar: tqdm) -> Arm:
        added, shares = ARMS[name]
        mpox, val = self.sets.plain.train.mpox, self.sets.val.mpox
        photos = self._tensors[version]
        pool = network.Pool(photos[mpox], photos[~mpox], self._tensors[added], shares)
        margins = [self._margins(pool, f"{version}-{name}", k, bar) for k in range(REPEATS)]
        return Arm(
            np.stack([classifier.probability(each["test"].numpy()) for each in margins]),
            np.array([classifier.threshold(each["val"].numpy(), val) for each in margins]),
            np.full(REPEATS, np.nan),
            float(np.mean([classifier.log_loss(each["val"].numpy(), val) for each in margins])),
            int(min(shares) < 1) * len(pool.mpox) + int(max(shares) > 0) * len(pool.added),
            len(pool.controls),
        )

    def _margins(
        self, pool: network.Pool, name: str, repeat: int, bar: tqdm
    ) -> Mapping[str, Tensor]:
        """The log odds that one network gives `val` and `test`."""
        file = self.work / f"{name}-{repeat}.pt"
        if file.exists():
            bar.update(self.recipe.steps)
            return checkpoints.load(file)
        seed = derive(self.seed, "utility", "network", repeat)
        net = network.train(self.recipe, pool, seed, bar.update)
        margins = {
            part: torch.from_numpy(network.margins(net, self._tensors[part]))
            for part in ("val", "test")
        }
        checkpoints.save(margins, file)
        return margins

    @cached_property
    def _tensors(self) -> dict[str, Tensor]:
        return {
            name: network.tensor(pixels, self.recipe.size, self.device)
            for name, pixels in vars(self.sets.pixels).items()
        }
