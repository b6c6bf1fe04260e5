"""The model card of a LoRA: what it is, how it was made, what it must not be used for."""

from pathlib import Path
from typing import NamedTuple

import yaml
from huggingface_hub import ModelCard, ModelCardData

from mpox.params import Train, flat

# Where a base model is to be had under a name that others can load it by.
PUBLISHED = {"models/sd15": "stable-diffusion-v1-5/stable-diffusion-v1-5"}
TEXT = """\
# {title}

A LoRA (rank {rank}, α {alpha:g}, {targets}) for the UNet of `{base}`, trained with DreamBooth at
{side} px on {photos} photos ({pictures} with their augmented variants), seed {seed}. The
weights are those after step {step} of {steps} (`train.select: {select}`), judged by the loss on
{held_out} {others}. {prior}

```python
pipe = StableDiffusionPipeline.from_pretrained(
    "{base}", safety_checker=None, feature_extractor=None
)
pipe.load_lora_weights("OWNER/NAME")  # of this repository on the Hub, or a copy of this folder
pipe({prompt!r}, guidance_scale={guidance:g}, num_inference_steps={draw_steps})
```

## For research only

Pictures made with it are synthetic. They are no basis for a diagnosis, and each file says in its
metadata that it was made by a trained algorithm.

**A LoRA can leak its training photos.** A diffusion model can reproduce what it was trained on,
and whoever has these weights can try. Treat them as the photos themselves: share them only as far
as the patients' consent reaches. How many of the synthetic pictures are more like a training photo
than 99 % of these are like {another} is `copy_rate` in `metrics/evaluation.json`, beside its
`null`, what chance alone gives; `hash_rate` counts near-identical ones. 0 of n pictures is no proof
that others do not leak: `high` is what n pictures leave possible.

## Parameters

| parameter | value |
|---|---|
{table}

The licence of the base model holds for the LoRA too.
"""
PRIOR = {
    "base_prediction": "Without a caption it predicts as the base does, so that ordinary "
    "classifier-free guidance leads away from the base (`train.prior_preservation`, weight "
    "{weight:g}).",
    "class_pictures": "Class pictures that the base drew were trained on as well "
    "(`train.prior_preservation`, weight {weight:g}).",
}


class Summary(NamedTuple):
    """What a card says of a training."""

    model: Path
    settings: Train
    side: int  # pixels
    seed: int
    step: int  # whose weights are kept
    counts: dict[str, int]  # photos, pictures (with their variants), held_out
    patients_known: bool  # else the card claims nothing of other patients


def write(folder: Path, summary: Summary) -> None:
    """`folder/README.md`, with the metadata that the Hugging Face Hub reads."""
    model, settings, known = summary.model, summary.settings, summary.patients_known
    data = ModelCardData(
        base_model=PUBLISHED.get(model.as_posix()),
        library_name="diffusers",
        license=read(model).license or "other",  # the base's, which holds for the LoRA too
        tags=[
            "stable-diffusion",
            "text-to-image",
            "diffusers",
            "lora",
            "dreambooth",
            "dermatology",
        ],
        instance_prompt=settings.validation_prompt,
        inference=False,
    )
    prior = settings.prior_preservation
    parameters = flat(settings.model_dump(), "train.")
    rows = "\n".join(f"| `{key}` | {value} |" for key, value in parameters.items())
    text = TEXT.format(
        title=settings.validation_prompt,
        rank=settings.rank,
        alpha=settings.alpha,
        targets=settings.target_modules.replace("+", ", ").replace("_", "-"),
        base=PUBLISHED.get(model.as_posix(), model.name),  # a path would name a machine, a person
        side=summary.side,
        seed=summary.seed,
        **summary.counts,
        others="photos of other patients"
        if known
        else "other photos, perhaps of the same patients: who they are is not known",
        another="another patient's" if known else "another one",
        step=summary.step,
        steps=settings.max_steps,
        select=settings.select,
        prior=PRIOR[prior.target].format(weight=prior.weight)
        if prior.weight
        else "Nothing of what the base can do was preserved (`train.prior_preservation`).",
        prompt=settings.validation_prompt,
        guidance=settings.preview.guidance,
        draw_steps=settings.preview.steps,
        table=rows,
    )
    ModelCard(f"---\n{data.to_yaml()}\n---\n\n{text}").save(folder / "README.md")


def read(folder: Path) -> ModelCardData:
    """What the card in `folder` says of itself: nothing, if there is none or none can be read."""
    file = folder / "README.md"
    try:
        return ModelCard.load(file).data if file.is_file() else ModelCardData()
    except (ValueError, yaml.YAMLError):  # among them text that is not UTF-8
        return ModelCardData()
