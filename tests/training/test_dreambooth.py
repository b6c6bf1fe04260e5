"""Training against a plain PyTorch loop, and a killed run against an undisturbed one."""

import csv
import functools
import math
import os
import shutil
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate.state import AcceleratorState
from conftest import RESOLUTION, Killed, contents
from diffusers import DDPMScheduler, StableDiffusionPipeline
from diffusers.training_utils import compute_snr
from peft import set_peft_model_state_dict
from torch import Tensor, nn
from torch._inductor.runtime.cache_dir_utils import default_cache_dir

import stages.train_lora
from mpox import params
from mpox.core import images, listing, seeds, table
from mpox.core.errors import InputError
from mpox.core.picture_set import PictureSet
from mpox.model import base, checkpoints, concepts, latents, lora, loss
from mpox.model.concepts import Batch, Concept, Lesson
from mpox.params import Drawing, PriorPreservation, Train
from mpox.sampling import compilation, sampler
from mpox.sampling.sampler import Sampler
from mpox.training import dreambooth
from mpox.training.dreambooth import Recipe, Sets
from mpox.training.learner import CHECKPOINT, Adapter, Learner, make_accelerator

SEED = 3


def pictures(number: int, std: float = 0.0) -> Concept:
    """A concept whose picture i has the latent i everywhere."""
    mean = torch.arange(float(number)).view(-1, 1, 1, 1).expand(number, 4, 8, 8)
    states = torch.randn((3, 77, 32), generator=torch.Generator().manual_seed(0))
    alphas = torch.linspace(0.999, 0.005, 1000)
    posterior = latents.Posterior(mean.clone(), torch.full_like(mean, std))
    caption = torch.arange(number) % 2  # the third is the empty one
    return Concept(posterior, states, caption, alphas)


def lesson(concept: Concept, size: int = 4, weight: float = 1.0, **more) -> Lesson:
    return Lesson(concept, more.pop("name", "pictures"), SEED, size, weight, **more)


def skin(tiny_sd: Path, folder: Path, prompt: str) -> Concept:
    pipeline, shown = base.load(tiny_sd, RESOLUTION), PictureSet.read(folder)
    return concepts.encode(pipeline, shown, [prompt] * len(shown), RESOLUTION)


def learner(tiny_sd: Path, settings: Train, seed: int = SEED) -> Learner:
    unet = base.load(tiny_sd, RESOLUTION).unet
    return Learner(unet, settings, make_accelerator(settings), seed)


# ---------------------------------------------------------------- the samples of a step


def shown(concept: Concept, steps: range, size: int) -> list[int]:
    """The numbers of the pictures seen, in order."""
    drawn = lesson(concept, size)
    return [int(x.mean().round()) for step in steps for x in drawn.batch(step).x0]


def test_each_picture_is_seen_once_an_epoch_in_a_new_order():
    concept, size = pictures(7), 4
    seen = shown(concept, range(14), size)
    epochs = [seen[start : start + 7] for start in range(0, 56, 7)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert len(set(map(tuple, epochs))) > 4


def test_the_error_for_a_long_caption_names_its_picture(tiny_sd, augmented):
    two = PictureSet.read(augmented).subset([0, 1])
    with pytest.raises(InputError, match=rf"{two.paths[1].name}: got \d+ tokens, expected at mo"):
        concepts.encode(base.load(tiny_sd, RESOLUTION), two, ["a lesion", "word " * 100], 16)


def test_a_batch_is_a_function_of_seed_name_and_step_alone():
    first = {step: lesson(pictures(5, 0.1), 3).batch(step) for step in range(8)}
    again = lesson(pictures(5, 0.1), 3)
    torch.manual_seed(9)
    for step in (5, 0, 7, 2):
        assert all(map(torch.equal, first[step], again.batch(step)))
    for change in ({"seed": SEED + 1}, {"name": "others"}):
        assert not torch.equal(replace(again, **change).batch(0).epsilon, first[0].epsilon)
    assert not torch.equal(first[1].epsilon, first[0].epsilon)


def test_noise_and_posterior_draws_are_normal_and_timesteps_uniform():
    drawn = lesson(pictures(4, 2.0), 16)
    x0, epsilon, t, alphas, _ = map(torch.cat, zip(*map(drawn.batch, range(50)), strict=True))
    number = torch.tensor(shown(pictures(4), range(50), 16)).view(-1, 1, 1, 1)
    posterior = (x0 - number) / 2
    for noise in (epsilon, posterior):
        assert noise.mean().item() == pytest.approx(0, abs=0.01)
        assert noise.std().item() == pytest.approx(1, abs=0.01)
    assert abs((posterior * epsilon).mean().item()) < 0.01  # two independent draws
    assert t.min() >= 0 and t.max() <= 999
    assert torch.equal(alphas, torch.linspace(0.999, 0.005, 1000)[t])
    counts = torch.histc(t.float(), 8, 0, 1000)
    assert ((counts - 100).square() / 100).sum() < 24.3  # χ² with 7 degrees, p = 0.001


@pytest.mark.parametrize("timesteps", [concepts.VAL_TIMESTEPS, 4])
def test_held_out_samples_are_fixed_and_cover_the_timesteps(timesteps):
    concept = pictures(5, 0.5)
    batches = concept.fixed(SEED, timesteps)
    x0, _, t, _, states = map(torch.cat, zip(*batches, strict=True))
    each = t.view(5, timesteps)
    assert (each // (1000 // timesteps) == torch.arange(timesteps)).all()
    assert len(set(each[:, 0].tolist())) > 1
    means = x0.mean(dim=(1, 2, 3)).view(5, -1).mean(dim=1)
    torch.testing.assert_close(means, torch.arange(5.0), rtol=0, atol=0.1)
    number = x0.mean((1, 2, 3)).round().long()
    assert torch.equal(states, concept.states[concept.caption[number]])
    for first, again in zip(batches, concept.fixed(SEED, timesteps), strict=True):
        assert all(map(torch.equal, first, again))
    assert not torch.equal(concept.fixed(SEED + 1, timesteps)[0].epsilon, batches[0].epsilon)


def test_held_out_timesteps_stay_in_range_at_the_largest_random_number(monkeypatch):
    largest = 1 - 2**-24  # of torch.rand's
    monkeypatch.setattr(torch, "rand", lambda shape, generator: torch.full(shape, largest))
    assert max(batch.t.max().item() for batch in pictures(2).fixed(0)) == 999


def test_each_picture_has_its_caption_unless_it_is_dropped():
    concept = pictures(6)
    whole, dropping = lesson(concept, 6), lesson(concept, 6, caption_dropout=0.2)
    dropped = 0
    for step in range(200):
        before, after = whole.batch(step), dropping.batch(step)
        number = before.x0.mean((1, 2, 3)).round().long()
        assert torch.equal(before.states, concept.states[number % 2])
        assert all(map(torch.equal, before[:4], after[:4]))  # nothing else changes
        empty = (after.states == concept.states[-1]).all(2).all(1)
        assert torch.equal(after.states[~empty], before.states[~empty])
        dropped += int(empty.sum())
    assert dropped / 1200 == pytest.approx(0.2, abs=0.04)


def test_base_predictions_are_preserved_for_the_empty_caption():
    concept = pictures(6)
    prior = lesson(concept, 6, target=BASE, caption_dropout=0.5, noise_offset=1.0).batch(3)
    plain = lesson(concept, 6).batch(3)
    assert all(map(torch.equal, prior[:4], plain[:4]))
    assert torch.equal(prior.states, concept.states[-1:].expand(6, -1, -1))


def test_the_noise_offset_is_one_shift_per_channel():
    before = lesson(pictures(6), 64).batch(0)
    after = lesson(pictures(6), 64, noise_offset=0.5).batch(0)
    assert all(torch.equal(before[k], after[k]) for k in (0, 2, 3, 4))
    shift = after.epsilon - before.epsilon
    assert shift.std((2, 3)).max() < 1e-6
    assert shift.mean((2, 3)).std().item() == pytest.approx(0.5, abs=0.1)


# ---------------------------------------------------------------- a step


def change(module: nn.Module, x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """B A x; for a convolution, two convolutions with the kernels A and B."""
    if isinstance(module, nn.Conv2d):
        down = nn.functional.conv2d(x, a, stride=module.stride, padding=module.padding)
        return nn.functional.conv2d(down, b)
    return x @ a.T @ b.T


def plain_loop(
    tiny_sd: Path, start: dict[str, Tensor], concept: Concept, settings: Train
) -> tuple[dict[str, Tensor], list[float]]:
    """A textbook's DreamBooth LoRA: W x + (α/r) B A x by hooks, AdamW, cosine schedule."""
    unet = StableDiffusionPipeline.from_pretrained(tiny_sd).unet.requires_grad_(False).train()
    adapter = {key: value.clone().requires_grad_() for key, value in start.items()}
    for name, module in unet.named_modules():
        if f"{name}.lora_A.weight" in adapter:
            a, b = (adapter[f"{name}.lora_{x}.weight"] for x in "AB")
            module.register_forward_hook(
                lambda module, inputs, output, a=a, b=b: (
                    output + settings.alpha / settings.rank * change(module, inputs[0], a, b)
                )
            )
    noise = DDPMScheduler.from_pretrained(tiny_sd, subfolder="scheduler")
    optimizer = torch.optim.AdamW(adapter.values(), weight_decay=settings.weight_decay)
    losses, warm, steps = [], settings.warmup_steps, settings.max_steps
    for step in range(steps):
        share = step / warm if step < warm else 0.5 + 0.5 * math.cos(
            math.pi * (step - warm) / (steps - warm)
        )  # fmt: skip
        optimizer.param_groups[0]["lr"] = settings.learning_rate * share
        x0, epsilon, t, _, states = lesson(concept, settings.batch_size).batch(step)
        noisy = noise.add_noise(x0, epsilon, t)
        predicted = unet(noisy, t, states).sample
        snr = compute_snr(noise, t)
        weight = torch.minimum(snr, torch.full_like(snr, 5.0)) / snr
        errors = nn.functional.mse_loss(predicted, epsilon, reduction="none").mean((1, 2, 3))
        value = (weight * errors).mean()
        optimizer.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(adapter.values(), settings.max_grad_norm)
        optimizer.step()
        losses.append(value.item())
    return {key: value.detach() for key, value in adapter.items()}, losses


def test_training_equals_a_plain_pytorch_loop(tiny_sd, small, augmented):
    settings = small.train.model_copy(
        update={"warmup_steps": 2, "max_steps": 5, "max_grad_norm": 0.05, "alpha": 12.0}
    )
    assert settings.lr_scheduler == "cosine" and settings.min_snr_gamma == 5.0
    concept = skin(tiny_sd, augmented, "a lesion")
    mine = learner(tiny_sd, settings)
    start = lora.state(mine.unet)
    losses = [value.item() for _, value in mine.steps([lesson(concept)])]
    expected, expected_losses = plain_loop(tiny_sd, start, concept, settings)
    assert losses == pytest.approx(expected_losses, rel=1e-5)
    after = lora.state(mine.unet)
    for key, value in expected.items():
        torch.testing.assert_close(after[key], value, rtol=1e-3, atol=1e-5)
        assert not torch.equal(value, start[key])


def test_another_seed_starts_from_another_adapter(tiny_sd, small):
    one, other = (lora.state(learner(tiny_sd, small.train, seed).unet) for seed in (SEED, SEED + 1))
    assert not any(torch.equal(one[key], other[key]) for key in one if "lora_A" in key)


def first_loss(tiny_sd: Path, settings: Train, lessons: list[Lesson]) -> float:
    return next(iter(learner(tiny_sd, settings).steps(lessons)))[1].item()


def test_the_loss_is_the_weighted_sum_over_concepts(tiny_sd, small, augmented, held_out):
    one = lesson(skin(tiny_sd, augmented, "a lesion"), name="instance")
    other = lesson(skin(tiny_sd, held_out, "skin"), 2, name="class")
    parts = [first_loss(tiny_sd, small.train, [each]) for each in (one, other)]
    whole = first_loss(tiny_sd, small.train, [one, replace(other, weight=0.25)])
    assert whole == pytest.approx(parts[0] + 0.25 * parts[1], rel=1e-6)


BASE = "base_prediction"
VARIANTS = [
    {},
    {"rslora": True},
    {"dora": True},
    {"target_modules": "attention"},
    {"gradient_checkpointing": True},
]


def moved(mine: Learner) -> Learner:
    """The learner with an adapter that changes the network; a fresh one does not."""
    rng = torch.Generator().manual_seed(5)
    for name, weights in mine.unet.named_parameters():
        if "lora_B" in name:
            weights.data = 0.1 * torch.randn(weights.shape, generator=rng)
    return mine


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_preserving_the_base_equals_diffusers_and_peft(variant, tiny_sd, small, augmented):
    """The target is from diffusers' UNet with PEFT's adapter switched off."""
    settings = small.train.model_copy(update={"max_grad_norm": 1e9, **variant})
    photos = skin(tiny_sd, augmented, "a lesion")
    lessons = [lesson(photos), lesson(photos, 2, 0.3, name="base", target=BASE)]
    mine, gradients = moved(learner(tiny_sd, settings)), []
    mine.accelerator.clip_grad_norm_ = lambda trained, _: gradients.extend(
        p.grad.clone() for p in trained
    )
    start = lora.state(mine.unet)
    value = next(iter(mine.steps(lessons)))[1].item()
    assert mine.unet.is_gradient_checkpointing == settings.gradient_checkpointing

    unet = StableDiffusionPipeline.from_pretrained(tiny_sd).unet.requires_grad_(False).train()
    unet.add_adapter(mine.unet.peft_config["default"])
    set_peft_model_state_dict(unet, start)
    noise = DDPMScheduler.from_pretrained(tiny_sd, subfolder="scheduler")
    expected = torch.zeros(())
    for part in lessons:
        x0, target, t, _, states = part.batch(0)
        noisy = noise.add_noise(x0, target, t)
        if part.target == BASE:
            assert torch.equal(states, photos.states[-1:].expand(2, -1, -1))
            unet.disable_adapters()
            with torch.no_grad():
                target = unet(noisy, t, states).sample
            unet.enable_adapters()
        snr = compute_snr(noise, t)
        errors = (unet(noisy, t, states).sample - target).square().mean((1, 2, 3))
        expected = expected + part.weight * (torch.clamp(5 / snr, max=1) * errors).mean()
    expected.backward()
    assert value == pytest.approx(expected.item(), rel=1e-5)
    theirs = [p.grad for p in unet.parameters() if p.grad is not None]
    assert len(theirs) == len(gradients) > 10
    for one, other in zip(gradients, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5 * other.abs().max().item())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_fresh_adapter_predicts_exactly_as_the_base(precision, tiny_sd, small, augmented):
    """It changes nothing yet, so prediction and target are the same bits, also in bf16."""
    settings = small.train.model_copy(update={"precision": precision})
    photos = skin(tiny_sd, augmented, "a lesion")
    assert first_loss(tiny_sd, settings, [lesson(photos, target=BASE)]) == 0


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_nearly_every_weight_moves_also_on_a_bf16_base(precision, tiny_sd, small, augmented):
    """Without weight decay, which would also move weights that have no gradient."""
    settings = small.train.model_copy(
        update={"precision": precision, "weight_decay": 0.0, "learning_rate": 1e-4, "max_steps": 4}
    )
    mine = learner(tiny_sd, settings)
    before = lora.state(mine.unet)
    for _, value in mine.steps([lesson(skin(tiny_sd, augmented, "a lesion"))]):
        assert math.isfinite(value.item())
    after = lora.state(mine.unet)
    assert {value.dtype for value in after.values()} == {torch.float32}
    drawn = [key for key in after if "lora_A" in key]
    moved = torch.cat([(after[key] != before[key]).flatten() for key in drawn])
    assert moved.float().mean() > 0.99
    frozen = [p for p in mine.unet.parameters() if not p.requires_grad]
    assert {p.dtype for p in frozen} == {base.DTYPES[precision]}


def test_the_magnitudes_of_a_dora_are_trained(tiny_sd, small, augmented):
    settings = small.train.model_copy(update={"rslora": True, "dora": True, "max_steps": 3})
    mine = learner(tiny_sd, settings)
    before = lora.state(mine.unet)
    list(mine.steps([lesson(skin(tiny_sd, augmented, "a lesion"))]))
    after = lora.state(mine.unet)
    magnitudes = [key for key in after if "magnitude" in key]
    assert len(magnitudes) == len(after) // 3
    assert all((after[key] != before[key]).all() for key in magnitudes)


@pytest.mark.parametrize(("processes", "micro_batch"), [(1, 3), (2, 1), (3, 3), (5, 1)])
def test_processes_and_micro_batches_share_one_batch(
    processes, micro_batch, tiny_sd, small, augmented, held_out
):
    """DDP's mean over processes is the loss and gradient of all rows at once.

    The concepts have four, three and two rows: three processes share the four unevenly, and one of
    five has none.
    """
    photos = skin(tiny_sd, augmented, "a lesion")
    lessons = [
        lesson(photos),
        lesson(skin(tiny_sd, held_out, "skin"), 3, 0.5, name="class"),
        lesson(photos, 2, 0.5, name="base", target=BASE),
    ]
    settings = small.train.model_copy(update={"max_grad_norm": 1e9})

    def step(index: int, number: int, micro_batch: int) -> tuple[float, list[Tensor]]:
        mine, seen = moved(learner(tiny_sd, settings)), list[Tensor]()
        mine.micro_batch = micro_batch
        alone, exchanged = [], []

        @contextmanager
        def no_sync(model):
            alone.append(True)
            yield
            alone.pop()

        def backward(value: Tensor) -> None:
            value.backward()
            exchanged.append(not alone)

        mine.accelerator = SimpleNamespace(
            process_index=index,
            num_processes=number,
            is_main_process=False,
            device=torch.device("cpu"),
            backward=backward,
            no_sync=no_sync,
            clip_grad_norm_=lambda trained, _: seen.extend(p.grad.clone() for p in trained),
        )
        value = next(iter(mine.steps(lessons)))[1].item()
        assert exchanged.count(True) == 1 and exchanged[-1]
        return value, seen

    expected, whole = step(0, 1, 9)
    values, parts = zip(*(step(i, processes, micro_batch) for i in range(processes)), strict=True)
    assert sum(values) / processes == pytest.approx(expected, rel=1e-6)
    assert any(gradient.any() for gradient in whole)
    for full, *each in zip(whole, *parts, strict=True):
        torch.testing.assert_close(sum(each) / processes, full, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("value", ["0", "1.5", ""])
def test_a_micro_batch_that_is_no_number_is_refused(value, run, tmp_path, monkeypatch):
    monkeypatch.setenv("MPOX_MICRO_BATCH", value)
    with pytest.raises(InputError, match=f"MPOX_MICRO_BATCH: got '{value}', expected a number"):
        run(tmp_path)


@pytest.mark.parametrize(
    ("micro_batch", "weight", "expected"),
    [("3", 0.0, [3, 1]), ("3", 1.0, [3, 3]), (None, 1.0, [6])],
)
def test_one_forward_pass_takes_all_concepts_or_a_micro_batch(
    micro_batch, weight, expected, run, small, tmp_path, monkeypatch
):
    if micro_batch:
        monkeypatch.setenv("MPOX_MICRO_BATCH", micro_batch)
    errors, sizes = Learner._errors, []

    def noting(self, noisy, *more):
        sizes.append(len(noisy) if torch.is_grad_enabled() else None)
        return errors(self, noisy, *more)

    monkeypatch.setattr(Learner, "_errors", noting)
    prior = small.train.prior_preservation.model_copy(update={"weight": weight})
    run(tmp_path, max_steps=2, prior_preservation=prior)
    assert [size for size in sizes if size] == expected * 2


# ---------------------------------------------------------------- the held-out loss


@torch.no_grad()
def plain_loss(tiny_sd: Path, unet: nn.Module, batches: list[Batch]) -> float:
    """The mean squared error of held-out samples, in plain diffusers."""
    noise = DDPMScheduler.from_pretrained(tiny_sd, subfolder="scheduler")
    errors = []
    for x0, epsilon, t, _, states in batches:
        predicted = unet(noise.add_noise(x0, epsilon, t), t, states).sample
        errors.append((predicted - epsilon).square().mean((1, 2, 3)))
    return torch.cat(errors).mean().item()


def test_the_held_out_loss_is_the_mean_squared_error_and_repeats(tiny_sd, small, held_out):
    concept = skin(tiny_sd, held_out, "a lesion")
    mine, batches = learner(tiny_sd, small.train), concept.fixed(SEED)
    first = mine.measure(batches)
    for _ in mine.steps([lesson(concept)]):
        break
    # The first step of the warm-up has a learning rate of 0.
    assert mine.measure(batches).val_loss == first.val_loss
    assert mine.measure(concept.fixed(SEED + 1)).val_loss != first.val_loss
    unet = StableDiffusionPipeline.from_pretrained(tiny_sd).unet
    assert first.val_loss == pytest.approx(plain_loss(tiny_sd, unet, batches), rel=1e-5)
    assert first.step == 0 and mine.unet.training


# ---------------------------------------------------------------- whole runs


def label(folder: Path, prompt: str) -> Path:
    """A copy of a folder of pictures whose table says that they were drawn from `prompt`."""
    copy = shutil.copytree(folder, folder.with_name(prompt.replace(" ", "-")))
    table.write(copy, ["text"], {file.name: [prompt] for file in listing.find(copy)[0]})
    return copy


@pytest.fixture(scope="module")
def class_pictures(held_out) -> Path:
    return label(held_out, "skin")


@pytest.fixture
def run(tiny_sd, small, augmented, held_out, class_pictures, monkeypatch):
    """Trains in a folder, with some settings changed."""
    monkeypatch.delenv("WANDB_PROJECT", raising=False)

    def train(work: Path, drawn: Path = class_pictures, **changes) -> Path:
        settings = small.train.model_copy(update=changes)
        work.mkdir(exist_ok=True)
        sets = Sets(*(PictureSet.read(folder) for folder in (augmented, held_out, drawn)))
        return dreambooth.train(sets, Recipe(tiny_sd, settings, RESOLUTION, SEED), work)

    return train


def curve(result: Path, name: str) -> dict[int, float]:
    with (result / "curves" / "plots" / "metrics" / f"{name}.tsv").open() as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    assert len({row["step"] for row in rows}) == len(rows)
    return {int(row["step"]): float(row[name]) for row in rows}


@pytest.fixture(scope="module")
def trained(tiny_sd, small, augmented, held_out, tmp_path_factory) -> tuple[Path, list[float]]:
    """The result of an undisturbed run, and the loss of each step."""
    values, steps = [], Learner.steps

    def noting(self, lessons):
        for step, value in steps(self, lessons):
            values.append(value.item())
            yield step, value

    sets = Sets(PictureSet.read(augmented), PictureSet.read(held_out), None)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("WANDB_PROJECT", raising=False)
        patch.setattr(Learner, "steps", noting)
        recipe = Recipe(tiny_sd, small.train, RESOLUTION, SEED)
        return dreambooth.train(sets, recipe, tmp_path_factory.mktemp("trained")), values


def test_the_files_of_a_run(trained, small):
    """13 steps, with a LoRA file every 6, pictures every 8 and a held-out loss every 4."""
    result, _ = trained
    files = contents(result)
    metrics = "curves/plots/metrics"
    assert sorted(files) == sorted(
        [
            "curves/metrics.json",
            *(f"{metrics}/{name}.tsv" for name in ("learning_rate", "loss", "val_loss")),
            "lora/README.md",
            "lora/curves.png",
            "lora/photos.json",
            "lora/checkpoint-6/pytorch_lora_weights.safetensors",
            "lora/checkpoint-12/pytorch_lora_weights.safetensors",
            "lora/pytorch_lora_weights.safetensors",
            *(
                f"lora/validation/step-{step}/{i}.png"
                for step in ("000000", "000008", "000013")
                for i in ("00000", "00001")
            ),
        ]
    )
    assert list(curve(result, "val_loss")) == [0, 4, 8, 12, 13]
    assert list(curve(result, "loss")) == [10, 13]
    rate = small.train.learning_rate
    for step, value in curve(result, "learning_rate").items():
        assert value == pytest.approx(rate * (0.5 + 0.5 * math.cos(math.pi * (step - 2) / 12)))
    weights = [files[f"lora/{folder}pytorch_lora_weights.safetensors"] for folder in
               ("checkpoint-6/", "checkpoint-12/", "")]  # fmt: skip
    assert len(set(weights)) == 3
    assert "3 photos (6 with their augmented variants)" in " ".join(
        files["lora/README.md"].decode().split()
    )
    sheets = [images.read(result / f"lora/validation/step-{s}/00000.png") for s in
              ("000008", "000013")]  # fmt: skip
    assert (sheets[0] != sheets[1]).any()


def test_the_base_draws_the_validation_pictures_of_step_0(trained, tiny_sd, small, tmp_path):
    drawing = Drawing(
        prompt=small.train.validation_prompt,
        negative_prompt="",
        num_images=small.train.validation_images,
        **small.train.preview.model_dump(),
    )
    pipeline = base.load(tiny_sd, RESOLUTION)
    requests = sampler.series(drawing.prompt, drawing.num_images, SEED, "validation")
    Sampler(pipeline, drawing, RESOLUTION).draw_all(tmp_path / "base", requests)
    for name in ("00000.png", "00001.png"):
        drawn = (trained[0] / "lora/validation/step-000000" / name).read_bytes()
        assert drawn == (tmp_path / "base" / name).read_bytes()


def test_the_training_curve_is_the_mean_since_its_last_point(trained):
    result, values = trained
    points = curve(result, "loss")
    assert points[10] == pytest.approx(sum(values[:10]) / 10, rel=1e-6)
    assert points[13] == pytest.approx(sum(values[10:]) / 3, rel=1e-6)


def dying(after: int, function):
    """`function`; raises Killed once it has been called `after` times."""
    left = [after]

    def wrapped(*args, **more):
        if left[0] == 0:
            raise Killed
        left[0] -= 1
        return function(*args, **more)

    return wrapped


# At this rank some matrices have the 4,096 entries from which AdamW8bit keeps 8 bits.
EIGHT_BIT = {"optimizer": "adamw_8bit", "rank": 32, "max_steps": 9, "val_loss_steps": 5}
DORA = {"dora": True, "rslora": True, "max_steps": 6}
BF16 = {"gradient_checkpointing": True, "precision": "bf16", "max_steps": 6}


def leaves(state: object) -> list[object]:
    """The values in nested dictionaries."""
    if isinstance(state, dict):
        return [leaf for value in state.values() for leaf in leaves(value)]
    return [state]


def newest(work: Path) -> Path:
    """The resume point."""
    return max(work.rglob(CHECKPOINT), key=lambda path: path.stat().st_mtime_ns)


@pytest.mark.parametrize(
    ("changes", "kill"),
    [
        ({}, 12),  # after the last resume point but one, between two points of the training curve
        (BF16, 5),
        (DORA, 5),
        (EIGHT_BIT, 7),
    ],
)
def test_a_killed_and_resumed_run_has_the_bytes_of_an_undisturbed_one(
    changes, kill, run, trained, tmp_path, monkeypatch
):
    """Of every file: LoRA, checkpoint-N, validation pictures, curves, card."""
    whole = contents(run(tmp_path / "whole", **changes) if changes else trained[0])
    with monkeypatch.context() as patch, pytest.raises(Killed):
        # Only a training step calls it, once.
        patch.setattr(loss, "min_snr_weight", dying(kill, loss.min_snr_weight))
        run(tmp_path / "parts", **changes)
    if changes is EIGHT_BIT:
        state = checkpoints.load(newest(tmp_path / "parts"))
        kinds = {leaf.dtype for leaf in leaves(state["optimizer"]) if isinstance(leaf, Tensor)}
        assert torch.uint8 in kinds
    resumed = contents(run(tmp_path / "parts", **changes))
    assert resumed.keys() == whole.keys()
    assert {name for name in whole if resumed[name] != whole[name]} == set()


@pytest.mark.parametrize(("place", "function"), [(os, "fsync"), (Path, "replace")])
def test_a_kill_while_the_resume_point_is_written_costs_at_most_one_interval(
    place, function, run, tmp_path, monkeypatch
):
    """The second resume point may be lost; the first one must not be."""
    save, saved = Learner.save, []

    def saving(self, work, *state):
        if saved:
            monkeypatch.setattr(place, function, dying(0, getattr(place, function)))
        save(self, work, *state)
        saved.append(self.step)
        if len(saved) == 2:
            raise Killed

    short = {"max_steps": 6, "val_loss_steps": 2}
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Learner, "save", saving)
        run(tmp_path, **short)
    monkeypatch.undo()
    weigh, steps = loss.min_snr_weight, []
    monkeypatch.setattr(loss, "min_snr_weight", lambda *x: steps.append(1) or weigh(*x))
    run(tmp_path, **short)
    assert len(steps) <= 4


@pytest.mark.parametrize(("select", "step", "kill"), [("best", 8, 10), ("last", 13, "at the end")])
def test_the_selected_weights_are_saved(select, step, kill, run, tmp_path, monkeypatch):
    """The held-out losses are made up: that of step 8 is the lowest."""
    losses = {0: 5.0, 4: 3.0, 8: 1.0, 12: 2.0, 13: 4.0}
    measure = Learner.measure

    def made_up(self, batches):
        adapter = measure(self, batches)
        return Adapter(adapter.weights, adapter.step, losses[adapter.step])

    monkeypatch.setattr(Learner, "measure", made_up)
    settings = {"select": select, "checkpointing_steps": 1}
    with monkeypatch.context() as patch, pytest.raises(Killed):
        if kill == 10:
            patch.setattr(loss, "min_snr_weight", dying(kill, loss.min_snr_weight))
        else:
            patch.setattr(dreambooth.card, "write", dying(0, dreambooth.card.write))
        run(tmp_path, **settings)
    result = run(tmp_path, **settings)
    chosen, same = (
        (result / "lora" / folder / lora.FILE_NAME).read_bytes()
        for folder in ("", f"checkpoint-{step}")
    )
    assert chosen == same
    text = (result / "lora" / "README.md").read_text()
    assert f"after step {step} of 13" in " ".join(text.split())


def test_the_saved_file_has_the_lowest_held_out_loss(trained, tiny_sd, small, held_out):
    """Plain diffusers loads the file and measures it again."""
    result, _ = trained
    losses = curve(result, "val_loss")
    concept = skin(tiny_sd, held_out, small.train.instance_prompt)
    batches = concept.fixed(seeds.derive(SEED, "held-out pictures", "fixed", 0))
    plain = StableDiffusionPipeline.from_pretrained(tiny_sd)
    plain.load_lora_weights(result / "lora")
    loss_of_file = plain_loss(tiny_sd, plain.unet, batches)
    assert loss_of_file == pytest.approx(min(losses.values()), rel=1e-5)
    assert min(losses.values()) < losses[0]


def test_prior_preservation_trains_on_class_pictures(run, small, held_out, tmp_path):
    prior = PriorPreservation(target="class_pictures", weight=1.0, batch_size=2)
    short = {"max_steps": 2}
    without = run(tmp_path / "without", **short)
    with_it = run(tmp_path / "with", prior_preservation=prior, **short)
    other = label(held_out, "healthy skin")
    otherwise = run(tmp_path / "other", other, prior_preservation=prior, **short)
    files = {(result / "lora" / lora.FILE_NAME).read_bytes() for result in
             (without, with_it, otherwise)}  # fmt: skip
    assert len(files) == 3
    assert curve(with_it, "loss")[2] > curve(without, "loss")[2]


def test_too_few_class_pictures_or_ones_without_prompts_are_refused(
    run, small, held_out, class_pictures, tmp_path
):
    prior = PriorPreservation(target="class_pictures", weight=1.0, batch_size=99)
    with pytest.raises(InputError, match=r"prior_preservation.batch_size: got 99, expected at mo"):
        run(tmp_path, prior_preservation=prior)
    prior = prior.model_copy(update={"batch_size": 2})
    with pytest.raises(
        InputError, match=r": expected a metadata\.csv with the prompts in a column te"
    ):
        run(tmp_path, held_out, prior_preservation=prior)


def test_a_batch_larger_than_the_training_set_is_refused(run, tmp_path):
    with pytest.raises(InputError, match=r"train\.batch_size: got 7, expected at most the 6 pic"):
        run(tmp_path, batch_size=7)


@pytest.mark.skipif(torch.cuda.is_available(), reason="fp16 works there")
def test_fp16_without_a_gpu_is_refused(run, tmp_path):
    with pytest.raises(InputError, match=r"train\.precision: got fp16"):
        run(tmp_path, precision="fp16")


def test_a_diverging_loss_stops_and_keeps_the_last_good_resume_point(run, tmp_path, monkeypatch):
    """NaN from step 6 on; resume points are due at 4 and 8, a point of the curve at 10."""
    weigh, calls = loss.min_snr_weight, []

    def breaking(*args):
        calls.append(1)
        return weigh(*args) * (torch.nan if len(calls) >= 6 else 1)

    monkeypatch.setattr(loss, "min_snr_weight", breaking)
    with pytest.raises(InputError, match=r"not finite.*lower train\.learning_rate \(now 0\.01\)"):
        run(tmp_path)
    state = checkpoints.load(newest(tmp_path))
    assert all(value.isfinite().all() for value in state["now"]["weights"].values())


@pytest.mark.slow
def test_a_compiled_unet_trains_nearly_the_same(run, tmp_path, monkeypatch, caplog):
    """By accelerate's variables, in micro-batches of two sizes; this backend needs no compiler.

    Accelerate's regional compilation, which would end in a TypeError, is requested but ignored.
    """
    prior = PriorPreservation(target=BASE, weight=0.3, batch_size=1)
    keeping = functools.partial(run, prior_preservation=prior)
    plain = curve(keeping(tmp_path / "plain", max_steps=4), "val_loss")
    AcceleratorState._reset_state(reset_partial_state=True)
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "eager")
    monkeypatch.setenv("ACCELERATE_DYNAMO_USE_REGIONAL_COMPILATION", "true")
    monkeypatch.setenv("MPOX_MICRO_BATCH", "3")
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    with caplog.at_level("WARNING", "torch._dynamo"):
        compiled = curve(keeping(tmp_path / "compiled", max_steps=4), "val_loss")
    frames = torch._dynamo.utils.counters["frames"]
    assert frames["ok"] == frames["total"] > 0
    assert "recompile_limit" not in caplog.text
    assert compiled == pytest.approx(plain, rel=1e-4)


def test_compiled_code_outlives_a_run(tiny_sd, tmp_path, monkeypatch):
    """It goes to .checkpoints of the main repository, unless the user names another folder."""
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "eager")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    unet = base.load(tiny_sd, RESOLUTION).unet
    default = tmp_path / ".checkpoints/compiled"
    for folder, expected in ((default_cache_dir(), default), ("/other", "/other")):
        monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", folder)
        compilation.compile_blocks(unet)
        assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(expected)


# ---------------------------------------------------------------- the stage


@pytest.mark.slow
def test_the_stage_writes_lora_curves_and_an_offline_run(
    tiny_sd, small, augmented, held_out, tmp_path, monkeypatch
):
    """The Weights & Biases run must outlive the resume point.

    A later stage sweeps that away: run again before DVC recorded its outputs, it trains nothing.
    """
    import wandb

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.setenv("WANDB_PROJECT", "mpox")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    short = small.train.model_copy(update={"max_steps": 2})
    model = params.Model(path=str(tiny_sd), download=())
    settings = params.Params.model_construct(**dict(small) | {"train": short, "model": model})
    stages.train_lora.main(
        settings, augmented, held_out, held_out, Path("models/lora"), Path("metrics/train")
    )
    wandb.teardown()
    assert Path("models/lora", lora.FILE_NAME).is_file()
    assert Path("metrics/train/plots/metrics/val_loss.tsv").is_file()
    monkeypatch.delenv("WANDB_PROJECT")
    monkeypatch.setattr(Learner, "_backward", None)
    AcceleratorState._reset_state(reset_partial_state=True)
    stages.train_lora.main(
        settings, augmented, held_out, held_out, Path("again/lora"), Path("again/train")
    )
    assert contents(Path("again/lora")) == contents(Path("models/lora"))
    monkeypatch.setenv("DVC_STAGE", "generate")
    checkpoints.sweep("generate")
    assert not list(Path(".checkpoints").iterdir())
    runs = list(tmp_path.rglob("run-*.wandb"))
    assert len(runs) == 1 and b"val_loss" in runs[0].read_bytes()
