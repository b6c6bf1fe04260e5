"""The adapter in memory against the file in plain diffusers."""

import json
import os
import re
from pathlib import Path

import pytest
import torch
from conftest import POINTER, RESOLUTION, UNFETCHED, full_disk
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mpox.core.errors import InputError
from mpox.model import base, lora
from mpox.params import Train

RANK, ALPHA = 4, 10.0  # far from each other: a lost α would show
# (rslora, dora)
KINDS = {
    "LoRA": (False, False),
    "rsLoRA": (True, False),
    "DoRA": (False, True),
    "both": (True,) * 2,
}
every_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture
def unet(tiny_sd) -> UNet2DConditionModel:
    return UNet2DConditionModel.from_pretrained(tiny_sd, subfolder="unet")


def add(
    unet: UNet2DConditionModel,
    targets: str = "attention+feed_forward+convolution",
    seed: int = 0,
    kind: str = "LoRA",
) -> None:
    rslora, dora = KINDS[kind]
    settings = Train.model_construct(
        rank=RANK, alpha=ALPHA, target_modules=targets, rslora=rslora, dora=dora
    )
    lora.add(unet, settings, seed)


def shake(unet: UNet2DConditionModel) -> None:
    """Gives B some values and changes DoRA's magnitudes, as training would."""
    rng = torch.Generator().manual_seed(1)
    weights = lora.state(unet)
    for key, value in weights.items():
        if "lora_B" in key:
            value.normal_(std=0.1, generator=rng)
        elif "magnitude" in key:
            value *= 1 + torch.rand(value.shape, generator=rng)
    lora.restore(unet, weights)


@torch.no_grad()
def output(unet: UNet2DConditionModel) -> Tensor:
    rng = torch.Generator().manual_seed(2)
    noisy = torch.randn((2, 4, 8, 8), generator=rng).to(unet.dtype)
    states = torch.randn((2, 77, 32), generator=rng).to(unet.dtype)
    return unet(noisy, torch.tensor([3, 800]), states).sample


def gap(one: Tensor, other: Tensor) -> float:
    """The largest difference, relative to the largest value."""
    return ((one - other).abs().max() / other.abs().max()).item()


@every_kind
def test_a_new_adapter_changes_nothing(kind, unet):
    before = output(unet)
    add(unet, kind=kind)
    # m/‖W‖ is 1 but for rounding.
    assert gap(output(unet), before) <= (1e-6 if KINDS[kind][1] else 0)
    shake(unet)
    assert (output(unet) - before).abs().max() > 0.1


def test_a_is_gaussian_and_a_function_of_the_seed(unet, tiny_sd):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    add(unet, seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    again, other = (
        UNet2DConditionModel.from_pretrained(tiny_sd, subfolder="unet") for _ in range(2)
    )
    add(again, seed=3)
    add(other, seed=4)
    mine, same, different = map(lora.state, (unet, again, other))
    drawn = [key for key in mine if "lora_A" in key]
    assert all(torch.equal(mine[key], same[key]) for key in mine)
    assert not any(torch.equal(mine[key], different[key]) for key in drawn)
    values = torch.cat([mine[key].flatten() for key in drawn])
    assert values.std().item() == pytest.approx(1 / RANK, rel=0.05)


@pytest.mark.parametrize(
    ("targets", "within", "number"),
    [
        ("attention", r"\.attn", 32),
        ("attention+feed_forward", r"\.transformer_blocks\.", 40),
        (
            "attention+feed_forward+convolution",
            r"\.transformer_blocks\.|\.(resnets|\w+samplers)\.",
            63,
        ),
    ],
)
def test_target_modules_name_the_adapted_layers(targets, within, number, unet):
    blocks = {
        name
        for name, module in unet.named_modules()
        if isinstance(module, (nn.Linear, nn.Conv2d))
        and re.search(within, name)
        and not name.endswith("time_emb_proj")
    }
    assert len(blocks) == number
    add(unet, targets)
    assert {key.partition(".lora_")[0] for key in lora.state(unet)} == blocks


@every_kind
def test_only_the_adapter_is_trained_in_fp32_on_a_bf16_base(kind, unet):
    unet.to(torch.bfloat16)
    add(unet, kind=kind)
    for name, parameter in unet.named_parameters():
        trained = "lora_" in name
        assert parameter.requires_grad == trained
        assert parameter.dtype == (torch.float32 if trained else torch.bfloat16)


def layers(unet: UNet2DConditionModel) -> dict[str, dict[str, Tensor]]:
    """A, B and, for a DoRA, m of each adapted layer."""
    parts: dict[str, dict[str, Tensor]] = {}
    for key, value in lora.state(unet).items():
        name, _, part = key.partition(".lora_")
        parts.setdefault(name, {})[part[0]] = value
    return parts


def merged(weight: Tensor, parts: dict[str, Tensor], kind: str) -> Tensor:
    """W + s B A with s = α/r or α/√r; for a DoRA, rows scaled to length m. Kernels as matrices."""
    scale = ALPHA / (RANK**0.5 if KINDS[kind][0] else RANK)
    whole = weight.flatten(1) + scale * parts["B"].flatten(1) @ parts["A"].flatten(1)
    if KINDS[kind][1]:
        lengths = whole.square().sum(1, keepdim=True).sqrt()
        whole = parts["m"].view_as(lengths) * whole / lengths
    return whole.view_as(weight)


@torch.no_grad()
def by_hand(folder: Path, parts: dict[str, dict[str, Tensor]], kind: str) -> UNet2DConditionModel:
    """The base with the adapter merged into its weights."""
    unet = UNet2DConditionModel.from_pretrained(folder, subfolder="unet")
    for name, matrices in parts.items():
        weight = unet.get_submodule(name).weight
        weight.copy_(merged(weight, matrices, kind))
    return unet


@every_kind
def test_the_forward_pass_is_the_papers_equation(kind, unet, tiny_sd):
    before = output(unet)
    add(unet, kind=kind)
    shake(unet)
    expected = output(by_hand(tiny_sd, layers(unet), kind))
    assert (expected - before).abs().max() > 0.1
    assert gap(output(unet), expected) < 1e-5


def test_the_kinds_differ(unet, tiny_sd):
    """Otherwise an option without effect would pass the tests above."""
    add(unet, kind="both")
    shake(unet)
    outputs = [output(by_hand(tiny_sd, layers(unet), kind)) for kind in KINDS]
    for i, one in enumerate(outputs):
        assert all((one - other).abs().max() > 0.01 for other in outputs[:i])


def test_magnitudes_start_as_row_lengths_also_on_a_bf16_base(unet):
    unet.to(torch.bfloat16)
    add(unet, kind="DoRA")
    for name, matrices in layers(unet).items():
        weight = unet.get_submodule(name).get_base_layer().weight.double()
        torch.testing.assert_close(
            matrices["m"].double().flatten(), weight.flatten(1).norm(dim=1), rtol=1e-6, atol=0
        )


@every_kind
def test_fused_it_is_the_same_model(kind, unet, tiny_sd, tmp_path):
    add(unet, kind=kind)
    shake(unet)
    lora.save(unet, tmp_path)
    pipeline = base.load(tiny_sd, RESOLUTION)
    lora.fuse(pipeline, tmp_path)
    assert not any("lora" in name for name, _ in pipeline.unet.named_parameters())
    assert gap(output(pipeline.unet), output(unet)) < 1e-5


@every_kind
def test_plain_diffusers_loads_all_of_it(kind, unet, tiny_sd, tmp_path):
    add(unet, kind=kind)
    shake(unet)
    lora.save(unet, tmp_path / "new" / "folder")
    plain = StableDiffusionPipeline.from_pretrained(tiny_sd)
    plain.load_lora_weights(tmp_path / "new" / "folder")
    saved = load_file(tmp_path / "new" / "folder" / lora.FILE_NAME)
    loaded = {
        f"unet.{name.replace('.default_0', '')}".replace("vector.weight", "vector"): value
        for name, value in plain.unet.named_parameters()
        if "lora_" in name
    }
    assert saved.keys() == loaded.keys()
    assert all(torch.equal(saved[key], loaded[key]) for key in saved)
    torch.testing.assert_close(output(plain.unet), output(unet), rtol=0, atol=1e-6)


@every_kind
def test_state_is_a_sorted_copy_that_can_be_restored(kind, unet):
    add(unet, kind=kind)
    before = lora.state(unet)
    assert list(before) == sorted(before)
    shake(unet)
    assert not any(before[key].any() for key in before if "lora_B" in key)
    shaken = output(unet)
    after = lora.state(unet)
    lora.restore(unet, before)
    assert not torch.equal(output(unet), shaken)
    lora.restore(unet, after)
    assert torch.equal(output(unet), shaken)


class Backwards(set):
    """A set in another order, as in another process."""

    def __iter__(self):
        return iter(sorted(set(super().__iter__()), reverse=True))


def test_the_file_does_not_depend_on_the_order_of_sets(unet, tmp_path):
    add(unet)
    shake(unet)
    lora.save(unet, tmp_path / "a")
    config = unet.peft_config["default"]
    config.target_modules = Backwards(config.target_modules)
    backwards = list(config.to_dict()["target_modules"])
    assert backwards == sorted(backwards, reverse=True) and len(backwards) == 10
    lora.save(unet, tmp_path / "b")
    first, second = ((tmp_path / name / lora.FILE_NAME).read_bytes() for name in "ab")
    assert first == second


@every_kind
def test_its_metadata_holds_no_path_and_the_alpha(kind, unet, tiny_sd, tmp_path):
    add(unet, kind=kind)
    lora.save(unet, tmp_path)
    with safe_open(tmp_path / lora.FILE_NAME, "pt") as file:
        metadata = file.metadata()
    (text,) = metadata.values()
    config = json.loads(text)
    assert config["unet.lora_alpha"] == ALPHA and config["unet.r"] == RANK
    assert (config["unet.use_rslora"], config["unet.use_dora"]) == KINDS[kind]
    assert str(tiny_sd) not in text and str(tmp_path) not in text and str(Path.home()) not in text


def test_a_file_that_cannot_be_written_whole_is_named(unet, tmp_path):
    """On a full disk the stage stops with one line; safetensors would raise a traceback."""
    add(unet)
    refused = f"{lora.FILE_NAME}: cannot be written: .*too large"
    with full_disk(1000), pytest.raises(InputError, match=refused):
        lora.save(unet, tmp_path)


# ---------------------------------------------------------------- files of earlier diffusers


NAMINGS = {
    # .attn1.to_out.0 → .attn1.to_out.0.lora.down.weight
    "lora.down": lambda name: f"{name}.lora",
    # .attn1.to_out.0 → .attn1.processor.to_out_lora.down.weight
    "processor": lambda name: f"{name.replace('.to_', '.processor.to_').removesuffix('.0')}_lora",
}


def old_file(unet: UNet2DConditionModel, folder: Path, naming: str) -> dict[str, dict[str, Tensor]]:
    """Writes a LoRA of attention, rank 8, bf16, without configuration; gives A and B by layer."""
    rng = torch.Generator().manual_seed(3)
    parts, weights = {}, {}
    for name, layer in unet.named_modules():
        if isinstance(layer, nn.Linear) and ".attn" in name:
            a = torch.randn((8, layer.in_features), generator=rng).bfloat16()
            b = (0.1 * torch.randn((layer.out_features, 8), generator=rng)).bfloat16()
            parts[name] = {"A": a.float(), "B": b.float()}
            key = f"unet.{NAMINGS[naming](name)}"
            weights |= {f"{key}.down.weight": a, f"{key}.up.weight": b}
    save_file(weights, folder / lora.FILE_NAME)
    return parts


@pytest.fixture(params=NAMINGS)
def old(request, unet, tiny_sd, tmp_path) -> UNet2DConditionModel:
    """The base with W + B A merged by hand; the LoRA's file is in `tmp_path`."""
    parts = old_file(unet, tmp_path, request.param)
    assert len(parts) == 32
    with torch.no_grad():
        for name, matrices in parts.items():
            unet.get_submodule(name).weight += matrices["B"] @ matrices["A"]
    return unet


def test_an_older_file_is_fused_whole_and_unscaled(old, tiny_sd, tmp_path):
    pipeline = base.load(tiny_sd, RESOLUTION)
    before = output(pipeline.unet)
    lora.fuse(pipeline, tmp_path)
    assert (output(pipeline.unet) - before).abs().max() > 0.1
    assert torch.equal(output(pipeline.unet), output(old))


def test_kohyas_dora_is_refused(unet, tiny_sd, tmp_path):
    """Diffusers would ignore the magnitudes."""
    old_file(unet, tmp_path, "lora.down")
    weights = {
        f"lora_unet_{key.removeprefix('unet.').partition('.lora.')[0].replace('.', '_')}."
        + ("lora_up.weight" if ".up." in key else "lora_down.weight"): value
        for key, value in load_file(tmp_path / lora.FILE_NAME).items()
    }
    for key, value in dict(weights).items():
        if "lora_up" in key:
            weights[key.replace("lora_up.weight", "dora_scale")] = torch.ones((len(value), 1))
    save_file(weights, tmp_path / lora.FILE_NAME)
    with pytest.raises(InputError, match=f"{tmp_path}.*DoRA in kohya's format"):
        lora.fuse(base.load(tiny_sd, RESOLUTION), tmp_path)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda weights: {}, "holds no LoRA matrices"),
        (
            lambda weights: dict(list(weights.items())[1:]),
            r"\d+ of \d+ LoRA matrices match the base model; expected all",
        ),
        (
            lambda weights: {k: v[..., :3] for k, v in weights.items()},
            "does not fit the base model",
        ),
    ],
    ids=["empty", "one matrix missing", "another network's"],
)
def test_a_file_that_does_not_fit_the_base_is_refused(spoil, reason, unet, tiny_sd, tmp_path):
    """Otherwise the base alone would draw."""
    add(unet)
    lora.save(unet, tmp_path)
    file = tmp_path / lora.FILE_NAME
    with safe_open(file, "pt") as stored:
        metadata = stored.metadata()
    spoilt = {key: value.contiguous() for key, value in spoil(load_file(file)).items()}
    save_file(spoilt, file, metadata)
    with pytest.raises(InputError, match=f"{file}: .*{reason}"):
        lora.fuse(base.load(tiny_sd, RESOLUTION), tmp_path)


def test_a_file_that_git_lfs_has_not_fetched_is_named(tmp_path):
    (tmp_path / lora.FILE_NAME).write_bytes(POINTER)
    with pytest.raises(InputError, match=f"^{tmp_path / lora.FILE_NAME}: {UNFETCHED}$"):
        lora.fuse(None, tmp_path)  # before the base is used


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_is_not_finite_is_named(value, unet, tiny_sd, tmp_path):
    """Otherwise every picture would be NaN, and nothing would show why."""
    add(unet)
    lora.save(unet, tmp_path)
    file = tmp_path / lora.FILE_NAME
    weights, key = load_file(file), "unet.mid_block.resnets.0.conv1.lora_B.weight"
    weights[key].view(-1)[3] = value
    save_file(weights, file)
    with pytest.raises(InputError, match=f"{file}: {key} is not finite; expected an undamaged"):
        lora.fuse(base.load(tiny_sd, RESOLUTION), tmp_path)


# ---------------------------------------------------------------- kohya's text encoders


def kohyas_file(folder: Path, networks: dict[str, nn.Module]) -> None:
    """A LoRA of attention in `networks`, rank 8, α = 4, also merged into them: W + (α/8) B A."""
    rng, weights = torch.Generator().manual_seed(3), {}
    for prefix, network in networks.items():
        for name, layer in network.named_modules():
            if isinstance(layer, nn.Linear) and "attn" in name:
                a = torch.randn((8, layer.in_features), generator=rng)
                b = 0.1 * torch.randn((layer.out_features, 8), generator=rng)
                key = f"{prefix}_{name.replace('.', '_')}"
                weights |= {f"{key}.lora_down.weight": a, f"{key}.lora_up.weight": b}
                weights[f"{key}.alpha"] = torch.tensor(4.0)
                with torch.no_grad():
                    layer.weight += 4 / 8 * b @ a
    save_file(weights, folder / lora.FILE_NAME)


@pytest.mark.parametrize("prefix", ["lora_te", "lora_te1"])
def test_kohyas_text_encoder_is_fused_as_diffusers_applies_it(prefix, tiny_sd, tmp_path, caplog):
    ours, plain, by_hand = (base.load(tiny_sd, RESOLUTION) for _ in range(3))
    before = base.encode_text(ours, "a lesion")
    kohyas_file(
        tmp_path,
        {"lora_unet": by_hand.unet, f"{prefix}_text_model": by_hand.text_encoder},
    )
    plain.load_lora_weights(tmp_path, weight_name=lora.FILE_NAME)
    lora.fuse(ours, tmp_path)
    words = base.encode_text(ours, "a lesion")
    assert gap(before, words) > 0.01
    assert gap(words, base.encode_text(by_hand, "a lesion")) < 1e-5
    assert gap(words, base.encode_text(plain, "a lesion")) < 1e-5
    assert gap(output(ours.unet), output(by_hand.unet)) < 1e-5
    assert not any("lora" in name for name, _ in ours.text_encoder.named_parameters())


def test_a_lora_of_a_second_text_encoder_is_refused(tiny_sd, tmp_path):
    pipeline = base.load(tiny_sd, RESOLUTION)
    kohyas_file(
        tmp_path,
        {"lora_unet": pipeline.unet, "lora_te2_text_model": pipeline.text_encoder},
    )
    with pytest.raises(InputError, match=r"\d+ of \d+ LoRA matrices match the base"):
        lora.fuse(base.load(tiny_sd, RESOLUTION), tmp_path)


@pytest.mark.parametrize("config", ["[]", "no JSON", '{"unet.r": "eight"}', '{"unet.peft_x": 1}'])
def test_damaged_metadata_is_refused(config, unet, tiny_sd, tmp_path):
    add(unet)
    lora.save(unet, tmp_path)
    file = tmp_path / lora.FILE_NAME
    save_file(load_file(file), file, {lora.LORA_ADAPTER_METADATA_KEY: config})
    with pytest.raises(InputError, match=f"{file}: the LoRA does not fit the base model"):
        lora.fuse(base.load(tiny_sd, RESOLUTION), tmp_path)


def test_a_missing_file_or_one_cut_short_is_refused(unet, tiny_sd, tmp_path):
    with pytest.raises(InputError, match=f"{tmp_path}: holds no pytorch_lora_weights.safetensors"):
        lora.fuse(None, tmp_path)
    add(unet)
    lora.save(unet, tmp_path)
    file = tmp_path / lora.FILE_NAME
    os.truncate(file, file.stat().st_size - 100)
    with pytest.raises(InputError, match=f"{file}: "):
        lora.fuse(base.load(tiny_sd, RESOLUTION), tmp_path)
