"""The table of a picture folder: `metadata.csv` in the format of Hugging Face's `imagefolder`.

`file_name` is the path relative to the table. Other columns are `patient`, `text`, `tone`, `label`,
`site` and any of the user's own.
"""

import csv
import io
import json
import posixpath
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from mpox.core import folders
from mpox.core.errors import InputError, line

NAME = "metadata.csv"
NAMES = (NAME, "metadata.jsonl")
UNKNOWN = "unknown"
MARKS = ",;\t"  # between columns
# Values that CSV readers treat as missing.
NOTHING = {"", "na", "n/a", "nan", "<na>", "#na", "#n/a", "none", "null", "-nan", UNKNOWN}


class Table(NamedTuple):
    """A table as read, with column names in lower case."""

    file: Path
    columns: list[str]  # without file_name
    rows: dict[str, dict[str, str]]  # `normal` file_name → column → value, "" if missing

    def row(self, name: str) -> dict[str, str]:
        """The values of a file by column. Raises InputError if it has no row."""
        if normal(name) not in self.rows:
            raise InputError(f"{self.file}: has no row for {line(name)}")
        return self.rows[normal(name)]


def normal(name: str) -> str:
    """A path in one spelling: composed umlauts (Macs decompose them), no backslash, no `./`."""
    composed = unicodedata.normalize("NFC", name.strip().replace("\\", "/"))
    return posixpath.normpath(composed) if composed else ""


def read(folder: Path) -> Table | None:
    """The folder's metadata.csv or metadata.jsonl; None if there is none.

    UTF-8 with or without a byte order mark; columns separated by comma, semicolon or tab, as Excel
    writes them. Line breaks and other unprintable characters in values become spaces. Raises
    InputError with one line per fault: two tables, no file_name, a row that is too long or too
    short, a repeated file.
    """
    files = [folder / name for name in NAMES if (folder / name).is_file()]
    if not files:
        return None
    if len(files) == 2:
        raise InputError(f"{folder}: holds {NAMES[0]} and {NAMES[1]}; expected one of them")
    return parse(files[0], files[0].read_bytes())


def parse(file: Path, content: bytes) -> Table:
    """Parse `content` as `read` does. `file` need not exist; it names the format and errors."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{file}: is not UTF-8; save it as UTF-8 (in Excel: CSV UTF-8)") from None
    columns, records = _csv(file, text) if file.name == NAME else _jsonl(file, text)
    faults, rows = [], {}
    for number, record in records.items():
        name = normal(record["file_name"])
        if not name:
            faults.append(f"{file}: line {number}: no file_name")
        elif name in rows:
            faults.append(f"{file}: line {number}: {line(name)} has a row already")
        rows[name] = {column: _clean(record.get(column, "")) for column in columns}
    if faults:
        raise InputError("\n".join(faults))
    return Table(file, columns, rows)


def _clean(value: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in value).split())


def _csv(file: Path, text: str) -> tuple[list[str], dict[int, dict[str, str]]]:
    """The columns, and the values by line number."""
    heads = {}
    for mark in MARKS:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=mark, strict=True)
        try:
            heads[mark] = [column.strip().lower() for column in next(reader, [])]
        except csv.Error:
            continue
    mark = next((mark for mark, head in heads.items() if "file_name" in head), "")
    if not mark:
        first = line(text.split("\n", 1)[0].strip()[:80]) or "nothing"
        raise InputError(
            f"{file}: the first line must name the columns, file_name among them; got {first}"
        )
    head = heads[mark]
    twice = sorted({column for column in head if column and head.count(column) > 1})
    if twice:
        raise InputError(f"{file}: has the column {twice[0]!r} twice")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=mark, strict=True)
    records = {}
    try:
        next(reader)
        for values in reader:
            if not any(value.strip() for value in values):
                continue
            where = f"{file}: line {reader.line_num}"
            if len(values) != len(head):
                raise InputError(f"{where}: {len(values)} values, expected {len(head)}")
            record = dict(zip(head, values, strict=True))
            # Excel also writes columns that were used once and have no name.
            unnamed = [
                v for column, v in zip(head, values, strict=True) if not column and v.strip()
            ]
            if unnamed:
                raise InputError(f"{where}: {line(unnamed[0])} is in a column without a name")
            records[reader.line_num] = record
    except csv.Error as error:
        raise InputError(f"{file}: line {reader.line_num}: {error}") from None
    return [column for column in head if column not in ("", "file_name")], records


def _jsonl(file: Path, text: str) -> tuple[list[str], dict[int, dict[str, str]]]:
    records: dict[int, dict[str, str]] = {}
    for number, content in enumerate(text.split("\n"), 1):
        if not content.strip():
            continue
        where = f"{file}: line {number}"
        try:
            record = json.loads(content)
            pairs = {str(key).strip().lower(): value for key, value in record.items()}
        except (ValueError, AttributeError, RecursionError) as error:
            raise InputError(f"{where}: not a JSON object: {error}") from None
        if len(pairs) < len(record):
            raise InputError(f"{where}: repeats a column")
        if not isinstance(pairs.get("file_name", ""), str):
            raise InputError(f"{where}: file_name: expected text")
        records[number] = {"file_name": ""} | {key: _text(value) for key, value in pairs.items()}
    columns = dict.fromkeys(column for record in records.values() for column in record)
    return [column for column in columns if column != "file_name"], records


def _text(value: object) -> str:
    if isinstance(value, list | dict):  # such as `objects`, the bounding boxes
        return json.dumps(value, ensure_ascii=False)
    return "" if value is None else str(value)


def write(folder: Path, columns: Sequence[str], rows: Mapping[str, Sequence[object]]) -> None:
    """Write `folder`/metadata.csv with one row per file name, in the order of the names."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["file_name", *columns])
    for name in sorted(rows):
        writer.writerow([name, *rows[name]])
    folders.write(folder / NAME, buffer.getvalue().encode())


def groups(folder: Path, names: Iterable[str]) -> tuple[list[str], bool]:
    """Who belongs together among a folder's pictures, and whether the patients are known.

    By the table's column `group`, or else `patient`; where neither says anything a picture is by
    itself, and the patients are not known. InputError for a picture without a row.
    """
    table = read(folder)
    column = next((c for c in ("group", "patient") if table and c in table.columns), None)
    if table is None or column is None:
        return [str(k) for k, _ in enumerate(names)], False
    found, known = [], True
    for k, name in enumerate(names):
        row = table.row(name)
        said = row[column].lower() not in NOTHING
        found.append(row[column] if said else f"picture {k}")
        known &= said and row.get("patient", "").lower() not in NOTHING
    return found, known


def uniform(column: str, values: Sequence[str]) -> list[str]:
    """The values of a column, rewritten so that every reader infers the same type in every split.

    If all values are integers, numbers or booleans, they get one form. Otherwise they are texts:
    a missing value becomes `unknown`, and one that looks like another type gets the column's name
    in front ("tone 2").
    """
    values = [UNKNOWN if value.lower() in NOTHING else value for value in values]
    kinds = {_kind(value) for value in values}
    if kinds == {"integer"}:
        return [str(int(value)) for value in values]
    if kinds and kinds <= {"integer", "number"}:
        return [repr(float(value)) for value in values]
    if kinds == {"boolean"}:
        return [value.capitalize() for value in values]
    return [value if _kind(value) == "text" else f"{column} {value}" for value in values]


def _kind(value: str) -> str:
    if re.fullmatch(r"[+-]?\d+", value, re.ASCII):
        # Long digits and 007 are ids: a float would round the first, an int lose the zeros.
        return "integer" if len(value) < 19 and value == str(int(value)) else "id"
    if re.fullmatch(r"[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|inf(inity)?)", value, re.ASCII | re.I):
        return "number"
    return "boolean" if value.lower() in ("true", "false") else "text"
