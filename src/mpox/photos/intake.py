"""What a user provides: folders of photos, with a table, captions and labels."""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Optional

from mpox.core import captions, folders, listing, table
from mpox.core.errors import InputError, line
from mpox.params import Data
from mpox.photos import patients
from mpox.photos.inspection import Inspection

logger = logging.getLogger(__name__)

CAPTION = ".txt"  # suffix of the caption beside a photo, as kohya's scripts expect it
MPOX = "mpox"  # the label of a photo that is no control


@dataclass(eq=False)
class Photo:
    """A photo of the user's, and what each step of preparing it finds out."""

    path: Path
    name: str  # path from the folder of the mpox photos, for a control too
    patient: str
    columns: dict[str, str]  # what the user's table says and `data.columns` carries on
    control: bool = False
    seen: Inspection = field(default_factory=Inspection)
    square: Path = Path()  # the picture made of it
    twin: Optional["Photo"] = None  # the first photo with the same pixels
    near: Optional["Photo"] = None  # a photo that is nearly the same
    group: str = ""  # photos of one group are never split; named after one of its patients
    split: str = ""  # none for a photo that is left out

    @property
    def label(self) -> str:
        return self.columns["label"] if self.control else MPOX

    @property
    def file(self) -> str:
        """The picture's path below the output folder; its name is the photo's hash."""
        return f"{self.split}/{self.seen.sha256[:16]}.png" if self.split else ""

    @property
    def reason(self) -> str:
        """Why the photo is left out, or which photo it is nearly the same as."""
        if self.twin:
            return f"the same as {self.twin.name}"
        return f"nearly the same as {self.near.name}" if self.near else self.seen.reason


class Intake(NamedTuple):
    """A folder's files."""

    photos: list[Photo]  # in the order of their paths
    others: dict[Path, str]  # every other file, and why it is left out


def read(source: Path, data: Data) -> Intake:
    """The mpox photos. InputError if the patients or the table do not fit them."""
    return _read(source, source, data, data.columns)


def read_controls(controls: Path, source: Path, data: Data) -> Intake:
    """Photos of other conditions, each with a `label`; empty if `is_none(controls)`.

    The label is in the table's column `label`. Without a table each sub-folder is named after a
    label and is read as a folder of photos of its own. InputError as in `read`, and for photos
    without a label.
    """
    if is_none(controls):
        return Intake([], {})
    for one, other in ((controls, source), (source, controls)):
        if one.resolve() in (other.resolve(), *other.resolve().parents):
            raise InputError(
                f"data.controls: {controls}: overlaps data.source: {source}; expected two separate "
                "folders"
            )
    known = table.read(controls)
    if known and "label" not in known.columns:
        raise InputError(
            f"data.controls: {known.file}: no column label; add one with each photo's condition"
        )
    if known:
        intake = _read(controls, source, data, ("label",))
    else:
        intake = _labelled(controls, source, data)
    for photo in intake.photos:
        photo.control = True
        if photo.label.lower() in table.NOTHING:
            raise InputError(f"data.controls: {line(photo.path)}: its label is {photo.label!r}")
        if photo.label.casefold() == MPOX:
            raise InputError(
                f"data.controls: {line(photo.path)}: its label is {photo.label!r}; expected only "
                f"other conditions in {controls}"
            )
    return intake


def is_none(controls: Path) -> bool:
    """Whether the folder declares that there are no controls: no picture, a table without rows."""
    known = table.read(controls)
    return known is not None and not known.rows and not listing.find(controls)[0]


def _labelled(controls: Path, source: Path, data: Data) -> Intake:
    """The controls of every sub-folder, each named after the label of its photos."""
    paths, others = listing.find(controls)
    if unlabelled := [path for path in paths if path.parent == controls]:
        raise InputError(
            f"data.controls: {line(unlabelled[0])}: no label; move it into a sub-folder named "
            f"after its condition, or add {controls / table.NAME} with the columns file_name and "
            "label"
        )
    if not paths:
        head = f"data.controls: {controls}: no pictures; name data/none if you have no controls"
        raise InputError("\n".join([head, *listing.summary(others)]))
    photos: list[Photo] = []
    for label in dict.fromkeys(path.relative_to(controls).parts[0] for path in paths):
        intake = _read(controls / label, source, data, ())
        for photo in intake.photos:
            photo.columns["label"] = label
        photos += intake.photos
        others |= intake.others
    return Intake(photos, others)


def _read(folder: Path, base: Path, data: Data, columns: Sequence[str]) -> Intake:
    """The photos of a folder; their names are paths from `base`."""
    paths, others = listing.find(folder)
    if not paths:
        raise InputError("\n".join([f"{folder}: no pictures", *listing.summary(others)]))
    # Whatever data.on_invalid is: without these photos the split would be a different one.
    beside = [path for path in others if path.suffix.lower() == CAPTION or path.name in table.NAMES]
    folders.check_fetched(*paths, *beside)
    names = [path.relative_to(folder).as_posix() for path in paths]
    known = _read_table(folder, names, others, columns)
    texts = _read_texts(folder, names, others, known) if "text" in columns else {}
    for summary in listing.summary(others):
        logger.info("left out: %s", summary)
    patient = patients.find(folder, names, data.patients, known)
    photos = []
    for path, name in zip(paths, names, strict=True):
        row = (known.row(name) if known else {}) | ({"text": texts[name]} if texts else {})
        unique = Path(os.path.relpath(path, base)).as_posix()
        # Where nobody knows the patient, each photo is a patient of its own, in whichever folder.
        who = unique if data.patients in ("unknown", "none") else patient[name]
        photos.append(Photo(path, unique, who, {column: row[column] for column in columns}))
    return Intake(photos, others)


def _read_table(
    source: Path, names: Sequence[str], others: dict[Path, str], columns: Sequence[str]
) -> table.Table | None:
    """The table beside the photos, if it fits them. Its entry in `others` becomes "the table"."""
    misplaced = [p for p in others if p.name in table.NAMES and p.parent != source]
    misplaced = [path for path in misplaced if others[path] == listing.NO_PICTURE]
    if misplaced:
        raise InputError(
            f"{line(misplaced[0])}: a table in a sub-folder is not read; expected one table, "
            f"{source / table.NAME}, whose file_name is the path from there (or set data.source to "
            f"{line(misplaced[0].parent)})"
        )
    known = table.read(source)
    missing = [column for column in columns if not known or column not in known.columns]
    captioned = any(path.suffix.lower() == CAPTION for path in others)
    missing = [column for column in missing if column != "text" or not captioned]
    if missing:
        where = known.file if known else f"{source}, which has no {table.NAME}"
        raise InputError(f"data.columns: {missing[0]}: no such column in {where}")
    if known:
        patients.check_rows(source, names, others, known)
        others[known.file] = "the table"
        left = [column for column in known.columns if column not in (*columns, "patient")]
        if left:
            logger.info("%s: %d columns left out: %s", known.file, len(left), ", ".join(left))
    return known


def _read_texts(
    source: Path, names: Sequence[str], others: dict[Path, str], known: table.Table | None
) -> dict[str, str]:
    """Each photo's caption: the table's `text`, or the first line of `<photo>.txt` beside it.

    InputError, a line each, for photos without a caption, for files that are not UTF-8, and for
    braces, which nothing would fill.
    """
    texts, faults, longer = {}, [], 0
    in_table = known is not None and "text" in known.columns
    for name in names:
        if known and in_table:
            where, text = f"{known.file}: {line(name)}", known.row(name)["text"]
        else:
            file = (source / name).with_suffix(CAPTION)
            where, text = line(file), ""
            if file.is_file():
                others[file] = "a caption"
                try:
                    text, _, more = file.read_text("utf-8-sig").partition("\n")
                except UnicodeDecodeError:
                    faults.append(f"{where}: not UTF-8; save it as UTF-8")
                    continue
                text, longer = " ".join(text.split()), longer + bool(more.strip())
        if text.lower() in table.NOTHING:
            faults.append(f"{where}: no text, and data.columns asks for one for every photo")
        if fields := captions.fields(text):
            faults.append(
                f"{where}: {{{fields[0]}}} would not be filled in a caption; write the word, or "
                "remove text from data.columns and use the field in train.instance_prompt"
            )
        texts[name] = text
    if faults:
        raise InputError("\n".join(faults))
    if longer:
        logger.info("%d captions have several lines; only the first is used", longer)
    return texts
