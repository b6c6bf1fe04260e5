"""Photos and synthetic pictures for any trainer of classifiers: one folder per class.

`<split>/<class>/*.png` is the layout of torchvision's ImageFolder, which timm, fastai and
Ultralytics also read. The table beside it holds origin, patient and group of each file.
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
from mpox.utility.photos import MPOX, PARTS

OTHER = "other"  # the class of all controls, unless each label is a class
COLUMNS = ("split", "label", "origin", "patient", "group")


class Picture(NamedTuple):
    """One file of the set."""

    source: Path
    split: str  # one of PARTS
    label: str  # MPOX, or the label of a control
    origin: str  # photo, synthetic or base (drawn without the LoRA)
    patient: str = table.UNKNOWN
    group: str = table.UNKNOWN  # patients linked by near duplicates share a group and a split


def photos(prepared: Path, controls: Path) -> list[Picture]:
    """Every photo, in its split; InputError without controls."""
    pictures = []
    for split in PARTS:
        for folder in (prepared, controls):
            files = PictureSet.read(folder / split)
            for path, row in zip(files.paths, files.rows, strict=True):
                label = MPOX if folder == prepared else row["label"]
                patient = (row.get(column, table.UNKNOWN) for column in ("patient", "group"))
                pictures.append(Picture(path, split, label, "photo", *patient))
    if all(picture.label == MPOX for picture in pictures):
        raise InputError(
            f"{controls}: holds no photos of other conditions, which a classifier needs; name "
            "their folder in data.controls (docs/photos.md)"
        )
    return pictures


def add(
    real: Sequence[Picture], drawn: Path, origin: str, share: float, seed: int
) -> list[Picture]:
    """`real` with pictures from the folder `drawn` added as training pictures of mpox.

    `share`, in (0, 1], is their share of the training pictures of mpox; at 1 they replace the
    photos. `seed` selects them; a larger share contains the pictures of a smaller one. InputError
    if the folder has too few pictures.
    """
    paths, _ = listing.find(drawn)
    mpox = sum((picture.split, picture.label) == ("train", MPOX) for picture in real)
    number = round(mpox * share / (1 - share)) if share < 1 else len(paths) if share == 1 else 0
    if not 0 < number <= len(paths):
        most = floor(1000 * len(paths) / (len(paths) + mpox)) / 1000
        raise InputError(
            f"--synthetic: got {share:g}, which takes {number} pictures for {mpox} photos of mpox; "
            f"expected 1 to {len(paths)}, the number in {drawn} (a share of at most {most}), or 1 "
            "for synthetic pictures alone"
        )
    order = np.random.default_rng(derive(seed, "dataset", origin)).permutation(len(paths))
    added = [Picture(paths[k], "train", MPOX, origin) for k in sorted(order[:number])]
    photos = [each for each in real if share < 1 or (each.split, each.label) != ("train", MPOX)]
    return photos + added


def write(out: Path, pictures: Sequence[Picture], by_label: bool) -> dict[str, int]:
    """Copies every picture to `out`/<split>/<class>/ and writes the table.

    They are copies, not links, because some trainers write into their data set. The classes are
    MPOX and OTHER or, with `by_label`, the labels. Returns the number of pictures by split and
    class. InputError if a split lacks a class, because trainers number the classes of each split by
    its folders, and for a label that cannot be the name of a folder.
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
        if missing := [f"{s}/{c}" for s in PARTS for c in classes if f"{s}/{c}" not in counts]:
            raise InputError(
                f"{', '.join(missing)}: no photos, so trainers would number the classes of the "
                "splits differently; expected photos of each class in every split"
                + ("; leave --labels out" if by_label else "")
            )
        table.write(folder, COLUMNS, rows)
    return dict(sorted(counts.items()))
