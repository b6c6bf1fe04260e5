"""Section "Pictures": the pictures themselves."""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mpox.core import images, listing, seeds, table
from mpox.core.errors import InputError
from mpox.core.picture_set import PictureSet
from mpox.report.pictures import Shown, encode, parallel
from mpox.report.run import Run

MOST = 500  # pictures of each kind on the page, spread evenly over the names
# Bytes in the page, a third more than those of the JPEG files.
GRID, PAIRS, LEARNING, CHANGED = 10_500_000, 700_000, 1_500_000, 500_000
SEEDS = 8  # shown to compare the base with the LoRA


@dataclass(frozen=True)
class Pair:
    """A synthetic picture and the training photo that it resembles suspiciously."""

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
    """Real and synthetic pictures of one side and codec, and how many there are of each."""
    sets = {"synthetic": _drawn(run)}
    if run.params.report.real:
        sets["real"] = run.sets["test"]
    counts = {"real": 0} | {kind: len(pictures) for kind, pictures in sets.items()}
    spread = {kind: _spread(pictures, MOST) for kind, pictures in sets.items()}
    paths = [path for kind in sorted(spread) for path in spread[kind].paths]
    encoded = encode(parallel(lambda path: _read(run, path), paths), GRID)
    shown = dict(zip(paths, encoded, strict=True))
    real = []
    if "real" in spread:
        for i, path in enumerate(spread["real"].paths, 1):
            alt = f"real test photo {i} of {counts['real']}"
            real.append(Shown(*shown[path], "real", alt, ["real test photo"]))
    synthetic = []
    for path, row in zip(spread["synthetic"].paths, spread["synthetic"].rows, strict=True):
        title = f"synthetic picture {path.stem}"
        synthetic.append(Shown(*shown[path], "synthetic", title, _lines(title, **row)))
    return real, synthetic, counts


def _lines(
    title: str, text: str, negative_prompt: str = "", seed: str | int = "", **fields: str
) -> list[str]:
    """The lines of the enlarged view; `fields`: the values of the prompt's fields."""
    lines = [title, f"prompt: {text}"]
    if negative_prompt:
        lines.append(f"negative prompt: {negative_prompt}")
    return [
        *lines,
        *(f"requested {name}: {value}" for name, value in fields.items()),
        f"seed: {seed}",
    ]


def _spread(pictures: PictureSet, most: int) -> PictureSet:
    """At most so many, spread evenly over the names."""
    if len(pictures) <= most:
        return pictures
    return pictures.subset(np.linspace(0, len(pictures) - 1, most).astype(int).tolist())


def _read(run: Run, path: Path) -> np.ndarray:
    return images.square(images.read(path), run.params.resolution)


def _drawn(run: Run) -> PictureSet:
    """The synthetic pictures, with `text`, `negative_prompt`, `seed` and fields in their table."""
    drawn = run.sets["synthetic"]
    if drawn.table is None:
        raise InputError(
            f"{drawn.folder}: has no {table.NAME}; expected the one that generate wrote"
        )
    return drawn


def _pairs(run: Run) -> list[Pair]:
    """The evaluation's pairs, worst first; none if it had no training photos."""
    file = run.sheets / "suspicious_pairs.csv"
    if not file.is_file():
        return []
    with file.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    pictures = [_read(run, run.synthetic / row["synthetic"]) for row in rows]
    if run.params.report.real:
        for row in rows:
            photo = _read(run, run.prepared / "train" / row["training"])
            pictures.append(images.ways(photo)[int(row["orientation"])])
    encoded = encode(pictures, PAIRS)
    pairs = []
    for i, row in enumerate(rows):
        numbers = f"cosine {float(row['cosine']):.3f}, {row['bits']} of 64 bits differ"
        title = f"synthetic picture {Path(row['synthetic']).stem}"
        synthetic = Shown(*encoded[i], "synthetic", title, [title, numbers])
        training = None
        if run.params.report.real:
            alt = "the training photo it resembles most"
            training = Shown(*encoded[len(rows) + i], "real", alt, [alt, numbers])
        by = "by image features" if row["by"] == "features" else "by perceptual hash"
        pairs.append(Pair(synthetic, training, f"{by}: {numbers}"))
    return pairs


def _changed(run: Run) -> list[tuple[Shown, Shown]]:
    """For a few seeds, spread evenly, the picture of the base and that of the LoRA."""
    drawn = _spread(_drawn(run), SEEDS)
    paths = [folder / name for name in drawn.names for folder in (run.base, run.synthetic)]
    encoded = iter(encode([_read(run, path) for path in paths], CHANGED))
    pairs = []
    for path, row in zip(drawn.paths, drawn.rows, strict=True):
        pair = []
        for source in ("the base alone", "with the LoRA"):
            title = f"{source}, picture {path.stem}"
            pair.append(
                Shown(*next(encoded), "synthetic", title, _lines(f"synthetic: {title}", **row))
            )
        pairs.append((pair[0], pair[1]))
    return pairs


def _learning(run: Run) -> dict[str, Any]:
    """The validation pictures: a row for each seed, a column for each step."""
    folder = run.lora / "validation"
    folders = sorted(folder.glob("step-*"))
    steps = [int(each.name.removeprefix("step-")) for each in folders]
    files = [listing.find(each)[0] for each in folders]
    encoded = iter(encode([_read(run, path) for column in files for path in column], LEARNING))
    prompt, columns = run.params.train.validation_prompt, []
    training_seed = seeds.first(run.params.train.seed, run.params.seed)
    for step, paths in zip(steps, files, strict=True):
        source = "the base alone" if step == 0 else f"step {step}"
        column = []
        for i, _ in enumerate(paths):
            seed = seeds.derive(training_seed, "validation", i)
            title = f"{source}, seed {i + 1} of {len(paths)}"
            lines = _lines(f"synthetic: {title}", prompt, seed=seed)
            column.append(Shown(*next(encoded), "synthetic", title, lines))
        columns.append(column)
    return {
        "steps": steps,
        "kept": run.training["selected"]["step"],
        "rows": list(zip(*columns, strict=True)),
        "prompt": prompt,
    }
