"""Readers' answers: read, and refused where of another kit, damaged, twice or incomplete."""

import csv
import io
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mpox.core.errors import InputError, line
from mpox.reading.kit import KEY_COLUMNS, REAL, SYNTHETIC, fingerprint

Row = Mapping[str, str]


@dataclass(frozen=True)
class Answers:
    """One reader's, by picture."""

    reader: str  # the code, which stands in no metric
    rows: Mapping[str, Row]  # id → question → answer


def read_key(file: Path) -> dict[str, Row]:
    """id → class, repeat_of, file; InputError where it is no key."""
    try:
        with file.open(encoding="utf-8", newline="") as stream:
            reader = csv.DictReader(stream)
            rows: dict[str, Row] = {row["id"]: row for row in reader}
            columns = tuple(reader.fieldnames or ())
    except FileNotFoundError:
        raise InputError(f"{file}: no such file; expected the key of stages.reading_kit") from None
    except (OSError, UnicodeDecodeError, KeyError, csv.Error) as error:
        raise InputError(f"{file}: cannot be read as a key ({error})") from None
    if columns != KEY_COLUMNS or {row["class"] for row in rows.values()} != {REAL, SYNTHETIC}:
        raise InputError(f"{file}: expected the columns {', '.join(KEY_COLUMNS)} and both classes")
    return rows


def read(files: Sequence[Path], key: Mapping[str, Row], incomplete: bool) -> list[Answers]:
    """All readers' answers, in the order of their codes; InputError, a line each, for faults.

    incomplete: whether readers who left pictures out are taken nevertheless.
    """
    kit, found, faults = fingerprint(list(key)), {}, []
    for file in files:
        try:
            own = _read(file, kit, key, incomplete)
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


def _read(file: Path, kit: str, key: Mapping[str, Row], incomplete: bool) -> Answers:
    try:
        text = file.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{line(file)}: cannot be read ({error})") from None
    said, reader, rows = _json(file, text) if text.startswith("{") else _csv(file, text)
    if said != kit:
        raise InputError(f"{line(file)}: answers of another kit ({line(said)}), expected {kit}")
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
    return InputError(f"{line(file)}: is damaged: its checksum is not that of its content")


def _csv(file: Path, text: str) -> tuple[str, str, list[Row]]:
    content, mark, checksum = text.rpartition("checksum,")
    if not mark or checksum.strip() != f"{zlib.crc32(content.encode()):08x}":
        raise _damaged(file)
    try:
        lines = list(csv.reader(io.StringIO(content, newline=""), strict=True))
        (_, kit), (_, reader), names = lines[:3]
        return kit, reader, [dict(zip(names, row, strict=True)) for row in lines[3:]]
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
