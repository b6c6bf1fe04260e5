"""Pictures from the model: picture i is a function of (seed, i) in a fixed layout of batches."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

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
from torch import Tensor
from tqdm import tqdm

from mpox.core import folders, images, seeds, table
from mpox.core.errors import InputError
from mpox.model import base, checkpoints, lora, processes
from mpox.params import DrawClass, Drawing, Generate
from mpox.sampling import compilation, leak
from mpox.sampling import plan as planning

# What each takes beyond the base's own noise schedule. The base's spacing leaves out t = 999, where
# sampling starts; latents are not confined to [−1, 1], as DDIM would otherwise clip them.
SCHEDULERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "pndm": (PNDMScheduler, {}),
    "dpm++": (DPMSolverMultistepScheduler, {"timestep_spacing": "trailing"}),
    "dpm++_sde": (
        DPMSolverMultistepScheduler,
        {"timestep_spacing": "trailing", "algorithm_type": "sde-dpmsolver++"},
    ),
    "unipc": (UniPCMultistepScheduler, {"timestep_spacing": "trailing"}),
    "ddim": (DDIMScheduler, {"timestep_spacing": "trailing", "clip_sample": False}),
}

# A stage's part of its pictures' seeds: the base alone draws from the same noise as with the LoRA.
PURPOSE = {"generate": "picture", "draw_base": "picture", "draw_class": "class"}


def draw_folder(
    stage: str,
    out: Path,
    model: Path,
    adapter: Path | None,
    settings: Generate | DrawClass,
    resolution: int,
    seed: int,
    photos: Path | None = None,
) -> None:
    """The pictures of a stage, as `generate` draws them, whole in `out`; resumed where killed."""
    processes.check_precision(f"{stage}.precision", settings.precision)
    kept = {"settings": settings, "resolution": resolution, "seed": seed}
    weights = [adapter / lora.FILE_NAME] if adapter else []
    known = [photos / leak.FILE_NAME] if photos else []
    inputs = [model, *(file for file in weights + known if file.is_file())]
    work = checkpoints.folder(stage, kept, inputs)
    pictures = work / "pictures"
    generate(model, adapter, pictures, settings, resolution, seed, stage, photos)
    if PartialState().is_main_process:
        folders.copy(pictures, out)
        checkpoints.finish(work)


def generate(
    model: Path,
    adapter: Path | None,
    folder: Path,
    settings: Generate | DrawClass,
    resolution: int,
    seed: int,
    stage: str = "generate",
    photos: Path | None = None,
) -> None:
    """Draws `settings.num_images` pictures in `folder`, from where a killed run left off.

    With the LoRA in `adapter`, or by the base alone; `stage`, one of PURPOSE, decides the seeds.
    `photos`: the folder of leak.FILE_NAME, if not `adapter`.
    The folder's table has each picture's prompt (`text`), `negative_prompt` and the integer that
    seeds its CPU generator (`seed`).
    """
    drawn: dict[str, int] = {}
    asked, starts = _plan(photos or adapter, settings, seed)
    folder.mkdir(parents=True, exist_ok=True)
    if settings.num_images:
        pipeline = base.load(model, resolution)
        if adapter:
            assert isinstance(settings, Generate)
            lora.fuse(pipeline, adapter, settings.lora_scale)
        base.place(pipeline)
        if settings.precision != "fp32":
            pipeline.to(base.DTYPES[settings.precision])
        compilation.compile_blocks(pipeline.unet)
        try:
            drawn = draw_all(
                pipeline, folder, settings, resolution, seed, PURPOSE[stage], asked, starts
            )
        except NotFinite as error:
            if adapter is None or settings.precision == "fp16":
                raise InputError(f"{stage}.precision: {error}") from None
            raise InputError(
                f"{adapter / lora.FILE_NAME}: {error} with this LoRA; expected one less strong"
            ) from None
    if PartialState().is_main_process:
        fields = list(asked[0].fields) if asked else []
        rows = {
            name: [each.prompt, settings.negative_prompt, own, *each.fields.values()]
            for (name, own), each in zip(drawn.items(), asked, strict=True)
        }
        table.write(folder, ["text", "negative_prompt", "seed", *fields], rows)


def _plan(
    folder: Path | None, settings: Generate | DrawClass, seed: int
) -> tuple[list[planning.Asked], list[Tensor] | None]:
    """What is asked of each picture, and the mean that its first noise shows, if any."""
    if isinstance(settings, DrawClass):
        return [planning.Asked(settings.prompt, {})] * settings.num_images, None
    wanted = settings.fields == "as_training" or settings.signal_leak != "none"
    if wanted and folder is None:
        raise InputError(
            "generate.fields: as_training, or generate.signal_leak, without a LoRA; expected "
            "signal_leak: none and fields of their own"
        )
    photos = leak.read(folder) if folder and wanted else None
    asked = planning.plan(settings, photos)
    if photos is None or settings.signal_leak == "none":
        return asked, None
    by_field = settings.signal_leak == "field"
    return asked, [
        leak.draw(photos, each.fields if by_field else None, seed, index)
        for index, each in enumerate(asked)
    ]


class NotFinite(InputError):
    """Pictures of NaN: numbers overflowed in the networks, or in the weights."""


def draw_all(
    pipeline: StableDiffusionPipeline,
    folder: Path,
    settings: Drawing,
    resolution: int,
    seed: int,
    purpose: str,
    asked: Sequence[planning.Asked] | None = None,
    starts: list[Tensor] | None = None,
) -> dict[str, int]:
    """Draws what is missing of the pictures `00000.png` … in `folder`; returns each one's seed.

    Of each is `asked` the settings' prompt, or its own; `starts` are leak.draw's.
    A picture's last bits depend on its batch, so batches are always the same ones and the last is
    padded; with several processes each of N takes every N-th batch.
    """
    number = settings.num_images
    prompts = [each.prompt for each in asked] if asked else [settings.prompt] * number
    for prompt in {*prompts, settings.negative_prompt}:
        base.check_prompt(pipeline, prompt)
    folder.mkdir(parents=True, exist_ok=True)
    size, state = settings.batch_size, PartialState()
    padded = range(-(-number // size) * size)
    numbers = [seeds.derive(seed, purpose, i) for i in padded]
    paths = [folder / f"{i:05d}.png" for i in padded]
    # Shared out before anyone looks at what is there: processes do not look at the same moment.
    mine = [slice(start, start + size) for start in padded[::size]][
        state.process_index :: state.num_processes
    ]
    # The last batch is padded with what the last picture has: nobody sees it.
    padding = len(padded) - number
    prompts += prompts[-1:] * padding
    means = torch.stack([*starts, *starts[-1:] * padding]) if starts else None
    words = {each: _encode(pipeline, settings, each, size) for each in dict.fromkeys(prompts)}
    written = Future[None]()
    written.set_result(None)
    # A batch is written while the next one is drawn: two are in memory at most.
    with ThreadPoolExecutor(1) as writer:
        for batch in tqdm(mine, desc="draw", unit="batch", disable=not state.is_main_process):
            if all(path.exists() for path in paths[:number][batch]):
                continue
            own = Words.of([words[prompt] for prompt in prompts[batch]])
            first = None if means is None else means[batch]
            drawn = _draw(pipeline, own, numbers[batch], settings, resolution, first)
            written.result()
            written = writer.submit(
                _write, paths[:number][batch], drawn, numbers[batch], prompts[batch]
            )
        written.result()
    state.wait_for_everyone()
    if missing := sum(not path.exists() for path in paths[:number]):
        raise InputError(
            f"{folder}: {missing} pictures that other processes drew are not there; "
            "expected one folder that all machines share"
        )
    state.wait_for_everyone()  # the first process may clear the folder away once all have looked
    return {path.name: own for path, own in zip(paths[:number], numbers, strict=False)}


def _write(paths: list[Path], drawn: "Drawn", numbers: list[int], prompts: list[str]) -> None:
    for path, picture, own, prompt in zip(paths, drawn.read(), numbers, prompts, strict=False):
        images.write(path, picture, {"prompt": prompt, "seed": str(own)})


class Drawn(NamedTuple):
    """A batch where it was drawn: who reads it waits for a GPU, not who draws the next."""

    pictures: Tensor  # uint8 (B, H, W, 3)
    finite: Tensor  # one bool
    dtype: torch.dtype  # that the UNet computed in

    def read(self) -> np.ndarray:
        """The pictures on the CPU; NotFinite if a number of theirs was none."""
        if not self.finite.item():
            number = str(self.dtype).removeprefix("torch.")
            remedy = "; expected bf16 or fp32" if number == "float16" else ""
            raise NotFinite(f"the model gives no finite picture in {number}{remedy}")
        return self.pictures.cpu().numpy()


class Words(NamedTuple):
    """Encoded prompts of a batch, each (B, tokens, width); without guidance none to lead away."""

    prompt: Tensor
    negative: Tensor | None

    @classmethod
    def of(cls, each: list["Words"]) -> "Words":
        """A batch whose row k is row k of `each`[k]."""
        prompt = torch.stack([words.prompt[k] for k, words in enumerate(each)])
        return cls(prompt, each[0].negative)


@torch.no_grad()
def _encode(pipeline: StableDiffusionPipeline, settings: Drawing, prompt: str, size: int) -> Words:
    # All rows at once, though they are the same: last bits depend on how many there are.
    return Words(
        *pipeline.encode_prompt(
            [prompt] * size,
            pipeline.device,
            num_images_per_prompt=1,
            do_classifier_free_guidance=settings.guidance > 1,
            negative_prompt=[settings.negative_prompt] * size,
        )
    )


def draw(
    pipeline: StableDiffusionPipeline, numbers: list[int], settings: Drawing, resolution: int
) -> np.ndarray:
    """A batch: uint8 (B, resolution, resolution, 3), each picture's noise from its own number.

    The starting noise comes from a CPU generator, so it is the same whatever the device.
    """
    words = _encode(pipeline, settings, settings.prompt, len(numbers))
    return _draw(pipeline, words, numbers, settings, resolution).read()


def _draw(
    pipeline: StableDiffusionPipeline,
    words: Words,
    numbers: list[int],
    settings: Drawing,
    resolution: int,
    means: Tensor | None = None,
) -> Drawn:
    scheduler = pipeline.scheduler
    kind, options = SCHEDULERS[settings.scheduler]
    pipeline.scheduler = kind.from_config(scheduler.config, **options)
    generators = [torch.Generator().manual_seed(number) for number in numbers]
    latents = None
    if means is not None:
        latents = _first(pipeline, means, generators, settings.steps, resolution)
    pictures = pipeline(
        prompt_embeds=words.prompt,
        negative_prompt_embeds=words.negative,
        num_inference_steps=settings.steps,
        guidance_scale=settings.guidance,
        height=resolution,
        width=resolution,
        generator=generators,
        latents=latents,
        output_type="pt",
    ).images
    pipeline.scheduler = scheduler
    eight = (255 * pictures.float()).round().to(torch.uint8).permute(0, 2, 3, 1)
    return Drawn(eight, pictures.isfinite().all(), pipeline.unet.dtype)


def _first(
    pipeline: StableDiffusionPipeline,
    means: Tensor,
    generators: list[torch.Generator],
    steps: int,
    resolution: int,
) -> Tensor:
    """√ᾱ m + √(1−ᾱ) ε at the sampler's first timestep, as a training picture would be there.

    ε is the noise that the pipeline would have drawn, by each picture's generator.
    """
    pipeline.scheduler.set_timesteps(steps)
    alpha = pipeline.scheduler.alphas_cumprod[pipeline.scheduler.timesteps[0].long()].cpu()
    side = resolution // pipeline.vae_scale_factor
    shape = (1, means.shape[1], side, side)
    noise = torch.cat(
        [torch.randn(shape, generator=each, dtype=pipeline.unet.dtype) for each in generators]
    )
    return alpha.sqrt() * means[:, :, None, None].to(noise.dtype) + (1 - alpha).sqrt() * noise
