"""The adapter in memory against the file in plain diffusers."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from mpox import lora

RANK, ALPHA = 4, 10.0  # far from each other: a lost α would show


@pytest.fixture
def unet(tiny_sd) -> UNet2DConditionModel:
    return UNet2DConditionModel.from_pretrained(tiny_sd, subfolder="unet")


def add(unet: UNet2DConditionModel, targets: str = "attention+feed_forward", seed: int = 0) -> None:
    lora.add(unet, RANK, ALPHA, targets, seed)


def shake(unet: UNet2DConditionModel) -> None:
    """Gives B some values, as training would."""
    rng = torch.Generator().manual_seed(1)
    weights = {
        key: torch.randn(value.shape, generator=rng) if "lora_B" in key else value
        for key, value in lora.state(unet).items()
    }
    lora.restore(unet, weights)


@torch.no_grad()
def output(unet: UNet2DConditionModel) -> Tensor:
    rng = torch.Generator().manual_seed(2)
    noisy = torch.randn((2, 4, 8, 8), generator=rng).to(unet.dtype)
    states = torch.randn((2, 77, 32), generator=rng).to(unet.dtype)
    return unet(noisy, torch.tensor([3, 800]), states).sample


def test_a_new_adapter_changes_nothing(unet):
    before = output(unet)
    add(unet)
    assert torch.equal(output(unet), before)
    shake(unet)
    assert (output(unet) - before).abs().max() > 0.1


def test_a_is_gaussian_from_its_own_seed_alone(unet, tiny_sd):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    add(unet, seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    again, other = (
        UNet2DConditionModel.from_pretrained(tiny_sd, subfolder="unet") for _ in range(2)
    )
    add(again, seed=3)
    add(other, seed=4)
    mine, same, different = map(lora.state, (unet, again, other))
    drawn = [key for key in mine if "lora_A" in key]
    assert all(torch.equal(mine[key], same[key]) for key in mine)
    assert not any(torch.equal(mine[key], different[key]) for key in drawn)
    values = torch.cat([mine[key].flatten() for key in drawn])
    assert values.std().item() == pytest.approx(1 / RANK, rel=0.05)


@pytest.mark.parametrize(
    ("targets", "within"), [("attention", ".attn"), ("attention+feed_forward", "")]
)
def test_every_linear_layer_of_the_targets_and_no_other(targets, within, unet):
    blocks = [
        name
        for name, module in unet.named_modules()
        if isinstance(module, nn.Linear) and ".transformer_blocks." in name and within in name
    ]
    assert len(blocks) == {"attention": 32, "attention+feed_forward": 40}[targets]
    add(unet, targets)
    adapted = {key.partition(".lora_")[0] for key in lora.state(unet)}
    assert adapted == set(blocks)


def test_only_the_adapter_learns_and_in_fp32_on_a_bf16_base(unet):
    unet.to(torch.bfloat16)
    add(unet)
    for name, parameter in unet.named_parameters():
        own = "lora_" in name
        assert parameter.requires_grad == own
        assert parameter.dtype == (torch.float32 if own else torch.bfloat16)


@pytest.mark.parametrize("targets", ["attention", "attention+feed_forward"])
def test_plain_diffusers_loads_all_of_it_and_draws_the_same(targets, unet, tiny_sd, tmp_path):
    add(unet, targets)
    shake(unet)
    lora.save(unet, tmp_path / "new" / "folder")
    plain = StableDiffusionPipeline.from_pretrained(tiny_sd)
    plain.load_lora_weights(tmp_path / "new" / "folder")
    saved = load_file(tmp_path / "new" / "folder" / lora.FILE_NAME)
    loaded = {
        f"unet.{name.replace('.default_0', '')}": value
        for name, value in plain.unet.named_parameters()
        if "lora_" in name
    }
    assert saved.keys() == loaded.keys()
    assert all(torch.equal(saved[key], loaded[key]) for key in saved)
    torch.testing.assert_close(output(plain.unet), output(unet), rtol=0, atol=1e-6)


def test_state_is_a_sorted_copy_and_goes_back(unet):
    add(unet)
    before = lora.state(unet)
    assert list(before) == sorted(before)
    shake(unet)
    assert not any(before[key].any() for key in before if "lora_B" in key)
    shaken = output(unet)
    after = lora.state(unet)
    lora.restore(unet, before)
    assert not torch.equal(output(unet), shaken)
    lora.restore(unet, after)
    assert torch.equal(output(unet), shaken)


class Backwards(set):
    """A set as another process may order it."""

    def __iter__(self):
        return iter(sorted(set(super().__iter__()), reverse=True))


def test_the_file_is_the_same_bytes_whatever_the_order_of_sets(unet, tmp_path):
    add(unet)
    shake(unet)
    lora.save(unet, tmp_path / "a")
    config = unet.peft_config["default"]
    config.target_modules = Backwards(config.target_modules)
    backwards = list(config.to_dict()["target_modules"])
    assert backwards == sorted(backwards, reverse=True) and len(backwards) == 6
    lora.save(unet, tmp_path / "b")
    first, second = ((tmp_path / name / lora.FILE_NAME).read_bytes() for name in "ab")
    assert first == second


def test_its_metadata_holds_no_path_and_the_alpha(unet, tiny_sd, tmp_path):
    add(unet)
    lora.save(unet, tmp_path)
    with safe_open(tmp_path / lora.FILE_NAME, "pt") as file:
        metadata = file.metadata()
    (text,) = metadata.values()
    said = json.loads(text)
    assert said["unet.lora_alpha"] == ALPHA and said["unet.r"] == RANK
    assert str(tiny_sd) not in text and str(tmp_path) not in text and str(Path.home()) not in text


@pytest.mark.slow
def test_another_process_writes_the_same_bytes(unet, tiny_sd, tmp_path):
    add(unet)
    shake(unet)
    lora.save(unet, tmp_path / "here")
    script = (
        "import pathlib, test_lora as t\n"
        f"unet = t.UNet2DConditionModel.from_pretrained({str(tiny_sd)!r}, subfolder='unet')\n"
        "t.add(unet)\nt.shake(unet)\n"
        f"t.lora.save(unet, pathlib.Path({str(tmp_path / 'there')!r}))\n"
    )
    paths = os.pathsep.join(str(ROOT / name) for name in ("src", "tests", ""))
    environment = os.environ | {"PYTHONPATH": paths, "PYTHONHASHSEED": "4"}
    subprocess.run([sys.executable, "-c", script], env=environment, check=True)
    here, there = ((tmp_path / name / lora.FILE_NAME).read_bytes() for name in ("here", "there"))
    assert here == there
