"""What is shared carries its evidence, and nobody shares a LoRA that gives away without a word."""

import hashlib
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from runs import evaluation, preparation, privacy

from mpox.core.errors import InputError
from mpox.model import lora
from mpox.sharing import hub
from mpox.statistics.estimate import Metrics
from mpox.training import card

COUNTS = {"photos": 128, "pictures": 512, "held_out": 24}


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


def attack(high: float = 0.59) -> Metrics:
    return privacy(hashlib.sha256(b"weights").hexdigest(), 0.4, high)


def test_the_hub_reads_the_measures_and_nothing_else_goes_along(adapter, tmp_path):
    out = tmp_path / "out"
    found = evaluation(copy_rate=(0.01, 0.0, 0.04))
    hub.write(out, adapter, found, preparation(), attack(), False)
    assert sorted(each.name for each in out.iterdir()) == ["README.md", lora.FILE_NAME]
    assert (out / lora.FILE_NAME).read_bytes() == b"weights"
    loaded = ModelCard.load(out / "README.md")
    values = {each.metric_type: each.metric_value for each in loaded.data.eval_results}
    assert values["copy_rate"] == 0.01 and values["auc"] == 0.5 and values["fid_excess"] == 0
    assert loaded.data.base_model == "stable-diffusion-v1-5/stable-diffusion-v1-5"
    text = " ".join(loaded.text.split())
    assert "did not tell 32 training patients from 26 others (AUC 0.50" in text
    assert "as close to a training photo as a copy would be" in text
    assert "Not for diagnosis" in text and "licence of the base model" in text
    assert "Who shared it knew" not in text


def test_no_path_of_this_machine_is_shared(small, adapter, tmp_path):
    """As of `model.path: /srv/home/NAME/models/sd15`: who downloads the LoRA has no such folder."""
    base = tmp_path / "jane.doe" / "models" / "dermatology-sd"
    card.write(adapter, card.Summary(base, small.train, 64, 1234, 350, COUNTS, True))
    hub.write(tmp_path / "out", adapter, evaluation(), preparation(), attack(), True)
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
def test_what_may_give_patients_away_asks_for_a_flag_and_says_why(
    adapter, tmp_path, changes, high, reason
):
    given = (tmp_path / "out", adapter, evaluation(**changes), preparation(), attack(high))
    with pytest.raises(InputError, match=reason) as refused:
        hub.write(*given, False)
    assert "--accept-risk" in str(refused.value) and len(str(refused.value).splitlines()) == 2
    assert not (tmp_path / "out").exists()
    hub.write(*given, True)
    assert f"Who shared it knew: {reason}" in (tmp_path / "out/README.md").read_text()


def test_numbers_of_another_lora_go_with_none(adapter, tmp_path):
    with pytest.raises(InputError, match="is of another LoRA"):
        hub.write(tmp_path / "out", adapter, evaluation(), preparation(), privacy(), True)
