"""DreamBooth LoRA training (Ruiz et al. 2023; Hu et al. 2022) that resumes bit for bit."""

import logging
import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline

from mpox.core import listing, table
from mpox.core.errors import InputError
from mpox.model import base, captions, concepts, lora
from mpox.model.concepts import Concept, Lesson
from mpox.params import Drawing, Train
from mpox.sampling import compilation, leak, sampler
from mpox.training import card
from mpox.training.curves import Curves, check_tracker
from mpox.training.learner import Adapter, Learner, find_micro_batch, make_accelerator

logger = logging.getLogger(__name__)

LOG_STEPS = 10  # between points of the training curve, each of which waits for the device


def train(
    augmented: Path,
    held_out: Path,
    class_pictures: Path | None,
    model: Path,
    work: Path,
    settings: Train,
    resolution: int,
    seed: int,
) -> Path:
    """Trains in `work`, from its checkpoint if one is there; returns the folder of the result.

    That holds `lora/` (the weights chosen by `settings.select`, a model card, `checkpoint-N/`,
    validation pictures, what leak.fit says of the photos) and `curves/`. Captions are those of
    captions.read; `class_pictures` are needed only where `settings.prior_preservation` asks for
    them. Raises InputError for input that does not fit and for a loss that diverges.
    """
    accelerator, micro_batch = make_accelerator(settings), find_micro_batch()
    if accelerator.is_main_process:
        check_tracker()
    pipeline = base.place(base.load(model, resolution))
    lessons, held = _lessons(
        pipeline, augmented, held_out, class_pictures, settings, resolution, seed
    )
    photos = _photos(lessons[0].concept, augmented, settings)
    learner = Learner(pipeline.unet, settings, accelerator, seed, micro_batch)
    base.move_frozen(pipeline, torch.device("cpu"))  # pictures and prompts are encoded
    result, started = work / "result", time.perf_counter()
    preview = Drawing(
        prompt=settings.validation_prompt,
        negative_prompt="",
        num_images=settings.validation_images,
        **settings.preview.model_dump(),
    )

    def validate(step: int) -> Path:
        """Draws the validation pictures of a step; of step 0 they are the base's own."""
        folder = result / "lora" / "validation" / f"step-{step:06d}"
        base.move_frozen(pipeline, accelerator.device)
        with compilation.paused():
            sampler.draw_all(pipeline, folder, preview, resolution, seed, "validation")
        base.move_frozen(pipeline, torch.device("cpu"))
        return folder

    chosen, done = _learn(learner, lessons, held, work, validate)
    if accelerator.is_main_process:
        lora.restore(learner.unet, chosen.weights)
        lora.save(learner.unet, result / "lora")
        leak.write(result / "lora", photos)
        counts, known = _counts(augmented, held_out)
        card.write(result / "lora", model, settings, chosen.step, counts, known, resolution, seed)
    speed = done * settings.batch_size / (time.perf_counter() - started)
    logger.info("trained %d steps, %.1f samples/s", done, speed)
    accelerator.wait_for_everyone()
    return result


def _lessons(
    pipeline: StableDiffusionPipeline,
    augmented: Path,
    held_out: Path,
    class_pictures: Path | None,
    settings: Train,
    resolution: int,
    seed: int,
) -> tuple[list[Lesson], Concept]:
    """What every step learns from, and what the held-out loss is measured on."""
    files = listing.find(augmented)[0]
    if len(files) < settings.batch_size:
        raise InputError(
            f"train.batch_size: got {settings.batch_size}, expected at most the {len(files)} "
            f"pictures in {augmented}"
        )
    base.check_prompt(pipeline, settings.validation_prompt, "train.validation_prompt")
    prior, key = settings.prior_preservation, "train.instance_prompt"
    sets = {"held-out pictures": held_out, "training pictures": augmented}
    if prior.draws_class():
        sets["class pictures"] = _class(class_pictures, prior.batch_size)
    found = {name: listing.find(folder)[0] for name, folder in sets.items()}
    # All captions before any work on a picture.
    said = {
        name: captions.read(folder, [f.name for f in found[name]], settings.instance_prompt, key)
        for name, folder in sets.items()
    }
    learnt = {
        name: concepts.encode(
            pipeline,
            found[name],
            said[name],
            resolution,
            seed,
            name,
            settings.caption_dropout,
            settings.noise_offset,
        )
        for name in sets
    }
    held = learnt.pop("held-out pictures")
    photos = learnt.pop("training pictures")
    lessons = [Lesson(photos, settings.batch_size)]
    lessons += [Lesson(each, prior.batch_size, prior.weight) for each in learnt.values()]
    if prior.target == "base_prediction" and prior.weight:
        unconditional = photos.without_caption("base prediction")
        lessons.append(Lesson(unconditional, prior.batch_size, prior.weight, prior.target))
    return lessons, held


def _class(folder: Path | None, batch_size: int) -> Path:
    """The class pictures' folder, where each has the prompt that it was drawn under."""
    number = len(listing.find(folder)[0]) if folder else 0
    if folder is None or number < batch_size:
        raise InputError(
            f"train.prior_preservation.batch_size: got {batch_size}, expected at most the "
            f"{number} class pictures in {folder}"
        )
    known = table.read(folder)
    if known is None or "text" not in known.columns:
        raise InputError(f"{folder}: has no {table.NAME} with a column text, of the prompts")
    return folder


def _photos(learnt: Concept, augmented: Path, settings: Train) -> dict:
    """What generation may know of the photos themselves, not of their variants."""
    names = [file.name for file in listing.find(augmented)[0]]
    known = table.read(augmented)
    rows = [known.row(name) if known else {} for name in names]
    own = [k for k, row in enumerate(rows) if row.get("variant", "0") == "0"]
    columns = known.columns if known else []
    named = ["tone", *captions.fields(settings.instance_prompt)]
    fields = [name for name in dict.fromkeys(named) if name in columns]
    return leak.fit(learnt.posterior.mean[own], [rows[k] for k in own], fields)


def _learn(
    learner: Learner,
    lessons: list[Lesson],
    held: Concept,
    work: Path,
    validate: Callable[[int], Path],
) -> tuple[Adapter, int]:
    """Trains to the end, measures, draws and saves on the way; what to keep, and steps taken."""
    settings, result, point = learner.settings, work / "result", learner.resume(work)
    main = learner.accelerator.is_main_process
    before = learner.step
    with Curves(result / "curves", settings, point.history if point else [], main) as curves:
        if point:
            best, now = point.best, point.now
        else:
            best = now = learner.measure(held)
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
                now = learner.measure(held)
                _check_finite(now.val_loss, step, settings)
                best = min(best, now, key=lambda adapter: adapter.val_loss)
                curves.log(step, {"val_loss": now.val_loss})
            if step % settings.checkpointing_steps == 0 and main:
                lora.save(learner.unet, result / "lora" / f"checkpoint-{step}")
            if step % settings.validation_steps == 0 or last:
                curves.show(step, validate(step))
            if measured:
                learner.save(work, best, now, curves.history)
        chosen = best if settings.select == "best" else now
        if chosen.step == 0:
            logger.warning("no step lowered the held-out loss: the LoRA kept is the untrained one")
        summary = {"selected/step": chosen.step, "selected/val_loss": chosen.val_loss}
        curves.log(settings.max_steps, summary)
        curves.draw(result / "lora" / "curves.png")
    return chosen, settings.max_steps - before


def _check_finite(value: float, step: int, settings: Train) -> None:
    if not math.isfinite(value):
        raise InputError(
            f"train: the loss is not finite at step {step}; "
            f"lower train.learning_rate (now {settings.learning_rate})"
        )


def _counts(augmented: Path, held_out: Path) -> tuple[dict[str, int], bool]:
    """How many photos, pictures with their variants and held-out ones; are patients known?"""
    files, held = ([file.name for file in listing.find(f)[0]] for f in (augmented, held_out))
    known, originals = table.read(augmented), len(files)
    if known is not None and "variant" in known.columns:
        originals = sum(known.row(name)["variant"] == "0" for name in files)
    counts = {"originals": originals, "pictures": len(files), "held_out": len(held)}
    return counts, table.groups(held_out, held)[1]
