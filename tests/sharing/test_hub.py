"""The exported folder carries its evidence, and a risky LoRA is exported only on request."""

import hashlib
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from runs import evaluation, preparation, privacy

from mpox.core.errors import InputError
from mpox.model import lora
from mpox.params import Sampler
from mpox.report import words
from mpox.sharing import hub
from mpox.sharing.hub import Evidence
from mpox.training import card

COUNTS = {"photos": 128, "pictures": 512, "held_out": 24}
DRAWING = Sampler(guidance=1.75, steps=23, scheduler="dpm++_sde", batch_size=4)


@pytest.fixture
def adapter(small, tmp_path) -> Path:
    folder = tmp_path / "lora"
    folder.mkdir()
    (folder / lora.FILE_NAME).write_bytes(b"weights")
    (folder / "photos.json").write_text("{}")
    (folder / "validation").mkdir()
    (folder / "validation/00000.png").write_bytes(b"picture")
    card.write(folder, card.Summary(Path("models/sd15"), small.train, 64, 1234, 350, COUNTS, True))
    return folder


def evidence(high: float = 0.59, model: str = "models/sd15", **changes) -> Evidence:
    """Of the adapter's weights; `high` bounds the attack's AUC, `changes` as in runs.evaluation."""
    attack = privacy(hashlib.sha256(b"weights").hexdigest(), 0.4, high)
    return Evidence(evaluation(**changes), preparation(), attack, Path(model), DRAWING)


def test_the_folder_holds_the_weights_and_a_card_with_the_measures(adapter, tmp_path):
    out = tmp_path / "out"
    hub.write(out, adapter, evidence(copy_rate=(0.01, 0.0, 0.04)), False)
    assert sorted(each.name for each in out.iterdir()) == ["README.md", lora.FILE_NAME]
    assert (out / lora.FILE_NAME).read_bytes() == b"weights"
    loaded = ModelCard.load(out / "README.md")
    values = {each.metric_type: each.metric_value for each in loaded.data.eval_results}
    assert values["copy_rate"] == 0.01 and values["auc"] == 0.5 and values["fid_excess"] == 0
    assert loaded.data.base_model == "stable-diffusion-v1-5/stable-diffusion-v1-5"
    text = " ".join(loaded.text.split())
    for sentence in words.sentences(evaluation(copy_rate=(0.01, 0.0, 0.04)), preparation()):
        assert sentence.text in loaded.text
    assert "Not for diagnosis" in text and "licence of the base model" in text
    assert "in spite of" not in text


def test_its_code_draws_as_generate_did_not_as_the_preview(adapter, small, tmp_path):
    hub.write(tmp_path / "out", adapter, evidence(), True)
    text = (tmp_path / "out/README.md").read_text()
    assert "guidance 1.75, 23 steps and scheduler `dpm++_sde`" in " ".join(text.split())
    code = card.snippet(Path("models/sd15"), small.train.validation_prompt, DRAWING)
    assert code in text and text.count("```python") == 1


def test_the_card_holds_no_path_of_this_machine(small, adapter, tmp_path):
    """A path such as /srv/home/NAME/models/sd15 names a person, and is of no use elsewhere."""
    base = tmp_path / "jane.doe" / "models" / "dermatology-sd"
    card.write(adapter, card.Summary(base, small.train, 64, 1234, 350, COUNTS, True))
    hub.write(tmp_path / "out", adapter, evidence(model=str(base)), True)
    text = (tmp_path / "out/README.md").read_text()
    assert "jane.doe" not in text and "models/" not in text
    assert "for the UNet of `dermatology-sd`" in text
    code = text.split("```python\n")[1].split("```")[0]
    assert '"dermatology-sd", safety_checker=None' in code
    assert 'pipe.load_lora_weights("OWNER/NAME")' in code


@pytest.mark.parametrize(
    ("changes", "high", "reason"),
    [
        ({"copy_rate": (0.0, 0.0, 0.051)}, 0.59, "copy_rate may be as high as 0.051, above 0.05"),
        ({}, 0.61, "auc of metrics/privacy.json may be as high as 0.610, above 0.6"),
    ],
)
def test_a_lora_that_may_reveal_patients_needs_a_flag(adapter, tmp_path, changes, high, reason):
    arguments = (tmp_path / "out", adapter, evidence(high, **changes))
    with pytest.raises(InputError, match=reason) as refused:
        hub.write(*arguments, False)
    assert "--accept-risk" in str(refused.value) and len(str(refused.value).splitlines()) == 2
    assert not (tmp_path / "out").exists()
    hub.write(*arguments, True)
    assert f"in spite of this: {reason}" in (tmp_path / "out/README.md").read_text()


def test_an_attack_on_another_lora_is_refused(adapter, tmp_path):
    with pytest.raises(InputError, match="is of another LoRA"):
        hub.write(tmp_path / "out", adapter, evidence()._replace(attack=privacy()), True)
