"""Drawing pictures: picture i is a function of (seed, i) in a fixed layout of batches."""

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

# What seeds a stage's pictures beside their index. The base alone draws from the same noise as with
# the LoRA.
PURPOSE = {"generate": "picture", "draw_base": "picture", "draw_class": "class"}


class Request(NamedTuple):
    """One picture to draw."""

    prompt: str
    seed: int  # of its CPU generator
    mean: Tensor | None = None  # (4,), of the latent whose colour its starting noise shows


class Drawn(NamedTuple):
    """A batch on the device: reading it waits for a GPU, drawing the next one does not."""

    pictures: Tensor  # uint8 (B, H, W, 3)
    finite: Tensor  # one bool
    dtype: torch.dtype  # of the UNet

    def read(self) -> np.ndarray:
        """The pictures on the CPU; NotFinite where a number is none."""
        if not self.finite.item():
            number = str(self.dtype).removeprefix("torch.")
            remedy = "; expected bf16 or fp32" if number == "float16" else ""
            raise NotFinite(f"the model gives no finite picture in {number}{remedy}")
        return self.pictures.cpu().numpy()


class NotFinite(InputError):
    """Pictures of NaN: numbers overflowed in the networks, or in the weights."""


class Words(NamedTuple):
    """Encoded prompts of a batch, each (B, tokens, width); no negative one without guidance."""

    prompt: Tensor
    negative: Tensor | None


class Sampler:
    """Draws pictures of side×side pixels with one pipeline and one set of settings."""

    def __init__(self, pipeline: StableDiffusionPipeline, settings: Drawing, side: int):
        self.pipeline, self.settings, self.side = pipeline, settings, side
        self.words: dict[tuple[str, int], Words] = {}

    def draw_all(self, folder: Path, requests: Sequence[Request]) -> dict[str, int]:
        """Draws what is missing of the pictures `00000.png` … in `folder`; returns their seeds.

        A picture's last bits depend on its batch, so batches are always the same ones and the last
        is padded; with several processes each of N takes every N-th batch.
        """
        for prompt in {*(each.prompt for each in requests), self.settings.negative_prompt}:
            base.check_prompt(self.pipeline, prompt)
        folder.mkdir(parents=True, exist_ok=True)
        size, state = self.settings.batch_size, PartialState()
        paths = [folder / f"{i:05d}.png" for i in range(len(requests))]
        # Shared out before any process looks at what is there: they look at different moments.
        mine = range(0, len(requests), size)[state.process_index :: state.num_processes]
        written = Future[None]()
        written.set_result(None)
        # A batch is written while the next one is drawn: two are in memory at most.
        with ThreadPoolExecutor(1) as writer:
            for start in tqdm(mine, desc="draw", unit="batch", disable=not state.is_main_process):
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
                f"{folder}: {missing} pictures that other processes drew are not there; "
                "expected one folder that all machines share"
            )
        state.wait_for_everyone()  # the first process may remove the folder once all have looked
        return {path.name: each.seed for path, each in zip(paths, requests, strict=True)}

    def draw(self, requests: Sequence[Request]) -> Drawn:
        """One batch, each picture's noise from its own seed.

        The starting noise comes from a CPU generator, so it is the same whatever the device.
        """
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
        """√ᾱ m + √(1−ᾱ) ε at the sampler's first timestep, as a training picture would be there.

        means: (B, 4). ε is the noise that the pipeline would draw by each generator.
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
        """A batch's prompts, each distinct one encoded once.

        Row k is row k of its prompt encoded as often as the batch is long: last bits depend on how
        many rows there are.
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
    """So many pictures of one prompt, each with the seed of its index."""
    return [Request(prompt, seeds.derive(seed, purpose, i)) for i in range(number)]


class Job(NamedTuple):
    """What a stage draws."""

    stage: str  # one of PURPOSE
    model: Path
    settings: Generate | DrawClass
    side: int  # pixels
    seed: int
    adapter: Path | None = None  # the LoRA's folder; None: the base alone draws
    photos: Path | None = None  # the folder of leak.FILE_NAME, if not `adapter`

    def asked(self) -> tuple[list[planning.Asked], list[Request]]:
        """Of each picture, what is asked and what is drawn."""
        settings, purpose = self.settings, PURPOSE[self.stage]
        if isinstance(settings, DrawClass):
            requests = series(settings.prompt, settings.num_images, self.seed, purpose)
            return [planning.Asked(settings.prompt, {})] * len(requests), requests
        folder = self.photos or self.adapter
        wanted = settings.fields == "as_training" or settings.signal_leak != "none"
        if wanted and folder is None:
            raise InputError(
                "generate.fields: as_training, or generate.signal_leak, without a LoRA; expected "
                "signal_leak: none and fields of their own"
            )
        photos = leak.read(folder) if folder and wanted else None
        asked, requests = planning.plan(settings, photos), []
        for index, (prompt, fields) in enumerate(asked):
            mean = None
            if photos is not None and settings.signal_leak != "none":
                values = fields if settings.signal_leak == "field" else None
                mean = leak.draw(photos, values, self.seed, index)
            requests.append(Request(prompt, seeds.derive(self.seed, purpose, index), mean))
        return asked, requests


def draw_folder(job: Job, out: Path) -> None:
    """A stage's pictures, whole in `out`; a killed run resumes where it was.

    By all processes that a launcher started.
    """
    process = processes.start()
    if process.is_main_process:  # on several machines the others may look before DVC clears it
        folders.check_vacant(out)
    processes.check_precision(f"{job.stage}.precision", job.settings.precision)
    kept = {"settings": job.settings, "resolution": job.side, "seed": job.seed}
    weights = [job.adapter / lora.FILE_NAME] if job.adapter else []
    known = [job.photos / leak.FILE_NAME] if job.photos else []
    inputs = [job.model, *(file for file in weights + known if file.is_file())]
    work = checkpoints.folder(job.stage, kept, inputs)
    pictures = work / "pictures"
    generate(job, pictures)
    if process.is_main_process:
        folders.copy(pictures, out)
        checkpoints.finish(work)
    process.destroy_process_group()


def generate(job: Job, folder: Path) -> None:
    """Draws the pictures in `folder`, from where a killed run left off.

    The folder's table has each picture's prompt (`text`), `negative_prompt`, the integer that seeds
    its CPU generator (`seed`) and the values of the prompt's fields.
    """
    asked, requests = job.asked()
    folder.mkdir(parents=True, exist_ok=True)
    drawn = _draw(job, folder, requests) if requests else {}
    if PartialState().is_main_process:
        fields = list(asked[0].fields) if asked else []
        rows = {
            name: [each.prompt, job.settings.negative_prompt, seed, *each.fields.values()]
            for (name, seed), each in zip(drawn.items(), asked, strict=True)
        }
        table.write(folder, ["text", "negative_prompt", "seed", *fields], rows)


def _draw(job: Job, folder: Path, requests: list[Request]) -> dict[str, int]:
    """The pictures of a job; the seed of each by its file's name."""
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
            f"{adapter / lora.FILE_NAME}: {error} with this LoRA; expected one less strong"
        ) from None
