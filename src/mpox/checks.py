"""Checks of files and folders that params.yaml names.

Like the schema, these checks can refuse a run but never change its result. Stages therefore do not
depend on them. Heavy imports wait until they are needed.
"""

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mpox.core import folders
from mpox.core.errors import InputError

LEVELS = {
    "vae": "block_out_channels",
    "unet": "down_block_types",
}  # each level but the last halves the sides
# Loading a damaged tokenizer raises one of these.
UNLOADABLE = (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError)
# The address and SHA-256 of weights that no package contains.
PUBLISHED = {
    "inception_v3": (
        "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
        "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
    ),
    "torchvision_inception_v3": (
        "https://download.pytorch.org/models/inception_v3_google-0cc3c7bd.pth",
        "0cc3c7bd75056d25e46cba549dc184522069b81e9787eff6df84f397bd52a5ef",
    ),
    "resnet18": (
        "https://download.pytorch.org/models/resnet18-f37072fd.pth",
        "f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec",
    ),
}


def check_fetched(model: Path) -> None:
    """Refuse a base model of pointer files, as in a clone without Git LFS."""
    try:
        folders.check_fetched(*sorted(model.rglob("*")))
    except InputError as error:
        raise InputError(f"model.path: {error}") from None


def check_resolution(resolution: int, model: Path) -> None:
    """Refuse a resolution that the base model's networks cannot halve often enough.

    Their config.json files tell. If they do not exist yet, the stage that loads them checks again.
    """
    halvings = 0
    for network, key in LEVELS.items():
        file = model / network / "config.json"
        if not file.is_file():
            return
        try:
            halvings += len(json.loads(file.read_text())[key]) - 1
        except (ValueError, LookupError, TypeError):
            raise InputError(
                f"model.path: {file} cannot be loaded: expected a network's config with {key}"
            ) from None
    if resolution % 2**halvings:
        raise InputError(
            f"resolution: got {resolution}, expected a multiple of {2**halvings} for {model}"
        )


def check_prompts(prompts: Iterable[tuple[str, str]], model: Path) -> None:
    """Refuse a prompt (key, text) that the base model's text encoder would truncate.

    If its tokenizer does not exist yet, the stage that loads it checks again.
    """
    folder = model / "tokenizer"
    if not any((folder / name).is_file() for name in ("tokenizer.json", "vocab.json")):
        return
    from transformers import CLIPTokenizer

    try:
        tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    except UNLOADABLE as error:
        reason = f"{type(error).__name__}: {error}"
        raise InputError(f"model.path: {folder} cannot be loaded: {reason}") from None
    for key, prompt in prompts:
        check_prompt(tokenizer, prompt, key)


def check_prompt(tokenizer: Any, prompt: str, key: str) -> None:
    """Refuse a prompt (parameter `key`) with more tokens than `tokenizer` allows."""
    count, most = len(tokenizer(prompt, verbose=False).input_ids), tokenizer.model_max_length
    if count > most:
        raise InputError(f"{key}: got {count} tokens, expected at most {most}: {prompt!r}")


def weights_key(network: str) -> str:
    """The parameter that names the file of a network's weights."""
    return "utility.weights" if network == "resnet18" else "evaluate.weights"


def check_weights(network: str, weights: str | Path) -> Path:
    """The path of a network's weights: a file with the published SHA-256; for dinov2 a folder.

    A relative path may also lie in the repository of which DVC runs a copy (`--temp`, the queue).
    Raises InputError with what is wrong and what to save there.
    """
    path, key = Path(weights), weights_key(network)
    if not path.exists():
        path = Path(os.environ.get("DVC_ROOT", "."), weights)
    if network == "dinov2":
        return _check_dinov2(path)
    folders.check_fetched(path)
    source, sha256 = PUBLISHED[network]
    wanted = f"{source} with SHA-256 {sha256}"
    if not path.is_file():
        download = key.replace("weights", "download")
        raise InputError(
            f"{key}: {path}: no such file; add {network} to {download}, or save {wanted} there"
        )
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if digest != sha256:
        raise InputError(f"{key}: {path}: has SHA-256 {digest}, expected {wanted}")
    return path


def _check_dinov2(folder: Path) -> Path:
    from safetensors import SafetensorError, safe_open

    config, tensors = folder / "config.json", folder / "model.safetensors"
    for file in (config, tensors):
        if not file.is_file():
            raise InputError(
                f"evaluate.weights: {file}: no such file; save a DINOv2 there: "
                f"`hf download facebook/dinov2-large --local-dir {folder}`"
            )
    folders.check_fetched(config, tensors)
    try:
        kind = json.loads(config.read_text())["model_type"]
        safe_open(tensors, "numpy")  # reads the header and checks the length
    except (ValueError, LookupError, TypeError, SafetensorError) as error:
        raise InputError(f"evaluate.weights: {folder} cannot be loaded: {error}") from None
    if kind != "dinov2":
        raise InputError(f"evaluate.weights: {folder}: is a {kind}, expected a dinov2")
    return folder
