"""What became of every file of a user's folder. Only this file has the original names."""

import csv
import os
from collections.abc import Iterator
from pathlib import Path

from mpox.photos.intake import Intake

COLUMNS = ("source", "sha256", "group", "split", "file", "reason")


def write(file: Path, base: Path, intake: Intake) -> None:
    """A row for every file, photos first; `source` is its path from `base`."""
    # surrogateescape: a name that is not UTF-8 is written as the bytes it has on the disk.
    with file.open("w", encoding="utf-8", errors="surrogateescape", newline="") as stream:
        plain = csv.writer(stream, lineterminator="\n")
        # Readers take a lone carriage return in a name for the end of a row unless it is quoted.
        quoted = csv.writer(stream, lineterminator="\n", quoting=csv.QUOTE_ALL)
        plain.writerow(COLUMNS)
        for path, *values in _rows(intake):
            row = [Path(os.path.relpath(path, base)).as_posix(), *values]
            (quoted if "\r" in "".join(row) else plain).writerow(row)


def _rows(intake: Intake) -> Iterator[tuple[Path, str, str, str, str, str]]:
    for photo in intake.photos:
        yield photo.path, photo.seen.sha256, photo.group, photo.split, photo.file, photo.reason
    for path, reason in intake.others.items():
        yield path, "", "", "", "", reason
