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
from mpox.params import Drawing, Generate

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
    lora.fuse(pipeline, adapter)
    pipeline.to(PartialState().device)
    if settings.precision != "fp32":
        pipeline.to(base.DTYPES[settings.precision])
    return draw_all(pipeline, work, settings, resolution, seed, "picture")


def draw_all(
    pipeline: StableDiffusionPipeline,
    folder: Path,
    settings: Drawing,
    resolution: int,
    seed: int,
    purpose: str,
) -> dict[str, int]:
    """Draws what is missing of the pictures `00000.png` … in `folder`; returns each one's seed.

    A picture's last bits depend on its batch, so batches are always the same ones and the last is
    padded; with several processes each takes every so manieth batch.
    """
    for prompt in (settings.prompt, settings.negative_prompt):
        base.check_prompt(pipeline, prompt)
    folder.mkdir(parents=True, exist_ok=True)
    size, number, state = settings.batch_size, settings.num_images, PartialState()
    padded = range(-(-number // size) * size)
    numbers = [seeds.derive(seed, purpose, i) for i in padded]
    paths = [folder / f"{i:05d}.png" for i in padded]
    # Shared out before anyone looks at what is there: processes do not look at the same moment.
    mine = [slice(start, start + size) for start in padded[::size]][
        state.process_index :: state.num_processes
    ]
    for batch in tqdm(mine, desc="draw", unit="batch", disable=not state.is_main_process):
        if all(path.exists() for path in paths[:number][batch]):
            continue
        drawn = draw(pipeline, numbers[batch], settings, resolution)
        for path, picture, own in zip(paths[:number][batch], drawn, numbers[batch], strict=False):
            images.write(path, picture, {"prompt": settings.prompt, "seed": str(own)})
    state.wait_for_everyone()
    return {path.name: own for path, own in zip(paths[:number], numbers, strict=False)}


def draw(
    pipeline: StableDiffusionPipeline, numbers: list[int], settings: Drawing, resolution: int
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
    if not np.isfinite(pictures).all():
        raise InputError(
            f"precision: the model gives no finite picture in {pipeline.dtype}; "
            "expected bf16 or fp32"
        )
    return np.round(255 * pictures).astype(np.uint8)
