"""Pictures from the model: picture i is a function of (seed, i) in a fixed layout of batches."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    UniPCMultistepScheduler,
)
from tqdm import tqdm

from mpox import base, images, lora, seeds
from mpox.errors import InputError
from mpox.params import Generate

# What each takes beyond the base's own noise schedule. The base's spacing leaves out t = 999, where
# sampling starts; latents are not confined to [−1, 1], as DDIM would otherwise clip them.
SCHEDULERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "pndm": (PNDMScheduler, {}),
    "dpm++": (DPMSolverMultistepScheduler, {"timestep_spacing": "trailing"}),
    "unipc": (UniPCMultistepScheduler, {"timestep_spacing": "trailing"}),
    "ddim": (DDIMScheduler, {"timestep_spacing": "trailing", "clip_sample": False}),
}


def generate(
    model: Path, adapter: Path, work: Path, settings: Generate, resolution: int, seed: int
) -> dict[str, int]:
    """Draws `settings.num_images` pictures in `work`, from where a killed run left off.

    Returns each file's name and the integer that seeds its CPU generator.
    """
    pipeline = base.load(model, resolution)
    with_adapter(pipeline, adapter)
    pipeline.to(PartialState().device, base.DTYPES[settings.precision])
    return draw_all(pipeline, work, settings, resolution, seed, "picture")


def with_adapter(pipeline: StableDiffusionPipeline, folder: Path) -> None:
    """Fuses the LoRA in `folder` into the UNet, in fp32: in bf16 the change is 1.7 % off."""
    if not (folder / lora.FILE_NAME).is_file():
        raise InputError(f"{folder}: holds no {lora.FILE_NAME}")
    try:
        pipeline.load_lora_weights(folder, weight_name=lora.FILE_NAME)
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"{folder}: the LoRA does not fit the base model: {error}") from error
    pipeline.fuse_lora()
    pipeline.unload_lora_weights()


def draw_all(
    pipeline: StableDiffusionPipeline,
    folder: Path,
    settings: Generate,
    resolution: int,
    seed: int,
    purpose: str,
) -> dict[str, int]:
    """Draws what is missing of the pictures `00000.png` … in `folder`; returns each one's seed.

    A picture's last bits depend on its batch, so batches are always the same ones and the last is
    padded; with several processes each takes every so manieth batch.
    """
    folder.mkdir(parents=True, exist_ok=True)
    size, number, state = settings.batch_size, settings.num_images, PartialState()
    padded = range(-(-number // size) * size)
    numbers = [seeds.derive(seed, purpose, i) for i in padded]
    paths = [folder / f"{i:05d}.png" for i in padded]
    batches = [slice(start, start + size) for start in padded[::size]]
    todo = [b for b in batches if not all(path.exists() for path in paths[:number][b])]
    bar = tqdm(total=number, initial=max(0, number - len(todo) * size), desc="draw", unit="picture",
               disable=not state.is_main_process)  # fmt: skip
    for batch in todo[state.process_index :: state.num_processes]:
        drawn = draw(pipeline, numbers[batch], settings, resolution)
        for path, picture, own in zip(paths[:number][batch], drawn, numbers[batch], strict=False):
            said = {"prompt": settings.prompt, "seed": str(own)}
            images.write(path, picture, said)
        bar.update(size * state.num_processes)
    bar.close()
    state.wait_for_everyone()
    return {path.name: own for path, own in zip(paths[:number], numbers, strict=False)}


def draw(
    pipeline: StableDiffusionPipeline, numbers: list[int], settings: Generate, resolution: int
) -> np.ndarray:
    """A batch: uint8 (B, resolution, resolution, 3), each picture's noise from its own number.

    The starting noise comes from a CPU generator, so it is the same whatever the device.
    """
    scheduler = pipeline.scheduler
    kind, options = SCHEDULERS[settings.scheduler]
    pipeline.scheduler = kind.from_config(scheduler.config, **options)
    pictures = pipeline(
        prompt=[settings.prompt] * len(numbers),
        negative_prompt=[settings.negative_prompt] * len(numbers),
        num_inference_steps=settings.steps,
        guidance_scale=settings.guidance,
        height=resolution,
        width=resolution,
        generator=[torch.Generator().manual_seed(number) for number in numbers],
        output_type="np",
    ).images
    pipeline.scheduler = scheduler
    return np.round(255 * pictures).astype(np.uint8)
