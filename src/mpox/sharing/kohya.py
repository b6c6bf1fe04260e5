"""A LoRA for other programs: kohya's format, which ComfyUI and AUTOMATIC1111 read.

Per layer `lora_down` (A), `lora_up` (B) and `alpha`; they add (alpha/r) B A to the layer's weight.
"""

import json
import math
import re
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline
from diffusers.utils import convert_state_dict_to_kohya, convert_unet_state_dict_to_peft
from safetensors import SafetensorError
from safetensors.torch import save
from torch import Tensor

from mpox.core import folders
from mpox.core.errors import InputError
from mpox.model import lora
from mpox.training import card

MATRIX = re.compile(r"unet\..+\.lora_[AB]\.weight")


def export(folder: Path, file: Path) -> None:
    """Writes the LoRA in `folder` to `file`, whole or not at all.

    Raises InputError for a file that is there already and for a LoRA that the format cannot hold.
    """
    if file.suffix != ".safetensors":
        raise InputError(f"{file}: expected a name that ends in .safetensors")
    if file.exists():
        raise InputError(f"{file}: is there already; remove it or name another")
    source = folder / lora.FILE_NAME
    weights, config = _read(source)
    rank, alpha = _rank_and_alpha(source, weights, config)
    tensors = {
        # The converter writes the rank for α.
        key: torch.tensor(alpha) if key.endswith(".alpha") else value.contiguous()
        for key, value in convert_state_dict_to_kohya(weights).items()
    }
    kernels = any(value.shape[2:].numel() > 1 for value in weights.values())
    folders.write(file, save(tensors, _metadata(folder, file.stem, rank, alpha, kernels)))


def _read(source: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The weights by PEFT key, and the adapter's configuration; of an older file there is none."""
    if not source.is_file():
        raise InputError(f"{source.parent}: holds no {source.name}")
    folders.check_fetched(source)
    try:
        stored, alphas, config = StableDiffusionPipeline.lora_state_dict(
            source.parent,
            weight_name=source.name,
            use_safetensors=True,
            return_lora_metadata=True,
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise InputError(f"{source}: no LoRA can be read from it: {error}") from error
    if alphas is not None:
        raise InputError(f"{source}: is in kohya's format already")
    weights = convert_unet_state_dict_to_peft(stored)
    if any("lora_magnitude_vector" in key for key in weights):
        raise InputError(
            f"{source}: a DoRA, which programs that read kohya's format apply in different ways; "
            "train with `train.dora: false` for them, or use the folder in diffusers"
        )
    if others := [key for key in weights if not MATRIX.fullmatch(key)]:
        raise InputError(f"{source}: {others[0]} is no matrix of a UNet's LoRA")
    return weights, config or {}


def _rank_and_alpha(
    source: Path, weights: dict[str, Tensor], config: dict[str, Any]
) -> tuple[int, float]:
    """The rank r, and the α for which α/r is the LoRA's scale: of rsLoRA, √r times its own."""
    ranks = {len(value) for key, value in weights.items() if "lora_A" in key}
    if len(ranks) != 1 or config.get("unet.alpha_pattern"):
        raise InputError(f"{source}: expected the same rank and α in every layer")
    (rank,) = ranks
    alpha = config.get("unet.lora_alpha", rank)  # without a configuration the scale is 1
    return rank, alpha * math.sqrt(rank) if config.get("unet.use_rslora") else float(alpha)


def _metadata(folder: Path, name: str, rank: int, alpha: float, kernels: bool) -> dict[str, str]:
    """What programs show of a file: kohya's `ss_` keys, and those of modelspec 1.0.0."""
    said = {
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(rank),
        "ss_network_alpha": str(alpha),
        "ss_base_model_version": "sd_v1",
        "ss_v2": "False",
        "ss_output_name": name,
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": "stable-diffusion-v1/lora",
        "modelspec.implementation": "diffusers",
        "modelspec.title": name,
    }
    if kernels:  # larger than 1 × 1
        said["ss_network_args"] = json.dumps({"conv_dim": str(rank), "conv_alpha": str(alpha)})
    prompt = card.read(folder).get("instance_prompt")
    return said | ({"modelspec.trigger_phrase": prompt} if prompt else {})
