"""Drawing pictures: picture i depends only on (seed, i) and the fixed layout of batches."""

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

# Options beyond the base's noise schedule. Trailing timesteps start at t = 999, which the base's
# own spacing leaves out. Latents may leave [−1, 1], so DDIM must not clip them.
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

# The purpose in the seeds of a stage's pictures. draw_base starts from the same noise as generate.
PURPOSE = {"generate": "picture", "draw_base": "picture", "draw_class": "class"}


class Request(NamedTuple):
    """One picture to draw."""

    prompt: str
    seed: int  # of its CPU generator
    mean: Tensor | None = None  # (4,), the latent colour mixed into its starting noise


class Drawn(NamedTuple):
    """A batch on the device. Reading it waits for the GPU; drawing the next one does not."""

    pictures: Tensor  # uint8 (B, H, W, 3)
    finite: Tensor  # one bool
    dtype: torch.dtype  # of the UNet

    def read(self) -> np.ndarray:
        """The pictures on the CPU; NotFinite if they contain NaN or infinity."""
        if not self.finite.item():
            precision = str(self.dtype).removeprefix("torch.")
            remedy = "; expected bf16 or fp32" if precision == "float16" else ""
            raise NotFinite(f"the pictures are not finite in {precision}{remedy}")
        return self.pictures.cpu().numpy()


class NotFinite(InputError):
    """Pictures of NaN: the networks or the weights overflowed."""


class Words(NamedTuple):
    """The encoded prompts of a batch, each (B, tokens, width)."""

    prompt: Tensor
    negative: Tensor | None  # None without guidance


class Sampler:
    """Draws pictures of side×side pixels with one pipeline and one set of settings."""

    def __init__(self, pipeline: StableDiffusionPipeline, settings: Drawing, side: int):
        self.pipeline, self.settings, self.side = pipeline, settings, side
        self.words: dict[tuple[str, int], Words] = {}

    def draw_all(self, folder: Path, requests: Sequence[Request]) -> dict[str, int]:
        """Draws those of `00000.png` … that `folder` lacks; the seed of each picture by its name.

        The last bits of a picture depend on its batch. So batches never change, and the last one is
        padded. Each of N processes draws every N-th batch.
        """
        for prompt in {*(each.prompt for each in requests), self.settings.negative_prompt}:
            base.check_prompt(self.pipeline, prompt)
        folder.mkdir(parents=True, exist_ok=True)
        size, state = self.settings.batch_size, PartialState()
        paths = [folder / f"{i:05d}.png" for i in range(len(requests))]
        # Before looking for existing files, because the processes look at different moments.
        starts = range(0, len(requests), size)[state.process_index :: state.num_processes]
        written = Future[None]()
        written.set_result(None)
        # A batch is written while the next one is drawn, so at most two are in memory.
        with ThreadPoolExecutor(1) as writer:
            for start in tqdm(starts, desc="draw", unit="batch", disable=not state.is_main_process):
                files, batch = paths[start : start + size], [*requests[start : start + size]]
                if all(file.exists() for file in files):
                    continue
                drawn = self.draw(batch + batch[-1:] * (size - len(batch)))
                written.result()
                written = writer.submit(_write, files, drawn, batch)
            written.result()
        state.wait_for_everyone()
        if missing := sum(not path.exists() for path in paths):
            raise InputError(
                f"{folder}: {missing} pictures of other processes are missing; expected one folder "
                "that all machines share"
            )
        state.wait_for_everyone()  # the first process may remove the folder once all have looked
        return {path.name: each.seed for path, each in zip(paths, requests, strict=True)}

    def draw(self, requests: Sequence[Request]) -> Drawn:
        """One batch. CPU generators give the starting noise, so it is the same on every device."""
        pipeline, settings = self.pipeline, self.settings
        words = self._words([each.prompt for each in requests])
        scheduler = pipeline.scheduler
        kind, options = SCHEDULERS[settings.scheduler]
        pipeline.scheduler = kind.from_config(scheduler.config, **options)
        generators = [torch.Generator().manual_seed(each.seed) for each in requests]
        means = [each.mean for each in requests if each.mean is not None]
        pictures = pipeline(
            prompt_embeds=words.prompt,
            negative_prompt_embeds=words.negative,
            num_inference_steps=settings.steps,
            guidance_scale=settings.guidance,
            height=self.side,
            width=self.side,
            generator=generators,
            latents=self._start(torch.stack(means), generators) if means else None,
            output_type="pt",
        ).images
        pipeline.scheduler = scheduler
        eight = (255 * pictures.float()).round().to(torch.uint8).permute(0, 2, 3, 1)
        return Drawn(eight, pictures.isfinite().all(), pipeline.unet.dtype)

    def _start(self, means: Tensor, generators: list[torch.Generator]) -> Tensor:
        """√ᾱ m + √(1−ᾱ) ε at the sampler's first timestep: a training picture noised that far.

        means: (B, 4). ε is the noise that the pipeline would draw from each generator.
        """
        pipeline = self.pipeline
        pipeline.scheduler.set_timesteps(self.settings.steps)
        first = pipeline.scheduler.timesteps[0].long()
        alpha = pipeline.scheduler.alphas_cumprod[first].cpu()
        side = self.side // pipeline.vae_scale_factor
        shape = (1, means.shape[1], side, side)
        noise = torch.cat(
            [torch.randn(shape, generator=each, dtype=pipeline.unet.dtype) for each in generators]
        )
        return alpha.sqrt() * means[:, :, None, None].to(noise.dtype) + (1 - alpha).sqrt() * noise

    @torch.no_grad()
    def _words(self, prompts: Sequence[str]) -> Words:
        """The prompts of a batch; each distinct prompt is encoded once per batch size.

        The last bits of an encoding depend on the number of rows. So a prompt is encoded as a whole
        batch, and row k of that serves picture k.
        """
        size = len(prompts)
        for prompt in dict.fromkeys(prompts):
            if (prompt, size) not in self.words:
                self.words[prompt, size] = Words(
                    *self.pipeline.encode_prompt(
                        [prompt] * size,
                        self.pipeline.device,
                        num_images_per_prompt=1,
                        do_classifier_free_guidance=self.settings.guidance > 1,
                        negative_prompt=[self.settings.negative_prompt] * size,
                    )
                )
        encoded = [self.words[prompt, size] for prompt in prompts]
        rows = torch.stack([words.prompt[k] for k, words in enumerate(encoded)])
        return Words(rows, encoded[0].negative)


def _write(files: Sequence[Path], drawn: Drawn, requests: Sequence[Request]) -> None:
    # The rows beyond `files` are padding.
    for file, picture, request in zip(files, drawn.read(), requests, strict=False):
        images.write(file, picture, {"prompt": request.prompt, "seed": str(request.seed)})


def series(prompt: str, number: int, seed: int, purpose: str) -> list[Request]:
    """Requests for `number` pictures of one prompt; the index of each gives its seed."""
    return [Request(prompt, seeds.derive(seed, purpose, i)) for i in range(number)]


class Job(NamedTuple):
    """The pictures that a stage draws."""

    stage: str  # one of PURPOSE
    model: Path
    settings: Generate | DrawClass
    side: int  # pixels
    seed: int
    adapter: Path | None = None  # the LoRA's folder; None: draw with the base alone
    photos: Path | None = None  # the folder of leak.FILE_NAME, if not `adapter`

    def requests(self) -> tuple[list[planning.Entry], list[Request]]:
        """The entry of the plan for each picture, and the request to draw it."""
        settings, purpose = self.settings, PURPOSE[self.stage]
        if isinstance(settings, DrawClass):
            requests = series(settings.prompt, settings.num_images, self.seed, purpose)
            return [planning.Entry(settings.prompt, {})] * len(requests), requests
        folder = self.photos or self.adapter
        needed = settings.fields == "as_training" or settings.signal_leak != "none"
        if needed and folder is None:
            key = "fields: as_training" if settings.fields == "as_training" else "signal_leak"
            raise InputError(
                f"generate.{key} needs a LoRA with its {leak.FILE_NAME}; without one, expected "
                "signal_leak: none and a list of fields"
            )
        photos = leak.read(folder) if folder and needed else None
        entries, requests = planning.plan(settings, photos), []
        for index, (prompt, fields) in enumerate(entries):
            mean = None
            if photos is not None and settings.signal_leak != "none":
                values = fields if settings.signal_leak == "field" else None
                mean = leak.draw(photos, values, self.seed, index)
            requests.append(Request(prompt, seeds.derive(self.seed, purpose, index), mean))
        return entries, requests


def draw_folder(job: Job, out: Path) -> None:
    """Draws the pictures of a stage into `out`, in all processes that a launcher started.

    A killed run resumes, and `out` appears only when it is complete.
    """
    process = processes.start()
    if process.is_main_process:  # other machines may look before DVC has cleared the folder
        folders.check_vacant(out)
    processes.check_precision(f"{job.stage}.precision", job.settings.precision)
    settings = {"settings": job.settings, "resolution": job.side, "seed": job.seed}
    files = [job.adapter / lora.FILE_NAME] if job.adapter else []
    files += [job.photos / leak.FILE_NAME] if job.photos else []
    inputs = [job.model, *(file for file in files if file.is_file())]
    work = checkpoints.folder(job.stage, settings, inputs)
    pictures = work / "pictures"
    generate(job, pictures)
    if process.is_main_process:
        folders.copy(pictures, out)
        checkpoints.finish(work)
    process.destroy_process_group()


def generate(job: Job, folder: Path) -> None:
    """Draws the pictures that `folder` lacks, and writes its table.

    The table holds each picture's prompt (`text`), `negative_prompt`, the seed of its CPU generator
    (`seed`) and the values of the prompt's fields.
    """
    entries, requests = job.requests()
    folder.mkdir(parents=True, exist_ok=True)
    drawn = _draw(job, folder, requests) if requests else {}
    if PartialState().is_main_process:
        fields = list(entries[0].fields) if entries else []
        rows = {
            name: [entry.prompt, job.settings.negative_prompt, seed, *entry.fields.values()]
            for (name, seed), entry in zip(drawn.items(), entries, strict=True)
        }
        table.write(folder, ["text", "negative_prompt", "seed", *fields], rows)


def _draw(job: Job, folder: Path, requests: list[Request]) -> dict[str, int]:
    """Draws the pictures of a job; the seed of each by its file name."""
    settings, adapter = job.settings, job.adapter
    pipeline = base.load(job.model, job.side)
    if adapter:
        assert isinstance(settings, Generate)
        lora.fuse(pipeline, adapter, settings.lora_scale)
    base.place(pipeline)
    if settings.precision != "fp32":
        pipeline.to(base.DTYPES[settings.precision])
    compilation.compile_blocks(pipeline.unet)
    try:
        return Sampler(pipeline, settings, job.side).draw_all(folder, requests)
    except NotFinite as error:
        if adapter is None or settings.precision == "fp16":
            raise InputError(f"{job.stage}.precision: {error}") from None
        raise InputError(
            f"{adapter / lora.FILE_NAME}: {error} with this LoRA; lower generate.lora_scale or "
            "train it with a lower learning rate"
        ) from None
