"""From a folder of photos to square, anonymous pictures, split by patient and evenly in skin tone.

Two photos belong together when they show one patient, or one is nearly the other (one photo
collected twice, or a flipped, turned or cut variant of it). All that a chain of such links holds
together is a group, and a group is never split.
"""

import csv
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from mpox import folders, listing, seeds, table, tone
from mpox.errors import InputError, line
from mpox.params import Data, Split
from mpox.photos import duplicates, inspection, keypoints, patients, splits

logger = logging.getLogger(__name__)

CAPTION = ".txt"  # beside a photo, as kohya has it
COLUMNS = ("source", "sha256", "group", "split", "file", "reason")


def prepare(
    source: Path, out: Path, data: Data, resolution: int, seed: int, workers: int | None = None
) -> dict[str, float]:
    """Write `out`/{train,val,test}/<key>.png, each with its table, and `out`/manifest.csv.

    A picture is the central square of its photo, of side min(shorter side, 2 × resolution): room
    for random crops, never enlarged. Beside the pictures `metadata.csv` has their `patient` (a
    number in a seeded order, or `unknown`), `group` (what is never split), `data.columns` and, if
    not among them, `tone`, as `tone.word` has it.
    The manifest says of every file below `source` what became of it; it alone has original names.
    `workers` (default: all cores) changes no result. Returned are the counts, and `tone_train` and
    `tone_test`, the mean `tone.typology_angle` of their pictures.

    InputError, with nothing written, on: patients or a table that do not fit the photos; files that
    cannot be used, while `data.on_invalid` is stop; a split that would be empty, or too small for
    the evaluation.
    """
    if source.resolve() in (out.resolve(), *out.resolve().parents):
        raise InputError(f"data.source: {source}: holds the output {out}; name the photos' folder")
    paths, others = listing.find(source)
    if not paths:
        raise InputError("\n".join([f"{source}: holds no picture", *listing.summary(others)]))
    names = [path.relative_to(source).as_posix() for path in paths]
    known = _read_table(source, names, others, data.columns)
    texts = _read_texts(source, names, others, known, data.columns)
    for said in listing.summary(others):
        logger.info("left out: %s", said)
    patient = patients.find(source, names, data.patients, known)

    with folders.whole(out) as folder:
        squares = {name: folder / f"{k}.png" for k, name in enumerate(names)}
        found = inspection.inspect_all(paths, list(squares.values()), resolution, workers)
        photos = dict(zip(names, found, strict=True))
        refused = {name: photo.reason for name, photo in photos.items() if photo.reason}
        if refused and data.on_invalid == "stop":
            bad = [f"{line(source / name)}: {reason}" for name, reason in refused.items()]
            head = f"data.on_invalid: stop, and {len(bad)} files cannot be used:"
            raise InputError("\n".join([head, *bad]))
        usable = {name: photo for name, photo in photos.items() if not photo.reason}
        twins = duplicates.exact({name: photo.pixels for name, photo in usable.items()})
        groups, near = _group(usable, twins, patient, data.duplicate_distance, workers)
        kept = {name: photo for name, photo in usable.items() if name not in twins}
        try:
            of = _split(kept, groups, data, seed)
        except InputError as error:
            raise InputError(f"{error}{_joined(patient, groups, near)}") from None
        for name in twins:
            squares[name].unlink()
        files = {name: f"{of[name]}/{photos[name].key}.png" for name in kept}
        columns = _columns(kept, patient, groups, data, known, texts, seed)
        _put(folder, squares, files, columns)
        reasons = (
            {name: f"nearly the same as {other}" for name, other in near.items()}
            | {name: f"the same as {first}" for name, first in twins.items()}
            | refused
            | {path.relative_to(source).as_posix(): reason for path, reason in others.items()}
        )
        _write_manifest(folder / "manifest.csv", photos, groups, files, reasons)
    return _counts(kept, groups, of) | {
        "exact_duplicates": len(twins),
        "near_duplicates": len(near),
        "invalid": len(refused),
        "other_files": len(others),
    }


def _split(
    kept: Mapping[str, inspection.Photo], groups: Mapping[str, str], data: Data, seed: int
) -> dict[str, str]:
    """Name → its split; InputError where one would be empty or too small for the evaluation."""
    tones: dict[str, list[float]] = {}
    for name, photo in kept.items():
        tones.setdefault(groups[name], []).append(photo.tone)
    of_group = splits.split(tones, data.split.model_dump(), seed)
    of = {name: of_group[groups[name]] for name in kept}
    for part in ("train", "test"):
        splits.check_halves(part, [groups[name] for name in kept if of[name] == part])
    return of


def _put(
    folder: Path,
    squares: Mapping[str, Path],
    files: Mapping[str, str],
    columns: Mapping[str, Sequence[str]],
) -> None:
    """Moves the squares to their splits, each of which gets its table."""
    tables: dict[str, dict[str, list[str]]] = {part: {} for part in Split.model_fields}
    for (name, file), *values in zip(files.items(), *columns.values(), strict=True):
        part, own = file.split("/")
        (folder / part).mkdir(exist_ok=True)
        squares[name].rename(folder / file)
        tables[part][own] = values
    for part, rows in tables.items():
        table.write(folder / part, list(columns), rows)


def _counts(
    kept: Mapping[str, inspection.Photo], groups: Mapping[str, str], of: Mapping[str, str]
) -> dict[str, float]:
    parts = list(Split.model_fields)
    pictures = Counter(of.values())
    members = {part: {groups[name] for name in kept if of[name] == part} for part in parts}
    found: dict[str, float] = {"pictures": len(kept)}
    found |= {part: pictures[part] for part in parts}
    found |= {"groups": sum(map(len, members.values()))}
    found |= {f"groups_{part}": len(members[part]) for part in parts}
    # Not of val, which may be a single patient: metrics are in git.
    for part in ("train", "test"):
        mean = np.mean([photo.tone for name, photo in kept.items() if of[name] == part])
        found[f"tone_{part}"] = round(float(mean), 1)
    return found


def _read_table(
    source: Path, names: Sequence[str], others: dict[Path, str], columns: Sequence[str]
) -> table.Table | None:
    """The table beside the photos, if it fits them; `others` learn what it is."""
    astray = [p for p in others if p.name in table.NAMES and p.parent != source]
    astray = [path for path in astray if others[path] == listing.NO_PICTURE]
    if astray:
        raise InputError(
            f"{line(astray[0])}: lies in a sub-folder and would not be read; expected one table, "
            f"{source / table.NAME}, whose file_name is the path from there (or data.source: "
            f"{line(astray[0].parent)})"
        )
    known = table.read(source)
    missing = [column for column in columns if not known or column not in known.columns]
    captioned = any(path.suffix.lower() == CAPTION for path in others)
    missing = [column for column in missing if column != "text" or not captioned]
    if missing:
        where = known.file if known else f"{source}, which has no {table.NAME}"
        raise InputError(f"data.columns: {missing[0]}: no such column in {where}")
    if known:
        patients.check_rows(source, names, others, known)
        others[known.file] = "the table"
        left = [column for column in known.columns if column not in (*columns, "patient")]
        if left:
            logger.info("%s: %d columns left out: %s", known.file, len(left), ", ".join(left))
    return known


def _read_texts(
    source: Path,
    names: Sequence[str],
    others: dict[Path, str],
    known: table.Table | None,
    columns: Sequence[str],
) -> dict[str, str]:
    """Each photo's caption, if `columns` ask for a text: the table's, or `<photo>.txt` beside it.

    InputError, a line each, for photos without one.
    """
    if "text" not in columns:
        return {}
    texts, faults = {}, []
    of_table = known is not None and "text" in known.columns
    for name in names:
        if known and of_table:
            where, text = f"{known.file}: {line(name)}", known.row(name)["text"]
        else:
            file = (source / name).with_suffix(CAPTION)
            where, text = line(file), ""
            if file.is_file():
                others[file] = "a caption"
                text = " ".join(file.read_text("utf-8-sig", errors="replace").split())
        if text.lower() in table.NOTHING:
            faults.append(f"{where}: no text; data.columns asks for one of every photo")
        texts[name] = text
    if faults:
        raise InputError("\n".join(faults))
    return texts


def _group(
    photos: Mapping[str, inspection.Photo],
    twins: Mapping[str, str],
    patient: Mapping[str, str],
    distance: int,
    workers: int | None,
) -> tuple[dict[str, str], dict[str, str]]:
    """Name → group, named after the first of its patients; name → a photo nearly the same.

    Links are patients, `twins`, hashes, and last keypoints, which are asked of what is yet apart.
    """
    names = list(photos)
    place = {name: k for k, name in enumerate(names)}
    of = {who: k for k, who in enumerate(sorted({patient[name] for name in names}))}
    joined = np.array([of[patient[name]] for name in names], int)
    joined = duplicates.components(joined, [(place[a], place[b]) for a, b in twins.items()])
    kept = np.array([place[name] for name in names if name not in twins], int)
    looks = [photos[names[k]].look for k in kept]
    near = duplicates.near(
        np.array([photos[names[k]].hashes for k in kept], np.uint64),
        distance,
        lambda later, earlier, way: keypoints.same_place(looks[later], looks[earlier], way),
    )
    joined = duplicates.components(joined, [(kept[a], kept[b]) for a, b in near])
    near += keypoints.near_duplicates(looks, joined[kept], workers)
    joined = duplicates.components(joined, [(kept[a], kept[b]) for a, b in near])
    first: dict[int, str] = {}
    for name in sorted(names, key=lambda name: patient[name]):
        first.setdefault(int(joined[place[name]]), patient[name])
    groups = {name: first[int(joined[place[name]])] for name in names}
    links = duplicates.towards_first(len(kept), near)
    return groups, {names[kept[a]]: names[kept[b]] for a, b in links.items()}


def _joined(patient: Mapping[str, str], groups: Mapping[str, str], near: Mapping[str, str]) -> str:
    """How patients became one group, where any did: a split can fail for that alone."""
    pairs = [(a, b) for a, b in near.items() if patient[a] != patient[b]]
    if not pairs:
        return ""
    members = Counter(groups[name] for name in {name for pair in pairs for name in pair})
    largest, count = members.most_common(1)[0]
    one, other = next(pair for pair in pairs if groups[pair[0]] == largest)
    return (
        f"; {count} photos of several patients are in one group, since they are nearly the same, "
        f"as {line(one)} and {line(other)}"
    )


def _columns(
    kept: Mapping[str, inspection.Photo],
    patient: Mapping[str, str],
    groups: Mapping[str, str],
    data: Data,
    known: table.Table | None,
    texts: Mapping[str, str],
    seed: int,
) -> dict[str, list[str]]:
    """What the tables say of the pictures beside their files' names: column → values.

    The tone is measured where the photos' table has none.
    """
    names = list(kept)
    numbers = _numbers(patient.values(), seed)
    whose = [str(numbers[patient[name]]) for name in names]
    if data.patients in ("unknown", "none"):
        whose = [table.UNKNOWN] * len(names)
    columns = {"patient": whose, "group": [str(numbers[groups[name]]) for name in names]}
    for column in data.columns:
        if column == "text":
            columns[column] = [texts[name] for name in names]
        else:
            assert known
            said = [known.row(name)[column] for name in names]
            columns[column] = table.uniform(column, said)
    if "tone" not in columns:
        columns["tone"] = [tone.word(photo.tone) for photo in kept.values()]
    return columns


def _numbers(patient: Iterable[str], seed: int) -> dict[str, int]:
    """Patient → number, in an order of the seed's: no id, nor anything made from one."""
    every = sorted(set(patient))
    order = np.random.default_rng(seeds.derive(seed, "patients")).permutation(len(every))
    return dict(zip(every, order.tolist(), strict=True))


def _write_manifest(
    file: Path,
    photos: Mapping[str, inspection.Photo],
    groups: Mapping[str, str],
    files: Mapping[str, str],
    reasons: Mapping[str, str],
) -> None:
    """A row for every file found, photos first."""
    # surrogateescape: a name that is no UTF-8 is written as the bytes it has on the disk.
    with file.open("w", encoding="utf-8", errors="surrogateescape", newline="") as stream:
        plain = csv.writer(stream, lineterminator="\n")
        # A lone carriage return in a name ends a row for who reads it, but is not quoted by itself.
        quoted = csv.writer(stream, lineterminator="\n", quoting=csv.QUOTE_ALL)
        plain.writerow(COLUMNS)
        for name in dict.fromkeys([*photos, *reasons]):
            sha256 = photos[name].sha256 if name in photos else ""
            split = files.get(name, "").split("/")[0]
            row = [name, sha256, groups.get(name, ""), split, files.get(name, "")]
            row.append(reasons.get(name, ""))
            (quoted if "\r" in "".join(row) else plain).writerow(row)
