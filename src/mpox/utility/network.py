"""Networks trained end to end: the classifier that people deploy, not a probe on frozen features.

A network depends only on a seed and on the pictures it is trained on. All arms of a repeat start
from the same weights and draw the same photos and the same augmentation, so that an arm with a
share of 0 equals `real` to the bit.
"""

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import resnet18
from torchvision.transforms.functional import InterpolationMode, normalize, resize

from mpox.checks import check_weights
from mpox.core.seeds import derive
from mpox.pictures.features import IMAGENET_MEAN, IMAGENET_STD

CHANNELS = (3, 24, 48, 96, 128)
DROPOUT = 0.3
SHIFT = 1 / 16  # of the side: the largest shift in either direction
JITTER = 0.2  # the largest relative change of brightness, contrast and saturation


def small() -> nn.Module:
    """Four convolutions, to be trained from scratch: N×3×S×S → N×1, with S of 16 or more."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(CHANNELS):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs)]
        layers += [nn.ReLU(inplace=True), nn.MaxPool2d(2)]
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(DROPOUT)]
    return nn.Sequential(*layers, nn.Linear(CHANNELS[-1], 1))


def pretrained(weights: Path) -> nn.Module:
    """A ResNet-18 with torchvision's weights and a new last layer: N×3×S×S → N×1."""
    net = resnet18()
    net.load_state_dict(torch.load(weights, weights_only=True))
    net.fc = nn.Linear(net.fc.in_features, 1)
    return net


class Recipe(NamedTuple):
    """A network and its training: AdamW with a one-cycle learning rate (Smith 2018)."""

    name: str
    build: Callable[[], nn.Module]
    size: int  # pixels: the side that pictures are resized to
    peak: float  # of the learning rate
    steps: int = 600
    batch: int = 32  # pictures, half of them mpox


SMALL = Recipe("small", small, 64, 4e-3)


def recipe(weights: str | None) -> Recipe:
    """A ResNet-18 with a file of weights, or SMALL without one.

    Raises InputError if the file is missing or not the published one.
    """
    if weights is None:
        return SMALL
    return Recipe("resnet18", partial(pretrained, check_weights("resnet18", weights)), 224, 3e-4)


class Pool(NamedTuple):
    """The training pictures of an arm, uint8 n×3×S×S each, from `tensor`."""

    mpox: Tensor
    controls: Tensor
    added: Tensor  # synthetic pictures, or the base model's own
    # The share of mpox's weight that `added` has in the first and the second half of the steps; the
    # photos have the rest.
    shares: tuple[float, float]


def tensor(pictures: np.ndarray, size: int, device: torch.device) -> Tensor:
    """uint8 n×S×S×3 as uint8 n×3×size×size on `device`, resized with antialiasing."""
    resized = torch.empty(len(pictures), 3, size, size, dtype=torch.uint8, device=device)
    for k, picture in enumerate(pictures):
        pixels = torch.from_numpy(picture.copy()).to(device).permute(2, 0, 1)
        resized[k] = resize(pixels, [size, size], InterpolationMode.BICUBIC, antialias=True)
    return resized


def train(
    recipe: Recipe, pool: Pool, seed: int, after_step: Callable[[], object] = lambda: None
) -> nn.Module:
    """A trained network in evaluation mode, on the device of `pool`."""
    device = pool.mpox.device
    with torch.random.fork_rng(devices=[] if device.type == "cpu" else None):
        torch.manual_seed(derive(seed, "start"))  # of the weights, and of dropout
        net = recipe.build().to(device).to(memory_format=torch.channels_last).train()
        optimizer = torch.optim.AdamW(net.parameters(), recipe.peak)
        cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.peak, recipe.steps)
        target = torch.arange(recipe.batch, device=device) < recipe.batch // 2
        for step in range(recipe.steps):
            rng = np.random.default_rng(derive(seed, "step", step))
            pictures = draw(pool, pool.shares[2 * step >= recipe.steps], recipe.batch, rng)
            logits = net(_normalized(augment(pictures / 255, rng)))[:, 0]
            loss = functional.binary_cross_entropy_with_logits(logits, target.float())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            cycle.step()
            after_step()
    return net.eval()


@torch.inference_mode()
def margins(net: nn.Module, pictures: Tensor, batch: int = 32) -> np.ndarray:
    """The log odds of mpox at equal numbers of mpox and controls: float64 n."""
    parts = [net(_normalized(part / 255))[:, 0].double().cpu() for part in pictures.split(batch)]
    return torch.cat(parts).numpy()


def draw(pool: Pool, share: float, batch: int, rng: np.random.Generator) -> Tensor:
    """Half mpox, half controls; each of mpox is an added picture with probability `share`.

    Which photos are drawn depends on neither the share nor the added pictures.
    """
    places = rng.random((3, batch // 2))
    is_added = rng.random(batch // 2) < share
    mpox, controls, added = (
        [pictures[int(place * len(pictures))] for place in row] if len(pictures) else []
        for pictures, row in zip(pool[:3], places, strict=True)
    )
    drawn = [added[k] if is_added[k] else photo for k, photo in enumerate(mpox)]
    return torch.stack(drawn + controls)


def augment(pictures: Tensor, rng: np.random.Generator) -> Tensor:
    """N×3×S×S in [0, 1], each turned by quarters, mirrored, shifted and changed in colour."""
    n, side = len(pictures), pictures.shape[-1]
    turns, mirrored = rng.integers(4, size=n), rng.random(n) < 0.5
    turned = [
        torch.rot90(picture.flip(2) if flip else picture, int(turn), (1, 2))
        for picture, turn, flip in zip(pictures, turns, mirrored, strict=True)
    ]
    most = int(side * SHIFT)
    padded = functional.pad(torch.stack(turned), (most,) * 4, mode="reflect")
    top, left = rng.integers(2 * most + 1, size=(2, n))
    shifted = torch.stack(
        [
            picture[:, y : y + side, x : x + side]
            for picture, y, x in zip(padded, top, left, strict=True)
        ]
    )
    factors = torch.from_numpy(rng.uniform(1 - JITTER, 1 + JITTER, (3, n, 1, 1, 1))).to(shifted)
    brightness, contrast, saturation = factors
    bright = shifted * brightness
    contrasted = torch.lerp(bright.mean((1, 2, 3), keepdim=True), bright, contrast)
    return torch.lerp(contrasted.mean(1, keepdim=True), contrasted, saturation).clamp(0, 1)


def _normalized(pictures: Tensor) -> Tensor:
    return normalize(pictures, IMAGENET_MEAN, IMAGENET_STD)
