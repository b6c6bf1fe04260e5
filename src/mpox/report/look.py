"""Section "Look": the pictures themselves."""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mpox.core import images, listing, seeds, table
from mpox.core.errors import InputError
from mpox.report.pictures import Shown, encode, parallel
from mpox.report.run import Run

MOST = 500  # pictures of a kind on the page, spread evenly over the names
# Bytes of the pictures as they stand in the page, a third more than of JPEG.
GRID, PAIRS, LEARNING, CHANGED = 10_500_000, 700_000, 1_500_000, 500_000
SEEDS = 8  # of which what the LoRA changed is shown


@dataclass(frozen=True)
class Pair:
    """A synthetic picture and the training picture that it is suspiciously like."""

    synthetic: Shown
    training: Shown | None  # None where the page shows no real photo
    words: str


def section(run: Run) -> dict[str, Any]:
    """The context of templates/look.html."""
    real, synthetic, counts = _grid(run)
    return {
        "real": real,
        "synthetic": synthetic,
        "counts": counts,
        "pairs": _pairs(run),
        "changed": _changed(run),
        **_learning(run),
    }


def _grid(run: Run) -> tuple[list[Shown], list[Shown], dict[str, int]]:
    """Test and synthetic pictures of one side and codec, and how many there are of each."""
    drawn = _drawn(run.synthetic)
    files = {"synthetic": [run.synthetic / name for name in drawn], "real": []}
    if run.params.report.real:
        files["real"] = listing.find(run.prepared / "test")[0]
    counts = {kind: len(paths) for kind, paths in files.items()}
    files = {kind: _spread(paths) for kind, paths in files.items()}
    every = files["real"] + files["synthetic"]
    encoded = encode(parallel(lambda path: _read(run, path), every), GRID)
    shown = dict(zip(every, encoded, strict=True))
    real = [
        Shown(*shown[path], "real", f"real test photo {i} of {counts['real']}", ["real test photo"])
        for i, path in enumerate(files["real"], 1)
    ]
    synthetic = [
        Shown(
            *shown[path],
            "synthetic",
            f"synthetic picture {path.stem}",
            _said(f"synthetic picture {path.stem}", **drawn[path.name]),
        )
        for path in files["synthetic"]
    ]
    return real, synthetic, counts


def _said(
    title: str, text: str, negative_prompt: str = "", seed: str | int = "", **asked: str
) -> list[str]:
    """The lines of the enlarged view; `asked`: the values of the prompt's fields."""
    lines = [title, f"prompt: {text}"]
    if negative_prompt:
        lines.append(f"negative prompt: {negative_prompt}")
    fields = [f"asked: {name} {value}" for name, value in asked.items()]
    return [*lines, *fields, f"seed: {seed}"]


def _spread(paths: list[Path]) -> list[Path]:
    if len(paths) <= MOST:
        return paths
    return [paths[i] for i in np.linspace(0, len(paths) - 1, MOST).astype(int)]


def _read(run: Run, path: Path) -> np.ndarray:
    return images.square(images.read(path), run.params.resolution)


def _drawn(folder: Path) -> dict[str, dict[str, str]]:
    """Of the synthetic pictures: file name → `text`, `negative_prompt` and `seed`."""
    known = table.read(folder)
    if known is None:
        raise InputError(f"{folder}: has no {table.NAME}; expected one, as generate writes it")
    return known.rows


def _pairs(run: Run) -> list[Pair]:
    """As the evaluation found them, worst first; none if it had no training pictures."""
    file = run.sheets / "suspicious_pairs.csv"
    if not file.is_file():
        return []
    with file.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    own = [_read(run, run.synthetic / row["synthetic"]) for row in rows]
    other = []
    if run.params.report.real:
        for row in rows:
            photo = _read(run, run.prepared / "train" / row["training"])
            other.append(images.ways(photo)[int(row["orientation"])])
    encoded = encode(own + other, PAIRS)
    pairs = []
    for i, row in enumerate(rows):
        words = f"cosine {float(row['cosine']):.3f}, {row['bits']} of 64 bits differ"
        title = f"synthetic picture {Path(row['synthetic']).stem}"
        synthetic = Shown(*encoded[i], "synthetic", title, [title, words])
        training = None
        if other:
            said = "the training photo it is most like"
            training = Shown(*encoded[len(own) + i], "real", said, [said, words])
        by = "by features" if row["by"] == "features" else "by perceptual hash"
        pairs.append(Pair(synthetic, training, f"{by}: {words}"))
    return pairs


def _changed(run: Run) -> list[tuple[Shown, Shown]]:
    """Of a few seeds, spread evenly, what the base draws and what it draws with the LoRA."""
    drawn = _drawn(run.synthetic)
    names = sorted(drawn)
    names = [names[i] for i in np.linspace(0, len(names) - 1, min(SEEDS, len(names))).astype(int)]
    every = [folder / name for name in names for folder in (run.base, run.synthetic)]
    shown = iter(encode([_read(run, path) for path in every], CHANGED))
    pairs = []
    for name in names:
        pair = []
        for of in ("the base alone", "with the LoRA"):
            title = f"{of}, picture {Path(name).stem}"
            said = _said(f"synthetic: {title}", **drawn[name])
            pair.append(Shown(*next(shown), "synthetic", title, said))
        pairs.append((pair[0], pair[1]))
    return pairs


def _learning(run: Run) -> dict[str, Any]:
    """The validation pictures: one row a seed, a column a step."""
    folder = run.lora / "validation"
    steps = {int(each.name.removeprefix("step-")): each for each in sorted(folder.glob("step-*"))}
    files = [listing.find(each)[0] for each in steps.values()]
    shown = iter(encode([_read(run, path) for column in files for path in column], LEARNING))
    prompt, columns = run.params.train.validation_prompt, []
    of_training = seeds.first(run.params.train.seed, run.params.seed)
    for step, paths in zip(steps, files, strict=True):
        of = "the base alone" if step == 0 else f"step {step}"
        column = []
        for i, _ in enumerate(paths):
            seed = seeds.derive(of_training, "validation", i)
            title = f"{of}, seed {i + 1} of {len(paths)}"
            said = _said(f"synthetic: {title}", prompt, seed=seed)
            column.append(Shown(*next(shown), "synthetic", title, said))
        columns.append(column)
    return {
        "steps": list(steps),
        "kept": run.training["selected"]["step"],
        "rows": list(zip(*columns, strict=True)),
        "prompt": prompt,
    }
