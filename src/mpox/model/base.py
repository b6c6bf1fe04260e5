"""The base model: Stable Diffusion's parts, from a local folder in diffusers' layout."""

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
SMALL_GPU = 16 * 2**30  # bytes: below, pictures pass through the autoencoder one at a time
# What the libraries raise on files cut short, and on JSON of another shape than they expect.
UNLOADABLE = (
    OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, SafetensorError,
)  # fmt: skip
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def load(folder: Path, resolution: int) -> StableDiffusionPipeline:
    """The pipeline in fp32 on the CPU, safetensors only, without a safety checker.

    Medical pictures are what a safety checker blacks out. Raises InputError if the folder holds no
    complete model, or if `resolution` (pixels) does not fit its autoencoder.
    """
    # A tokenizer that is not there would be loaded as one that knows no word.
    words = "tokenizer.json" if (folder / "tokenizer/tokenizer.json").exists() else "vocab.json"
    for name in ("model_index.json", f"tokenizer/{words}"):
        if not (folder / name).is_file():
            raise InputError(
                f"model.path: {folder} holds no {name}; expected a Stable Diffusion folder in "
                "diffusers' layout (params/sd15.yaml has SD 1.5 downloaded)"
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
            "expected epsilon, as Stable Diffusion 1.x"
        )
    checks.check_resolution(resolution, folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _network(folder: Path, name: str) -> torch.nn.Module:
    """One network, all of whose weights are in its file: what is not there would be random."""
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
            f"{len(network.state_dict())} weights, as {missing[0]}"
        )
    return network


def place(pipeline: StableDiffusionPipeline) -> StableDiffusionPipeline:
    """To this process's device.

    On a GPU convolutions are fastest with channels last, and where memory is small the autoencoder
    takes one picture at a time. Neither on the CPU, where bits are promised.
    """
    device = PartialState().device
    if device.type == "cuda":
        for network in (pipeline.unet, pipeline.vae):
            network.to(memory_format=torch.channels_last)
        if torch.cuda.get_device_properties(device).total_memory < SMALL_GPU:
            pipeline.vae.enable_slicing()
    return pipeline.to(device)


def move_frozen(pipeline: StableDiffusionPipeline, device: torch.device) -> None:
    """Autoencoder and text encoder to `device`: on a GPU they hold 0.8 GB that training can use."""
    pipeline.vae.to(device)
    pipeline.text_encoder.to(device)


def check_prompt(pipeline: StableDiffusionPipeline, prompt: str, key: str = "prompt") -> None:
    """InputError for a prompt that the text encoder would cut off; `key` names it in the error."""
    checks.check_prompt(pipeline.tokenizer, prompt, key)


@torch.no_grad()
def encode_text(
    pipeline: StableDiffusionPipeline, prompt: str, key: str = "prompt"
) -> torch.Tensor:
    """The text encoder's last hidden states, (1, tokens, width); `key` as in check_prompt."""
    check_prompt(pipeline, prompt, key)
    words = pipeline.tokenizer(prompt, padding="max_length", return_tensors="pt").input_ids
    return pipeline.text_encoder(words.to(pipeline.text_encoder.device))[0]
