"""Pictures against plain diffusers with the same seeds, and the sampler against its paper."""

import shutil
import threading
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from conftest import RESOLUTION, Killed, contents
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    UniPCMultistepScheduler,
)
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import stages.draw_class
from mpox import params
from mpox.core import images, listing, seeds, table
from mpox.core.errors import InputError
from mpox.model import base, lora
from mpox.params import Generate
from mpox.sampling import leak, sampler
from mpox.sampling.sampler import Job, Request, Sampler

SEED = 5
PROMPT, NEGATIVE = 'a "lesion" <on> skin & é', "blurry, text"


@pytest.fixture
def settings(small) -> Generate:
    """Five pictures in batches of two, so that the last batch is padded."""
    return small.generate.model_copy(
        update={"prompt": PROMPT, "negative_prompt": NEGATIVE, "guidance": 4.0}
    )


def draw(pipeline, numbers: list[int], settings: Generate) -> np.ndarray:
    """A batch of pictures from the seeds `numbers`."""
    requests = [Request(settings.prompt, number) for number in numbers]
    return Sampler(pipeline, settings, RESOLUTION).draw(requests).read()


def draw_all(
    pipeline, folder: Path, settings: Generate, seed: int = SEED, purpose: str = "picture"
) -> dict[str, int]:
    requests = sampler.series(settings.prompt, settings.num_images, seed, purpose)
    return Sampler(pipeline, settings, RESOLUTION).draw_all(folder, requests)


def generate(
    model: Path,
    adapter: Path | None,
    folder: Path,
    settings: Generate,
    stage: str = "generate",
    photos: Path | None = None,
) -> None:
    sampler.generate(Job(stage, model, settings, RESOLUTION, SEED, adapter, photos), folder)


@pytest.fixture(scope="module")
def pipeline(tiny_sd) -> StableDiffusionPipeline:
    return base.load(tiny_sd, RESOLUTION)


@pytest.fixture
def plain(tiny_sd) -> StableDiffusionPipeline:
    pipeline = StableDiffusionPipeline.from_pretrained(
        tiny_sd, safety_checker=None, feature_extractor=None
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="module")
def adapter(small, tiny_sd, tmp_path_factory) -> Path:
    """A LoRA that changes a lot, α twice its rank."""
    unet = base.load(tiny_sd, RESOLUTION).unet
    changes = {"alpha": 8.0, "target_modules": "attention+feed_forward"}
    lora.add(unet, small.train.model_copy(update=changes), seed=0)
    rng = torch.Generator().manual_seed(1)
    weights = {
        key: value if "lora_A" in key else torch.randn(value.shape, generator=rng) / 2
        for key, value in lora.state(unet).items()
    }
    lora.restore(unet, weights)
    folder = tmp_path_factory.mktemp("lora")
    lora.save(unet, folder)
    return folder


def expected(plain: StableDiffusionPipeline, numbers: list[int], settings: Generate) -> np.ndarray:
    """The pictures, 0 … 1, of the call in diffusers' documentation."""
    return plain(
        [settings.prompt] * len(numbers),
        negative_prompt=[settings.negative_prompt] * len(numbers),
        height=RESOLUTION,
        width=RESOLUTION,
        num_inference_steps=settings.steps,
        guidance_scale=settings.guidance,
        generator=[torch.Generator("cpu").manual_seed(number) for number in numbers],
        output_type="np",
    ).images


def read(folder: Path) -> list[np.ndarray]:
    return [images.read(path) for path in listing.find(folder)[0]]


# ---------------------------------------------------------------- one batch

PLAIN = {
    "pndm": lambda config: PNDMScheduler.from_config(config),
    "dpm++": lambda config: DPMSolverMultistepScheduler.from_config(
        config, algorithm_type="dpmsolver++", solver_order=2, timestep_spacing="trailing"
    ),
    "dpm++_sde": lambda config: DPMSolverMultistepScheduler.from_config(
        config, algorithm_type="sde-dpmsolver++", solver_order=2, timestep_spacing="trailing"
    ),
    "unipc": lambda config: UniPCMultistepScheduler.from_config(
        config, solver_order=2, timestep_spacing="trailing"
    ),
    "ddim": lambda config: DDIMScheduler.from_config(
        config, clip_sample=False, timestep_spacing="trailing"
    ),
}


@pytest.mark.parametrize("scheduler", PLAIN)
def test_a_batch_equals_plain_diffusers(scheduler, pipeline, plain, settings):
    settings = settings.model_copy(update={"scheduler": scheduler, "steps": 6})
    before = pipeline.scheduler
    timesteps: list[int] = []
    watch = pipeline.unet.register_forward_pre_hook(lambda _, args: timesteps.append(int(args[1])))
    drawn = draw(pipeline, [7, 8], settings)
    watch.remove()
    assert pipeline.scheduler is before
    plain.scheduler = PLAIN[scheduler](plain.scheduler.config)
    assert np.array_equal(drawn, (expected(plain, [7, 8], settings) * 255).round())
    assert drawn.dtype == np.uint8 and drawn.shape == (2, RESOLUTION, RESOLUTION, 3)
    assert not np.array_equal(drawn[0], drawn[1])
    # PNDM repeats its first step; the others start from pure noise, at the last timestep.
    assert len(timesteps) == (7 if scheduler == "pndm" else 6)
    assert scheduler == "pndm" or timesteps[0] == 999


@torch.no_grad()
def test_ddim_is_the_papers_equation_unclipped(pipeline, settings):
    """Song et al. 2021, eq. 12 with σ = 0, under classifier-free guidance (Ho & Salimans 2022)."""
    settings = settings.model_copy(update={"scheduler": "ddim", "steps": 5, "guidance": 3.0})
    alphas = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2, 0)
    x = torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(7))
    words, nothing = (base.encode_text(pipeline, text) for text in (PROMPT, NEGATIVE))
    times, largest = [999, 799, 599, 399, 199], 0.0
    for t, later in zip(times, [*times[1:], None], strict=True):
        free, bound = (
            pipeline.unet(x, torch.tensor(t), states).sample for states in (nothing, words)
        )
        epsilon = free + 3.0 * (bound - free)
        a, b = alphas[t], alphas[0 if later is None else later]
        x0 = (x - (1 - a).sqrt() * epsilon) / a.sqrt()
        largest = max(largest, x0.abs().max().item())
        x = b.sqrt() * x0 + (1 - b).sqrt() * epsilon
    pixels = pipeline.vae.decode(x / pipeline.vae.config.scaling_factor).sample
    picture = 255 * (pixels / 2 + 0.5).clamp(0, 1)[0].permute(1, 2, 0).numpy()
    drawn = draw(pipeline, [7], settings)[0]
    assert largest > 1.5  # so that clipping at 1 would show
    assert np.abs(drawn - picture).max() < 1


def test_guidance_1_skips_the_unconditional_pass(pipeline, settings):
    calls: list[int] = []
    watch = pipeline.unet.register_forward_pre_hook(lambda _, args: calls.append(len(args[0])))
    for guidance in (1.0, 2.0):
        changed = settings.model_copy(update={"guidance": guidance})
        draw(pipeline, [1, 2], changed)
    watch.remove()
    assert calls == [2, 2, 4, 4]


# ---------------------------------------------------------------- a folder of pictures


@pytest.fixture
def drawn(pipeline, settings, tmp_path) -> tuple[Path, dict[str, int]]:
    folder = tmp_path / "whole"
    return folder, draw_all(pipeline, folder, settings)


def test_each_picture_depends_on_its_seed_and_its_padded_batch(drawn, plain, settings):
    folder, numbers = drawn
    assert sorted(contents(folder)) == [f"{i:05d}.png" for i in range(5)]
    assert numbers == {f"{i:05d}.png": seeds.derive(SEED, "picture", i) for i in range(5)}
    plain.scheduler = PLAIN[settings.scheduler](plain.scheduler.config)
    for start in (0, 2, 4):
        pair = [seeds.derive(SEED, "picture", i) for i in (start, start + 1)]
        batch = (expected(plain, pair, settings) * 255).round()
        for picture, path in zip(batch, listing.find(folder)[0][start : start + 2], strict=False):
            assert np.array_equal(images.read(path), picture)


@pytest.mark.parametrize("after", [0, 3])
def test_a_killed_and_resumed_drawing_has_the_same_files(
    after, drawn, pipeline, settings, monkeypatch
):
    folder, numbers = drawn
    parts, written = folder.with_name("parts"), []
    write = images.write

    def dying(path, *what):
        if len(written) == after:
            path.with_name(f"{path.name}.partial").write_bytes(b"half a picture")
            raise Killed
        written.append(path)
        write(path, *what)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(images, "write", dying)
        draw_all(pipeline, parts, settings)
    assert len(listing.find(parts)[0]) == after
    again = draw_all(pipeline, parts, settings)
    assert again == numbers and contents(parts) == contents(folder)


def test_a_batch_is_written_while_the_next_is_drawn(pipeline, settings, tmp_path, monkeypatch):
    drawing, overlapped, write = threading.Event(), [], images.write
    batches: list[int] = []

    def decoding(*_):
        batches.append(1)
        if len(batches) == 2:
            drawing.set()

    def waiting(path, *what):
        overlapped.append(drawing.wait(timeout=60))
        write(path, *what)

    monkeypatch.setattr(images, "write", waiting)
    watch = pipeline.vae.decoder.register_forward_pre_hook(decoding)
    draw_all(pipeline, tmp_path, settings)
    watch.remove()
    assert overlapped == [True] * 5


def test_a_full_disk_stops_the_drawing(pipeline, settings, tmp_path, monkeypatch):
    """Also in the last batch, after which nothing is drawn."""
    write = images.write

    def full(path, *what):
        if path.name == "00004.png":
            raise OSError("no space left on device")
        write(path, *what)

    monkeypatch.setattr(images, "write", full)
    with pytest.raises(OSError, match="no space left"):
        draw_all(pipeline, tmp_path, settings)


def test_prompts_are_encoded_once_and_batches_are_of_one_size(pipeline, settings, tmp_path):
    """A picture's last bits depend on the size of its batch, so the last one is padded."""
    calls: list[int] = []
    batches: list[int] = []
    hooks = (
        pipeline.text_encoder.register_forward_pre_hook(lambda *_: calls.append(1)),
        pipeline.vae.decoder.register_forward_pre_hook(lambda _, x: batches.append(len(x[0]))),
    )
    draw_all(pipeline, tmp_path, settings)
    for hook in hooks:
        hook.remove()
    assert len(calls) == 2  # the prompt and the negative one
    assert batches == [2, 2, 2]


def test_missing_pictures_of_another_process_stop_the_run(
    pipeline, settings, tmp_path, monkeypatch
):
    """The first of two processes does not see the folder of the second."""
    state = SimpleNamespace(
        process_index=0, num_processes=2, is_main_process=True, wait_for_everyone=lambda: None
    )
    monkeypatch.setattr(sampler, "PartialState", lambda: state)
    with pytest.raises(
        InputError, match="2 pictures of other processes are missing; expected one folder"
    ):
        draw_all(pipeline, tmp_path, settings)


def test_existing_pictures_are_not_drawn_again(drawn, pipeline, settings):
    folder, numbers = drawn
    (folder / "00002.png").unlink()
    batches: list[int] = []
    watch = pipeline.vae.decoder.register_forward_pre_hook(
        lambda _, args: batches.append(len(args[0]))
    )
    before = contents(folder)
    assert draw_all(pipeline, folder, settings) == numbers
    watch.remove()
    assert batches == [2] and before.items() < contents(folder).items()


def test_another_number_of_pictures_changes_none(drawn, pipeline, settings, tmp_path):
    fewer = settings.model_copy(update={"num_images": 3})
    draw_all(pipeline, tmp_path / "fewer", fewer)
    assert contents(tmp_path / "fewer").items() < contents(drawn[0]).items()


def test_another_seed_or_purpose_changes_all(drawn, pipeline, settings, tmp_path):
    mine = read(drawn[0])
    for seed, purpose in ((SEED + 1, "picture"), (SEED, "class")):
        folder = tmp_path / f"{seed}-{purpose}"
        draw_all(pipeline, folder, settings, seed, purpose)
        assert not any(map(np.array_equal, mine, read(folder)))


def test_each_file_states_that_it_is_synthetic_and_how_it_was_made(drawn):
    folder, numbers = drawn
    iptc = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"
    mark = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
    for path in listing.find(folder)[0]:
        with Image.open(path) as picture:
            xmp = picture.info["XML:com.adobe.xmp"]
        attributes: dict[str, str] = {}
        for element in ElementTree.fromstring(xmp).iter():
            attributes |= element.attrib
        assert attributes[iptc] == mark
        values = {key.rpartition("}")[2]: value for key, value in attributes.items()}
        assert values["prompt"] == PROMPT and values["seed"] == str(numbers[path.name])


# ---------------------------------------------------------------- with the adapter


def test_generate_fuses_the_adapter_as_plain_diffusers_applies_it(
    adapter, plain, tiny_sd, settings, tmp_path
):
    settings = settings.model_copy(update={"num_images": 2})
    generate(tiny_sd, adapter, tmp_path, settings)
    numbers = {name: int(row["seed"]) for name, row in table.read(tmp_path).rows.items()}
    plain.scheduler = PLAIN[settings.scheduler](plain.scheduler.config)
    without = 255 * expected(plain, list(numbers.values()), settings)
    plain.load_lora_weights(adapter)
    with_it = 255 * expected(plain, list(numbers.values()), settings)
    drawn = np.stack(read(tmp_path))
    assert np.abs(drawn - with_it).mean() < 1
    assert np.abs(drawn - with_it).max() <= 2
    assert np.abs(drawn - without).mean() > 3


@pytest.mark.slow
def test_a_compiled_unet_draws_nearly_the_same(adapter, tiny_sd, settings, tmp_path, monkeypatch):
    """Accelerate's variables ask for it; this backend needs no compiler."""
    small = settings.model_copy(update={"num_images": 2, "scheduler": "ddim"})
    generate(tiny_sd, adapter, tmp_path / "plain", small)
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "aot_eager")
    torch._dynamo.utils.counters.clear()
    generate(tiny_sd, adapter, tmp_path / "compiled", small)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    plain, compiled = (np.stack(read(tmp_path / name)) for name in ("plain", "compiled"))
    assert np.abs(plain.astype(int) - compiled).max() <= 1


def test_bf16_draws_nearly_the_same(adapter, tiny_sd, settings, tmp_path):
    small = {"num_images": 2, "scheduler": "ddim", "guidance": 1.0}
    for precision in ("fp32", "bf16"):
        changed = settings.model_copy(update=small | {"precision": precision})
        generate(tiny_sd, adapter, tmp_path / precision, changed)
    full, half = (np.stack(read(tmp_path / name)).astype(int) for name in ("fp32", "bf16"))
    assert 0 < np.abs(full - half).mean() < np.abs(full[0] - full[1]).mean() / 4


def test_nan_pictures_stop_the_run(pipeline, settings):
    """If the UNet gives NaN, as fp16 does on overflow, no black pictures may be written."""
    watch = pipeline.unet.register_forward_hook(
        lambda module, inputs, output: (torch.full_like(output[0], torch.nan),)
    )
    with pytest.raises(InputError, match="the pictures are not finite in float32"):
        try:
            draw(pipeline, [1], settings)
        finally:
            watch.remove()


@pytest.mark.parametrize(
    ("precision", "reason"),
    [
        ("fp16", r"^generate\.precision: .* in float16; expected bf16 or fp32"),
        ("fp32", "{file}: the pictures are not finite in float32 with this LoRA"),
    ],
)
def test_nan_pictures_are_blamed_on_fp16_or_on_the_lora(
    precision, reason, adapter, tiny_sd, settings, tmp_path
):
    """The weights are finite, but their products overflow."""
    file = shutil.copytree(adapter, tmp_path / "lora") / lora.FILE_NAME
    with safe_open(file, "pt") as stored:
        metadata = stored.metadata()
    strong = {key: torch.full_like(value, 1e15) for key, value in load_file(file).items()}
    save_file(strong, file, metadata)
    changed = settings.model_copy(update={"precision": precision})
    with pytest.raises(InputError, match=reason.format(file=file)):
        generate(tiny_sd, file.parent, tmp_path / "out", changed)
    assert not list((tmp_path / "out").glob("*.png"))


# ---------------------------------------------------------------- requests


def asking(settings: Generate, **changes) -> Generate:
    return Generate.model_validate(settings.model_dump() | changes)


def test_a_plan_of_one_prompt_draws_the_bytes_of_the_prompt(adapter, tiny_sd, settings, tmp_path):
    planned = asking(settings, prompts=[{"prompt": settings.prompt, "share": 3.0}])
    for name, variant in (("prompt", settings), ("plan", planned)):
        generate(tiny_sd, adapter, tmp_path / name, variant)
    assert contents(tmp_path / "prompt") == contents(tmp_path / "plan")


def test_a_lora_at_scale_0_draws_the_pictures_of_the_base(adapter, tiny_sd, settings, tmp_path):
    off = asking(settings, lora_scale=0.0)
    for name, folder in (("off", adapter), ("base", None)):
        generate(tiny_sd, folder, tmp_path / name, off)
    assert contents(tmp_path / "off") == contents(tmp_path / "base")


def test_fields_as_training_need_photos_json(tiny_sd, settings, tmp_path):
    wanted = asking(settings, prompt="{tone} skin", fields="as_training")
    with pytest.raises(InputError, match=r"^generate\.fields: as_training needs .* photos\.json"):
        generate(tiny_sd, None, tmp_path, wanted)
    leak.write(tmp_path, {"combinations": [{"tone": "dark", "n": 1}]})
    out = tmp_path / "out"
    generate(tiny_sd, None, out, wanted, "draw_base", tmp_path)
    assert {row["text"] for row in table.read(out).rows.values()} == {"dark skin"}


def test_each_picture_of_a_plan_equals_that_of_its_prompt_alone(
    adapter, tiny_sd, settings, tmp_path
):
    fields = [{"tone": "tan", "share": 1.0}, {"tone": "dark", "share": 1.0}]
    plan = asking(settings, prompt="{tone} skin", fields=fields)
    generate(tiny_sd, adapter, tmp_path / "plan", plan)
    drawn = table.read(tmp_path / "plan")
    assert drawn.columns == ["text", "negative_prompt", "seed", "tone"]
    for tone in ("tan", "dark"):
        alone = asking(settings, prompt=f"{tone} skin")
        generate(tiny_sd, adapter, tmp_path / tone, alone)
        names = [name for name, row in drawn.rows.items() if row["tone"] == tone]
        assert len(names) in (2, 3)
        for name in names:
            one, other = (images.read(tmp_path / folder / name) for folder in ("plan", tone))
            assert np.abs(one.astype(int) - other).max() <= 1
            with Image.open(tmp_path / "plan" / name) as picture:
                assert f"{tone} skin" in picture.info["XML:com.adobe.xmp"]


@pytest.mark.parametrize("scheduler", sampler.SCHEDULERS)
def test_the_starting_noise_is_that_of_a_noised_picture(scheduler, pipeline, plain, settings):
    """The forward process (DDPM, eq. 4) at the first timestep of the sampler."""
    means = torch.tensor([[1.0, -2.0, 0.5, 0.0], [0.0, 0.0, 0.0, 0.0]])
    pipeline.scheduler, before = (
        sampler.SCHEDULERS[scheduler][0].from_config(
            pipeline.scheduler.config, **sampler.SCHEDULERS[scheduler][1]
        ),
        pipeline.scheduler,
    )
    generators = [torch.Generator().manual_seed(seed) for seed in (3, 4)]
    drawing = Sampler(pipeline, settings.model_copy(update={"steps": 10}), RESOLUTION)
    start = drawing._start(means, generators)
    noise = torch.cat(
        [torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(s)) for s in (3, 4)]
    )
    flat = means[:, :, None, None].expand(2, 4, 8, 8)
    first = pipeline.scheduler.timesteps[0].long()
    expected = DDPMScheduler.from_config(before.config).add_noise(flat, noise, first.repeat(2))
    pipeline.scheduler = before
    torch.testing.assert_close(start, expected)


def test_the_signal_leak_moves_the_pictures_and_needs_photos_json(
    adapter, tiny_sd, settings, tmp_path
):
    with_it = asking(settings, signal_leak="training")
    with pytest.raises(InputError, match=r"photos\.json: no such file"):
        generate(tiny_sd, adapter, tmp_path / "none", with_it)
    folder = shutil.copytree(adapter, tmp_path / "lora")
    zero = {"n": 9, "mean": [0.0] * 4, "covariance": np.zeros((4, 4)).tolist()}
    leak.write(folder, zero)
    generate(tiny_sd, folder, tmp_path / "flat", with_it)
    leak.write(folder, zero | {"mean": [3.0] * 4})
    generate(tiny_sd, folder, tmp_path / "bright", with_it)
    generate(tiny_sd, folder, tmp_path / "again", with_it)
    assert contents(tmp_path / "bright") == contents(tmp_path / "again")
    flat, bright = (np.stack(read(tmp_path / name)).astype(int) for name in ("flat", "bright"))
    assert np.abs(flat - bright).mean() > 0.1


def test_class_pictures_are_drawn_only_if_training_needs_them(small, tmp_path, monkeypatch):
    """Otherwise there is an empty table, for which not even the base model is read."""
    nowhere = params.Model(path=str(tmp_path / "none"), download=())
    for target, weight in (("base_prediction", 0.3), ("class_pictures", 0.0)):
        prior = params.PriorPreservation(target=target, weight=weight, batch_size=1)
        train = small.train.model_copy(update={"prior_preservation": prior})
        wanted = small.model_copy(update={"train": train, "model": nowhere})
        out = tmp_path / target
        monkeypatch.setenv("RANK", "1")  # the second of several processes writes nothing
        stages.draw_class.main(wanted, out)
        assert not out.exists()
        monkeypatch.delenv("RANK")
        stages.draw_class.main(wanted, out)
        assert table.read(out) == (out / table.NAME, ["text", "negative_prompt", "seed"], {})
        assert len(list(out.iterdir())) == 1
