"""The example, with few steps on few photos."""

import runpy
import shutil
import sys
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

from mpox.core import listing

pytestmark = pytest.mark.slow


def test_a_lora_without_dvc(tmp_path, monkeypatch):
    content = yaml.safe_load((ROOT / "params.yaml").read_text())
    content["model"]["path"] = str(ROOT / "models/tiny-sd")
    content["augment"]["copies"] = 0
    content["train"] |= {
        "rank": 2, "max_steps": 2, "warmup_steps": 0, "batch_size": 2, "validation_steps": 2,
        "validation_images": 1, "val_loss_steps": 2, "checkpointing_steps": 2,
        "preview": {"guidance": 1.0, "steps": 2, "scheduler": "ddim", "batch_size": 1},
    }  # fmt: skip
    content["draw_class"] |= {"num_images": 4, "steps": 2}
    content["generate"] |= {"num_images": 4, "steps": 2, "batch_size": 4}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(content))
    (tmp_path / "photos").mkdir()
    for file in sorted((ROOT / "data/phantom/photos").glob("*.jpg"))[:48]:
        shutil.copy(file, tmp_path / "photos")
    # In this process: another one would only import for long.
    monkeypatch.setenv("WANDB_PROJECT", "")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    example = runpy.run_path(str(ROOT / "examples/lora.py"))
    example["main"](Path("photos"), Path("out"))
    assert len(listing.find(tmp_path / "out/pictures")[0]) == 4
    assert (tmp_path / "out/work/result/lora/pytorch_lora_weights.safetensors").is_file()
