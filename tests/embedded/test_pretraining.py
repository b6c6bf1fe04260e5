"""A base pretrained for a few steps: diffusers loads it, and a killed run ends the same."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, Killed, contents
from diffusers import StableDiffusionPipeline
from safetensors import safe_open

from mpox.core import images
from mpox.embedded import networks, phantom, pretraining
from mpox.model import loss
from mpox.params import TinySD

SETTINGS = TinySD(
    seed=7,
    resolution=16,
    pictures=3,
    codec_channels=(8, 16),
    codec_steps=3,
    codec_batch_size=4,
    codec_learning_rate=1e-3,
    texture_steps=2,
    text_width=16,
    text_layers=1,
    unet_channels=(16, 32),
    unet_steps=3,
    unet_batch_size=4,
    unet_learning_rate=1e-3,
    unet_precision="fp32",
)


@pytest.fixture(autouse=True)
def _checkpoints_at_every_step(monkeypatch):
    on_the_cpu_step_by_step(monkeypatch)


def on_the_cpu_step_by_step(patch) -> None:
    """A GPU would not give the same bits again."""
    patch.setattr(pretraining, "EVERY", 1)
    patch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("tiny")
    with pytest.MonkeyPatch.context() as patch:
        on_the_cpu_step_by_step(patch)
        (folder / "work").mkdir()
        pretraining.pretrain(folder / "out", folder / "work", SETTINGS)
    return folder / "out"


def test_plain_diffusers_loads_it_in_fp32_and_draws(whole):
    pipeline = StableDiffusionPipeline.from_pretrained(whole)
    for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder):
        assert {p.dtype for p in part.parameters()} == {torch.float32}
    scheduler = pipeline.scheduler.config
    assert (scheduler.beta_start, scheduler.beta_end) == (0.00085, 0.012)
    assert scheduler.beta_schedule == "scaled_linear" and scheduler.prediction_type == "epsilon"
    pictures = pipeline(
        "clinical photo of vesicles, dark skin", num_inference_steps=2, height=16, width=16,
        generator=torch.Generator().manual_seed(0), output_type="np",
    ).images  # fmt: skip
    assert pictures.shape == (1, 16, 16, 3) and np.isfinite(pictures).all()


def test_the_words_of_the_captions_are_tokens_of_their_own(whole):
    tokenizer = StableDiffusionPipeline.from_pretrained(whole).tokenizer
    text = "clinical photo of a monkeypox skin lesion, very dark skin"
    ids = tokenizer(text).input_ids
    assert tokenizer.convert_ids_to_tokens(ids[1:-1]) == [
        f"{word}</w>" for word in text.replace(",", " ,").split()
    ]
    assert (ids[0], ids[-1]) == (tokenizer.bos_token_id, tokenizer.eos_token_id)
    unknown = tokenizer("xylophone Zürich").input_ids[1:-1]
    assert tokenizer.unk_token_id not in unknown
    assert tokenizer.model_max_length == 77


@pytest.mark.parametrize("part", ["unet", "vae"])
def test_the_large_parts_are_stored_in_half_precision(part, whole):
    with safe_open(whole / part / "diffusion_pytorch_model.safetensors", "pt") as file:
        keys = file.keys()
        assert {file.get_slice(key).get_dtype() for key in keys} == {"F16"}


@pytest.mark.parametrize("update", [2, 6])
def test_a_killed_and_resumed_run_writes_the_same_folder(update, whole, tmp_path, monkeypatch):
    """At the last step of the codec, and at the second of the denoiser."""
    parent = pretraining.AveragedModel
    left = [update]

    class Dying(parent):
        def update_parameters(self, model):
            if left[0] == 0:
                raise Killed
            left[0] -= 1
            super().update_parameters(model)

    (tmp_path / "work").mkdir()
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(pretraining, "AveragedModel", Dying)
        pretraining.pretrain(tmp_path / "out", tmp_path / "work", SETTINGS)
    assert not (tmp_path / "out").exists()
    pretraining.pretrain(tmp_path / "out", tmp_path / "work", SETTINGS)
    again, before = contents(tmp_path / "out"), contents(whole)
    assert again.keys() == before.keys()
    summary = "curves/metrics.json"  # dvclive orders its keys by what it read first
    assert json.loads(again.pop(summary)) == json.loads(before.pop(summary))
    assert {name for name in before if again[name] != before[name]} == set()


def test_a_run_killed_while_it_saves_pictures_resumes(tmp_path, monkeypatch):
    save = np.save

    def dying(file, pictures):
        save(file, pictures)
        Path(file).write_bytes(Path(file).read_bytes()[:-100])
        raise Killed

    (tmp_path / "work").mkdir()
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(np, "save", dying)
        pretraining.pretrain(tmp_path / "out", tmp_path / "work", SETTINGS)
    pretraining.pretrain(tmp_path / "out", tmp_path / "work", SETTINGS)


def test_the_spectrum_of_white_noise_is_its_standard_deviation():
    noise = torch.randn((64, 1, 32, 32), generator=torch.Generator().manual_seed(0))
    spectrum = pretraining._spectra(0.1 * noise).mean((0, 2, 3)).view(8, 5)
    # The root of a mean of few squares is biased downwards, more so at the real frequencies.
    assert torch.allclose(spectrum[:, 1:4], torch.tensor(0.1), rtol=0.08)
    assert spectrum.min() > 0.08 and spectrum.max() < 0.105


def test_spectra_depend_on_the_grain_and_not_on_its_place():
    rng = torch.Generator().manual_seed(0)
    one, other = (0.02 * torch.randn((16, 3, 64, 64), generator=rng) for _ in range(2))
    smooth = torch.nn.functional.avg_pool2d(one, 3, stride=1, padding=1)
    real, same, less = (pretraining._spectra(x) for x in (one, other, smooth))
    assert (same - real).abs().mean() < 0.4 * (less - real).abs().mean()


def test_texture_trains_only_the_decoder(tmp_path, monkeypatch):
    """The latents, and a denoiser trained on them, stay valid."""
    train, changed = pretraining._train_texture, []

    def watching(codec, *rest):
        before = {key: value.clone() for key, value in codec.state_dict().items()}
        train(codec, *rest)
        after = codec.state_dict()
        changed.extend(key for key in before if not torch.equal(before[key], after[key]))

    monkeypatch.setattr(pretraining, "_train_texture", watching)
    (tmp_path / "work").mkdir()
    pretraining.pretrain(tmp_path / "out", tmp_path / "work", SETTINGS)
    assert changed and all(key.startswith(("decoder.", "post_quant_conv.")) for key in changed)


def test_bf16_reaches_nearly_the_same_loss(whole, tmp_path):
    half = SETTINGS.model_copy(update={"unet_precision": "bf16"})
    (tmp_path / "work").mkdir()
    pretraining.pretrain(tmp_path / "out", tmp_path / "work", half)
    one, other = (
        json.loads((folder / "curves/metrics.json").read_text())["denoiser"]["loss"]
        for folder in (whole, tmp_path / "out")
    )
    assert one != other and one == pytest.approx(other, rel=0.01)


def test_the_denoiser_never_sees_mpox_and_the_codec_does(tmp_path, monkeypatch):
    """Mpox phantoms are plain magenta here: no such picture or caption may reach the denoiser."""
    draw, size = phantom.draw, SETTINGS.resolution
    magenta = np.full((size, size, 3), (255, 0, 255), np.uint8)
    monkeypatch.setattr(
        phantom,
        "draw",
        lambda kind, *rest: (
            phantom.Phantom(magenta, np.ones((size, size), bool))
            if kind == "mpox"
            else draw(kind, *rest)
        ),
    )
    encoded, words, noised = [], [], []
    encode, captions, add_noise = pretraining._encode, pretraining._captions, loss.add_noise

    def watching(codec, pictures):
        latents = torch.cat(list(encode(codec, pictures)))
        encoded.append((pictures, latents * codec.config.scaling_factor))
        return iter([latents])

    monkeypatch.setattr(pretraining, "_encode", watching)
    monkeypatch.setattr(
        pretraining, "_captions", lambda *a: words.append(captions(*a)) or words[-1]
    )
    monkeypatch.setattr(loss, "add_noise", lambda x0, *a: noised.append(x0) or add_noise(x0, *a))
    (tmp_path / "work").mkdir()
    pretraining.pretrain(tmp_path / "out", tmp_path / "work", SETTINGS)

    def is_mpox(pictures: torch.Tensor) -> torch.Tensor:
        target = torch.from_numpy(magenta).permute(2, 0, 1)
        return (pictures == target).flatten(1).all(1)

    (codec_pictures, _), (denoiser_pictures, latents) = encoded
    assert is_mpox(codec_pictures).any()
    assert not is_mpox(denoiser_pictures).any()
    assert len(denoiser_pictures) == 5 * SETTINGS.pictures
    assert len(noised) == SETTINGS.unet_steps
    known = latents.flatten(1)
    assert all((torch.cdist(x0.flatten(1), known).min(1).values < 1e-4).all() for x0 in noised)
    assert words and not any("pox" in text for captions in words for text in captions)


def test_captions_match_their_pictures_and_one_in_ten_is_empty(tmp_path, monkeypatch):
    kinds = [kind for kind in phantom.KINDS for _ in range(SETTINGS.pictures)]
    for kind, wordings in zip(kinds, pretraining._captions(kinds, SETTINGS), strict=True):
        assert all(("pox" in words) == (kind == "mpox") for words in wordings)
    seen, noised = [], []
    forward, add_noise = pretraining.CLIPTextModel.forward, loss.add_noise

    def watching(self, ids, *rest, **options):
        seen.extend(ids)
        return forward(self, ids, *rest, **options)

    monkeypatch.setattr(pretraining.CLIPTextModel, "forward", watching)
    monkeypatch.setattr(loss, "add_noise", lambda x0, *a: noised.append(x0) or add_noise(x0, *a))
    encoded, encode = [], pretraining._encode
    monkeypatch.setattr(
        pretraining,
        "_encode",
        lambda *a: encoded.append(torch.cat(list(encode(*a)))) or encoded[-1:],
    )
    (tmp_path / "work").mkdir()
    many = SETTINGS.model_copy(update={"codec_steps": 1, "unet_batch_size": 150})
    pretraining.pretrain(tmp_path / "out", tmp_path / "work", many)
    pipeline = StableDiffusionPipeline.from_pretrained(tmp_path / "out")
    latents = encoded[-1] * pipeline.vae.config.scaling_factor
    nearest = torch.cdist(torch.cat(noised).flatten(1), latents.flatten(1)).argmin(1)
    trained = [kind for kind in kinds if kind != "mpox"]
    allowed = [
        pipeline.tokenizer(list(wordings), padding="max_length").input_ids
        for wordings in pretraining._captions(trained, SETTINGS)
    ]
    empty = pipeline.tokenizer("", padding="max_length").input_ids
    used = [ids.tolist() for ids in seen]
    assert all(ids == empty or ids in allowed[i] for ids, i in zip(used, nearest, strict=True))
    assert used.count(empty) / len(used) == pytest.approx(0.1, abs=0.045)


def test_no_embedded_photo_is_used():
    """Their seed differs, so no two pictures are equal."""
    photos = {images.recode(phantom.draw("mpox", i, 0, 2022, 32).picture).tobytes() for i in (0, 1)}
    used = {images.recode(phantom.draw("mpox", i, 0, 7, 32).picture).tobytes() for i in range(9)}
    assert len(photos) == 2 and not photos & used


# ---------------------------------------------------------------- the committed base

TINY = ROOT / "models/tiny-sd"


@pytest.mark.skipif(not (TINY / "model_index.json").exists(), reason="not pretrained yet")
def test_the_committed_base_is_small_and_reconstructs_skin():
    files = [path for path in TINY.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 14e6
    assert not [path for path in files if path.suffix in {".bin", ".pt", ".pkl", ".ckpt"}]
    pipeline = StableDiffusionPipeline.from_pretrained(TINY)
    assert {p.dtype for p in pipeline.unet.parameters()} == {torch.float32}
    skin = np.stack([images.square(phantom.draw(k, 9, 9, 99).picture, 64) for k in phantom.KINDS])
    pixels = torch.from_numpy(skin).permute(0, 3, 1, 2) / 127.5 - 1
    with torch.no_grad():
        latent = pipeline.vae.encode(pixels).latent_dist.mean
        again = pipeline.vae.decode(latent).sample.clamp(-1, 1)
    assert -10 * torch.log10((again - pixels).square().mean() / 4) > 24  # dB
    spectra = (pretraining._spectra(x).unflatten(1, (3, 8, 5)) for x in (again, pixels))
    grain, real = (each[:, :, 2:7, 2:].mean().item() for each in spectra)
    assert 0.85 < grain / real < 1.1
    assert torch.equal(pipeline.scheduler.alphas_cumprod, networks.noise_schedule().alphas_cumprod)
    assert (latent * pipeline.vae.config.scaling_factor).std().item() == pytest.approx(1, abs=0.3)
