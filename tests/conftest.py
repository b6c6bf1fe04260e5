"""Shared by the tests: a random Stable Diffusion that runs in milliseconds, and its settings."""

import json
import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

# Two threads may share a core below, so a waiting one must sleep.
os.environ.setdefault("GOMP_SPINCOUNT", "0")
import stages  # noqa: F401  sets the environment before torch is imported, as in every stage
from mpox import params
from mpox.core import images, table
from mpox.core.errors import InputError
from mpox.embedded import phantom

ROOT = Path(__file__).resolve().parents[1]
RESOLUTION = 16  # pixels; latents of 8 × 8
TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id")


def pytest_configure():
    """Give each worker of pytest-xdist, and the stages that it starts, cores of its own.

    OpenMP's threads wait for each other at every barrier. Two workers on the same two cores would
    take several times as long.
    """
    worker = os.environ.get("PYTEST_XDIST_WORKER")  # gw0, gw1, …
    if worker and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        count = int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
        share = cores[int(worker[2:]) % count :: count]
        os.sched_setaffinity(0, share or cores)


def pytest_collection_modifyitems(items):
    """Run slow and long files first, so that no worker has one left at the end."""
    items.sort(key=lambda item: (not hasattr(item.module, "pytestmark"), -item.path.stat().st_size))


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """Limit files to `size` bytes, so that a write beyond it fails as on a full disk."""
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
        tokens = {name: getattr(tokenizer, name) for name in TOKENS}
        config = CLIPTextConfig(
            vocab_size=len(words), hidden_size=32, intermediate_size=64, projection_dim=32,
            num_hidden_layers=1, num_attention_heads=4, **tokens,
        )  # fmt: skip
        text_encoder = CLIPTextModel(config)
        vae = AutoencoderKL(
            down_block_types=["DownEncoderBlock2D"] * 2, up_block_types=["UpDecoderBlock2D"] * 2,
            block_out_channels=(8, 16), latent_channels=4, norm_num_groups=8,
            sample_size=RESOLUTION,
        )  # fmt: skip
        unet = UNet2DConditionModel(
            sample_size=RESOLUTION // 2, block_out_channels=(16, 32), layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=32, attention_head_dim=4, norm_num_groups=8,
        )  # fmt: skip
    folder = tmp_path_factory.mktemp("models") / "tiny"
    StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=PNDMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
            skip_prk_steps=True, set_alpha_to_one=False, steps_offset=1,
        ),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    ).save_pretrained(folder)  # fmt: skip
    return folder


PROMPT = "clinical photo of a monkeypox skin lesion"


@pytest.fixture(scope="session")
def small() -> params.Params:
    """params.yaml with numbers small enough for `tiny_sd`."""
    changes = {
        "resolution": RESOLUTION,
        "train.instance_prompt": PROMPT, "train.rank": 4, "train.alpha": 2.0,
        "train.learning_rate": 0.01, "train.warmup_steps": 1, "train.max_steps": 13,
        "train.batch_size": 4, "train.prior_preservation.weight": 0.0,
        "train.prior_preservation.batch_size": 2, "train.validation_images": 2,
        "train.validation_steps": 8, "train.val_loss_steps": 4, "train.checkpointing_steps": 6,
        "train.preview": {"guidance": 2.0, "steps": 2, "scheduler": "ddim", "batch_size": 2},
        "generate.prompt": PROMPT, "generate.fields": [], "generate.signal_leak": "none",
        "generate.num_images": 5, "generate.steps": 2, "generate.scheduler": "dpm++",
        "generate.batch_size": 2,
    }  # fmt: skip
    values = {key: json.dumps(value) for key, value in changes.items()}
    return params.read(ROOT / "params.yaml", params.Params, values)


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
        picture = phantom.draw("mpox", number, 0, seed=len(names), size=32).picture
        images.write(folder / f"{name}.png", picture)
    return folder


@pytest.fixture(autouse=True)
def _accelerate_forgets():
    """accelerate would keep the first precision for the rest of the process."""
    yield
    if state := sys.modules.get("accelerate.state"):
        state.AcceleratorState._reset_state(reset_partial_state=True)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by relative path."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


class Killed(BaseException):
    """Like SIGTERM or Ctrl-C, which nothing catches."""


POINTER = (
    b"version https://git-lfs.github.com/spec/v1\n"
    b"oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n"
)  # Git LFS's pointer, which stands for a file
UNFETCHED = "is a pointer of Git LFS, not the file itself; run: git lfs pull"


def at(node: Any, path: tuple[str, ...]) -> Any:
    """The value in nested dictionaries under the parts of a dotted key."""
    for part in path:
        node = node[part]
    return node


def refusal(tmp_path: Path, content: object, schema: type[params.Section]) -> dict[str, str]:
    """The messages of `read` about `content`, by dotted key."""
    path = tmp_path / "wrong.yaml"
    YAML(typ="safe", pure=True).dump(content, path)
    with pytest.raises(InputError) as error:
        params.read(path, schema)
    lines = str(error.value).splitlines()
    assert all(line.startswith(f"{path}: ") for line in lines)
    return dict(line.removeprefix(f"{path}: ").split(": ", 1) for line in lines)
