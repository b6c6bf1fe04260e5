"""Resume points: each run works in a folder that only a run with the same inputs uses again.

DVC empties the outputs of a stage before it runs, and runs experiments in copies of the repository.
So these folders are in `.checkpoints/` of the main repository, which DVC names in `DVC_ROOT`.
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

FINISHED = "finished"  # marks a run that has written its outputs
# Stage → the earlier stages whose outputs DVC has recorded by the time it runs this one.
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
    """`.checkpoints/<stage>-<key>/`; the key hashes settings, inputs, code and library versions.

    Another rank, prompt, photo, base model or version of the code has another key and never resumes
    this work. InputError while another process with the same key is working there.
    """
    digest = hashlib.sha256()
    plain = {k: v.model_dump() if isinstance(v, Section) else v for k, v in settings.items()}
    digest.update(json.dumps(plain, sort_keys=True).encode())
    for path in inputs:
        content = folders.sha256(path) if path.is_file() else folders.digest(path)
        digest.update(f"{path.name} {content}".encode())
    code = {name for name in sys.modules if name.startswith("mpox.")} - {"mpox.params"}
    for name in sorted(code):
        digest.update(folders.sha256(Path(str(sys.modules[name].__file__))).encode())
    for library in LIBRARIES:
        digest.update(version(library).encode())
    work = root() / f"{stage}-{digest.hexdigest()[:24]}"
    work.mkdir(parents=True, exist_ok=True)
    if os.environ.get("RANK", "0") == "0":  # one lock for all launched processes
        _lock(work)
        (work / FINISHED).unlink(missing_ok=True)
    return work


def finish(work: Path) -> None:
    """Marks the work as finished; call it after the outputs are written.

    The work stays until a later stage sweeps it away: if the run is killed before DVC records the
    outputs, the next run repeats nothing.
    """
    (work / FINISHED).touch()


def sweep(stage: str) -> None:
    """Removes finished work of the stages whose outputs are RECORDED at `stage`.

    Only under DVC, which sets DVC_STAGE: a stage run by hand removes nothing.
    """
    if "DVC_STAGE" not in os.environ:
        return
    for earlier in RECORDED.get(stage, ()):
        for removed in root().glob(f"{earlier}-*.removed"):
            shutil.rmtree(removed)
        for mark in root().glob(f"{earlier}-*/{FINISHED}"):
            # Rename first, so that no run resumes from a half-removed folder.
            shutil.rmtree(mark.parent.replace(mark.parent.with_suffix(".removed")))


def root() -> Path:
    """`.checkpoints` of the main repository, also in a copy of it."""
    return Path(os.environ.get("DVC_ROOT", "."), ".checkpoints")


def _lock(work: Path) -> None:
    """Locks the folder until this process ends, however it ends."""
    lock = os.open(work / "lock", os.O_WRONLY | os.O_CREAT)
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        raise InputError(
            f"{work}: another run with the same parameters and inputs is working there; "
            "run again when it has ended"
        ) from None
    except OSError as error:  # not every network share has locks
        raise InputError(
            f"{work}: cannot be locked ({error.strerror}); expected the repository on a disk that "
            "supports file locks"
        ) from None


def save(state: dict[str, Any], file: Path) -> None:
    """Writes tensors and plain values with their SHA-256, atomically."""
    import torch  # takes seconds, which stages that only sweep should not wait

    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getvalue()
    folders.write(file, hashlib.sha256(content).digest() + content)


def load(file: Path) -> dict[str, Any]:
    """The state that `save` wrote, on the CPU, without running code from the file.

    InputError if the file is damaged.
    """
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
            f"{file}: {reason}; remove the file to start the run from its beginning"
        ) from None
