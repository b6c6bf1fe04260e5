"""The exported file, as diffusers applies it, which also reads kohya's format."""

import json
import os
import runpy
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from conftest import POINTER, UNFETCHED, Killed, contents
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from test_lora import ALPHA, NAMINGS, RANK, add, gap, layers, old_file, output, shake

from mpox.core.errors import InputError
from mpox.model import lora
from mpox.sharing import kohya

# Readers of the format divide its α by the rank for the scale, which is α/r or α/√r.
ALPHAS = {"LoRA": ALPHA, "rsLoRA": ALPHA * RANK**0.5}
CARD = "---\ninstance_prompt: 'a lesion, \"mpox\"'\n---\n# A LoRA\n"


@pytest.fixture
def unet(tiny_sd) -> UNet2DConditionModel:
    return UNet2DConditionModel.from_pretrained(tiny_sd, subfolder="unet")


@pytest.fixture
def folder(unet, tmp_path) -> Path:
    """A LoRA that changes a lot."""
    return adapter(unet, tmp_path / "lora", "LoRA")


def adapter(unet: UNet2DConditionModel, folder: Path, kind: str) -> Path:
    add(unet, kind=kind)
    shake(unet)
    lora.save(unet, folder)
    (folder / "README.md").write_text(CARD)
    return folder


def loaded(tiny_sd: Path, file: Path) -> UNet2DConditionModel:
    plain = StableDiffusionPipeline.from_pretrained(tiny_sd)
    plain.load_lora_weights(file.parent, weight_name=file.name)
    return plain.unet


@pytest.mark.parametrize("kind", ALPHAS)
def test_diffusers_reads_the_same_model_back(kind, unet, tiny_sd, tmp_path):
    before = output(unet)
    file = tmp_path / "new" / "mpox.safetensors"
    kohya.export(adapter(unet, tmp_path / "lora", kind), file)
    expected = output(unet)
    assert gap(before, expected) > 0.1
    assert gap(output(loaded(tiny_sd, file)), expected) < 1e-5
    assert [path.name for path in file.parent.iterdir()] == ["mpox.safetensors"]


@pytest.mark.parametrize("kind", ALPHAS)
def test_layers_have_the_names_and_scales_of_kohya(kind, unet, tmp_path):
    file = tmp_path / "mpox.safetensors"
    kohya.export(adapter(unet, tmp_path / "lora", kind), file)
    stored, expected = load_file(file), layers(unet)
    assert len(stored) == 3 * len(expected)
    for name, matrices in expected.items():
        stem = "lora_unet_" + name.replace(".", "_")
        assert torch.equal(stored[f"{stem}.lora_down.weight"], matrices["A"])
        assert torch.equal(stored[f"{stem}.lora_up.weight"], matrices["B"])
        assert stored[f"{stem}.alpha"].item() == pytest.approx(ALPHAS[kind], rel=1e-7)
        assert stored[f"{stem}.alpha"].shape == ()
    assert "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_out_0.alpha" in stored
    assert stored["lora_unet_mid_block_resnets_0_conv1.lora_down.weight"].shape[2:] == (3, 3)


@pytest.mark.parametrize("kind", ALPHAS)
def test_the_metadata_describes_the_file(kind, unet, tmp_path):
    kohya.export(adapter(unet, tmp_path / "lora", kind), tmp_path / "mpox.safetensors")
    with safe_open(tmp_path / "mpox.safetensors", "pt") as file:
        metadata = file.metadata()
    assert metadata["ss_network_module"] == "networks.lora"
    assert metadata["ss_base_model_version"] == "sd_v1" and metadata["ss_v2"] == "False"
    assert metadata["ss_network_dim"] == str(RANK)
    assert float(metadata["ss_network_alpha"]) == pytest.approx(ALPHAS[kind])
    assert json.loads(metadata["ss_network_args"])["conv_dim"] == str(RANK)
    assert float(json.loads(metadata["ss_network_args"])["conv_alpha"]) == pytest.approx(
        ALPHAS[kind]
    )
    assert metadata["ss_output_name"] == metadata["modelspec.title"] == "mpox"
    assert metadata["modelspec.trigger_phrase"] == 'a lesion, "mpox"'
    assert metadata["modelspec.architecture"] == "stable-diffusion-v1/lora"
    assert str(tmp_path) not in json.dumps(metadata)


def test_only_convolutions_have_network_args(unet, tmp_path):
    add(unet, "attention+feed_forward")
    lora.save(unet, tmp_path)
    kohya.export(tmp_path, tmp_path / "mpox.safetensors")
    with safe_open(tmp_path / "mpox.safetensors", "pt") as file:
        assert "ss_network_args" not in file.metadata()


@pytest.mark.parametrize("naming", NAMINGS)
def test_a_file_of_earlier_diffusers_is_exported_too(naming, unet, tiny_sd, tmp_path):
    parts = old_file(unet, tmp_path, naming)
    kohya.export(tmp_path, tmp_path / "mpox.safetensors")
    with torch.no_grad():
        for name, matrices in parts.items():
            unet.get_submodule(name).weight += matrices["B"] @ matrices["A"]
    assert gap(output(loaded(tiny_sd, tmp_path / "mpox.safetensors")), output(unet)) < 1e-5


def test_an_exported_file_is_fused_like_the_original_lora(folder, unet, tiny_sd, tmp_path):
    kohya.export(folder, tmp_path / "exported" / lora.FILE_NAME)
    pipeline = StableDiffusionPipeline.from_pretrained(tiny_sd)
    lora.fuse(pipeline, tmp_path / "exported")
    assert gap(output(pipeline.unet), output(unet)) < 1e-5


# ---------------------------------------------------------------- refusals


def refused(folder: Path, file: Path, match: str) -> None:
    """The export raises InputError and changes no file."""
    before = contents(folder.parent)
    with pytest.raises(InputError, match=match):
        kohya.export(folder, file)
    assert contents(folder.parent) == before


@pytest.mark.parametrize("kind", ["DoRA", "both"])
def test_dora_is_refused(kind, unet, tmp_path):
    folder = adapter(unet, tmp_path / "lora", kind)
    refused(folder, tmp_path / "mpox.safetensors", rf"{folder}.*is a DoRA.*train\.dora: false")


def test_an_existing_file_is_kept(folder, tmp_path):
    (tmp_path / "mpox.safetensors").write_bytes(b"another's")
    refused(folder, tmp_path / "mpox.safetensors", "mpox.safetensors: exists already")


def test_another_suffix_is_refused(folder, tmp_path):
    refused(folder, tmp_path / "mpox.ckpt", r"mpox.ckpt: expected .* \.safetensors")


def test_a_folder_without_a_lora_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", tmp_path / "mpox.safetensors", "empty: holds no pytorch_lora_w")


def test_a_file_cut_short_is_refused(folder, tmp_path):
    file = folder / lora.FILE_NAME
    file.write_bytes(file.read_bytes()[:-100])
    refused(folder, tmp_path / "mpox.safetensors", f"{file}: is not a readable LoRA")


def test_a_file_that_git_lfs_has_not_fetched_is_named(folder, tmp_path):
    (folder / lora.FILE_NAME).write_bytes(POINTER)
    refused(folder, tmp_path / "mpox.safetensors", f"{folder / lora.FILE_NAME}: {UNFETCHED}")


def test_an_exported_file_is_not_exported_again(folder, tmp_path):
    kohya.export(folder, tmp_path / "exported" / lora.FILE_NAME)
    refused(tmp_path / "exported", tmp_path / "mpox.safetensors", "in kohya's format already")


def test_a_lora_of_more_than_the_unet_is_refused(folder, tmp_path):
    weights = load_file(folder / lora.FILE_NAME)
    weights["text_encoder.layers.0.q_proj.lora_A.weight"] = torch.ones((RANK, 8))
    save_file(weights, folder / lora.FILE_NAME)
    refused(folder, tmp_path / "mpox.safetensors", r"text_encoder\.layers\.0\.q_proj")


def test_ranks_that_differ_are_refused(unet, tmp_path):
    """The metadata has room for one rank only."""
    folder = tmp_path / "lora"
    folder.mkdir()
    old_file(unet, folder, "lora.down")
    weights = load_file(folder / lora.FILE_NAME)
    key = next(key for key in weights if "down" in key)
    weights[key] = weights[key][:4].clone()
    save_file(weights, folder / lora.FILE_NAME)
    refused(folder, tmp_path / "mpox.safetensors", "same rank and α in every layer")


def test_a_path_that_cannot_be_written_is_named(folder, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    refused(folder, tmp_path / "file" / "mpox.safetensors", "file/mpox.safetensors: cannot be")


def test_a_kill_leaves_no_half_file(folder, tmp_path, monkeypatch):
    def die(_: int) -> None:
        raise Killed

    before = contents(tmp_path)
    monkeypatch.setattr(os, "fsync", die)
    with pytest.raises(Killed):
        kohya.export(folder, tmp_path / "mpox.safetensors")
    assert contents(tmp_path) == before


# ---------------------------------------------------------------- the command


@pytest.mark.parametrize("words", [["mpox.safetensors"], []])
def test_the_command(words, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(
        sys, "argv", ["export", *map(str, (folder, *(tmp_path / w for w in words)))]
    )
    with pytest.raises(SystemExit, match="usage: ") if not words else nullcontext():
        runpy.run_module("stages.export", run_name="__main__")
    assert all((tmp_path / word).is_file() for word in words)
