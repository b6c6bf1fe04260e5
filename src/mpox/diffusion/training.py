"""DreamBooth LoRA training (Ruiz et al. 2023; Hu et al. 2022) that resumes bit for bit.

Order, noise, timestep and posterior draw of a step are functions of (seed, step): nothing that ran
before enters, so a resumed run, or one on more processes, sees what an uninterrupted one sees.
"""

import functools
import logging
import math
import os
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import GradientAccumulationPlugin, broadcast_object_list
from diffusers import UNet2DConditionModel
from diffusers.optimization import get_scheduler
from torch import Tensor
from tqdm import tqdm

from mpox import checkpoints, images, processes, seeds, table
from mpox.diffusion import base, card, latents, lora, loss, sampling
from mpox.diffusion.curves import Curves, History, check_tracker
from mpox.errors import InputError
from mpox.params import Drawing, Train

logger = logging.getLogger(__name__)

LOG_STEPS = 10  # between points of the training curve, each of which waits for the device
VAL_TIMESTEPS = 8  # a held-out picture
VAL_BATCH = 16
CHECKPOINT = "state.pt"


def train(
    augmented: Path,
    held_out: Path,
    model: Path,
    work: Path,
    settings: Train,
    resolution: int,
    seed: int,
) -> Path:
    """Trains in `work`, from its checkpoint if one is there; returns the folder of the result.

    That holds `lora/` (the weights chosen by `settings.select`, a model card, `checkpoint-N/`,
    validation pictures) and `curves/`. Raises InputError for input that does not fit and for a loss
    that diverges.
    """
    files, held_files = images.find(augmented)[0], images.find(held_out)[0]
    patients_known = table.groups(held_out, [file.name for file in held_files])[1]
    if len(files) < settings.batch_size:
        raise InputError(
            f"train.batch_size: got {settings.batch_size}, expected at most the {len(files)} "
            f"pictures in {augmented}"
        )
    accelerator, micro_batch = _accelerator(settings), _micro_batch()
    if accelerator.is_main_process:
        check_tracker()
    pipeline = base.place(base.load(model, resolution))
    alphas = pipeline.scheduler.alphas_cumprod.to(accelerator.device)
    prior = settings.prior_preservation
    base.check_prompt(pipeline, settings.instance_prompt, "train.instance_prompt")
    base.check_prompt(pipeline, settings.validation_prompt, "train.validation_prompt")
    base.check_prompt(pipeline, prior.class_prompt, "train.prior_preservation.class_prompt")

    def concept(files: list[Path], prompt: str, name: str) -> Concept:
        posterior = latents.encode(pipeline.vae, files, resolution, name)
        return Concept(name, posterior, base.encode_text(pipeline, prompt), alphas, seed)

    held = concept(held_files, settings.instance_prompt, "held-out pictures")
    learnt = concept(files, settings.instance_prompt, "training pictures")
    lessons = [Lesson(learnt, settings.batch_size)]
    if prior.weight:
        drawing = _drawing(settings, prior.class_prompt, prior.num_class_images)
        sampling.draw_all(pipeline, work / "class", drawing, resolution, seed, "class")
        drawn = images.find(work / "class")[0]
        known = concept(drawn, prior.class_prompt, "class pictures")
        lessons.append(Lesson(known, prior.batch_size, prior.weight))

    learner = Learner(pipeline.unet, settings, accelerator, seed, micro_batch)
    base.move_frozen(pipeline, torch.device("cpu"))  # pictures and prompts are encoded
    point = learner.resume(work)
    main, started, done = accelerator.is_main_process, time.perf_counter(), learner.step
    result = work / "result"
    drawing = _drawing(settings, settings.validation_prompt, settings.validation_images)

    def validate(step: int, curves: Curves) -> None:
        """Draws the validation pictures of a step; of step 0 they are the base's own."""
        folder = result / "lora" / "validation" / f"step-{step:06d}"
        base.move_frozen(pipeline, accelerator.device)
        sampling.draw_all(pipeline, folder, drawing, resolution, seed, "validation")
        base.move_frozen(pipeline, torch.device("cpu"))
        curves.show(step, folder)

    with Curves(result / "curves", settings, point.history if point else [], main) as curves:
        if point:
            best, now = point.best, point.now
        else:
            best = now = learner.measure(held)
            curves.log(0, {"val_loss": best.val_loss})
            validate(0, curves)
        for step, value in learner.steps(lessons):
            learner.total += value
            last = step == settings.max_steps
            if step % LOG_STEPS == 0 or last:
                mean = accelerator.reduce(learner.total, "mean").item()
                mean /= (step - 1) % LOG_STEPS + 1
                learner.total.zero_()
                _check_finite(mean, step, settings)
                curves.log(step, {"loss": mean, "learning_rate": learner.learning_rate})
            measured = step % settings.val_loss_steps == 0 or last
            if measured:
                now = learner.measure(held)
                _check_finite(now.val_loss, step, settings)
                best = min(best, now, key=lambda adapter: adapter.val_loss)
                curves.log(step, {"val_loss": now.val_loss})
            if step % settings.checkpointing_steps == 0 and main:
                lora.save(learner.unet, result / "lora" / f"checkpoint-{step}")
            if step % settings.validation_steps == 0 or last:
                validate(step, curves)
            if measured:
                learner.save(work, best, now, curves.history)
        chosen = best if settings.select == "best" else now
        if chosen.step == 0:
            logger.warning("no step lowered the held-out loss: the LoRA kept is the untrained one")
        summary = {"selected/step": chosen.step, "selected/val_loss": chosen.val_loss}
        curves.log(settings.max_steps, summary)
        curves.draw(result / "lora" / "curves.png")
    if main:
        lora.restore(learner.unet, chosen.weights)
        lora.save(learner.unet, result / "lora")
        counts = {
            "originals": _originals(augmented, files),
            "pictures": len(files),
            "held_out": len(held_files),
        }
        card.write(
            result / "lora", model, settings, chosen.step, counts, patients_known, resolution, seed
        )
    speed = (settings.max_steps - done) * settings.batch_size / (time.perf_counter() - started)
    logger.info("trained %d steps, %.1f samples/s", settings.max_steps - done, speed)
    accelerator.wait_for_everyone()
    return result


@dataclass
class Adapter:
    """LoRA weights (by PEFT key, on the CPU), the step they are of, their held-out loss."""

    weights: dict[str, Tensor]
    step: int
    val_loss: float


class ResumePoint(NamedTuple):
    best: Adapter  # so far
    now: Adapter  # as it was
    history: History


@dataclass
class Concept:
    """Encoded pictures and the words they are learnt under."""

    name: str
    posterior: latents.Posterior
    states: Tensor  # (1, tokens, width)
    alphas: Tensor  # ᾱ of every timestep, (T,)
    seed: int

    def batch(self, step: int, size: int) -> tuple[Tensor, Tensor, Tensor]:
        """(x₀, ε, t) of a step: (B, 4, h, w), (B, 4, h, w), (B,); each picture once an epoch."""
        number = len(self.posterior.mean)
        places = [divmod(place, number) for place in range(step * size, (step + 1) * size)]
        chosen = torch.tensor([_order(self.seed, self.name, e, number)[i] for e, i in places])
        rng = torch.Generator().manual_seed(seeds.derive(self.seed, self.name, step))
        t = torch.randint(len(self.alphas), (size,), generator=rng)
        return self._noised(chosen, t, rng)

    def fixed(self, draw: int = 0) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Every picture at timesteps spread evenly over the range, the same at every call."""
        number = len(self.posterior.mean)
        rng = torch.Generator().manual_seed(seeds.derive(self.seed, self.name, "fixed", draw))
        strata = torch.arange(VAL_TIMESTEPS) + torch.rand((number, 1), generator=rng)
        t = (strata * len(self.alphas) / VAL_TIMESTEPS).long().flatten()
        t = t.clamp(max=len(self.alphas) - 1)  # 7 + 0.99999999 is 8 in float32
        chosen = torch.arange(number).repeat_interleave(VAL_TIMESTEPS)
        return [
            self._noised(c, k, rng)
            for c, k in zip(chosen.split(VAL_BATCH), t.split(VAL_BATCH), strict=True)
        ]

    def _noised(self, chosen: Tensor, t: Tensor, rng: torch.Generator) -> tuple:
        # Drawn on the CPU: the same numbers whatever the device.
        shape = (len(chosen), *self.posterior.mean.shape[1:])
        noise, epsilon = torch.randn(shape, generator=rng), torch.randn(shape, generator=rng)
        chosen, noise, epsilon, t = (
            _send(x, self.alphas.device) for x in (chosen, noise, epsilon, t)
        )
        return self.posterior.draw(chosen, noise), epsilon, t


class Lesson(NamedTuple):
    """What a concept has of every training step."""

    concept: Concept
    batch_size: int
    weight: float = 1.0  # of its mean loss


def _send(x: Tensor, device: torch.device) -> Tensor:
    """To `device`; to a GPU from pinned memory, so that nobody waits for the step it is at."""
    return x.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else x.to(device)


@functools.lru_cache(maxsize=8)
def _order(seed: int, name: str, epoch: int, number: int) -> list[int]:
    rng = np.random.default_rng(seeds.derive(seed, name, "order", epoch))
    return rng.permutation(number).tolist()


class Learner:
    """The UNet with its adapter, and all that changes from step to step."""

    def __init__(
        self,
        unet: UNet2DConditionModel,
        settings: Train,
        accelerator: Accelerator,
        seed: int,
        micro_batch: int | None = None,
    ):
        self.settings, self.accelerator, self.step = settings, accelerator, 0
        self.unet, self.micro_batch = unet, micro_batch
        if settings.precision != "fp32":
            unet.to(base.DTYPES[settings.precision])
        lora.add(
            unet,
            settings.rank,
            settings.alpha,
            settings.target_modules,
            seeds.derive(seed, "lora"),
            rslora=settings.rslora,
            dora=settings.dora,
        )
        if settings.gradient_checkpointing:
            unet.enable_gradient_checkpointing()
        unet.train()
        self.trained = [p for p in unet.parameters() if p.requires_grad]
        optimizer = _optimizer(settings, self.trained)
        self.schedule = get_scheduler(
            settings.lr_scheduler,
            optimizer,
            num_warmup_steps=settings.warmup_steps,
            num_training_steps=settings.max_steps,
        )
        self.model, self.optimizer = accelerator.prepare(unet, optimizer)
        self.learning_rate = self.schedule.get_last_lr()[0]
        self.total = torch.zeros((), device=accelerator.device)  # loss since the last logged step

    def steps(self, lessons: list[Lesson]):
        """Trains to the end; yields after each step its number, from 1, and its loss, a tensor.

        With several processes the loss is this one's part: the mean of the parts is the batch's.
        """
        settings = self.settings
        bar = tqdm(
            total=settings.max_steps, initial=self.step, desc="train", unit="step",
            disable=not self.accelerator.is_main_process, mininterval=1,
        )  # fmt: skip
        while self.step < settings.max_steps:
            self.learning_rate = self.schedule.get_last_lr()[0]
            value = self._backward(lessons)
            self.accelerator.clip_grad_norm_(self.trained, settings.max_grad_norm)
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.schedule.step()
            self.step += 1
            bar.update()
            yield self.step, value
        bar.close()

    def _backward(self, lessons: list[Lesson]) -> Tensor:
        """Adds up the gradients of a step, micro-batch by micro-batch; its loss, a tensor.

        Its samples are of all concepts, so that one pass of the UNet serves them all.
        """
        index, number = self.accelerator.process_index, self.accelerator.num_processes
        mine = [lesson for lesson in lessons if index < lesson.batch_size]
        # The exchange of gradients waits for every process: one too many takes what counts for 0.
        idle = [lessons[0]._replace(weight=0.0)]
        samples = []
        for concept, size, weight in mine or idle:
            # Every process draws the whole batch and takes its rows, so their number changes none.
            # The mean of Σ errors / (B/P) over P processes is the batch's, however it is divided.
            rows = slice(index % size, None, number)
            x0, epsilon, t = (x[rows] for x in concept.batch(self.step, size))
            alphas = concept.alphas[t]
            weights = torch.full_like(alphas, weight * number / size)
            if self.settings.min_snr_gamma:
                weights *= loss.min_snr_weight(alphas, self.settings.min_snr_gamma)
            states = concept.states.expand(len(t), -1, -1)
            samples.append((loss.add_noise(x0, epsilon, alphas), epsilon, t, states, weights))
        columns = (torch.cat(column) for column in zip(*samples, strict=True))
        split = (column.split(self.micro_batch or len(column)) for column in columns)
        parts = list(zip(*split, strict=True))
        total = torch.zeros((), device=self.accelerator.device)
        for k, (noisy, epsilon, t, states, weights) in enumerate(parts, 1):
            # Processes exchange gradients once a step: the sums, in the last micro-batch.
            last = k == len(parts)
            with nullcontext() if last else self.accelerator.no_sync(self.model):
                value = (weights * self._errors(noisy, epsilon, t, states)).sum()
                self.accelerator.backward(value)
            total += value.detach()
        return total

    def _errors(self, noisy: Tensor, epsilon: Tensor, t: Tensor, states: Tensor) -> Tensor:
        """‖ε − ε_θ(x_t, t, c)‖² of each sample (Ho et al. 2020, eq. 14): (B,)."""
        noisy, states = (x.to(self.unet.dtype) for x in (noisy, states))
        return loss.mse(self.model(noisy, t, states).sample, epsilon)

    @torch.no_grad()
    def measure(self, held: Concept, draw: int = 0) -> Adapter:
        """The adapter as it is, and its mean loss on held-out pictures.

        The training loss is noise; here noise and timesteps are fixed (`draw` numbers them), so
        that one step compares with another.
        """
        accelerator, batches = self.accelerator, held.fixed(draw)
        errors = [torch.zeros(len(t), device=t.device) for _, _, t in batches]
        self.unet.eval()
        for i in range(accelerator.process_index, len(batches), accelerator.num_processes):
            x0, epsilon, t = batches[i]
            noisy = loss.add_noise(x0, epsilon, held.alphas[t])
            columns = (noisy, epsilon, t, held.states.expand(len(t), -1, -1))
            parts = zip(*(x.split(self.micro_batch or len(t)) for x in columns), strict=True)
            errors[i] = torch.cat([self._errors(*part) for part in parts])
        self.unet.train()
        # Zeros but for one process's: the sum is exact, and the same whatever their number.
        value = accelerator.reduce(torch.cat(errors), "sum").mean().item()
        return Adapter(lora.state(self.unet), self.step, value)

    def save(self, work: Path, best: Adapter, now: Adapter, history: History) -> None:
        """Writes the resume point, whole or not at all; any number of processes can go on from it.

        To be called by every process: the loss since the last logged step is of them all.
        """
        self.total = self.accelerator.reduce(self.total, "mean")
        if not self.accelerator.is_main_process:
            return
        state = {
            "total": self.total.cpu(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.accelerator.scaler.state_dict() if self.accelerator.scaler else {},
            "best": vars(best),
            "now": vars(now),
            "history": history,
        }
        checkpoints.save(state, work / CHECKPOINT)

    def resume(self, work: Path) -> ResumePoint | None:
        """Goes back to the resume point in `work`, if there is one: all processes to the same."""
        state = None
        if self.accelerator.is_main_process and (work / CHECKPOINT).exists():
            state = checkpoints.load(work / CHECKPOINT)
        [state] = broadcast_object_list([state])
        if state is None:
            return None
        best, now = Adapter(**state["best"]), Adapter(**state["now"])
        self.step = now.step
        self.total.copy_(state["total"])
        lora.restore(self.unet, now.weights)
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        if self.accelerator.scaler:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        logger.info("resuming after step %d", self.step)
        return ResumePoint(best, now, state["history"])


def _check_finite(value: float, step: int, settings: Train) -> None:
    if not math.isfinite(value):
        raise InputError(
            f"train: the loss is not finite at step {step}; "
            f"lower train.learning_rate (now {settings.learning_rate})"
        )


def _drawing(settings: Train, prompt: str, number: int) -> Drawing:
    sampler = settings.preview.model_dump()
    return Drawing(prompt=prompt, negative_prompt="", num_images=number, **sampler)


def _accelerator(settings: Train) -> Accelerator:
    mixed = "no" if settings.precision == "fp32" else settings.precision
    # Given so, no configuration of accelerate's divides the loss behind our back.
    whole = GradientAccumulationPlugin(num_steps=1)
    accelerator = Accelerator(mixed_precision=mixed, gradient_accumulation_plugin=whole)
    processes.check_precision("train.precision", settings.precision)
    return accelerator


def _originals(folder: Path, files: list[Path]) -> int:
    """How many of the training pictures are photos, not variants of one, by the folder's table."""
    known = table.read(folder)
    if known is None or "variant" not in known.columns:
        return len(files)
    return sum(known.row(file.name)["variant"] == "0" for file in files)


def _micro_batch() -> int | None:
    """How many samples a process takes at once, from MPOX_MICRO_BATCH: it bounds the memory.

    None: all of its share.
    """
    given = os.environ.get("MPOX_MICRO_BATCH")
    if given is None:
        return None
    if not given.isdecimal() or int(given) < 1:
        raise InputError(
            f"MPOX_MICRO_BATCH: got {given!r}, expected a number of samples, 1 or more"
        )
    return int(given)


def _optimizer(settings: Train, trained: list) -> torch.optim.Optimizer:
    if settings.optimizer == "adamw_8bit":
        import bitsandbytes

        kind = bitsandbytes.optim.AdamW8bit
    else:
        kind = torch.optim.AdamW
    return kind(trained, lr=settings.learning_rate, weight_decay=settings.weight_decay)
