"""LoRA on the UNet (Hu et al. 2022): W x + (α/r) B A x, with A and B in float32.

rsLoRA (Kalajdzievski 2023) replaces the scale by α/√r, so that a higher rank does not learn less.
DoRA (Liu et al. 2024, eq. 5) computes m V/‖V‖ x with V = W + (α/r) B A, where ‖V‖ is the length of
each row and m, initially ‖W‖, is trained too. A convolution's W has one row per output channel.
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
# One of the two matrices, named by PEFT, diffusers or kohya.
MATRIX = re.compile(r"lora[_.]?(A|B|down|up)\b")
UNREADABLE = (OSError, ValueError, RuntimeError, SafetensorError)
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
FEED_FORWARD = ("ff.net.0.proj", "ff.net.2")
# In residual blocks and between levels, as in LoCon, but without kohya's time_emb_proj.
CONVOLUTION = ("conv1", "conv2", "conv_shortcut", "conv")
# Without `proj_in` and `proj_out`, which diffusers silently drops on loading.
TARGETS = {
    "attention": ATTENTION,
    "attention+feed_forward": (*ATTENTION, *FEED_FORWARD),
    "attention+feed_forward+convolution": (*ATTENTION, *FEED_FORWARD, *CONVOLUTION),
}


def add(unet: UNet2DConditionModel, settings: Train, seed: int) -> None:
    """Freezes the UNet and adds an adapter: A is Gaussian from `seed`, B is 0, so it has no effect.

    The adapter is in float32 whatever the base's precision: in bfloat16, updates at usual learning
    rates would be rounded away.
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
    """Sets DoRA's m to ‖W‖ in float32; PEFT measures it in the base's dtype, in bf16 0.4 % off."""
    for layer in unet.modules():
        if isinstance(layer, LoraLayer):
            rows = torch.linalg.vector_norm(layer.get_base_layer().weight.float().flatten(1), dim=1)
            magnitude = layer.lora_magnitude_vector["default"].weight
            magnitude.copy_(rows.view_as(magnitude))


def state(unet: UNet2DConditionModel) -> dict[str, Tensor]:
    """A copy of the adapter's weights on the CPU, by PEFT key, sorted."""
    weights = get_peft_model_state_dict(unet)
    return {key: weights[key].detach().cpu().clone() for key in sorted(weights)}


def restore(unet: UNet2DConditionModel, weights: dict[str, Tensor]) -> None:
    """Sets the adapter's weights to what `state` gave."""
    set_peft_model_state_dict(unet, weights)


def save(unet: UNet2DConditionModel, folder: Path) -> None:
    """Writes `pytorch_lora_weights.safetensors` for `pipeline.load_lora_weights(folder)`.

    Its metadata holds the adapter's configuration, without which diffusers assumes α = r. The keys
    are sorted, so that the same weights give the same bytes.
    """
    config = {
        f"unet.{key}": sorted(value) if isinstance(value, set) else value
        for key, value in unet.peft_config["default"].to_dict().items()
    }
    content = safetensors.torch.save(
        {f"unet.{key}": value.contiguous() for key, value in state(unet).items()},
        metadata={LORA_ADAPTER_METADATA_KEY: json.dumps(config, sort_keys=True)},
    )
    folders.write(folder / FILE_NAME, content)  # save_file hides a full disk


def fuse(pipeline: StableDiffusionPipeline, folder: Path, scale: float = 1.0) -> None:
    """Adds `scale` times the LoRA in `folder` to the weights of the UNet and the text encoder.

    The file may have PEFT's format, kohya's, or either of diffusers' older ones. Call it while the
    base is in fp32: in bf16 the change would be 1.7 % off. InputError for a file that is missing,
    does not fit the base entirely, or holds a number that is not finite.
    """
    file = folder / FILE_NAME
    if not file.is_file():
        raise InputError(f"{folder}: holds no {FILE_NAME}")
    folders.check_fetched(file)
    try:
        with safe_open(file, "pt") as weights:
            keys = list(weights.keys())
            infinite = [key for key in keys if not weights.get_tensor(key).isfinite().all()]
        if infinite:
            raise InputError(f"{file}: {infinite[0]} is not finite; expected an undamaged LoRA")
        pipeline.load_lora_weights(folder, weight_name=FILE_NAME)
    except InputError:
        raise
    except (*UNREADABLE, AttributeError, KeyError, TypeError) as error:  # damaged metadata
        raise InputError(f"{file}: the LoRA does not fit the base model: {error}") from error
    # Diffusers skips kohya's magnitudes and layers that the base lacks, with only a warning.
    if any(key.endswith(".dora_scale") for key in keys):
        raise InputError(f"{file}: a DoRA in kohya's format; expected one in PEFT's")
    stored = sum(bool(MATRIX.search(key)) for key in keys)
    loaded = sum(
        ".lora_A." in name or ".lora_B." in name
        for network in (pipeline.unet, pipeline.text_encoder)
        for name, _ in network.named_parameters()
    )
    if not stored:
        raise InputError(f"{file}: holds no LoRA matrices")
    if loaded != stored:
        raise InputError(
            f"{file}: {loaded} of {stored} LoRA matrices match the base model; expected all"
        )
    pipeline.fuse_lora(lora_scale=scale)
    pipeline.unload_lora_weights()
