"""Where a killed stage goes on: a folder that only a run with the same inputs finds again.

DVC empties a stage's outputs before it runs, and runs experiments in copies of the repository, so
checkpoints live in `.checkpoints/` of the main repository, which DVC names in `DVC_ROOT`.
"""

import hashlib
import json
import os
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from mpox.params import Section

LIBRARIES = ("torch", "diffusers", "transformers", "peft", "bitsandbytes")


def folder(stage: str, settings: Mapping[str, object], inputs: list[Path]) -> Path:
    """`.checkpoints/<stage>-<key>/`; the key is of settings, inputs' bytes, code and libraries.

    Another rank, prompt, photo, base model or version of the code has another key, and so never
    picks up this one's work.
    """
    digest = hashlib.sha256()
    plain = {k: v.model_dump() if isinstance(v, Section) else v for k, v in settings.items()}
    digest.update(json.dumps(plain, sort_keys=True).encode())
    for path in inputs:
        files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
        for file in files:
            digest.update(file.relative_to(path.parent).as_posix().encode())
            digest.update(_sha256(file))
    code = {name for name in sys.modules if name.startswith("mpox.")} - {"mpox.params"}
    for name in sorted(code):
        digest.update(_sha256(Path(str(sys.modules[name].__file__))))
    for library in LIBRARIES:
        digest.update(version(library).encode())
    root = Path(os.environ.get("DVC_ROOT", "."))
    work = root / ".checkpoints" / f"{stage}-{digest.hexdigest()[:24]}"
    work.mkdir(parents=True, exist_ok=True)
    return work


def _sha256(file: Path) -> bytes:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()
