"""A LoRA for other programs: kohya's format, which ComfyUI and AUTOMATIC1111 read.

Each layer has `lora_down` (A), `lora_up` (B) and `alpha`; programs add (alpha/r) B A to its weight.
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
    """Writes the LoRA in `folder` to `file`, atomically.

    InputError if the file exists already, and for a LoRA that the format cannot hold.
    """
    if file.suffix != ".safetensors":
        raise InputError(f"{file}: expected a name that ends in .safetensors")
    if file.exists():
        raise InputError(f"{file}: exists already; remove it or choose another name")
    source = folder / lora.FILE_NAME
    weights, config = _read(source)
    rank, alpha = _rank_and_alpha(source, weights, config)
    tensors = {
        # The converter writes the rank instead of α.
        key: torch.tensor(alpha) if key.endswith(".alpha") else value.contiguous()
        for key, value in convert_state_dict_to_kohya(weights).items()
    }
    kernels = any(value.shape[2:].numel() > 1 for value in weights.values())
    folders.write(file, save(tensors, _metadata(folder, file.stem, rank, alpha, kernels)))


def _read(source: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The weights by PEFT key, and the adapter's configuration, which older files lack."""
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
        raise InputError(f"{source}: is not a readable LoRA: {error}") from error
    if alphas is not None:
        raise InputError(f"{source}: is in kohya's format already")
    weights = convert_unet_state_dict_to_peft(stored)
    if any("lora_magnitude_vector" in key for key in weights):
        raise InputError(
            f"{source}: is a DoRA, which programs read from kohya's format in different ways; for "
            "them train with `train.dora: false`, or use the folder in diffusers"
        )
    if others := [key for key in weights if not MATRIX.fullmatch(key)]:
        raise InputError(f"{source}: {others[0]} does not belong to a LoRA of the UNet alone")
    return weights, config or {}


def _rank_and_alpha(
    source: Path, weights: dict[str, Tensor], config: dict[str, Any]
) -> tuple[int, float]:
    """The rank r, and the α for which α/r is the scale; for rsLoRA, √r times the trained α."""
    ranks = {len(value) for key, value in weights.items() if "lora_A" in key}
    if len(ranks) != 1 or config.get("unet.alpha_pattern"):
        raise InputError(f"{source}: expected the same rank and α in every layer")
    (rank,) = ranks
    alpha = config.get("unet.lora_alpha", rank)  # the scale is 1 without a configuration
    return rank, alpha * math.sqrt(rank) if config.get("unet.use_rslora") else float(alpha)


def _metadata(folder: Path, name: str, rank: int, alpha: float, kernels: bool) -> dict[str, str]:
    """The metadata that programs show: kohya's `ss_` keys, and those of modelspec 1.0.0."""
    metadata = {
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
        metadata["ss_network_args"] = json.dumps({"conv_dim": str(rank), "conv_alpha": str(alpha)})
    prompt = card.read(folder).get("instance_prompt")
    return metadata | ({"modelspec.trigger_phrase": prompt} if prompt else {})
