"""LoRA on the UNet (Hu et al. 2022): W x + (α/r) B A x, with A and B in float32."""

import json
import re
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from diffusers.loaders.lora_base import LORA_ADAPTER_METADATA_KEY
from diffusers.training_utils import cast_training_params
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mpox.errors import InputError

FILE_NAME = "pytorch_lora_weights.safetensors"
UP = re.compile(r"lora[_.]?(B|up)\b")  # the second matrix, in PEFT's, diffusers' and kohya's names
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
# With the feed-forward layers LoRA closes the gap to full fine-tuning that attention alone leaves.
# `proj_in` and `proj_out` would be lost silently when diffusers loads the file.
TARGETS = {
    "attention": ATTENTION,
    "attention+feed_forward": (*ATTENTION, "ff.net.0.proj", "ff.net.2"),
}


def add(unet: UNet2DConditionModel, rank: int, alpha: float, targets: str, seed: int) -> None:
    """Freezes the UNet and adds an adapter: A Gaussian from `seed`, B zero, so nothing changes yet.

    In float32 whatever the base's precision: at usual learning rates an update is smaller than
    half a bfloat16 step and would be rounded away.
    """
    unet.requires_grad_(False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        unet.add_adapter(
            LoraConfig(
                r=rank,
                lora_alpha=alpha,
                init_lora_weights="gaussian",
                target_modules=list(TARGETS[targets]),
            )
        )
    cast_training_params(unet, torch.float32)


def state(unet: UNet2DConditionModel) -> dict[str, Tensor]:
    """A copy of the adapter's weights on the CPU, by PEFT key, in sorted order."""
    weights = get_peft_model_state_dict(unet)
    return {key: weights[key].detach().cpu().clone() for key in sorted(weights)}


def restore(unet: UNet2DConditionModel, weights: dict[str, Tensor]) -> None:
    set_peft_model_state_dict(unet, weights)


def save(unet: UNet2DConditionModel, folder: Path) -> None:
    """`pytorch_lora_weights.safetensors`, as `pipeline.load_lora_weights(folder)` reads it.

    The adapter's configuration travels along: without it diffusers assumes α = r. One metadata key,
    sorted, so that the same weights are the same bytes.
    """
    config = {
        f"unet.{key}": sorted(value) if isinstance(value, set) else value
        for key, value in unet.peft_config["default"].to_dict().items()
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {f"unet.{key}": value.contiguous() for key, value in state(unet).items()},
        folder / FILE_NAME,
        metadata={LORA_ADAPTER_METADATA_KEY: json.dumps(config, sort_keys=True)},
    )


def fuse(pipeline: StableDiffusionPipeline, folder: Path) -> None:
    """Adds the LoRA in `folder` to the UNet's weights, in fp32: in bf16 the change is 1.7 % off.

    Raises InputError for a file that is not there, or fits the UNet only in part or not at all.
    """
    file = folder / FILE_NAME
    if not file.is_file():
        raise InputError(f"{folder}: holds no {FILE_NAME}")
    try:
        pipeline.load_lora_weights(folder, weight_name=FILE_NAME)
        with safe_open(file, "pt") as weights:
            wanted = sum(bool(UP.search(key)) for key in weights.keys())  # noqa: SIM118
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise InputError(f"{file}: the LoRA does not fit the base model: {error}") from error
    # diffusers leaves out what the UNet has no place for, and only warns.
    found = sum(
        "lora_B" in name and "weight" in name for name, _ in pipeline.unet.named_parameters()
    )
    if found != wanted:
        raise InputError(f"{file}: of {wanted} LoRA layers {found} fit the base model")
    pipeline.fuse_lora()
    pipeline.unload_lora_weights()
