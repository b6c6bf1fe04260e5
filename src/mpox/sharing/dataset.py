"""The photos and synthetic pictures as any trainer of classifiers reads them: a folder a class.

`<split>/<class>/*.png` is the layout of torchvision's ImageFolder, which timm, fastai and
Ultralytics read too. The table beside it (`table`) says what a folder's name cannot.
"""

import shutil
from collections.abc import Sequence
from math import floor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mpox.core import folders, listing, table
from mpox.core.errors import InputError, line
from mpox.core.picture_set import PictureSet
from mpox.core.seeds import derive

PARTS = ("train", "val", "test")
MPOX = "mpox"
OTHER = "other"  # the class of all controls, where there is not one for each label
COLUMNS = ("split", "label", "origin", "patient", "group")


class Picture(NamedTuple):
    """One file of the set."""

    source: Path
    split: str  # of PARTS
    label: str  # MPOX or a control's
    origin: str  # photo, synthetic, or base: drawn without the LoRA
    patient: str = table.UNKNOWN
    group: str = table.UNKNOWN  # of patients with near duplicates, never in two splits


def photos(prepared: Path, controls: Path) -> list[Picture]:
    """Every photo in the split that prepare put it in; InputError without controls."""
    found = []
    for split in PARTS:
        for folder in (prepared, controls):
            files = PictureSet.read(folder / split)
            for path, row in zip(files.paths, files.rows, strict=True):
                label = MPOX if folder == prepared else row["label"]
                who = (row.get(column, table.UNKNOWN) for column in ("patient", "group"))
                found.append(Picture(path, split, label, "photo", *who))
    if all(picture.label == MPOX for picture in found):
        raise InputError(
            f"{controls}: holds no photos of other conditions, and a classifier needs some; name "
            "their folder in data.controls (docs/utility.md)"
        )
    return found


def add(
    real: Sequence[Picture], drawn: Path, origin: str, share: float, seed: int
) -> list[Picture]:
    """`real` with pictures from the folder `drawn` in training, as mpox.

    `share` is what they make up of the training pictures of mpox, in (0, 1]; at 1 they stand in the
    place of the photos. Which of them is `seed`'s choice; a smaller share takes a part of those of
    a larger one. InputError for a share that the folder's pictures do not reach.
    """
    paths, _ = listing.find(drawn)
    mpox = sum((picture.split, picture.label) == ("train", MPOX) for picture in real)
    number = round(mpox * share / (1 - share)) if share < 1 else len(paths) if share == 1 else 0
    if not 0 < number <= len(paths):
        most = floor(1000 * len(paths) / (len(paths) + mpox)) / 1000
        raise InputError(
            f"--synthetic: got {share:g}, which is {number} pictures beside {mpox} photos of mpox; "
            f"expected 1 to {len(paths)}, as {drawn} holds (a share of up to {most}), or 1 for "
            "those pictures alone"
        )
    order = np.random.default_rng(derive(seed, "dataset", origin)).permutation(len(paths))
    chosen = [Picture(paths[k], "train", MPOX, origin) for k in sorted(order[:number])]
    kept = [each for each in real if share < 1 or (each.split, each.label) != ("train", MPOX)]
    return kept + chosen


def write(out: Path, pictures: Sequence[Picture], by_label: bool) -> dict[str, int]:
    """Copies every picture to `out`/<split>/<class>/, byte for byte, and writes the table.

    Copies, not links: some trainers write into the set that they are given. The classes are MPOX
    and OTHER, or with `by_label` the labels. Gives the number of pictures by split and class.
    InputError for a class that lacks in a split, because trainers number the classes of each split
    by its folders, and for a label that cannot be a folder's name.
    """
    counts: dict[str, int] = {}
    rows: dict[str, list[object]] = {}
    with folders.whole(out) as folder:
        for picture in pictures:
            label = picture.label if by_label else MPOX if picture.label == MPOX else OTHER
            if label != Path(label).name or label.startswith("."):
                raise InputError(f"--labels: {line(label)!r} cannot be the name of a folder")
            place = f"{picture.split}/{label}"
            (folder / place).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(picture.source, folder / place / picture.source.name)
            rows[f"{place}/{picture.source.name}"] = list(picture[1:])
            counts[place] = counts.get(place, 0) + 1
        classes = sorted({place.partition("/")[2] for place in counts})
        if lacking := [f"{s}/{c}" for s in PARTS for c in classes if f"{s}/{c}" not in counts]:
            raise InputError(
                f"{', '.join(lacking)}: no photos, and trainers would number the classes of the "
                "splits differently; expected photos of each class in every split"
                + ("; leave --labels out" if by_label else "")
            )
        table.write(folder, COLUMNS, rows)
    return dict(sorted(counts.items()))
