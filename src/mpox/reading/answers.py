"""The key and the readers' answers, read and checked.

Answers of another kit, damaged files, a reader twice and incomplete answers are rejected.
"""

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
    """The answers of one reader."""

    reader: str  # the reader's code, which never enters the metrics
    rows: Mapping[str, Row]  # picture id → question → answer


def read_key(file: Path) -> dict[str, Row]:
    """The key's rows of KEY_COLUMNS by picture id; InputError for anything but an unchanged key.

    A spreadsheet may have saved it with another separator and a byte order mark.
    """
    try:
        text = file.read_bytes().decode("utf-8-sig")
        head = text.partition("\n")[0]
        mark = max(table.MARKS, key=head.count)
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=mark, strict=True)
        lines = [(reader.line_num, row) for row in reader]
    except FileNotFoundError:
        raise InputError(
            f"{file}: no such file; expected the key that stages.reading_kit wrote"
        ) from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{file}: cannot be read as a key ({error})") from None
    if not {*KEY_COLUMNS} <= {*(reader.fieldnames or ())} or not lines:
        raise InputError(f"{file}: is not a key; expected the columns {', '.join(KEY_COLUMNS)}")
    restore = "restore the file that stages.reading_kit wrote"
    for number, row in lines:
        *values, check = (row[name] or "" for name in KEY_COLUMNS)
        if kit.check(values) != check:
            shown = line(",".join(values[:3]))
            raise InputError(f"{file}: line {number} was changed ({shown}); {restore}")
    if {row["kit"] for _, row in lines} != {kit.fingerprint([row["id"] for _, row in lines])}:
        raise InputError(f"{file}: lines are missing or come from another kit; {restore}")
    return {row["id"]: row for _, row in lines}


def read(files: Sequence[Path], key: Mapping[str, Row], incomplete: bool) -> list[Answers]:
    """The answers of all readers, in the order of their codes.

    `incomplete`: accept readers who left pictures out. InputError lists every rejected file.
    """
    answers: dict[str, Answers] = {}
    faults = []
    for file in files:
        try:
            one = _read(file, key, incomplete)
            if one.reader in answers:
                raise InputError(
                    f"{line(file)}: a second file of reader {line(one.reader)}; expected one each"
                )
            answers[one.reader] = one
        except InputError as error:
            faults.append(str(error))
    if faults:
        raise InputError("\n".join(faults))
    return [answers[reader] for reader in sorted(answers)]


def _read(file: Path, key: Mapping[str, Row], incomplete: bool) -> Answers:
    try:
        text = file.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{line(file)}: cannot be read ({error})") from None
    source, reader, rows = _json(file, text) if text.startswith("{") else _csv(file, text)
    expected = kit.fingerprint(list(key))
    if source != expected:
        raise InputError(
            f"{line(file)}: holds answers for another kit ({line(source)}); expected {expected}"
        )
    if unknown := [row["id"] for row in rows if row["id"] not in key]:
        raise InputError(f"{line(file)}: {line(unknown[0])} is not a picture of this kit")
    by_id = {row["id"]: row for row in rows}
    if len(by_id) < len(rows):
        raise InputError(f"{line(file)}: a picture has two answers; expected one each")
    if len(by_id) < len(key) and not incomplete:
        raise InputError(
            f"{line(file)}: {len(by_id)} of {len(key)} pictures are answered; expected all (or set "
            "reading.incomplete: count)"
        )
    for row in rows:
        if row["class"] not in (REAL, SYNTHETIC):
            raise InputError(
                f"{line(file)}: {row['id']}: class is {row['class']!r}; expected {REAL} or "
                f"{SYNTHETIC}"
            )
    return Answers(reader, by_id)


def _damaged(file: Path) -> InputError:
    return InputError(
        f"{line(file)}: is damaged or was saved by another program (wrong checksum); expected the "
        "file as the kit saved it"
    )


def _csv(file: Path, text: str) -> tuple[str, str, list[Row]]:
    """The kit's hash, the reader and the answers."""
    content, mark, checksum = text.rpartition("checksum,")
    if not mark or checksum.strip() != f"{zlib.crc32(content.encode()):08x}":
        raise _damaged(file)
    try:
        lines = list(csv.reader(io.StringIO(content, newline=""), strict=True))
        (_, source), (_, reader), names = lines[:3]
        return source, reader, [dict(zip(names, row, strict=True)) for row in lines[3:]]
    except (ValueError, csv.Error) as error:
        raise InputError(f"{line(file)}: cannot be read as answers ({error})") from None


def _json(file: Path, text: str) -> tuple[str, str, list[Row]]:
    """The kit's hash, the reader and the answers."""
    try:
        content = json.loads(text)
        checksum = content.pop("checksum")
        again = json.dumps(content, separators=(",", ":"), ensure_ascii=False)
        if checksum != f"{zlib.crc32(again.encode()):08x}":
            raise _damaged(file)
        rows: list[Row] = [{k: str(v) for k, v in row.items()} for row in content["answers"]]
        return content["kit"], content["reader"], rows
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{line(file)}: cannot be read as answers ({error})") from None
