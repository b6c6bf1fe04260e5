"""Which patient a photo shows: `data.patients`, checked against names, folders and the table."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from mpox.core.errors import InputError, line
from mpox.core.table import NAME, NOTHING, Table, normal

TABLES = {".csv", ".tsv", ".tab", ".xls", ".xlsx", ".xlsm", ".ods", ".numbers"}
TABLES |= {".jsonl", ".parquet"}
# A column that may identify patients: patient, paciente, paziente, …, or what belongs to one.
WHO = re.compile(
    r"pa[tcz]ient|subje[ck]t|person|participant|proband|case|lesion|患者|病人|姓名"
    r"|\bpat(_|\b)|\b(mrn|nhs|pid|fall)|\b(name|vorname|nachname|surname|initials)\b"
    r"|birth|geburt|naissance|nacimiento|nascimento|nascita"
)
TOKENS = re.compile(r"[^\W\d_]+|\d+|[\W_]+")  # letters, digits, separators
MARK, FIELD = re.compile(r"[\W_]+"), r"[^\W_]+"  # separators, and what is between them
SORTS = {"letters": r"[^\W\d_]+", "digits": r"\d+"}
FIELDS = 4  # of a name that are looked at
MERGED = 5  # patients, at least, for a pattern that looks at one field alone
SHARED = 0.1  # of the names, at least, for a pattern


def find(source: Path, names: Sequence[str], choice: str, table: Table | None) -> dict[str, str]:
    """Name → patient, by `choice` (data.patients); names are paths from `source`.

    `table`: the table's column `patient`; `folder`: the first folder below `source`; `unknown` and
    `none`: each photo is a patient of its own; anything else is a regular expression with one
    group, searched in the path. InputError, a line for each fault, if a photo has no patient, if
    the table disagrees, and for `unknown` if something may identify the patients.
    """
    if choice in ("unknown", "none"):
        if choice == "unknown":
            _check_unknown(source, names, table)
        return {name: name for name in names}
    if choice == "table":
        patient = _from_table(source, names, table)
        check_spelling(patient.values())
        return patient
    if choice == "folder":
        patient, where = by_folder(names), "these photos are in no patient's folder"
    else:
        patient, where = by_pattern(names, choice), f"'{choice}' matches no patient in these names"
    missing = [name for name in names if name not in patient]
    if missing:
        raise InputError("\n".join([f"data.patients: {where}:", *map(line, missing)]))
    listed = _column(names, table, "patient") if table and "patient" in table.columns else {}
    if table and (faults := list(_disagreements(patient, listed))):
        head = f"data.patients: {choice} and the column patient of {table.file} disagree:"
        raise InputError("\n".join([head, *faults]))
    check_spelling(patient.values())
    return patient


def check_spelling(patients: Iterable[str]) -> None:
    """InputError if `p1` and `P1 `, or `7` and `07`, would be two patients."""
    first: dict[str, str] = {}
    for who in patients:
        key = " ".join(unicodedata.normalize("NFKC", who).casefold().split())
        key = "".join(c for c in key if c.isprintable())
        number = re.fullmatch(r"0*(\d+?)(\.0*)?", key)
        before = first.setdefault(number[1] if number else key, who)
        if before != who:
            raise InputError(
                f"data.patients: {before!r} and {who!r} would be two patients; spell them alike"
            )


def by_folder(names: Sequence[str], depth: int = 1) -> dict[str, str]:
    """Name → its folder at this depth below the source; no entry for a name without one."""
    parts = {name: PurePosixPath(_composed(name)).parts for name in names}
    return {name: p[depth - 1] for name, p in parts.items() if len(p) > depth}


def by_pattern(names: Sequence[str], pattern: str) -> dict[str, str]:
    """Name → what the pattern's group matches; no entry for a name without a match."""
    matches = {name: re.search(pattern, _composed(name)) for name in names}
    return {name: match[1] for name, match in matches.items() if match and match[1]}


def check_rows(
    source: Path, names: Sequence[str], others: Mapping[Path, str], table: Table
) -> None:
    """InputError, a line each, for photos without a row and rows without a photo.

    `others`: the files that are no photos, and why.
    """
    photos: dict[str, str] = {}
    for name in names:
        if normal(name) in photos:
            both = f"{line(photos[normal(name)])!r} and {line(name)!r}"
            raise InputError(f"{source}: {both} differ only in spelling; rename one of them")
        photos[normal(name)] = name
    reasons = {normal(path.relative_to(source).as_posix()): why for path, why in others.items()}
    faults = [
        f"{line(source / name)}: no row in {table.file}"
        for key, name in photos.items()
        if key not in table.rows
    ] + [
        f"{table.file}: {line(name)}: {reasons.get(name, 'no such photo')}"
        for name in table.rows
        if name not in photos
    ]
    if not photos.keys() & table.rows.keys():
        raise InputError(
            f"{table.file}: no row names a photo; expected file_name to be a path from there with "
            f"its suffix, such as {line(names[0])}; got {line(next(iter(table.rows), 'no row'))}"
        )
    if faults:
        raise InputError("\n".join(faults))


def _column(names: Sequence[str], table: Table, column: str) -> dict[str, str]:
    """Name → value; no entry where the value is empty."""
    values = {name: table.rows[normal(name)][column] for name in names}
    return {name: value for name, value in values.items() if value.lower() not in NOTHING}


def _from_table(source: Path, names: Sequence[str], table: Table | None) -> dict[str, str]:
    if table is None:
        raise InputError(
            f"data.patients: table, but {source} has no {NAME}; add one with the columns file_name "
            "and patient"
        )
    if "patient" not in table.columns:
        raise InputError(
            f"data.patients: table, but {table.file} has no column patient; it has file_name, "
            + ", ".join(table.columns)
        )
    patient = _column(names, table, "patient")
    faults = [f"{table.file}: {line(name)}: no patient" for name in names if name not in patient]
    if faults:
        raise InputError("\n".join(faults))
    return patient


def _disagreements(chosen: Mapping[str, str], listed: Mapping[str, str]) -> Iterator[str]:
    """Pairs of photos that are one patient's by `data.patients`, two patients' by the table.

    Or the other way round.
    """
    ways = (
        (chosen, listed, "data.patients", "the table"),
        (listed, chosen, "the table", "data.patients"),
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


Choice = tuple[str, Mapping[str, str], str]  # data.patients, name → patient, a note


def _check_unknown(source: Path, names: Sequence[str], table: Table | None) -> None:
    """InputError if something may identify the patients, with what each choice would give."""
    reasons: list[str] = []
    choices: list[Choice] = []
    for column in table.columns if table else ():
        values = _column(names, table, column) if table else {}
        if table and values and WHO.search(column):
            note = "" if column == "patient" else f", after renaming {column!r} to patient"
            reasons.append(f"{table.file} has a column {column!r}")
            choices.append(("table", values, note))
    reasons += _unread_tables(source, names, table)
    if by_depth := _folders(names):
        reasons.append("photos are in sub-folders")
        choices += by_depth
    if patterns := common_patterns(names):
        reasons.append("photos share a part of their names")
        choices += [("'" + p.replace("'", "''") + "'", by_pattern(names, p), "") for p in patterns]
    if not reasons:
        return
    lines = [_line(names, *choice) for choice in choices]
    width = max(map(len, (text for text, _ in lines)), default=14)
    raise InputError(
        "\n".join(
            [
                "data.patients: unknown, but something may identify the patients:",
                *(f"  {reason}" for reason in reasons),
                "One patient's photos could be in training and in test. Set one of these,",
                "of two that may be right the one with fewer patients:",
                *(f"  {text:{width}}  # {count}" for text, count in lines),
                f"  {'patients: none':{width}}  # {len(names)} photos: I looked, nobody knows",
            ]
        )
    )


def _unread_tables(source: Path, names: Sequence[str], table: Table | None) -> list[str]:
    """Tables beside the photos that are not read: the first three, and how many more."""
    unread = [
        path.relative_to(source)
        for folder in sorted({source, *((source / name).parent for name in names)})
        for path in sorted(folder.glob("*"))
        if path.suffix.lower() in TABLES
        and not path.name.startswith((".", "~$"))  # left by macOS, by an open Excel
        and not (table and path == table.file)
    ]
    reasons = [f"{line(path)} is beside the photos but not read; only {NAME} is" for path in unread]
    return reasons[:3] + ([f"{len(unread) - 3} more tables"] if len(unread) > 3 else [])


def _folders(names: Sequence[str]) -> list[Choice]:
    """A choice for each depth at which photos are in different folders."""
    choices: list[Choice] = []
    for depth in range(1, max(len(PurePosixPath(name).parts) for name in names)):
        patient = by_folder(names, depth)
        if len(set(patient.values())) > 1 or len(patient) < len(names):
            choice = "folder" if depth == 1 else f"'^{'[^/]+/' * (depth - 1)}([^/]+)/'"
            choices.append((choice, patient, ""))
    return choices


def _line(
    names: Sequence[str], choice: str, patient: Mapping[str, str], note: str
) -> tuple[str, str]:
    """The choice as YAML, and the patients that it would give."""
    sizes = Counter(patient.values())
    shown = ", ".join(line(who)[:20] for who in sorted(sizes)[:3])
    count = f"{len(sizes)} patients of {len(patient)} photos"
    if sizes:
        count += f", {min(sizes.values())} to {max(sizes.values())} each: {shown}"
    if len(sizes) > 3:
        count += ", …"
    if len(patient) < len(names):
        count += f"; {len(names) - len(patient)} other photos would have none"
    return f"patients: {choice}", count + note


def common_patterns(names: Sequence[str]) -> list[str]:
    """Regular expressions, the coarsest first, by which photos' names seem to name patients.

    Tried are the first fields of the names (`Doe Jane_left`: Doe, Doe Jane), a field by itself if
    it has letters (`20220501_p001_1`: p001), and the first letters or digits if most names have one
    form (`12a`). A pattern counts if it matches a tenth of the names or more, and if a tenth of
    these share their match.
    """
    stems = [PurePosixPath(_composed(name)).stem for name in names]
    marks = {mark for stem in stems for mark in MARK.findall(stem)}
    mark = re.escape(marks.pop()) if len(marks) == 1 else r"(?:[^\w/]|_)+"
    end = rf"(?:{mark}[^/]*)?\.[^/.]+$"
    patterns, most = [], 1
    for k in range(FIELDS):
        start = rf"(?:^|/)({FIELD}{f'{mark}{FIELD}' * k}){end}"
        number = len(set(by_pattern(names, start).values()))
        if number > most and _is_shared(by_pattern(names, start), names):
            patterns.append(start)
        alone = rf"(?:^|/){f'{FIELD}{mark}' * k}({FIELD}){end}"
        fields = set(by_pattern(names, alone).values())
        names_patients = any(not field.isdecimal() for field in fields)
        names_patients &= MERGED <= len(fields) < number
        if names_patients and _is_shared(by_pattern(names, alone), names):
            patterns.append(alone)
        most = max(most, number)
    forms = Counter(tuple(map(_sort, TOKENS.findall(stem))) for stem in stems)
    form, count = forms.most_common(1)[0]
    if len(form) > 1 and "mark" not in form and 2 * count >= len(names):
        start = rf"(?:^|/)({SORTS[form[0]]}){SORTS[form[1]]}[^/]*$"
        if _is_shared(by_pattern(names, start), names):
            patterns.append(start)
    return patterns


def _is_shared(matches: Mapping[str, str], names: Sequence[str]) -> bool:
    sizes = Counter(matches.values())
    shared = sum(size for size in sizes.values() if size > 1)
    enough = len(matches) >= SHARED * len(names) and shared >= SHARED * len(matches)
    return len(sizes) > 1 and enough


def _composed(name: str) -> str:
    """One spelling of umlauts, as in `normal`: a Mac takes them apart, other systems do not."""
    return unicodedata.normalize("NFC", name)


def _sort(token: str) -> str:
    return "digits" if token[0].isdecimal() else "mark" if MARK.match(token) else "letters"
