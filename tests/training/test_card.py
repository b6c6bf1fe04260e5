"""The card as the Hugging Face Hub's own reader sees it."""

from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard

from mpox.params import PriorPreservation, Train
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


def test_it_says_how_much_data_which_step_and_what_it_is_not_for(written):
    text = " ".join(written.split())
    for said in (
        "123 photos",
        "492 with",
        "64 px",
        "rank 5",
        "α 2.5",
        "step 350 of 13",
        "research",
        "can leak its training photos",
        "`copy_rate` in `metrics/evaluation.json`",
    ):
        assert said in text
    assert "license: apache-2.0" in text  # the base's own
    assert "{" not in text.replace(HOSTILE, "")


def test_the_code_it_shows_is_python(written, settings):
    code = written.split("```python\n")[1].split("```")[0]
    compile(code, "card", "exec")
    assert repr(HOSTILE) in code
    drawn = settings.preview
    assert f"guidance_scale={drawn.guidance:g}, num_inference_steps={drawn.steps})" in code


@pytest.mark.parametrize(
    ("target", "weight", "words"),
    [
        ("base_prediction", 0.3, "Without a caption it predicts as the base does, so that"),
        ("class_pictures", 0.5, "Class pictures that the base drew were trained on as well"),
        ("base_prediction", 0.0, "Nothing of what the base can do was preserved"),
    ],
)
def test_it_names_what_was_preserved_of_the_base(target, weight, words, settings, tmp_path):
    prior = PriorPreservation(target=target, weight=weight, batch_size=2)
    trained = settings.model_copy(update={"prior_preservation": prior})
    card.write(tmp_path, summary(Path("models/tiny-sd"), trained))
    text = " ".join((tmp_path / "README.md").read_text().split())
    assert words in text and (not weight or f"weight {weight:g})" in text)


@pytest.mark.parametrize(
    "content", [b"---\nlicense: [\n---\n", b"---\na: b: c\n---\n", b"\xff\xfe", b"---\nx: 1\n---\n"]
)
def test_a_base_whose_card_cannot_be_read_has_another_licence(content, settings, tmp_path):
    """After hours of training nothing hangs on it."""
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "README.md").write_bytes(content)
    card.write(tmp_path, summary(tmp_path / "base", settings))
    assert ModelCard.load(tmp_path / "README.md").data.license == "other"


def test_a_published_base_is_named_as_others_load_it(settings, tmp_path):
    card.write(tmp_path, summary(Path("models/sd15"), settings))
    assert ModelCard.load(tmp_path / "README.md").data.base_model == (
        "stable-diffusion-v1-5/stable-diffusion-v1-5"
    )
    assert (
        '"stable-diffusion-v1-5/stable-diffusion-v1-5", safety'
        in (tmp_path / "README.md").read_text()
    )
