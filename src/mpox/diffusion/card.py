"""The model card of a LoRA: what it is, how it was made, what it must not be used for."""

from pathlib import Path

import yaml
from huggingface_hub import ModelCard, ModelCardData

from mpox.params import Train

# Where a base model is to be had under a name that others can load it by.
PUBLISHED = {"models/sd15": "stable-diffusion-v1-5/stable-diffusion-v1-5"}
TEXT = """\
# {title}

A LoRA (rank {rank}, α {alpha:g}, {targets}) for the UNet of `{base}`, trained with DreamBooth at
{resolution} px on {originals} photos ({pictures} with their augmented variants), seed {seed}. The
weights are those after step {step} of {steps} (`train.select: {select}`), judged by the loss on
{held_out} {others}.

```python
pipe = StableDiffusionPipeline.from_pretrained(
    "{base}", safety_checker=None, feature_extractor=None
)
pipe.load_lora_weights("OWNER/NAME")  # of this repository on the Hub, or a copy of this folder
pipe({prompt!r})
```

## For research only

Pictures made with it are synthetic. They are no basis for a diagnosis, and each file says in its
metadata that it was made by a trained algorithm.

**A LoRA can leak its training photos.** A diffusion model can reproduce what it was trained on,
and whoever has these weights can try. Treat them as the photos themselves: share them only as far
as the patients' consent reaches. How many of the synthetic pictures are more like a training photo
than 99 % of these are like {another} is `copy_rate` in `metrics/evaluation.json`, beside
`copy_rate_null`, what chance alone gives; `hash_rate` counts near-identical ones. 0 of n pictures
is no proof that others do not leak: `copy_rate_hi` is what n pictures leave possible.

## Parameters

| parameter | value |
|---|---|
{table}

The licence of the base model holds for the LoRA too.
"""


def write(
    folder: Path,
    model: Path,
    settings: Train,
    step: int,
    counts: dict[str, int],
    patients_known: bool,
    resolution: int,
    seed: int,
) -> None:
    """`folder/README.md`, with the metadata the Hugging Face Hub reads.

    `counts`: originals, pictures (with their variants), held_out. Where patients are not known the
    card claims nothing of other patients.
    """
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
    rows = "\n".join(f"| `train.{key}` | {value} |" for key, value in _flat(settings.model_dump()))
    text = TEXT.format(
        title=settings.validation_prompt,
        rank=settings.rank,
        alpha=settings.alpha,
        targets=settings.target_modules.replace("+", ", ").replace("_", "-"),
        base=PUBLISHED.get(model.as_posix(), model.name),  # a path would name a machine, a person
        resolution=resolution,
        seed=seed,
        **counts,
        others="photos of other patients"
        if patients_known
        else "other photos, perhaps of the same patients: who they are is not known",
        another="another patient's" if patients_known else "another one",
        step=step,
        steps=settings.max_steps,
        select=settings.select,
        prompt=settings.validation_prompt,
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


def _flat(settings: dict, prefix: str = "") -> list[tuple[str, object]]:
    return [
        pair
        for key, value in settings.items()
        for pair in (
            _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else [(prefix + key, value)]
        )
    ]
