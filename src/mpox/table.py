"""The table beside pictures: `metadata.csv`, as Hugging Face's `imagefolder` has it.

`file_name` is the path from the table's folder; `patient`, `text`, `tone`, `label`, `site` and
whatever else stand beside it.
"""

import csv
import io
import json
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from mpox import folders
from mpox.errors import InputError, line

NAME = "metadata.csv"
NAMES = (NAME, "metadata.jsonl")
UNKNOWN = "unknown"
MARKS = ",;\t"  # between columns
# What readers of CSV take for no value at all.
NOTHING = {"", "na", "n/a", "nan", "<na>", "#na", "#n/a", "none", "null", "-nan", UNKNOWN}


class Table(NamedTuple):
    """A table as it was read; columns' names in lower case, values stripped."""

    file: Path
    columns: list[str]  # beside file_name
    rows: dict[
        str, dict[str, str]
    ]  # file_name as `normal` → column → value, "" where there is none


def normal(name: str) -> str:
    """One spelling of a path: umlauts composed (Macs take them apart), no backslash, no `./`."""
    return unicodedata.normalize("NFC", name.strip().replace("\\", "/")).removeprefix("./")


def read(folder: Path) -> Table | None:
    """The folder's metadata.csv or metadata.jsonl; None if there is none.

    UTF-8, with a byte order mark or without; comma, semicolon or tab between the columns, as Excel
    writes them. Raises InputError, a line for each fault: two tables, no file_name, a row that is
    too long or too short, a file twice.
    """
    files = [folder / name for name in NAMES if (folder / name).is_file()]
    if not files:
        return None
    if len(files) == 2:
        raise InputError(f"{folder}: holds {NAMES[0]} and {NAMES[1]}; expected one of them")
    file = files[0]
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{file}: is not UTF-8; save it as such (in Excel: CSV UTF-8)") from None
    records = _csv(file, text) if file.name == NAME else _jsonl(file, text)
    faults, rows = [], {}
    for number, record in records:
        name = normal(record.pop("file_name", ""))
        if not name:
            faults.append(f"{file}: line {number}: no file_name")
        elif name in rows:
            faults.append(f"{file}: line {number}: {line(name)} has a row already")
        rows[name] = record
    if faults:
        raise InputError("\n".join(faults))
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    return Table(
        file, columns, {name: dict.fromkeys(columns, "") | row for name, row in rows.items()}
    )


def _csv(file: Path, text: str) -> Iterable[tuple[int, dict[str, str]]]:
    first = text.split("\n", 1)[0].strip("\r")
    heads: list[list[str]] = [
        [column.strip().lower() for column in next(csv.reader([first], delimiter=mark), [])]
        for mark in MARKS
    ]
    found = [k for k, head in enumerate(heads) if "file_name" in head]
    if not found:
        said = line(first[:80]) or "nothing"
        raise InputError(
            f"{file}: its first line must name the columns, one of them file_name; got {said}"
        )
    head = heads[found[0]]
    twice = sorted({column for column in head if head.count(column) > 1})
    if twice:
        raise InputError(f"{file}: has the column {twice[0]!r} twice")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=MARKS[found[0]])
    try:
        next(reader)
        for values in reader:
            if not any(value.strip() for value in values):
                continue
            if len(values) != len(head):
                raise InputError(
                    f"{file}: line {reader.line_num}: {len(values)} values, expected {len(head)}"
                )
            yield reader.line_num, dict(zip(head, map(str.strip, values), strict=True))
    except csv.Error as error:
        raise InputError(f"{file}: line {reader.line_num}: {error}") from None


def _jsonl(file: Path, text: str) -> Iterable[tuple[int, dict[str, str]]]:
    for number, content in enumerate(text.split("\n"), 1):
        if not content.strip():
            continue
        try:
            record = json.loads(content)
            pairs = {str(key).strip().lower(): value for key, value in record.items()}
        except (ValueError, AttributeError, RecursionError) as error:
            raise InputError(f"{file}: line {number}: no JSON object: {error}") from None
        for key, value in pairs.items():
            if isinstance(value, list | dict):
                raise InputError(f"{file}: line {number}: {key}: expected text or a number")
        yield number, {key: "" if v is None else str(v).strip() for key, v in pairs.items()}


def write(folder: Path, columns: Sequence[str], rows: Mapping[str, Sequence[object]]) -> None:
    """`folder`/metadata.csv: a row of values for each file name, in the order of the names."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["file_name", *columns])
    for name in sorted(rows):
        writer.writerow([name, *rows[name]])
    folders.write(folder / NAME, buffer.getvalue().encode())


def groups(folder: Path, names: Iterable[str]) -> tuple[list[str], bool]:
    """Who belongs together among a folder's pictures, and whether the patients are known.

    By the table's column `group`, or else `patient`; without such a table each picture is by itself
    and nobody knows. InputError for a picture without a row.
    """
    table = read(folder)
    column = next((c for c in ("group", "patient") if table and c in table.columns), None)
    if table is None or column is None:
        return [str(k) for k, _ in enumerate(names)], False
    found = []
    for name in names:
        if normal(name) not in table.rows:
            raise InputError(f"{table.file}: has no row for {line(name)}")
        found.append(table.rows[normal(name)])
    known = all(row.get("patient", UNKNOWN).lower() not in NOTHING for row in found)
    return [row[column] for row in found], known


def uniform(column: str, values: Sequence[str]) -> list[str]:
    """A column's values so that every part of them reads as one type, whoever guesses it.

    Integers, or numbers, or truths, where all values are such; else texts, of which a missing one
    is `unknown` and one that looks like something else has the column's name before it ("tone 2").
    """
    values = [UNKNOWN if value.lower() in NOTHING else value for value in values]
    kinds = {_kind(value) for value in values}
    if kinds == {"integer"}:
        return [str(int(value)) for value in values]
    if kinds and kinds <= {"integer", "number"}:
        return [repr(float(value)) for value in values]
    if kinds == {"truth"}:
        return [value.capitalize() for value in values]
    return [value if _kind(value) == "text" else f"{column} {value}" for value in values]


def _kind(value: str) -> str:
    if re.fullmatch(r"[+-]?\d{1,18}", value, re.ASCII):
        return "integer"
    if re.fullmatch(r"[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|inf(inity)?)", value, re.ASCII | re.I):
        return "number"
    return "truth" if value.lower() in ("true", "false") else "text"
