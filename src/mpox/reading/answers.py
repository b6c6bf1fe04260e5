"""Readers' answers: read, and refused where of another kit, damaged, twice or incomplete."""

import csv
import io
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mpox.core import table
from mpox.core.errors import InputError, line
from mpox.reading import kit
from mpox.reading.kit import KEY_COLUMNS, REAL, SYNTHETIC

Row = Mapping[str, str]


@dataclass(frozen=True)
class Answers:
    """One reader's, by picture."""

    reader: str  # the code, which stands in no metric
    rows: Mapping[str, Row]  # id → question → answer


def read_key(file: Path) -> dict[str, Row]:
    """id → its row of KEY_COLUMNS; InputError where it is no key, or is not as the kit left it.

    A spreadsheet may have saved it, with another separator and a byte order mark.
    """
    try:
        text = file.read_bytes().decode("utf-8-sig")
        head = text.partition("\n")[0]
        mark = max(table.MARKS, key=head.count)
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=mark, strict=True)
        lines = [(reader.line_num, row) for row in reader]
    except FileNotFoundError:
        raise InputError(f"{file}: no such file; expected the key of stages.reading_kit") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{file}: cannot be read as a key ({error})") from None
    if not {*KEY_COLUMNS} <= {*(reader.fieldnames or ())} or not lines:
        raise InputError(f"{file}: expected a key, with the columns {', '.join(KEY_COLUMNS)}")
    restore = "put back the file that stages.reading_kit wrote"
    for number, row in lines:
        *values, check = (row[name] or "" for name in KEY_COLUMNS)
        if kit.check(values) != check:
            shown = line(",".join(values[:3]))
            raise InputError(f"{file}: was changed: line {number} ({shown}); {restore}")
    if {row["kit"] for _, row in lines} != {kit.fingerprint([row["id"] for _, row in lines])}:
        raise InputError(f"{file}: was changed: lines are missing, or not of one kit; {restore}")
    return {row["id"]: row for _, row in lines}


def read(files: Sequence[Path], key: Mapping[str, Row], incomplete: bool) -> list[Answers]:
    """All readers' answers, in the order of their codes; InputError, a line each, for faults.

    incomplete: whether readers who left pictures out are taken nevertheless.
    """
    found, faults = {}, []
    for file in files:
        try:
            own = _read(file, kit.fingerprint(list(key)), key, incomplete)
            if own.reader in found:
                raise InputError(
                    f"{line(file)}: answers of reader {line(own.reader)} a second time"
                )
            found[own.reader] = own
        except InputError as error:
            faults.append(str(error))
    if faults:
        raise InputError("\n".join(faults))
    return [found[reader] for reader in sorted(found)]


def _read(file: Path, wanted: str, key: Mapping[str, Row], incomplete: bool) -> Answers:
    try:
        text = file.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{line(file)}: cannot be read ({error})") from None
    said, reader, rows = _json(file, text) if text.startswith("{") else _csv(file, text)
    if said != wanted:
        raise InputError(f"{line(file)}: answers of another kit ({line(said)}), expected {wanted}")
    if unknown := [row["id"] for row in rows if row["id"] not in key]:
        raise InputError(f"{line(file)}: {line(unknown[0])} is no picture of this kit")
    by_id = {row["id"]: row for row in rows}
    if len(by_id) < len(rows):
        raise InputError(f"{line(file)}: a picture is answered twice")
    if len(by_id) < len(key) and not incomplete:
        raise InputError(
            f"{line(file)}: {len(by_id)} of {len(key)} pictures are answered; expected all (or "
            "reading.incomplete: count)"
        )
    for row in rows:
        if row["class"] not in (REAL, SYNTHETIC):
            raise InputError(f"{line(file)}: {row['id']}: class is {row['class']!r}")
    return Answers(reader, by_id)


def _damaged(file: Path) -> InputError:
    return InputError(
        f"{line(file)}: is damaged, or another program saved it: its checksum is not that of its "
        "content; expected the file as the kit saved it"
    )


def _csv(file: Path, text: str) -> tuple[str, str, list[Row]]:
    content, mark, checksum = text.rpartition("checksum,")
    if not mark or checksum.strip() != f"{zlib.crc32(content.encode()):08x}":
        raise _damaged(file)
    try:
        lines = list(csv.reader(io.StringIO(content, newline=""), strict=True))
        (_, kit_of), (_, reader), names = lines[:3]
        return kit_of, reader, [dict(zip(names, row, strict=True)) for row in lines[3:]]
    except (ValueError, csv.Error) as error:
        raise InputError(f"{line(file)}: cannot be read as answers ({error})") from None


def _json(file: Path, text: str) -> tuple[str, str, list[Row]]:
    try:
        said = json.loads(text)
        checksum = said.pop("checksum")
        again = json.dumps(said, separators=(",", ":"), ensure_ascii=False)
        if checksum != f"{zlib.crc32(again.encode()):08x}":
            raise _damaged(file)
        rows: list[Row] = [{k: str(v) for k, v in row.items()} for row in said["answers"]]
        return said["kit"], said["reader"], rows
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{line(file)}: cannot be read as answers ({error})") from None
