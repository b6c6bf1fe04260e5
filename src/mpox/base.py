"""The base model: Stable Diffusion's parts, from a local folder in diffusers' layout."""

from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline

from mpox.errors import InputError

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def load(folder: Path, resolution: int) -> StableDiffusionPipeline:
    """The pipeline in fp32 on the CPU, safetensors only, without a safety checker.

    Medical pictures are what a safety checker blacks out. Raises InputError if the folder holds no
    complete model, or if `resolution` (pixels) does not fit its autoencoder.
    """
    if not (folder / "model_index.json").is_file():
        raise InputError(
            f"model.path: {folder} holds no model_index.json; expected a Stable Diffusion folder "
            "in diffusers' layout (for SD 1.5: `dvc repro models/sd15/dvc.yaml`)"
        )
    try:
        pipeline = StableDiffusionPipeline.from_pretrained(
            folder,
            dtype=torch.float32,
            use_safetensors=True,
            local_files_only=True,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"model.path: {folder} cannot be loaded: {error}") from error
    if pipeline.scheduler.config.prediction_type != "epsilon":
        raise InputError(
            f"model.path: {folder} predicts {pipeline.scheduler.config.prediction_type}; "
            "expected epsilon, as Stable Diffusion 1.x"
        )
    factor = pipeline.vae_scale_factor * 2 ** (len(pipeline.unet.config.down_block_types) - 1)
    if resolution % factor:
        raise InputError(f"resolution: got {resolution}, expected a multiple of {factor}")
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@torch.no_grad()
def encode_text(pipeline: StableDiffusionPipeline, prompt: str) -> torch.Tensor:
    """The text encoder's last hidden states, (1, tokens, width), for a prompt cut at its limit."""
    words = pipeline.tokenizer(
        prompt, padding="max_length", truncation=True, return_tensors="pt"
    ).input_ids
    return pipeline.text_encoder(words.to(pipeline.text_encoder.device))[0]
