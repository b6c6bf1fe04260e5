"""The model card of a LoRA: what it is, how it was made, what it must not be used for."""

from pathlib import Path
from typing import NamedTuple

import yaml
from huggingface_hub import ModelCard, ModelCardData

from mpox.params import Sampler, Train, flat
from mpox.sampling.sampler import SCHEDULERS

# The published names of base models, which others can load.
PUBLISHED = {"models/sd15": "stable-diffusion-v1-5/stable-diffusion-v1-5"}
TAGS = ["stable-diffusion", "text-to-image", "diffusers", "lora", "dreambooth", "dermatology"]
TEXT = """\
# {title}

A LoRA (rank {rank}, α {alpha:g}, {targets}) for the UNet of `{base}`, trained with DreamBooth at
{side} px on {photos} photos ({pictures} with their augmented variants), seed {seed}. The weights
are those after step {step} of {steps} (`train.select: {select}`), judged by the loss on {held_out}
{others}. {prior}

{snippet}

## For research only

Pictures made with this LoRA are synthetic, and the metadata of each file says so. Do not use them
for a diagnosis.

**A LoRA can leak its training photos.** A diffusion model can reproduce photos that it was trained
on, and anyone with these weights can try. Treat the weights like the photos: share them only as far
as the patients' consent allows. `copy_rate` in `metrics/evaluation.json` is the share of synthetic
pictures that are closer to a training photo than 99 % of the training photos are to {another};
`null` beside it is what chance alone would give. `hash_rate` counts pictures that are nearly
identical to a photo. No copies among n pictures do not prove that others leak nothing: `high` is
the largest rate that n pictures leave possible.

## Parameters

| parameter | value |
|---|---|
{table}

The licence of the base model also applies to the LoRA.
"""
SNIPPET = """\
```python
import diffusers

pipe = diffusers.StableDiffusionPipeline.from_pretrained(
    "{base}", safety_checker=None, feature_extractor=None
)
pipe.load_lora_weights("OWNER/NAME")  # this repository on the Hub, or a copy of this folder
pipe.scheduler = diffusers.{kind}.from_config(pipe.scheduler.config{options})
pipe({prompt!r}, guidance_scale={guidance:g}, num_inference_steps={steps})
```"""
PRIOR = {
    "base_prediction": "Without a caption it predicts as the base does, so that ordinary "
    "classifier-free guidance leads away from the base (`train.prior_preservation`, weight "
    "{weight:g}).",
    "class_pictures": "It was also trained on class pictures drawn by the base "
    "(`train.prior_preservation`, weight {weight:g}).",
}
NO_PRIOR = "Nothing of what the base can do was preserved (`train.prior_preservation`)."


class Summary(NamedTuple):
    """The facts of a training."""

    model: Path
    settings: Train
    side: int  # pixels
    seed: int
    step: int  # of the selected weights
    counts: dict[str, int]  # photos, pictures (with their variants), held_out
    patients_known: bool  # otherwise the card claims nothing about other patients


def write(folder: Path, summary: Summary) -> None:
    """`folder/README.md`, with the metadata that the Hugging Face Hub reads."""
    model, settings, known = summary.model, summary.settings, summary.patients_known
    data = ModelCardData(
        base_model=PUBLISHED.get(model.as_posix()),
        library_name="diffusers",
        license=read(model).license or "other",  # the base's also applies to the LoRA
        tags=TAGS,
        instance_prompt=settings.validation_prompt,
        inference=False,
    )
    prior, parameters = settings.prior_preservation, flat(settings.model_dump(), "train.")
    text = TEXT.format(
        title=settings.validation_prompt,
        rank=settings.rank,
        alpha=settings.alpha,
        targets=settings.target_modules.replace("+", ", ").replace("_", "-"),
        base=name(model),
        side=summary.side,
        seed=summary.seed,
        **summary.counts,
        others="photos of other patients"
        if known
        else "other photos (the patients are unknown, so some may show the same ones)",
        another="a photo of another patient" if known else "another training photo",
        step=summary.step,
        steps=settings.max_steps,
        select=settings.select,
        prior=PRIOR[prior.target].format(weight=prior.weight) if prior.weight else NO_PRIOR,
        snippet=snippet(model, settings.validation_prompt, settings.preview),
        table="\n".join(f"| `{key}` | {value} |" for key, value in parameters.items()),
    )
    ModelCard(f"---\n{data.to_yaml()}\n---\n\n{text}").save(folder / "README.md")


def name(model: Path) -> str:
    """A base model's published name, or its folder's: a path could name a machine or a person."""
    return PUBLISHED.get(model.as_posix(), model.name)


def snippet(model: Path, prompt: str, drawing: Sampler) -> str:
    """Python code that draws `prompt` with the LoRA, in Markdown."""
    kind, options = SCHEDULERS[drawing.scheduler]
    return SNIPPET.format(
        base=name(model),
        kind=kind.__name__,
        options="".join(f", {key}={value!r}" for key, value in options.items()),
        prompt=prompt,
        guidance=drawing.guidance,
        steps=drawing.steps,
    )


def read(folder: Path) -> ModelCardData:
    """The metadata of the card in `folder`; empty if there is no card or it cannot be read."""
    file = folder / "README.md"
    try:
        return ModelCard.load(file).data if file.is_file() else ModelCardData()
    except (ValueError, yaml.YAMLError):  # ValueError: also text that is not UTF-8
        return ModelCardData()
