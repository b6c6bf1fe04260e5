"""A folder of pictures and its table, read once."""

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
        """Raises InputError if there is no folder, the table is bad, or a picture has no row."""
        paths, _ = listing.find(folder)
        rows_by_name = table.read(folder)
        if rows_by_name is None:
            return cls(folder, paths, [{} for _ in paths], None, [])
        rows = [rows_by_name.row(path.relative_to(folder).as_posix()) for path in paths]
        return cls(folder, paths, rows, rows_by_name.file, rows_by_name.columns)

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def names(self) -> list[str]:
        """N paths relative to the folder, with slashes."""
        return [path.relative_to(self.folder).as_posix() for path in self.paths]

    def subset(self, indices: Iterable[int]) -> Self:
        """The pictures at these indices, in this order."""
        order = list(indices)
        return replace(
            self, paths=[self.paths[i] for i in order], rows=[self.rows[i] for i in order]
        )

    @cached_property
    def patients(self) -> list[str]:
        """N labels, equal for pictures that may show the same patient.

        Taken from the table's column `group`, or else `patient`. A picture without a value counts
        as a patient of its own.
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
