"""Photos to split pictures: `python -m stages.prepare SOURCE OUT METRICS`."""

import json
import logging
import os
import shutil
import subprocess
from pathlib import Path

from mpox import images
from mpox.errors import InputError
from mpox.params import Params
from stages import run


def main(params: Params, source: Path, out: Path, metrics: Path) -> None:
    from mpox import preparation

    check_git(source)
    counts = preparation.prepare(source, out, params.data, params.resolution, params.seed)
    metrics.parent.mkdir(parents=True, exist_ok=True)
    metrics.write_text(json.dumps(counts, indent=2, sort_keys=True) + "\n")
    logging.info(", ".join(f"{name} {count}" for name, count in counts.items()))


def check_git(source: Path) -> None:
    """InputError for photos that `dvc exp run` would commit, as it does all git does not ignore.

    Outside of this repository git lists none: they are safe there.
    """
    if not shutil.which("git"):
        return
    command = ["git", "--literal-pathspecs", "ls-files", "-z", "--others", "--exclude-standard"]
    listed = subprocess.run([*command, "--", source], capture_output=True)
    names = os.fsdecode(listed.stdout).split("\0")
    photos = [name for name in names if Path(name).suffix.lower() in images.SUFFIXES]
    if photos:
        raise InputError(
            f"data.source: {photos[0]}: git neither holds nor ignores this picture ({len(photos)} "
            "like it in all), so `dvc exp run` would commit it; move the photos to data/photos, or "
            "name their folder in .gitignore"
        )


if __name__ == "__main__":
    run(main)
