"""The card as the Hugging Face Hub's own reader sees it."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from conftest import RESOLUTION
from huggingface_hub import ModelCard

from mpox.model import base, lora
from mpox.params import Drawing, PriorPreservation, Sampler, Train
from mpox.sampling import sampler as sampling
from mpox.training import card

HOSTILE = 'skin: "mpox" # {1} | — 50 %'


COUNTS = {"photos": 123, "pictures": 492, "held_out": 24}


def summary(model: Path, settings: Train) -> card.Summary:
    return card.Summary(model, settings, 64, 1234, 350, COUNTS, True)


@pytest.fixture
def settings(small):
    return small.train.model_copy(
        update={
            "rank": 5,
            "alpha": 2.5,
            "validation_prompt": HOSTILE,
            "instance_prompt": "a lesion",
        }
    )


@pytest.fixture
def written(settings, tmp_path) -> str:
    card.write(tmp_path, summary(Path("models/tiny-sd"), settings))
    return (tmp_path / "README.md").read_text()


def test_the_hub_reads_its_metadata(written, tmp_path):
    loaded = ModelCard.load(tmp_path / "README.md")
    data = loaded.data.to_dict()
    assert data == yaml.safe_load(written.split("---\n")[1])
    assert "base_model" not in data  # a path on this machine names no model elsewhere
    assert data["library_name"] == "diffusers"
    assert data["instance_prompt"] == HOSTILE
    assert {"lora", "text-to-image", "diffusers"} <= set(data["tags"])
    assert data["license"]


def test_every_parameter_stands_in_the_table(written, settings):
    rows = dict(
        line.strip("| ").split(" | ", 1) for line in written.splitlines() if "| `train." in line
    )
    flat = {}
    for key, value in settings.model_dump().items():
        inner = value if isinstance(value, dict) else {None: value}
        flat |= {f"`train.{key}{f'.{k}' if k else ''}`": str(v) for k, v in inner.items()}
    assert rows == {key: value.strip("| ") for key, value in flat.items()}


def test_it_states_the_data_the_step_and_the_limits(written):
    text = " ".join(written.split())
    for phrase in (
        "123 photos",
        "492 with",
        "64 px",
        "rank 5",
        "α 2.5",
        "step 350 of 13",
        "research only",
        "can leak its training photos",
        "`copy_rate` in `metrics/evaluation.json`",
    ):
        assert phrase in text
    assert "license: apache-2.0" in text  # the base's own
    assert "{" not in text.replace(HOSTILE, "")


@pytest.mark.parametrize("scheduler", sampling.SCHEDULERS)
def test_its_code_draws_what_the_sampler_draws(scheduler, settings, tiny_sd, tmp_path):
    drawing = Sampler(guidance=1.5, steps=3, scheduler=scheduler, batch_size=1)
    lora.add(unet := base.load(tiny_sd, RESOLUTION).unet, settings, 0)
    lora.save(unet, tmp_path)
    code = card.snippet(tiny_sd, HOSTILE, drawing).removeprefix("```python\n").removesuffix("```")
    assert '"tiny", safety' in code and "OWNER/NAME" in code
    code = code.replace('"tiny"', repr(str(tiny_sd))).replace("OWNER/NAME", str(tmp_path))
    *setup, call = code.strip().splitlines()
    names: dict = {"torch": torch}
    exec("\n".join(setup), names)
    generator = "generator=torch.Generator().manual_seed(7), output_type='np').images[0]"
    drawn = eval(call.removesuffix(")") + ", " + generator, names)
    pipeline = base.load(tiny_sd, RESOLUTION)
    whole = Drawing(prompt="skin", negative_prompt="", num_images=1, **dict(drawing))
    sampler = sampling.Sampler(pipeline, whole, RESOLUTION)
    expected = sampler.draw([sampling.Request(HOSTILE, 7)]).read()[0]
    assert np.abs((255 * drawn).round() - expected).max() <= 1


@pytest.mark.parametrize(
    ("target", "weight", "words"),
    [
        ("base_prediction", 0.3, "Without a caption it predicts as the base does, so that"),
        ("class_pictures", 0.5, "It was also trained on class pictures drawn by the base"),
        ("base_prediction", 0.0, "Nothing of what the base can do was preserved"),
    ],
)
def test_it_names_what_preserves_the_base(target, weight, words, settings, tmp_path):
    prior = PriorPreservation(target=target, weight=weight, batch_size=2)
    trained = settings.model_copy(update={"prior_preservation": prior})
    card.write(tmp_path, summary(Path("models/tiny-sd"), trained))
    text = " ".join((tmp_path / "README.md").read_text().split())
    assert words in text and (not weight or f"weight {weight:g})" in text)


@pytest.mark.parametrize(
    "content", [b"---\nlicense: [\n---\n", b"---\na: b: c\n---\n", b"\xff\xfe", b"---\nx: 1\n---\n"]
)
def test_a_base_without_a_readable_card_gets_the_licence_other(content, settings, tmp_path):
    """An unreadable card must not stop a training at its end."""
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "README.md").write_bytes(content)
    card.write(tmp_path, summary(tmp_path / "base", settings))
    assert ModelCard.load(tmp_path / "README.md").data.license == "other"


def test_a_published_base_is_named_as_others_load_it(settings, tmp_path):
    card.write(tmp_path, summary(Path("models/sd15"), settings))
    assert ModelCard.load(tmp_path / "README.md").data.base_model == (
        "stable-diffusion-v1-5/stable-diffusion-v1-5"
    )
    text = (tmp_path / "README.md").read_text()
    assert '"stable-diffusion-v1-5/stable-diffusion-v1-5", safety' in text
