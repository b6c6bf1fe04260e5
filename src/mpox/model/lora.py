"""LoRA on the UNet (Hu et al. 2022): W x + (α/r) B A x, with A and B in float32.

On request with rsLoRA's scale α/√r (Kalajdzievski 2023), so that a higher rank does not learn less.
Or as DoRA (Liu et al. 2024, eq. 5): m V/‖V‖ x with V = W + (α/r) B A, where ‖V‖ is the length of
each row and m, at first ‖W‖, is learnt too. A convolution's W has a row for each output channel.
"""

import json
import re
from pathlib import Path

import safetensors.torch
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from diffusers.loaders.lora_base import LORA_ADAPTER_METADATA_KEY
from diffusers.training_utils import cast_training_params
from peft import LoraConfig
from peft.tuners.lora import LoraLayer
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mpox.core import folders
from mpox.core.errors import InputError
from mpox.params import Train

FILE_NAME = folders.LORA
# One of the two matrices, in PEFT's, diffusers' and kohya's names.
MATRIX = re.compile(r"lora[_.]?(A|B|down|up)\b")
UNREADABLE = (OSError, ValueError, RuntimeError, SafetensorError)
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
FEED_FORWARD = ("ff.net.0.proj", "ff.net.2")
# Of residual blocks and of the samplers between levels: LoCon, without kohya's time_emb_proj.
CONVOLUTION = ("conv1", "conv2", "conv_shortcut", "conv")
# `proj_in` and `proj_out` would be lost silently when diffusers loads the file.
TARGETS = {
    "attention": ATTENTION,
    "attention+feed_forward": (*ATTENTION, *FEED_FORWARD),
    "attention+feed_forward+convolution": (*ATTENTION, *FEED_FORWARD, *CONVOLUTION),
}


def add(unet: UNet2DConditionModel, settings: Train, seed: int) -> None:
    """Freezes the UNet and adds an adapter: A Gaussian from `seed`, B zero, so nothing changes yet.

    In float32 whatever the base's precision: at usual learning rates an update is smaller than
    half a bfloat16 step and would be rounded away.
    """
    unet.requires_grad_(False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        unet.add_adapter(
            LoraConfig(
                r=settings.rank,
                lora_alpha=settings.alpha,
                init_lora_weights="gaussian",
                target_modules=list(TARGETS[settings.target_modules]),
                use_rslora=settings.rslora,
                use_dora=settings.dora,
            )
        )
    cast_training_params(unet, torch.float32)
    if settings.dora:
        _measure_rows(unet)


@torch.no_grad()
def _measure_rows(unet: UNet2DConditionModel) -> None:
    """Sets DoRA's m to ‖W‖ in float32; PEFT measured in the base's dtype, in bf16 0.4 % off."""
    for layer in unet.modules():
        if isinstance(layer, LoraLayer):
            rows = torch.linalg.vector_norm(layer.get_base_layer().weight.float().flatten(1), dim=1)
            magnitude = layer.lora_magnitude_vector["default"].weight
            magnitude.copy_(rows.view_as(magnitude))


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
    content = safetensors.torch.save(
        {f"unet.{key}": value.contiguous() for key, value in state(unet).items()},
        metadata={LORA_ADAPTER_METADATA_KEY: json.dumps(config, sort_keys=True)},
    )
    folders.write(folder / FILE_NAME, content)  # save_file raises no OSError on a full disk


def fuse(pipeline: StableDiffusionPipeline, folder: Path, scale: float = 1.0) -> None:
    """Adds `scale` times the LoRA in `folder` to the base's weights.

    In fp32: in bf16 the change is 1.7 % off.

    Of the UNet and, where it has any, of the text encoder. From PEFT's format, either of diffusers'
    older ones, or kohya's. Raises InputError for a file that is not there, fits the base only in
    part or not at all, or has a number that is not finite.
    """
    file = folder / FILE_NAME
    if not file.is_file():
        raise InputError(f"{folder}: holds no {FILE_NAME}")
    folders.check_fetched(file)
    try:
        with safe_open(file, "pt") as weights:
            keys = list(weights.keys())
            spoilt = [key for key in keys if not weights.get_tensor(key).isfinite().all()]
        if spoilt:
            raise InputError(f"{file}: {spoilt[0]} is not finite; expected an undamaged LoRA")
        pipeline.load_lora_weights(folder, weight_name=FILE_NAME)
    except InputError:
        raise
    except (*UNREADABLE, AttributeError, KeyError, TypeError) as error:  # of damaged metadata
        raise InputError(f"{file}: the LoRA does not fit the base model: {error}") from error
    # diffusers leaves out kohya's magnitudes and what the UNet has no place for, and only warns.
    if any(key.endswith(".dora_scale") for key in keys):
        raise InputError(f"{file}: a DoRA in kohya's format; expected one in PEFT's")
    wanted = sum(bool(MATRIX.search(key)) for key in keys)
    found = sum(
        ".lora_A." in name or ".lora_B." in name
        for network in (pipeline.unet, pipeline.text_encoder)
        for name, _ in network.named_parameters()
    )
    if not wanted or found != wanted:
        raise InputError(
            f"{file}: holds {wanted} matrices of a LoRA, of {found} in the base model's layers "
            "for them; expected as many, and some"
        )
    pipeline.fuse_lora(lora_scale=scale)
    pipeline.unload_lora_weights()
