"""A good folder is loaded as in diffusers; for a bad one the error names what is wrong."""

import json
import os
import pickle
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
import torch
from conftest import RESOLUTION
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file, save_file

from mpox.core.errors import InputError
from mpox.model import base

WEIGHTS = {
    "unet": "diffusion_pytorch_model.safetensors",
    "vae": "diffusion_pytorch_model.safetensors",
    "text_encoder": "model.safetensors",
}
NETWORKS = list(WEIGHTS)


@pytest.fixture
def broken(tiny_sd, tmp_path) -> Path:
    """A copy to break."""
    return shutil.copytree(tiny_sd, tmp_path / "base")


def test_a_good_folder_is_loaded_as_in_diffusers(tiny_sd):
    ours = base.load(tiny_sd, RESOLUTION)
    plain = StableDiffusionPipeline.from_pretrained(
        tiny_sd, safety_checker=None, feature_extractor=None
    )
    for part in NETWORKS:
        mine, theirs = getattr(ours, part).state_dict(), getattr(plain, part).state_dict()
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[key], theirs[key]) for key in mine)
        assert {p.dtype for p in getattr(ours, part).parameters()} == {torch.float32}
    assert ours.safety_checker is None


def test_half_precision_files_are_loaded_in_fp32(broken):
    StableDiffusionPipeline.from_pretrained(broken).to(torch.float16).save_pretrained(broken)
    pipeline = base.load(broken, RESOLUTION)
    for part in NETWORKS:
        assert {p.dtype for p in getattr(pipeline, part).parameters()} == {torch.float32}


def test_prompts_are_encoded_as_in_diffusers(tiny_sd):
    pipeline = base.load(tiny_sd, RESOLUTION)
    for prompt in ("a lesion", ""):
        states = base.encode_text(pipeline, prompt)
        expected, _ = pipeline.encode_prompt(prompt, "cpu", 1, False)
        assert states.shape == (1, 77, 32)
        assert torch.equal(states, expected) and not states.requires_grad


def test_a_prompt_that_would_be_truncated_is_refused(tiny_sd):
    pipeline = base.load(tiny_sd, RESOLUTION)
    with pytest.raises(InputError, match=r"prompt: got \d+ tokens, expected at most 77: 'word"):
        base.encode_text(pipeline, "word " * 100)


@pytest.mark.parametrize("folder", ["nowhere", "."])
def test_a_folder_without_a_model_is_refused(folder, tmp_path):
    with pytest.raises(InputError, match=r"model\.path: .*model_index\.json"):
        base.load(tmp_path / folder, RESOLUTION)


@pytest.mark.parametrize("part", ["unet", "tokenizer", "scheduler"])
def test_a_missing_part_is_refused(part, broken):
    shutil.rmtree(broken / part)
    with pytest.raises(InputError, match=r"model\.path: .*(cannot be loaded|holds no tokenizer)"):
        base.load(broken, RESOLUTION)


@pytest.mark.parametrize("part", NETWORKS)
def test_a_download_cut_short_is_refused(part, broken):
    file = broken / part / WEIGHTS[part]
    os.truncate(file, file.stat().st_size // 2)
    with pytest.raises(InputError, match=r"model\.path: .*cannot be loaded"):
        base.load(broken, RESOLUTION)


@pytest.mark.parametrize("part", NETWORKS)
def test_a_missing_tensor_is_named(part, broken):
    """Diffusers and transformers would only warn, and leave the weights random."""
    file = broken / part / WEIGHTS[part]
    weights = load_file(file)
    gone = sorted(weights)[-1]
    del weights[gone]
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(InputError, match=rf"{part} lacks 1 of .*{re.escape(gone)}"):
        base.load(broken, RESOLUTION)


def test_the_old_names_of_attention_in_autoencoders_are_known(tiny_sd, broken):
    """The file of Stable Diffusion 1.5 has them."""
    file = broken / "vae" / WEIGHTS["vae"]
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    weights = load_file(file)
    for new, name in old.items():
        weights = {
            key.replace(f".{new}.", f".{name}.") if "attentions" in key else key: value
            for key, value in weights.items()
        }
    assert sum("proj_attn" in key for key in weights) >= 2
    save_file(weights, file, metadata={"format": "pt"})
    theirs = base.load(broken, RESOLUTION).vae.state_dict()
    ours = base.load(tiny_sd, RESOLUTION).vae.state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.parametrize("content", ["[]", "{}", '{"_class_name": "StableDiffusionXLPipeline"}'])
def test_the_index_of_another_pipeline_is_refused(content, broken):
    (broken / "model_index.json").write_text(content)
    with pytest.raises(InputError, match=r"model_index\.json names no StableDiffusionPipeline"):
        base.load(broken, RESOLUTION)


class Bomb:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def test_pickles_beside_the_weights_are_never_opened(broken, tmp_path):
    mark = tmp_path / "executed"
    for part, name in WEIGHTS.items():
        for suffix in (".bin", ".ckpt", ".pt"):
            (broken / part / name).with_suffix(suffix).write_bytes(pickle.dumps(Bomb(mark)))
    (broken / "model.ckpt").write_bytes(pickle.dumps(Bomb(mark)))
    base.load(broken, RESOLUTION)
    assert not mark.exists()


@pytest.mark.parametrize("part", NETWORKS)
def test_a_pickle_is_refused_and_never_opened(part, broken, tmp_path):
    mark = tmp_path / "executed"
    file = broken / part / WEIGHTS[part]
    file.unlink()
    file.with_name(WEIGHTS[part].replace(".safetensors", ".bin")).write_bytes(
        pickle.dumps(Bomb(mark))
    )
    if part == "text_encoder":  # transformers' own name for it
        (broken / part / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb(mark)))
    with pytest.raises(InputError, match=r"model\.path: .*cannot be loaded"):
        base.load(broken, RESOLUTION)
    assert not mark.exists()
    pickle.loads(pickle.dumps(Bomb(mark)))
    assert mark.exists()


def test_a_resolution_that_does_not_fit_is_refused(tiny_sd):
    with pytest.raises(InputError, match=r"resolution: got 18, expected a multiple of 4"):
        base.load(tiny_sd, 18)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("tokenizer/tokenizer.json", "3"),
        ("text_encoder/config.json", "[]"),
        ("unet/config.json", "null"),
    ],
)
def test_unexpected_json_is_refused(file, content, broken):
    (broken / file).write_text(content)
    with pytest.raises(InputError, match=rf"model\.path: {broken}.* cannot be loaded"):
        base.load(broken, RESOLUTION)


def test_another_kind_of_model_is_refused(broken):
    config = broken / "scheduler" / "scheduler_config.json"
    config.write_text(
        json.dumps(json.loads(config.read_text()) | {"prediction_type": "v_prediction"})
    )
    with pytest.raises(InputError, match="v_prediction; expected epsilon"):
        base.load(broken, RESOLUTION)


@pytest.mark.parametrize(
    ("device", "gigabytes", "sliced"), [("cpu", 8, False), ("cuda", 8, True), ("cuda", 24, False)]
)
def test_only_a_small_gpu_takes_one_picture_at_a_time(device, gigabytes, sliced, monkeypatch):
    """The GPU is made up. The CPU keeps its defaults, because slices may change the last bits."""
    card = SimpleNamespace(total_memory=gigabytes * 2**30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: card)
    monkeypatch.setattr(base, "PartialState", lambda: SimpleNamespace(device=torch.device(device)))
    pipeline = MagicMock()
    base.place(pipeline)
    assert pipeline.vae.enable_slicing.called == sliced
    assert pipeline.unet.to.called == (device == "cuda")
    pipeline.to.assert_called_once_with(torch.device(device))
