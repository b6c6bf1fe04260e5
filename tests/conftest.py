"""What the tests share: a random Stable Diffusion that runs in milliseconds, and its settings."""

import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

# Below two threads share a core: who waits must sleep.
os.environ.setdefault("GOMP_SPINCOUNT", "0")
import stages  # noqa: F401  sets the environment before torch is imported, as in every stage
from mpox import params
from mpox.core import images, table
from mpox.core.errors import InputError
from mpox.embedded import phantom

ROOT = Path(__file__).resolve().parents[1]
RESOLUTION = 16  # pixels; latents of 8 × 8


def pytest_configure():
    """Each worker of pytest-xdist keeps to its own cores, and so do the stages that it starts.

    OpenMP's threads wait for each other at every barrier, so a thread whose core another process
    has holds up the rest: two workers on the same two cores take several times as long.
    """
    worker = os.environ.get("PYTEST_XDIST_WORKER")  # gw0, gw1, …
    if worker and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        count = int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
        own = cores[int(worker[2:]) % count :: count]
        os.sched_setaffinity(0, own or cores)


def pytest_collection_modifyitems(items):
    """Files that are slow as a whole come first: no worker has one of them left at the end."""
    items.sort(key=lambda item: not hasattr(item.module, "pytestmark"))


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """No file may grow beyond so many bytes: of a first write the disk takes a part, as if full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture(scope="session")
def tiny_sd(tmp_path_factory) -> Path:
    """Random weights in Stable Diffusion's architecture and diffusers' layout."""
    import torch
    from diffusers import (
        AutoencoderKL,
        PNDMScheduler,
        StableDiffusionPipeline,
        UNet2DConditionModel,
    )
    from tokenizers import pre_tokenizers
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer(
        vocab={word: i for i, word in enumerate(words)}, merges=[], model_max_length=77
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        text_encoder = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(words),
                hidden_size=32,
                intermediate_size=64,
                projection_dim=32,
                num_hidden_layers=1,
                num_attention_heads=4,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        )
        vae = AutoencoderKL(
            down_block_types=["DownEncoderBlock2D"] * 2,
            up_block_types=["UpDecoderBlock2D"] * 2,
            block_out_channels=(8, 16),
            latent_channels=4,
            norm_num_groups=8,
            sample_size=RESOLUTION,
        )
        unet = UNet2DConditionModel(
            sample_size=RESOLUTION // 2,
            block_out_channels=(16, 32),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            layers_per_block=1,
            cross_attention_dim=32,
            attention_head_dim=4,
            norm_num_groups=8,
        )
    folder = tmp_path_factory.mktemp("models") / "tiny"
    StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=PNDMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            skip_prk_steps=True,
            set_alpha_to_one=False,
            steps_offset=1,
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    return folder


PROMPT = "clinical photo of a monkeypox skin lesion"


@pytest.fixture(scope="session")
def small() -> params.Params:
    """params.yaml with numbers small enough for `tiny_sd`."""
    default = params.read(ROOT / "params.yaml", params.Params)
    preview = default.train.preview.model_copy(
        update={"guidance": 2.0, "steps": 2, "scheduler": "ddim", "batch_size": 2}
    )
    prior = default.train.prior_preservation.model_copy(update={"weight": 0.0, "batch_size": 2})
    train = default.train.model_copy(
        update={
            "instance_prompt": PROMPT,
            "rank": 4,
            "alpha": 2.0,
            "rslora": False,
            "dora": False,
            "target_modules": "attention+feed_forward+convolution",
            "learning_rate": 1e-2,
            "lr_scheduler": "cosine",
            "warmup_steps": 1,
            "max_steps": 13,
            "batch_size": 4,
            "optimizer": "adamw",
            "weight_decay": 0.01,
            "max_grad_norm": 1.0,
            "min_snr_gamma": 5.0,
            "precision": "fp32",
            "gradient_checkpointing": False,
            "prior_preservation": prior,
            "preview": preview,
            "validation_images": 2,
            "validation_steps": 8,
            "val_loss_steps": 4,
            "checkpointing_steps": 6,
            "select": "best",
        }
    )
    generate = default.generate.model_copy(
        update={
            "prompt": PROMPT,
            "fields": (),
            "signal_leak": "none",
            "num_images": 5,
            "steps": 2,
            "scheduler": "dpm++",
            "batch_size": 2,
            "precision": "fp32",
        }
    )
    return default.model_copy(
        update={"resolution": RESOLUTION, "train": train, "generate": generate}
    )


@pytest.fixture(scope="session")
def augmented(tmp_path_factory) -> Path:
    """Six training pictures: three originals and a variant of each."""
    folder = _phantoms(
        tmp_path_factory.mktemp("augmented"), [f"{k}-{c}" for k in "abc" for c in "01"]
    )
    table.write(folder, ["variant"], {file.name: [file.stem[-1]] for file in folder.glob("*.png")})
    return folder


@pytest.fixture(scope="session")
def held_out(tmp_path_factory) -> Path:
    return _phantoms(tmp_path_factory.mktemp("val"), ["d", "e"])


def _phantoms(folder: Path, names: list[str]) -> Path:
    for number, name in enumerate(names):
        drawn = phantom.draw("mpox", number, 0, seed=len(names), size=32).picture
        images.write(folder / f"{name}.png", drawn)
    return folder


@pytest.fixture(autouse=True)
def _accelerate_forgets():
    """accelerate keeps the first precision it was given for the rest of the process."""
    yield
    if state := sys.modules.get("accelerate.state"):
        state.AcceleratorState._reset_state(reset_partial_state=True)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by relative path."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


POINTER = (
    b"version https://git-lfs.github.com/spec/v1\n"
    b"oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n"
)  # as Git LFS leaves it in the place of a file
UNFETCHED = "is a pointer of Git LFS, not the file itself; run: git lfs pull"


def at(node: Any, path: tuple[str, ...]) -> Any:
    """What stands in nested dictionaries under a dotted key's parts."""
    for part in path:
        node = node[part]
    return node


def refusal(tmp_path: Path, content: object, schema: type[params.Section]) -> dict[str, str]:
    """What `read` says about `content`, by dotted key."""
    path = tmp_path / "wrong.yaml"
    YAML(typ="safe", pure=True).dump(content, path)
    with pytest.raises(InputError) as error:
        params.read(path, schema)
    lines = str(error.value).splitlines()
    assert all(line.startswith(f"{path}: ") for line in lines)
    return dict(line.removeprefix(f"{path}: ").split(": ", 1) for line in lines)


def same_table(
    name: str, preamble: str, head: tuple[str, ...], rows: list[tuple[str, ...]]
) -> None:
    """Holds docs/<name> against what a test found; with MPOX_WRITE_TABLES it is written first."""
    cells = [[cell.replace("|", r"\|").replace("\n", " ") for cell in row] for row in rows]
    table = [list(head), ["---"] * len(head), *cells]
    text = preamble + "\n" + "".join(f"| {' | '.join(row)} |\n" for row in table)
    file = ROOT / "docs" / name
    if "MPOX_WRITE_TABLES" in os.environ:
        file.write_text(text, encoding="utf-8")
    assert file.read_text(encoding="utf-8") == text, "make bad-input writes it anew"
