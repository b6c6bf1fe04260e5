"""What a user hands over: folders of photos, and what stands beside them."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mpox.core import captions, folders, listing, table
from mpox.core.errors import InputError, line
from mpox.params import Data
from mpox.photos import patients

logger = logging.getLogger(__name__)

CAPTION = ".txt"  # beside a photo, as kohya has it
MPOX = "mpox"  # no control's label


class Intake(NamedTuple):
    """A folder's photos. A name is the path from the folder of the mpox photos, whosever it is."""

    names: dict[str, Path]  # of the photos, in order
    others: dict[Path, str]  # every other file, and why it is not taken
    patient: dict[str, str]  # name → patient
    columns: dict[str, dict[str, str]]  # column to carry on → name → value


def read(source: Path, data: Data) -> Intake:
    """The mpox photos; InputError where patients or a table do not fit them."""
    return _read(source, source, data, data.columns)


def read_controls(controls: Path, source: Path, data: Data) -> list[Intake]:
    """Photos of other conditions, whose column `label` says which; none: `is_none`.

    The table's column `label` says it; without a table each sub-folder is named for one, and is
    read as a folder of photos of its own. InputError as in `read`, and for photos without a label.
    """
    if is_none(controls):
        return []
    for one, other in ((controls, source), (source, controls)):
        if one.resolve() in (other.resolve(), *other.resolve().parents):
            raise InputError(
                f"data.controls: {controls} and data.source: {source}: one holds the other; "
                "expected two folders"
            )
    known = table.read(controls)
    if known and "label" not in known.columns:
        raise InputError(f"data.controls: {known.file}: has no column label; it says of what")
    if known:
        found = [_read(controls, source, data, ("label",))]
        _check_labels(controls, found)
        return found
    paths, others = listing.find(controls)
    if astray := [path for path in paths if path.parent == controls]:
        raise InputError(
            f"data.controls: {line(astray[0])}: has no label; expected it in a sub-folder named "
            f"for what it shows, or {controls / table.NAME} with the columns file_name and label"
        )
    if not paths:
        raise InputError(
            "\n".join(
                [
                    f"data.controls: {controls}: holds no picture (data/none says that there are "
                    "none)",
                    *listing.summary(others),
                ]
            )
        )
    found = []
    labels = list(dict.fromkeys(path.relative_to(controls).parts[0] for path in paths))
    for label in labels:
        own = _read(controls / label, source, data, ())
        found.append(own._replace(columns={"label": dict.fromkeys(own.names, label)}))
    for path, reason in others.items():  # in no label's folder
        if path.relative_to(controls).parts[0] not in labels:
            found[0].others[path] = reason
    _check_labels(controls, found)
    return found


def _check_labels(controls: Path, found: list[Intake]) -> None:
    """InputError for a control without a label, or called mpox."""
    for each in found:
        for name, said in each.columns["label"].items():
            if said.lower() in table.NOTHING:
                raise InputError(f"data.controls: {line(each.names[name])}: its label is {said!r}")
            if said.casefold() == MPOX:
                raise InputError(
                    f"data.controls: {line(each.names[name])}: its label is {said!r}; expected "
                    f"photos of other conditions in {controls}"
                )


def is_none(controls: Path) -> bool:
    """Whether the folder says that there are no controls: a table without a row, no picture."""
    known = table.read(controls)
    return known is not None and not known.rows and not listing.find(controls)[0]


def _read(folder: Path, base: Path, data: Data, columns: Sequence[str]) -> Intake:
    paths, others = listing.find(folder)
    if not paths:
        raise InputError("\n".join([f"{folder}: holds no picture", *listing.summary(others)]))
    # Whatever data.on_invalid says: without these photos the split would be another.
    beside = [path for path in others if path.suffix.lower() == CAPTION or path.name in table.NAMES]
    folders.check_fetched(*paths, *beside)
    own = [path.relative_to(folder).as_posix() for path in paths]
    known = _read_table(folder, own, others, columns)
    texts = _read_texts(folder, own, others, known, columns)
    for said in listing.summary(others):
        logger.info("left out: %s", said)
    patient = patients.find(folder, own, data.patients, known)
    carried: dict[str, dict[str, str]] = {}
    names = own if folder == base else [Path(os.path.relpath(p, base)).as_posix() for p in paths]
    for column in columns:
        if column == "text":
            values = [texts[name] for name in own]
        else:
            assert known
            values = [known.row(name)[column] for name in own]
        carried[column] = dict(zip(names, values, strict=True))
    if data.patients in ("unknown", "none"):  # each its own, of whatever folder
        of = dict(zip(names, names, strict=True))
    else:
        of = dict(zip(names, (patient[name] for name in own), strict=True))
    return Intake(dict(zip(names, paths, strict=True)), others, of, carried)


def _read_table(
    source: Path, names: Sequence[str], others: dict[Path, str], columns: Sequence[str]
) -> table.Table | None:
    """The table beside the photos, if it fits them; `others` learn what it is."""
    astray = [p for p in others if p.name in table.NAMES and p.parent != source]
    astray = [path for path in astray if others[path] == listing.NO_PICTURE]
    if astray:
        raise InputError(
            f"{line(astray[0])}: lies in a sub-folder and would not be read; expected one table, "
            f"{source / table.NAME}, whose file_name is the path from there (or data.source: "
            f"{line(astray[0].parent)})"
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
    source: Path,
    names: Sequence[str],
    others: dict[Path, str],
    known: table.Table | None,
    columns: Sequence[str],
) -> dict[str, str]:
    """Each photo's caption, if `columns` ask for a text: the table's, or `<photo>.txt` beside it.

    Of a file the first line counts, as for kohya's scripts. InputError, a line each, for photos
    without a caption, for files that are not UTF-8, and for braces, which nothing would fill.
    """
    if "text" not in columns:
        return {}
    texts, faults, longer = {}, [], 0
    of_table = known is not None and "text" in known.columns
    for name in names:
        if known and of_table:
            where, text = f"{known.file}: {line(name)}", known.row(name)["text"]
        else:
            file = (source / name).with_suffix(CAPTION)
            where, text = line(file), ""
            if file.is_file():
                others[file] = "a caption"
                try:
                    text, _, more = file.read_text("utf-8-sig").partition("\n")
                except UnicodeDecodeError:
                    faults.append(f"{where}: is not UTF-8; save it as such")
                    continue
                text, longer = " ".join(text.split()), longer + bool(more.strip())
        if text.lower() in table.NOTHING:
            faults.append(f"{where}: no text; data.columns asks for one of every photo")
        if fields := captions.fields(text):
            faults.append(
                f"{where}: {{{fields[0]}}} would be trained as it stands; write the word, or leave "
                "text out of data.columns: train.instance_prompt is filled"
            )
        texts[name] = text
    if faults:
        raise InputError("\n".join(faults))
    if longer:
        logger.info("%d captions have several lines, of which the first counts", longer)
    return texts
