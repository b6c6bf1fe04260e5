"""A folder of pictures, read once: its files, and what its table says of each."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Self

from mpox.core import listing, table


@dataclass(frozen=True)
class PictureSet:
    """N pictures in the order of their names."""

    folder: Path
    paths: list[Path]  # N
    rows: list[dict[str, str]]  # N; a picture's value by column, "" for none; empty without a table
    table: Path | None  # the file that `rows` are from
    columns: list[str]  # of the table, beside file_name

    @classmethod
    def read(cls, folder: Path) -> Self:
        """InputError for no folder, an unreadable table, and a picture without a row in it."""
        paths, _ = listing.find(folder)
        known = table.read(folder)
        if known is None:
            return cls(folder, paths, [{} for _ in paths], None, [])
        rows = [known.row(path.relative_to(folder).as_posix()) for path in paths]
        return cls(folder, paths, rows, known.file, known.columns)

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def names(self) -> list[str]:
        """Paths from the folder, with slashes: N."""
        return [path.relative_to(self.folder).as_posix() for path in self.paths]

    def subset(self, chosen: Iterable[int]) -> Self:
        """The pictures at these places, in this order."""
        places = list(chosen)
        return replace(
            self, paths=[self.paths[i] for i in places], rows=[self.rows[i] for i in places]
        )

    @cached_property
    def patients(self) -> list[str]:
        """Who belongs together: N; equal for pictures that may show one patient.

        By the table's column `group`, or else `patient`. A picture of which neither says anything
        stands for a patient of its own.
        """
        column = next((name for name in ("group", "patient") if name in self.columns), None)
        if column is None:
            return [str(k) for k in range(len(self))]
        values = [row[column] for row in self.rows]
        return [
            f"picture {k}" if value.lower() in table.NOTHING else value
            for k, value in enumerate(values)
        ]

    @cached_property
    def known(self) -> bool:
        """Whether the patient of every picture is known."""
        named = {"patient", "group"}.intersection(self.columns)
        return bool(named) and all(
            row.get(column, "").lower() not in table.NOTHING
            for row in self.rows
            for column in named | {"patient"}
        )
