"""The base model: Stable Diffusion's parts, from a local folder in diffusers' layout."""

import json
import logging
import os
from pathlib import Path

import torch
from accelerate import PartialState
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from safetensors import SafetensorError
from transformers import CLIPTextModel

from mpox import params
from mpox.errors import InputError

logger = logging.getLogger(__name__)

KIND = "StableDiffusionPipeline"
NETWORKS = {"unet": UNet2DConditionModel, "vae": AutoencoderKL, "text_encoder": CLIPTextModel}
SMALL_GPU = 16 * 2**30  # bytes: below, pictures pass through the autoencoder one at a time
# What the libraries raise on files cut short, and on JSON of another shape than they expect.
UNLOADABLE = (
    OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, SafetensorError,
)  # fmt: skip
# What a launcher tells each of its processes.
LAUNCHER = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
# Where accelerate takes the model or the batch apart in a way that training here does not know.
FOREIGN = (
    "ACCELERATE_USE_DEEPSPEED", "ACCELERATE_USE_FSDP", "ACCELERATE_USE_MEGATRON_LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG", "ACCELERATE_USE_SAGEMAKER",
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
    params.check_resolution(resolution, folder)
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


def start() -> PartialState:
    """Where we are among the processes launched; to be called before any work.

    On a machine without a GPU accelerate joins torchrun's processes only when told to use the CPU.
    InputError for variables that ask for another way to train, or that no launcher set as a whole.
    """
    for name in FOREIGN:
        if os.environ.get(name, "").lower() not in ("", "0", "false", "no", "off"):
            raise InputError(
                f"{name}: got {os.environ[name]!r}, which is not supported; unset {name}"
            )
    several = _is_launched()
    try:
        return PartialState(cpu=several and not torch.cuda.is_available())
    except (RuntimeError, ValueError, ImportError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"the processes launched cannot be joined: {reason}; see docs/scaling.md, or unset "
            f"{' '.join(LAUNCHER)} to have one"
        ) from None


def _is_launched() -> bool:
    """Whether a launcher started several processes; InputError if it left half its variables."""
    numbers = {"WORLD_SIZE": 1, "RANK": 0, "LOCAL_RANK": -1}
    for name, alone in numbers.items():
        value = os.environ.get(name) or str(alone)
        if not value.removeprefix("-").isdecimal():
            raise InputError(f"{name}: got {value!r}, expected a number; unset {name}")
        numbers[name] = int(value)
    missing = [name for name in LAUNCHER if not os.environ.get(name)]
    if missing and (numbers["WORLD_SIZE"] > 1 or numbers["RANK"] > 0 or numbers["LOCAL_RANK"] >= 0):
        given = [name for name in LAUNCHER if name not in missing]
        raise InputError(
            f"{', '.join(given)}: set without {', '.join(missing)}, as if left from another job; "
            f'unset {" ".join(given)}, or start with LAUNCH="torchrun …" (docs/scaling.md)'
        )
    return numbers["WORLD_SIZE"] > 1


def check_precision(key: str, precision: str) -> None:
    """InputError for fp16 on a CPU, a warning for bf16 there; to be called before any work.

    `key` is the parameter's full name.
    """
    if PartialState().device.type != "cpu":
        return
    if precision == "fp16":
        raise InputError(f"{key}: got fp16, which needs a GPU; expected fp32 or bf16")
    if precision == "bf16":
        logger.warning("%s: bf16 takes several times as long as fp32 without a GPU", key)


def check_prompt(pipeline: StableDiffusionPipeline, prompt: str, key: str = "prompt") -> None:
    """InputError for a prompt that the text encoder would cut off; `key` is its parameter."""
    params.check_prompt(pipeline.tokenizer, prompt, key)


@torch.no_grad()
def encode_text(pipeline: StableDiffusionPipeline, prompt: str) -> torch.Tensor:
    """The text encoder's last hidden states, (1, tokens, width)."""
    check_prompt(pipeline, prompt)
    words = pipeline.tokenizer(prompt, padding="max_length", return_tensors="pt").input_ids
    return pipeline.text_encoder(words.to(pipeline.text_encoder.device))[0]
