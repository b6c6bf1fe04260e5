"""The UNet with its adapter and optimizer, and the resume point of a killed training."""

import logging
import os
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
from accelerate import Accelerator
from accelerate.utils import (
    GradientAccumulationPlugin,
    TorchDynamoPlugin,
    broadcast_object_list,
)
from diffusers import UNet2DConditionModel
from diffusers.optimization import get_scheduler
from torch import Tensor
from tqdm import tqdm

from mpox.core import seeds
from mpox.core.errors import InputError
from mpox.model import base, checkpoints, lora, loss, processes
from mpox.model.concepts import Batch, Lesson
from mpox.params import Train
from mpox.sampling import compilation
from mpox.training.curves import History

logger = logging.getLogger(__name__)

CHECKPOINT = "state.pt"


@dataclass
class Adapter:
    """LoRA weights (by PEFT key, on the CPU), their step and their held-out loss."""

    weights: dict[str, Tensor]
    step: int
    val_loss: float


class ResumePoint(NamedTuple):
    best: Adapter  # with the lowest held-out loss so far
    now: Adapter
    history: History


class Learner:
    """The UNet with its adapter, and all state that changes from step to step."""

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
        lora.add(unet, settings, seeds.derive(seed, "lora"))
        if settings.gradient_checkpointing:
            unet.enable_gradient_checkpointing()
        compilation.compile_blocks(unet)
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
        """Trains to the end; yields the number of each step, from 1, and its loss, a tensor.

        With several processes it is the loss of this one; the batch's loss is the mean over them.
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
        """Accumulates the gradients of a step over micro-batches; returns its loss, a tensor.

        A micro-batch mixes samples of all concepts, so one pass of the UNet serves them all.
        """
        index, number = self.accelerator.process_index, self.accelerator.num_processes
        active = [lesson for lesson in lessons if index < lesson.batch_size]
        # The exchange of gradients waits for every process; one without rows gets weight 0.
        idle = [replace(lessons[0], weight=0.0)]
        samples = []
        for lesson in active or idle:
            # Every process draws the whole batch and takes its rows, so the samples do not depend
            # on the number P of processes. The mean of Σ errors / (B/P) over them is the batch's.
            rows = slice(index % lesson.batch_size, None, number)
            x0, epsilon, t, alphas, states = (x[rows] for x in lesson.batch(self.step))
            weights = torch.full_like(alphas, lesson.weight * number / lesson.batch_size)
            if self.settings.min_snr_gamma:
                weights *= loss.min_snr_weight(alphas, self.settings.min_snr_gamma)
            noisy, target = loss.add_noise(x0, epsilon, alphas), epsilon
            if lesson.target == "base_prediction":
                target = self._predict_base(noisy, t, states)
            samples.append((noisy, target, t, states, weights))
        columns = (torch.cat(column) for column in zip(*samples, strict=True))
        parts = self._split(*columns)
        total = torch.zeros((), device=self.accelerator.device)
        for k, (noisy, target, t, states, weights) in enumerate(parts, 1):
            # Processes exchange the accumulated gradients once, in the last micro-batch of a step.
            last = k == len(parts)
            with nullcontext() if last else self.accelerator.no_sync(self.model):
                value = (weights * self._errors(noisy, target, t, states)).sum()
                self.accelerator.backward(value)
            total += value.detach()
        return total

    def _errors(self, noisy: Tensor, target: Tensor, t: Tensor, states: Tensor) -> Tensor:
        """‖ε − ε_θ(x_t, t, c)‖² per sample (Ho et al. 2020, eq. 14): (B,).

        The target ε is the noise or, to preserve the base, its prediction.
        """
        return loss.mse(self._predict(noisy, t, states), target)

    def _predict(self, noisy: Tensor, t: Tensor, states: Tensor) -> Tensor:
        """ε_θ(x_t, t, c): (B, 4, h, w)."""
        noisy, states = (x.to(self.unet.dtype) for x in (noisy, states))
        return self.model(noisy, t, states).sample

    @torch.no_grad()
    def _predict_base(self, noisy: Tensor, t: Tensor, states: Tensor) -> Tensor:
        """The base's ε(x_t, t, c), from the same network with its adapter switched off."""
        self.unet.disable_adapters()
        predicted = [self._predict(*part) for part in self._split(noisy, t, states)]
        self.unet.enable_adapters()
        return torch.cat(predicted)

    def _split(self, *columns: Tensor) -> list[tuple[Tensor, ...]]:
        """Micro-batches of samples; each column holds one field of all samples."""
        size = self.micro_batch or len(columns[0])
        return list(zip(*(column.split(size) for column in columns), strict=True))

    @torch.no_grad()
    def measure(self, batches: list[Batch]) -> Adapter:
        """The current adapter with its mean loss on held-out samples.

        The training loss is noisy. The held-out samples are always the same, so steps compare.
        """
        accelerator = self.accelerator
        errors = [torch.zeros(len(batch.t), device=batch.t.device) for batch in batches]
        self.unet.eval()
        for i in range(accelerator.process_index, len(batches), accelerator.num_processes):
            x0, epsilon, t, alphas, states = batches[i]
            noisy = loss.add_noise(x0, epsilon, alphas)
            parts = self._split(noisy, epsilon, t, states)
            with compilation.paused():
                errors[i] = torch.cat([self._errors(*part) for part in parts])
        self.unet.train()
        # All but one process contribute zeros, so the sum is exact for any number of processes.
        value = accelerator.reduce(torch.cat(errors), "sum").mean().item()
        return Adapter(lora.state(self.unet), self.step, value)

    def save(self, work: Path, best: Adapter, now: Adapter, history: History) -> None:
        """Writes the resume point, atomically; any number of processes can resume from it.

        Every process must call it, because the loss since the last logged step is their mean.
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
        """Restores the resume point in `work`, if there is one, in all processes."""
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
        logger.info("Resuming after step %d", self.step)
        return ResumePoint(best, now, state["history"])


def make_accelerator(settings: Train) -> Accelerator:
    """The accelerator, which knows processes and device; InputError for unsupported precision."""
    mixed = "no" if settings.precision == "fp32" else settings.precision
    # Set here, so that no configuration of accelerate divides the loss.
    whole = GradientAccumulationPlugin(num_steps=1)
    accelerator = Accelerator(
        mixed_precision=mixed,
        gradient_accumulation_plugin=whole,
        dynamo_plugin=TorchDynamoPlugin(backend="no"),  # the learner compiles, block by block
    )
    processes.check_precision("train.precision", settings.precision)
    return accelerator


def find_micro_batch() -> int | None:
    """The samples that a process takes at once, from MPOX_MICRO_BATCH; None: all of its rows."""
    value = os.environ.get("MPOX_MICRO_BATCH")
    if value is None:
        return None
    if not value.isdecimal() or int(value) < 1:
        raise InputError(
            f"MPOX_MICRO_BATCH: got {value!r}, expected a number of samples, 1 or more"
        )
    return int(value)


def _optimizer(settings: Train, trained: list) -> torch.optim.Optimizer:
    lr, decay = settings.learning_rate, settings.weight_decay
    if settings.optimizer == "adamw_8bit":
        import bitsandbytes

        return bitsandbytes.optim.AdamW8bit(trained, lr=lr, weight_decay=decay)
    # On a GPU fused kernels update all weights at once; on the CPU they would change the last bits.
    fused = trained[0].is_cuda or None
    return torch.optim.AdamW(trained, lr=lr, weight_decay=decay, fused=fused)
