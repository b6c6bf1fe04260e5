"""The attacker's score, computed with diffusers' own loader of LoRAs."""

import numpy as np
import pytest
import torch
from runs import picture

from mpox.core import images, seeds, table
from mpox.core.picture_set import PictureSet
from mpox.model import base, concepts, lora
from mpox.privacy import losses
from mpox.privacy.losses import Target

PROMPT = "a lesion, {tone} skin"


@pytest.fixture
def sets(tmp_path) -> dict[str, PictureSet]:
    """Three and five pictures, every other one of dark skin."""
    for k, (name, number) in enumerate((("members", 3), ("others", 5))):
        names = [f"{i}.png" for i in range(number)]
        for i, file in enumerate(names):
            images.write(tmp_path / name / file, picture(k, i))
        rows = {file: [["dark", "tan"][i % 2]] for i, file in enumerate(names)}
        table.write(tmp_path / name, ["tone"], rows)
    return {name: PictureSet.read(tmp_path / name) for name in ("members", "others")}


def save(train, model, folder, strength: float) -> None:
    """Save a LoRA whose B is `strength` times noise; 0 is a LoRA before its first step."""
    unet = base.load(model, 16).unet
    settings = train.model_copy(update={"rank": 2, "target_modules": "attention"})
    lora.add(unet, settings, seed=1)
    torch.manual_seed(2)
    for key, value in unet.named_parameters():
        if "lora_B" in key:
            value.data = strength * torch.randn_like(value)
    lora.save(unet, folder)


def test_an_untrained_lora_gains_nothing(small, tiny_sd, sets, tmp_path):
    save(small.train, tiny_sd, tmp_path / "lora", 0.0)
    gains = losses.gains(sets, Target(tiny_sd, tmp_path / "lora", PROMPT, 16, 7))
    assert {name: each.tolist() for name, each in gains.items()} == {
        "members": [0] * 3, "others": [0] * 5,
    }  # fmt: skip


@torch.no_grad()
def test_each_photos_gain_is_the_mean_over_its_noises(small, tiny_sd, sets, tmp_path):
    save(small.train, tiny_sd, tmp_path / "lora", 0.3)
    gains = losses.gains(sets, Target(tiny_sd, tmp_path / "lora", PROMPT, 16, 7))["others"]
    assert np.abs(gains).min() > 0
    pipeline = base.load(tiny_sd, 16)
    captions = [PROMPT.format(tone=["dark", "tan"][i % 2]) for i in range(5)]
    photos = concepts.encode(pipeline, sets["others"], captions, 16)
    batches = photos.fixed(seeds.derive(7, "others", "fixed", 0), losses.NOISES)
    means = []
    for adapted in (False, True):
        if adapted:
            pipeline.load_lora_weights(tmp_path / "lora")
        errors = []
        for x0, epsilon, t, _, states in batches:
            alpha = pipeline.scheduler.alphas_cumprod[t].view(-1, 1, 1, 1)
            noisy = alpha.sqrt() * x0 + (1 - alpha).sqrt() * epsilon
            guess = pipeline.unet(noisy, t, states).sample
            errors += ((guess - epsilon) ** 2).mean((1, 2, 3)).tolist()
        assert len(errors) == 5 * losses.NOISES
        means.append(np.reshape(errors, (5, -1)).mean(1))
    assert gains == pytest.approx(np.subtract(*means), abs=2e-6)
