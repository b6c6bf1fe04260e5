"""Where a killed stage goes on: a folder that only a run with the same inputs finds again.

DVC empties a stage's outputs before it runs, and runs experiments in copies of the repository, so
checkpoints live in `.checkpoints/` of the main repository, which DVC names in `DVC_ROOT`.
"""

import fcntl
import hashlib
import io
import json
import os
import pickle
import shutil
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mpox.core import folders
from mpox.core.errors import InputError
from mpox.params import Section

FINISHED = "finished"  # the mark of a run that has written its outputs
# Stage → the earlier stages whose outputs DVC has recorded when it runs this one.
RECORDED = {
    "draw_class": ("tiny-sd",),
    "train_lora": ("draw_class",),
    "generate": ("train_lora",),
    "evaluate": ("train_lora", "generate"),
    "utility": ("draw_base",),
    "privacy": ("train_lora",),
    "report": ("utility",),
}
LIBRARIES = ("torch", "diffusers", "transformers", "peft", "bitsandbytes")


def folder(stage: str, settings: Mapping[str, object], inputs: list[Path]) -> Path:
    """`.checkpoints/<stage>-<key>/`; the key is of settings, inputs' bytes, code and libraries.

    Another rank, prompt, photo, base model or version of the code has another key, and so never
    picks up this one's work. Raises InputError while another run of the same works there.
    """
    digest = hashlib.sha256()
    plain = {k: v.model_dump() if isinstance(v, Section) else v for k, v in settings.items()}
    digest.update(json.dumps(plain, sort_keys=True).encode())
    for path in inputs:
        own = folders.sha256(path) if path.is_file() else folders.digest(path)
        digest.update(f"{path.name} {own}".encode())
    code = {name for name in sys.modules if name.startswith("mpox.")} - {"mpox.params"}
    for name in sorted(code):
        digest.update(folders.sha256(Path(str(sys.modules[name].__file__))).encode())
    for library in LIBRARIES:
        digest.update(version(library).encode())
    work = root() / f"{stage}-{digest.hexdigest()[:24]}"
    work.mkdir(parents=True, exist_ok=True)
    if os.environ.get("RANK", "0") == "0":  # one for all processes that a launcher started
        _lock(work)
        (work / FINISHED).unlink(missing_ok=True)
    return work


def finish(work: Path) -> None:
    """To be called once the outputs are written, which DVC has yet to copy and to record.

    The work stays until a later stage sweeps it away: a run killed meanwhile does nothing again.
    """
    (work / FINISHED).touch()


def sweep(stage: str) -> None:
    """Remove the work of finished runs of the stages whose outputs are RECORDED at `stage`.

    Only under DVC, which names the stage it runs in DVC_STAGE: a stage run by hand removes nothing.
    """
    if "DVC_STAGE" not in os.environ:
        return
    for earlier in RECORDED.get(stage, ()):
        for removed in root().glob(f"{earlier}-*.removed"):
            shutil.rmtree(removed)
        for mark in root().glob(f"{earlier}-*/{FINISHED}"):
            # First out of the way: half of it would be taken for all of it.
            shutil.rmtree(mark.parent.replace(mark.parent.with_suffix(".removed")))


def root() -> Path:
    """The main repository's, also for a stage that runs in a copy of it."""
    return Path(os.environ.get("DVC_ROOT", "."), ".checkpoints")


def _lock(work: Path) -> None:
    """Until this process ends, however it ends."""
    lock = os.open(work / "lock", os.O_WRONLY | os.O_CREAT)
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        raise InputError(
            f"{work}: another run with the same parameters and inputs is at work there; "
            "run again when it is done"
        ) from None
    except OSError as error:  # not every network share has locks
        raise InputError(
            f"{work}: cannot be locked ({error.strerror}); expected the repository on a disk where "
            "files can be"
        ) from None


def save(state: dict[str, Any], file: Path) -> None:
    """Writes tensors and plain values with their SHA-256, whole or not at all."""
    import torch  # seconds, which the stages that only sweep need not wait

    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getvalue()
    folders.write(file, hashlib.sha256(content).digest() + content)


def load(file: Path) -> dict[str, Any]:
    """What `save` wrote, on the CPU; no code in it is run. InputError for any other bytes."""
    import torch

    stored = file.read_bytes()
    digest, content = stored[:32], stored[32:]
    try:
        if hashlib.sha256(content).digest() != digest:
            raise pickle.UnpicklingError("is damaged")
        return torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")
    except pickle.UnpicklingError as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"{file}: {reason}; remove the file, and the run starts from its beginning"
        ) from None
