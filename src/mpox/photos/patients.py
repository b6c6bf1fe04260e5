"""Whose photo is it? What `data.patients` says, held against what else the photos say."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from mpox.core.errors import InputError, line
from mpox.core.table import NAME, NOTHING, Table, normal

TABLES = {".csv", ".tsv", ".tab", ".xls", ".xlsx", ".xlsm", ".ods", ".numbers"}
TABLES |= {".jsonl", ".parquet"}
# A column that may say who: patient, paciente, paziente, …, or what a patient has.
WHO = re.compile(
    r"pa[tcz]ient|subje[ck]t|person|participant|proband|case|lesion|患者|病人|姓名"
    r"|\bpat(_|\b)|\b(mrn|nhs|pid|fall)|\b(name|vorname|nachname|surname|initials)\b"
    r"|birth|geburt|naissance|nacimiento|nascimento|nascita"
)
TOKENS = re.compile(r"[^\W\d_]+|\d+|[\W_]+")  # letters, digits, what stands between them
MARK, FIELD = re.compile(r"[\W_]+"), r"[^\W_]+"  # what stands between marks
SORTS = {"letters": r"[^\W\d_]+", "digits": r"\d+"}
FIELDS, MERGED, SHARED = 4, 5, 0.1  # fields looked at; patients of one alone; of the names


def find(source: Path, names: Sequence[str], choice: str, table: Table | None) -> dict[str, str]:
    """Name → patient, as `choice` (data.patients) says; names are paths from `source`.

    `table`: its column `patient`; `folder`: the first folder below `source`; `unknown` and `none`:
    each photo its own; anything else is a regular expression with one group, searched in the path.
    Raises InputError, a line for each fault, where some photo has no patient, where the table says
    otherwise, and for `unknown` where there is something that may say who they are.
    """
    if choice in ("unknown", "none"):
        if choice == "unknown":
            _check_unknown(source, names, table)
        return {name: name for name in names}
    if choice == "table":
        return one_spelling(_from_table(source, names, table))
    if choice == "folder":
        found, where = by_folder(names), "these photos lie in no folder of a patient"
    else:
        found, where = by_pattern(names, choice), f"'{choice}' finds no patient in these names"
    missing = [name for name in names if name not in found]
    if missing:
        raise InputError("\n".join([f"data.patients: {where}:", *map(line, missing)]))
    if table and "patient" in table.columns:
        said = _column(names, table, "patient")
        if faults := list(_disagreements(found, said)):
            head = f"data.patients: {choice} and the column patient of {table.file} disagree:"
            raise InputError("\n".join([head, *faults]))
    return one_spelling(found)


def one_spelling(found: dict[str, str]) -> dict[str, str]:
    """InputError where `p1` and `P1 `, or `7` and `07`, would be two patients."""
    first: dict[str, str] = {}
    for who in found.values():
        key = " ".join(unicodedata.normalize("NFKC", who).casefold().split())
        key = "".join(c for c in key if c.isprintable())
        number = re.fullmatch(r"0*(\d+?)(\.0*)?", key)
        before = first.setdefault(number[1] if number else key, who)
        if before != who:
            raise InputError(
                f"data.patients: {before!r} and {who!r} would be two patients; write one of them"
            )
    return found


def by_folder(names: Sequence[str], depth: int = 1) -> dict[str, str]:
    """Name → its folder so deep below the source, of those names that have one."""
    parts = {name: PurePosixPath(_composed(name)).parts for name in names}
    return {name: p[depth - 1] for name, p in parts.items() if len(p) > depth}


def by_pattern(names: Sequence[str], pattern: str) -> dict[str, str]:
    """Name → what the pattern's group finds in it, of those names where it finds something."""
    matches = {name: re.search(pattern, _composed(name)) for name in names}
    return {name: match[1] for name, match in matches.items() if match and match[1]}


def check_rows(
    source: Path, names: Sequence[str], others: Mapping[Path, str], table: Table
) -> None:
    """InputError, a line each, for photos without a row and rows without a photo.

    `others` are the files that are no photos, each with its reason.
    """
    photos: dict[str, str] = {}
    for name in names:
        if normal(name) in photos:
            both = f"{line(photos[normal(name)])!r} and {line(name)!r}"
            raise InputError(f"{source}: {both} differ in spelling alone; rename one of them")
        photos[normal(name)] = name
    reasons = {normal(path.relative_to(source).as_posix()): why for path, why in others.items()}
    faults = [
        f"{line(source / name)}: has no row in {table.file}"
        for key, name in photos.items()
        if key not in table.rows
    ] + [
        f"{table.file}: {line(name)}: {reasons.get(name, 'no such photo')}"
        for name in table.rows
        if name not in photos
    ]
    if not photos.keys() & table.rows.keys():
        raise InputError(
            f"{table.file}: no row is of a photo; file_name must be the path from there with its "
            f"suffix, as {line(names[0])}; got {line(next(iter(table.rows), 'no row'))}"
        )
    if faults:
        raise InputError("\n".join(faults))


def _column(names: Sequence[str], table: Table, column: str) -> dict[str, str]:
    """Name → value, where there is one."""
    values = {name: table.rows[normal(name)][column] for name in names}
    return {name: value for name, value in values.items() if value.lower() not in NOTHING}


def _from_table(source: Path, names: Sequence[str], table: Table | None) -> dict[str, str]:
    if table is None:
        raise InputError(
            f"data.patients: table, and {source} holds no {NAME}; expected one with the columns "
            "file_name and patient"
        )
    if "patient" not in table.columns:
        raise InputError(
            f"data.patients: table, and {table.file} has no column patient; it has file_name, "
            + ", ".join(table.columns)
        )
    found = _column(names, table, "patient")
    faults = [f"{table.file}: {line(name)}: no patient" for name in names if name not in found]
    if faults:
        raise InputError("\n".join(faults))
    return found


def _disagreements(found: Mapping[str, str], said: Mapping[str, str]) -> Iterator[str]:
    """Two photos of one patient that the other way of telling them has apart."""
    ways = (
        (found, said, "data.patients", "the table"),
        (said, found, "the table", "data.patients"),
    )
    for one, other, together, apart in ways:
        first: dict[str, str] = {}
        for name in one:
            if name not in other:
                continue
            before = first.setdefault(one[name], name)
            if other[before] != other[name]:
                yield (
                    f"{line(before)} and {line(name)}: one patient by {together} "
                    f"({one[name]!r}), two by {apart} ({other[before]!r}, {other[name]!r})"
                )


def _check_unknown(source: Path, names: Sequence[str], table: Table | None) -> None:
    """InputError where something may say who the patients are, with what each choice would give."""
    reasons, choices = [], []
    if table:
        for column in table.columns:
            said = _column(names, table, column)
            if said and WHO.search(column):
                name = "" if column == "patient" else f", {column!r} renamed to patient"
                reasons.append(f"{table.file} has a column {column!r}")
                choices.append(("table", said, name))
    unread = [
        path.relative_to(source)
        for folder in sorted({source, *((source / name).parent for name in names)})
        for path in sorted(folder.glob("*"))
        if path.suffix.lower() in TABLES
        and not path.name.startswith((".", "~$"))  # of macOS, of an open Excel
        and not (table and path == table.file)
    ]
    for path in unread[:3]:
        reasons.append(f"{line(path)} lies beside the photos and is not read; {NAME} would be")
    if len(unread) > 3:
        reasons.append(f"{len(unread) - 3} more tables lie beside them")
    deep = max(len(PurePosixPath(name).parts) for name in names) - 1
    depths = {depth: by_folder(names, depth) for depth in range(1, deep + 1)}
    depths = {
        depth: found
        for depth, found in depths.items()
        if len(set(found.values())) > 1 or len(found) < len(names)
    }
    if depths:
        reasons.append("photos lie in sub-folders")
    for depth, found in depths.items():
        choice = "folder" if depth == 1 else f"'^{'[^/]+/' * (depth - 1)}([^/]+)/'"
        choices.append((choice, found, ""))
    patterns = common_patterns(names)
    if patterns:
        reasons.append("photos share a part of their names")
    choices += [("'" + p.replace("'", "''") + "'", by_pattern(names, p), "") for p in patterns]
    if not reasons:
        return
    lines = [_choice(names, *choice) for choice in choices]
    width = max(map(len, (text for text, _ in lines)), default=14)
    raise InputError(
        "\n".join(
            [
                "data.patients: unknown, but something may say who the patients are:",
                *(f"  {reason}" for reason in reasons),
                "Photo by photo, one patient's photos could be in training and test. Write one of "
                "these,",
                "of two that may be right the one with fewer patients:",
                *(f"  {text:{width}}  # {count}" for text, count in lines),
                f"  {'patients: none':{width}}  # {len(names)} photos: looked at, and nobody knows",
            ]
        )
    )


def _choice(
    names: Sequence[str], choice: str, found: Mapping[str, str], note: str
) -> tuple[str, str]:
    sizes = Counter(found.values())
    shown = ", ".join(line(patient)[:20] for patient in sorted(sizes)[:3])
    count = f"{len(sizes)} patients of {len(found)} photos"
    if sizes:
        count += f", {min(sizes.values())} to {max(sizes.values())} each: {shown}"
    if len(sizes) > 3:
        count += ", …"
    if len(found) < len(names):
        count += f"; {len(names) - len(found)} other photos would have none"
    return f"patients: {choice}", count + note


def common_patterns(names: Sequence[str]) -> list[str]:
    """Regular expressions, the coarsest first, by which photos' names seem to name patients.

    Tried are what names begin with, field by field (`Doe Jane_left`: Doe, Doe Jane), a field alone
    if it has letters (`20220501_p001_1`: p001), and the first letters or digits where most names
    have one form (`12a`). A pattern is one if a tenth of the names or more have such a part, and a
    tenth of these share it.
    """
    stems = [PurePosixPath(_composed(name)).stem for name in names]
    marks = {mark for stem in stems for mark in MARK.findall(stem)}
    mark = re.escape(marks.pop()) if len(marks) == 1 else r"(?:[^\w/]|_)+"
    end = rf"(?:{mark}[^/]*)?\.[^/.]+$"
    found, before = [], 1
    for k in range(FIELDS):
        start = rf"(?:^|/)({FIELD}{f'{mark}{FIELD}' * k}){end}"
        told = len(set(by_pattern(names, start).values()))
        if told > before and _is_shared(by_pattern(names, start), names):
            found.append(start)
        alone = rf"(?:^|/){f'{FIELD}{mark}' * k}({FIELD}){end}"
        whose = set(by_pattern(names, alone).values())
        letters = any(not who.isdecimal() for who in whose)
        if letters and MERGED <= len(whose) < told and _is_shared(by_pattern(names, alone), names):
            found.append(alone)
        before = max(before, told)
    forms = Counter(tuple(map(_sort, TOKENS.findall(stem))) for stem in stems)
    form, count = forms.most_common(1)[0]
    if len(form) > 1 and "mark" not in form and 2 * count >= len(names):
        start = rf"(?:^|/)({SORTS[form[0]]}){SORTS[form[1]]}[^/]*$"
        if _is_shared(by_pattern(names, start), names):
            found.append(start)
    return found


def _is_shared(found: Mapping[str, str], names: Sequence[str]) -> bool:
    sizes = Counter(found.values())
    shared = sum(size for size in sizes.values() if size > 1)
    return len(sizes) > 1 and len(found) >= SHARED * len(names) and shared >= SHARED * len(found)


def _composed(name: str) -> str:
    """One spelling of umlauts, as in `normal`: one folder comes from a Mac, the next does not."""
    return unicodedata.normalize("NFC", name)


def _sort(token: str) -> str:
    return "digits" if token[0].isdecimal() else "mark" if MARK.match(token) else "letters"
