"""DreamBooth LoRA training (Ruiz et al. 2023; Hu et al. 2022) that resumes bit for bit."""

import logging
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from diffusers import StableDiffusionPipeline

from mpox.core import captions, seeds, table
from mpox.core.errors import InputError
from mpox.core.picture_set import PictureSet
from mpox.model import base, concepts, lora
from mpox.model.concepts import Batch, Concept, Lesson
from mpox.params import Drawing, Train
from mpox.sampling import compilation, leak, sampler
from mpox.sampling.sampler import Sampler
from mpox.training import card
from mpox.training.curves import Curves, check_tracker
from mpox.training.learner import Adapter, Learner, find_micro_batch, make_accelerator

logger = logging.getLogger(__name__)

LOG_STEPS = 10  # between points of the training curve; each point waits for the device


class Sets(NamedTuple):
    """The pictures of a training."""

    photos: PictureSet  # the training photos and their variants
    held_out: PictureSet
    class_pictures: PictureSet | None  # needed if prior_preservation uses them


class Recipe(NamedTuple):
    """All other inputs of a training."""

    model: Path
    settings: Train
    side: int  # pixels
    seed: int


def train(sets: Sets, recipe: Recipe, work: Path) -> Path:
    """Trains in `work`, from its resume point if there is one; returns the folder of the result.

    The result holds `lora/` (the weights that `settings.select` selects, a model card,
    `checkpoint-N/`, validation pictures, the numbers of leak.fit) and `curves/`. InputError for
    unsuitable input and for a diverging loss.
    """
    model, settings, side, seed = recipe
    accelerator, micro_batch = make_accelerator(settings), find_micro_batch()
    if accelerator.is_main_process:
        check_tracker()
    pipeline = base.place(base.load(model, side))
    lessons, held_out = _encode(pipeline, sets, recipe)
    photos = _describe(sets.photos, lessons[0].concept, settings)
    learner = Learner(pipeline.unet, settings, accelerator, seed, micro_batch)
    base.move_frozen(pipeline, torch.device("cpu"))  # no longer needed: everything is encoded
    result, started = work / "result", time.perf_counter()
    preview = Drawing(
        prompt=settings.validation_prompt,
        negative_prompt="",
        num_images=settings.validation_images,
        **settings.preview.model_dump(),
    )
    requests = sampler.series(preview.prompt, preview.num_images, seed, "validation")

    def validate(step: int) -> Path:
        """Draws the validation pictures of a step; at step 0 they are those of the base."""
        folder = result / "lora" / "validation" / f"step-{step:06d}"
        base.move_frozen(pipeline, accelerator.device)
        with compilation.paused():
            Sampler(pipeline, preview, side).draw_all(folder, requests)
        base.move_frozen(pipeline, torch.device("cpu"))
        return folder

    selected, done = _learn(learner, lessons, held_out, work, validate)
    if accelerator.is_main_process:
        lora.restore(learner.unet, selected.weights)
        lora.save(learner.unet, result / "lora")
        leak.write(result / "lora", photos)
        counts = {
            "photos": len(_originals(sets.photos)),
            "pictures": len(sets.photos),
            "held_out": len(sets.held_out),
        }
        summary = card.Summary(*recipe, selected.step, counts, sets.held_out.known)
        card.write(result / "lora", summary)
    speed = done * settings.batch_size / (time.perf_counter() - started)
    logger.info("Trained %d steps, %.1f samples/s", done, speed)
    accelerator.wait_for_everyone()
    return result


def _encode(
    pipeline: StableDiffusionPipeline, sets: Sets, recipe: Recipe
) -> tuple[list[Lesson], Callable[[], list[Batch]]]:
    """The concepts of every step, and a function for the samples of the held-out loss."""
    settings, seed, prior = recipe.settings, recipe.seed, recipe.settings.prior_preservation
    if len(sets.photos) < settings.batch_size:
        raise InputError(
            f"train.batch_size: got {settings.batch_size}, expected at most the "
            f"{len(sets.photos)} pictures in {sets.photos.folder}"
        )
    base.check_prompt(pipeline, settings.validation_prompt, "train.validation_prompt")
    pictures = {"held-out pictures": sets.held_out, "training pictures": sets.photos}
    if prior.draws_class():
        pictures["class pictures"] = _check_class(sets.class_pictures, prior.batch_size)
    key = "train.instance_prompt"
    # All captions are checked before the first picture is encoded.
    words = {n: captions.of(each, settings.instance_prompt, key) for n, each in pictures.items()}
    concept = {
        name: concepts.encode(pipeline, each, words[name], recipe.side)
        for name, each in pictures.items()
    }
    # The names are part of the seed of every sample.
    lessons = [
        Lesson(
            concept["training pictures"],
            "training pictures",
            seed,
            settings.batch_size,
            caption_dropout=settings.caption_dropout,
            noise_offset=settings.noise_offset,
        )
    ]
    share = (seed, prior.batch_size, prior.weight)
    if prior.draws_class():
        lessons.append(Lesson(concept["class pictures"], "class pictures", *share))
    elif prior.weight:
        photos = concept["training pictures"]
        lessons.append(Lesson(photos, "base prediction", *share, target="base_prediction"))
    fixed = seeds.derive(seed, "held-out pictures", "fixed", 0)
    return lessons, lambda: concept["held-out pictures"].fixed(fixed)


def _check_class(pictures: PictureSet | None, batch_size: int) -> PictureSet:
    """The class pictures; InputError if they are too few or their prompts are unknown."""
    if pictures is None or len(pictures) < batch_size:
        raise InputError(
            f"train.prior_preservation.batch_size: got {batch_size}, expected at most the "
            f"{len(pictures or ())} class pictures in {pictures and pictures.folder}"
        )
    if "text" not in pictures.columns:
        raise InputError(
            f"{pictures.folder}: expected a {table.NAME} with the prompts in a column text"
        )
    return pictures


def _originals(pictures: PictureSet) -> list[int]:
    """The indices of the photos themselves, without their variants."""
    return [k for k, row in enumerate(pictures.rows) if row.get("variant", "0") == "0"]


def _describe(pictures: PictureSet, concept: Concept, settings: Train) -> dict:
    """The numbers about the photos themselves, without their variants, that generation needs."""
    places = _originals(pictures)
    names = ["tone", *captions.fields(settings.instance_prompt)]
    fields = [name for name in dict.fromkeys(names) if name in pictures.columns]
    return leak.fit(concept.posterior.mean[places], pictures.subset(places).rows, fields)


def _learn(
    learner: Learner,
    lessons: list[Lesson],
    held_out: Callable[[], list[Batch]],
    work: Path,
    validate: Callable[[int], Path],
) -> tuple[Adapter, int]:
    """Trains to the end; returns the selected adapter and the number of steps taken.

    On the way it measures the held-out loss, draws validation pictures and saves resume points.
    """
    settings, result, point = learner.settings, work / "result", learner.resume(work)
    main = learner.accelerator.is_main_process
    before = learner.step
    with Curves(result / "curves", settings, point.history if point else [], main) as curves:
        if point:
            best, now = point.best, point.now
        else:
            best = now = learner.measure(held_out())
            curves.log(0, {"val_loss": best.val_loss})
            curves.show(0, validate(0))
        for step, value in learner.steps(lessons):
            learner.total += value
            last = step == settings.max_steps
            if step % LOG_STEPS == 0 or last:
                mean = learner.accelerator.reduce(learner.total, "mean").item()
                mean /= (step - 1) % LOG_STEPS + 1
                learner.total.zero_()
                _check_finite(mean, step, settings)
                curves.log(step, {"loss": mean, "learning_rate": learner.learning_rate})
            measured = step % settings.val_loss_steps == 0 or last
            if measured:
                now = learner.measure(held_out())
                _check_finite(now.val_loss, step, settings)
                best = min(best, now, key=lambda adapter: adapter.val_loss)
                curves.log(step, {"val_loss": now.val_loss})
            if step % settings.checkpointing_steps == 0 and main:
                lora.save(learner.unet, result / "lora" / f"checkpoint-{step}")
            if step % settings.validation_steps == 0 or last:
                curves.show(step, validate(step))
            if measured:
                learner.save(work, best, now, curves.history)
        selected = best if settings.select == "best" else now
        if selected.step == 0:
            logger.warning("No step lowered the held-out loss: the saved LoRA is untrained")
        summary = {"selected/step": selected.step, "selected/val_loss": selected.val_loss}
        curves.log(settings.max_steps, summary)
        curves.draw(result / "lora" / "curves.png")
    return selected, settings.max_steps - before


def _check_finite(value: float, step: int, settings: Train) -> None:
    if not math.isfinite(value):
        raise InputError(
            f"train: the loss is not finite at step {step}; "
            f"lower train.learning_rate (now {settings.learning_rate})"
        )
