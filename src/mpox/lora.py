"""LoRA on the UNet (Hu et al. 2022): W x + (α/r) B A x, with A and B in float32."""

import json
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from diffusers.loaders.lora_base import LORA_ADAPTER_METADATA_KEY
from diffusers.training_utils import cast_training_params
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import save_file
from torch import Tensor

FILE_NAME = "pytorch_lora_weights.safetensors"
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
