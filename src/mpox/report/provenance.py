"""Section "Provenance": all parameters, hashes of inputs and outputs, versions."""

import csv
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mpox import params
from mpox.core import folders
from mpox.params import Params
from mpox.report.run import Run

MAIN = (
    "torch", "torchvision", "diffusers", "transformers", "peft", "accelerate", "bitsandbytes",
    "albumentations", "opencv-python-headless", "numpy", "scipy", "pillow", "dvc", "dvclive",
)  # fmt: skip
PROFILES = ("embedded.yaml", "sd15.yaml", "study.yaml")


class Parameter(NamedTuple):
    key: str
    value: str
    profile: str | None  # the profile's value, where it differs


def section(run: Run) -> dict[str, Any]:
    """The context of templates/provenance.html."""
    profile, rows = parameters(run.params, run.profiles)
    versions = locked(run.lock.read_text(encoding="utf-8"))
    return {
        "profile": profile,
        "parameters": rows,
        "changed": sum(row.profile is not None for row in rows),
        "hashes": hashes(run),
        "main": {name: versions[name] for name in MAIN if name in versions},
        "versions": versions,
    }


def parameters(current: Params, profiles: Path) -> tuple[str, list[Parameter]]:
    """The profile closest to the run's parameters, and all parameters compared with it."""
    mine = texts(current.model_dump(mode="json"))
    candidates = {
        name: texts(params.read(profiles / name, Params).model_dump(mode="json"))
        for name in PROFILES
    }
    nearest = min(
        candidates, key=lambda name: sum(candidates[name][key] != mine[key] for key in mine)
    )
    theirs = candidates[nearest]
    return nearest, [
        Parameter(key, value, theirs[key] if theirs[key] != value else None)
        for key, value in mine.items()
    ]


def texts(tree: Mapping[str, Any]) -> dict[str, str]:
    """Parameters by dotted key; values in JSON, but text without quotes."""
    return {
        key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for key, value in params.flat(tree).items()
    }


def hashes(run: Run) -> dict[str, str]:
    """SHA-256 by name; for a folder, that of the output of sha256sum for its files."""
    base = Path(run.params.model.path)
    return {
        "photos used (their sorted hashes, one per line)": photos(run.prepared / "manifest.csv"),
        f"base model, {base}": folders.digest(base),
        "LoRA": folders.sha256(run.lora / folders.LORA),
        "synthetic pictures, with their table": folders.digest(run.synthetic),
        f"weights of {run.identity['features']} (first 8 digits)": run.identity["features_sha256"],
        "test and training photos of the evaluation (first 8 digits)": run.identity["split"],
    }


def photos(manifest: Path) -> str:
    """SHA-256 of the sorted SHA-256 of all photos that are in a set."""
    with manifest.open(encoding="utf-8", errors="surrogateescape", newline="") as stream:
        used = sorted(row["sha256"] for row in csv.DictReader(stream) if row["file"])
    return hashlib.sha256("".join(f"{each}\n" for each in used).encode()).hexdigest()


def locked(lock: str) -> dict[str, str]:
    """Versions by package in a requirements file."""
    return dict(re.findall(r"^([a-z0-9._-]+)==(\S+)", lock, re.MULTILINE))
