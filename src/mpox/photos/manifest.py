"""What became of every file of a user's folder; it alone has original names."""

import csv
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from mpox.photos.inspection import Photo
from mpox.photos.intake import Intake

COLUMNS = ("source", "sha256", "group", "split", "file", "reason")


def rows(
    intakes: Sequence[Intake],
    looked: Mapping[str, Photo],
    groups: Mapping[str, str],
    files: Mapping[str, str],
    reasons: Mapping[str, str],
) -> dict[Path, list[str]]:
    """A row for every file found, photos first: the values of COLUMNS beside its path."""
    found: dict[Path, list[str]] = {}
    for name, path in ((name, path) for each in intakes for name, path in each.names.items()):
        file = files.get(name, "")
        values = [looked[name].sha256, groups.get(name, ""), file.split("/")[0], file]
        found[path] = [*values, reasons.get(name, "")]
    for each in intakes:
        found |= {path: ["", "", "", "", reason] for path, reason in each.others.items()}
    return found


def write(file: Path, base: Path, found: Mapping[Path, Iterable[str]]) -> None:
    """The rows, each after its path from `base`."""
    # surrogateescape: a name that is no UTF-8 is written as the bytes it has on the disk.
    with file.open("w", encoding="utf-8", errors="surrogateescape", newline="") as stream:
        plain = csv.writer(stream, lineterminator="\n")
        # A lone carriage return in a name ends a row for who reads it, but is not quoted by itself.
        quoted = csv.writer(stream, lineterminator="\n", quoting=csv.QUOTE_ALL)
        plain.writerow(COLUMNS)
        for path, values in found.items():
            row = [Path(os.path.relpath(path, base)).as_posix(), *values]
            (quoted if "\r" in "".join(row) else plain).writerow(row)
