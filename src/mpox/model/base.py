"""The base model: Stable Diffusion from a local folder in diffusers' layout."""

import json
import logging
from pathlib import Path

import torch
from accelerate import PartialState
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from safetensors import SafetensorError
from transformers import CLIPTextModel

from mpox import checks
from mpox.core.errors import InputError

logger = logging.getLogger(__name__)

KIND = "StableDiffusionPipeline"
NETWORKS = {"unet": UNet2DConditionModel, "vae": AutoencoderKL, "text_encoder": CLIPTextModel}
SMALL_GPU = 16 * 2**30  # bytes; a smaller GPU decodes one picture at a time
# What the libraries raise for truncated files and for JSON of an unexpected shape.
UNLOADABLE = (
    OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, SafetensorError,
)  # fmt: skip
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def load(folder: Path, resolution: int) -> StableDiffusionPipeline:
    """The pipeline in fp32 on the CPU, from safetensors only, without the safety checker.

    The safety checker would black out medical pictures. InputError if the folder holds no complete
    model, or if `resolution` (pixels) does not fit its autoencoder.
    """
    # If its file is missing, a tokenizer without any word would be loaded.
    words = "tokenizer.json" if (folder / "tokenizer/tokenizer.json").exists() else "vocab.json"
    for name in ("model_index.json", f"tokenizer/{words}"):
        if not (folder / name).is_file():
            raise InputError(
                f"model.path: {folder} holds no {name}; expected a Stable Diffusion folder in "
                "diffusers' layout (params/sd15.yaml downloads SD 1.5)"
            )
    try:
        index = json.loads((folder / "model_index.json").read_text())
        if not isinstance(index, dict) or index.get("_class_name") != KIND:
            raise InputError(f"model.path: {folder}/model_index.json names no {KIND}")
        pipeline = StableDiffusionPipeline.from_pretrained(
            folder,
            **{name: _network(folder, name) for name in NETWORKS},
            dtype=torch.float32,
            use_safetensors=True,
            local_files_only=True,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    except InputError:
        raise
    except UNLOADABLE as error:
        reason = f"{type(error).__name__}: {error}"
        raise InputError(f"model.path: {folder} cannot be loaded: {reason}") from error
    if pipeline.scheduler.config.prediction_type != "epsilon":
        raise InputError(
            f"model.path: {folder} predicts {pipeline.scheduler.config.prediction_type}; "
            "expected epsilon, as in Stable Diffusion 1.x"
        )
    checks.check_resolution(resolution, folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _network(folder: Path, name: str) -> torch.nn.Module:
    """One network; InputError if its file lacks a weight, which would otherwise be random."""
    network, loaded = NETWORKS[name].from_pretrained(
        folder,
        subfolder=name,
        dtype=torch.float32,
        use_safetensors=True,
        local_files_only=True,
        output_loading_info=True,
    )
    if missing := sorted(loaded["missing_keys"]):
        raise InputError(
            f"model.path: {folder / name} lacks {len(missing)} of the network's "
            f"{len(network.state_dict())} weights, for example {missing[0]}"
        )
    return network


def place(pipeline: StableDiffusionPipeline) -> StableDiffusionPipeline:
    """Moves the pipeline to this process's device.

    On a GPU convolutions use channels last, which is fastest, and with little memory the
    autoencoder takes one picture at a time. The CPU keeps the defaults, for the same bits.
    """
    device = PartialState().device
    if device.type == "cuda":
        for network in (pipeline.unet, pipeline.vae):
            network.to(memory_format=torch.channels_last)
        if torch.cuda.get_device_properties(device).total_memory < SMALL_GPU:
            pipeline.vae.enable_slicing()
    return pipeline.to(device)


def move_frozen(pipeline: StableDiffusionPipeline, device: torch.device) -> None:
    """Moves autoencoder and text encoder, 0.8 GB that a training on a GPU can use, to `device`."""
    pipeline.vae.to(device)
    pipeline.text_encoder.to(device)


def check_prompt(pipeline: StableDiffusionPipeline, prompt: str, key: str = "prompt") -> None:
    """InputError for a prompt that the text encoder would truncate; `key` names it in the error."""
    checks.check_prompt(pipeline.tokenizer, prompt, key)


@torch.no_grad()
def encode_text(
    pipeline: StableDiffusionPipeline, prompt: str, key: str = "prompt"
) -> torch.Tensor:
    """The text encoder's last hidden states, (1, tokens, width); `key` as in check_prompt."""
    check_prompt(pipeline, prompt, key)
    words = pipeline.tokenizer(prompt, padding="max_length", return_tensors="pt").input_ids
    return pipeline.text_encoder(words.to(pipeline.text_encoder.device))[0]
