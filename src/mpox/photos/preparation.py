"""From folders of photos to square, anonymous pictures, split by patient and evenly in skin tone.

Two photos belong together when they show one patient, or one is nearly the other (one photo
collected twice, or a flipped, turned or cut variant of it). All that a chain of such links holds
together is a group, and a group is never split: not between sets, nor between the mpox photos and
the controls.
"""

import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from mpox.core import folders, seeds, table
from mpox.core.errors import InputError, line
from mpox.params import Data, Split
from mpox.photos import duplicates, inspection, intake, keypoints, manifest, patients, splits
from mpox.photos.intake import Intake
from mpox.statistics import tone

FEWEST_CONTROLS = {"train": 2, "val": 1, "test": 2}  # patients
APART = 1000.0  # degrees, further than tones can be: labels are split one after the other


def prepare(
    source: Path,
    out: Path,
    data: Data,
    resolution: int,
    seed: int,
    workers: int | None = None,
    controls: tuple[Path, Path] | None = None,
) -> dict[str, float]:
    """Write `out`/{train,val,test}/<key>.png, each with its table, and `out`/manifest.csv.

    A picture is the central square of its photo, of side min(shorter side, 2 × resolution): room
    for random crops, never enlarged. Beside the pictures `metadata.csv` has their `patient` (a
    number in a seeded order, or `unknown`), `group` (what is never split), `data.columns` and, if
    not among them, `tone`, as `tone.word` has it.
    The manifest says of every file below `source` what became of it; it alone has original names.
    `workers` (default: all cores) changes no result. Returned are the counts, and `tone_train` and
    `tone_test`, the mean `tone.typology_angle` of their pictures.

    `controls`: a folder of photos of other conditions, and where to write the same of these, with
    their `label`. A patient, or a near duplicate, of both folders is in one set.

    InputError, with nothing written, on: patients or a table that do not fit the photos; files that
    cannot be used, while `data.on_invalid` is stop; a photo that is a control too; a split that
    would be empty, or too small for the evaluation.
    """
    sides = [("source", source, out), *([("controls", *controls)] if controls else [])]
    for key, given, written in sides:
        if given.resolve() in (written.resolve(), *written.resolve().parents):
            raise InputError(
                f"data.{key}: {given}: holds the output {written}; name the photos' folder"
            )
    photos = intake.read(source, data)
    others = intake.read_controls(controls[0], source, data) if controls else []
    patient = {k: v for each in (photos, *others) for k, v in each.patient.items()}
    if data.patients not in ("unknown", "none"):  # then names are no patients'
        patients.one_spelling(patient)
    paths = {k: v for each in (photos, *others) for k, v in each.names.items()}

    with ExitStack() as stack:
        places = [stack.enter_context(folders.whole(written)) for _, _, written in sides]
        squares = {name: places[0] / f"{k}.png" for k, name in enumerate(paths)}
        looks = stack.enter_context(tempfile.TemporaryFile())
        found = (
            photo._replace(look=keypoints.Stored(looks, photo.look))
            for photo in inspection.inspect_all(
                [*paths.values()], [*squares.values()], resolution, workers
            )
        )
        looked = dict(zip(paths, found, strict=True))
        refused = _refused(paths, looked, data, photos)
        usable = {name: photo for name, photo in looked.items() if not photo.reason}
        twins = duplicates.exact({name: photo.pixels for name, photo in usable.items()})
        _check_labels(twins, [photos, *others], paths)
        groups, near = _group(usable, twins, patient, data.duplicate_distance, workers)
        kept = {name: photo for name, photo in usable.items() if name not in twins}
        try:
            of = _split(kept, groups, photos, others, data, seed)
        except InputError as error:
            raise InputError(f"{error}{_joined(patient, groups, near)}") from None
        for name in twins:
            squares[name].unlink()
        numbers = _numbers(photos.patient.values(), patient.values(), seed)
        reasons = (
            {name: f"nearly the same as {other}" for name, other in near.items()}
            | {name: f"the same as {first}" for name, first in twins.items()}
            | refused
        )
        for place, (_, base, _), intakes in zip(places, sides, ([photos], others), strict=False):
            own = {name: kept[name] for each in intakes for name in each.names if name in kept}
            files = {name: f"{of[name]}/{kept[name].key}.png" for name in own}
            _put(place, squares, files, _columns(own, patient, groups, data, intakes, numbers))
            rows = manifest.rows(intakes, looked, groups, files, reasons)
            manifest.write(place / "manifest.csv", base, rows)
    left_out = {"exact_duplicates": twins, "near_duplicates": near, "invalid": refused}
    return _counts(kept, groups, of, photos, others, left_out)


def _refused(
    paths: Mapping[str, Path],
    looked: Mapping[str, inspection.Photo],
    data: Data,
    photos: Intake,
) -> dict[str, str]:
    """Name → why it cannot be used; InputError where that stops, or leaves no mpox photo."""
    refused = {name: photo.reason for name, photo in looked.items() if photo.reason}
    if refused and (data.on_invalid == "stop" or refused.keys() >= photos.names.keys()):
        bad = [f"{line(paths[name])}: {reason}" for name, reason in refused.items()]
        head = f"data.on_invalid: {data.on_invalid}, and {len(bad)} files cannot be used:"
        raise InputError("\n".join([head, *bad]))
    return refused


def _check_labels(
    twins: Mapping[str, str], intakes: Sequence[Intake], paths: Mapping[str, Path]
) -> None:
    """InputError for photos with the same pixels and two labels: one of these is wrong."""
    photos, *controls = intakes
    label = dict.fromkeys(photos.names, intake.MPOX)
    label |= {name: said for each in controls for name, said in each.columns["label"].items()}
    both = [(a, b) for a, b in twins.items() if label[a] != label[b]]
    if both:
        lines = [f"{line(paths[a])} ({label[a]}) is {line(paths[b])} ({label[b]})" for a, b in both]
        head = "data.controls: one photo has two labels:"
        raise InputError("\n".join([head, *lines]))


def _split(
    kept: Mapping[str, inspection.Photo],
    groups: Mapping[str, str],
    photos: Intake,
    controls: Sequence[Intake],
    data: Data,
    seed: int,
) -> dict[str, str]:
    """Name → its split; InputError where one would be empty or too small for the evaluation.

    The mpox photos' as if they were alone; a group of theirs takes its controls along, and the
    others are split label by label.
    """
    shares = data.split.model_dump()
    mine = [name for name in kept if name in photos.names]
    tones: dict[str, list[float]] = {}
    for name in mine:
        tones.setdefault(groups[name], []).append(kept[name].tone)
    of_group = splits.split(tones, shares, seed)
    for part in ("train", "test"):
        splits.check_halves(part, [groups[n] for n in mine if of_group[groups[n]] == part])
    label = {name: said for each in controls for name, said in each.columns["label"].items()}
    order = {said: k for k, said in enumerate(sorted(set(label.values())))}
    left: dict[str, list[float]] = {}
    for name in kept:
        if name in label and groups[name] not in of_group:
            moved = kept[name].tone + APART * order[label[name]]
            left.setdefault(groups[name], []).append(moved)
    if left:
        try:
            of_group |= splits.split(left, shares, seed)
        except InputError as error:
            raise InputError(f"data.controls: {error}") from None
    of = {name: of_group[groups[name]] for name in kept}
    for part, least in FEWEST_CONTROLS.items() if controls else ():
        found = {groups[name] for name in kept if name in label and of[name] == part}
        if len(found) < least:
            raise InputError(
                f"data.controls: photos of {len(found)} patients (or groups of duplicates) fall to "
                f"data.split.{part}, and a classifier needs {least}: more patients, or data/none"
            )
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
    kept: Mapping[str, inspection.Photo],
    groups: Mapping[str, str],
    of: Mapping[str, str],
    photos: Intake,
    controls: Sequence[Intake],
    left_out: Mapping[str, Mapping[str, str]],
) -> dict[str, float]:
    """Of the mpox photos; and, if there are controls, of these, named `controls…`."""
    parts = list(Split.model_fields)
    mine = {name: photo for name, photo in kept.items() if name in photos.names}
    pictures = Counter(of[name] for name in mine)
    members = {part: {groups[name] for name in mine if of[name] == part} for part in parts}
    found: dict[str, float] = {"pictures": len(mine)}
    found |= {part: pictures[part] for part in parts}
    found |= {"groups": sum(map(len, members.values()))}
    found |= {f"groups_{part}": len(members[part]) for part in parts}
    # Not of val, which may be a single patient: metrics are in git.
    for part in ("train", "test"):
        mean = np.mean([photo.tone for name, photo in mine.items() if of[name] == part])
        found[f"tone_{part}"] = round(float(mean), 1)
    for key, names in left_out.items():
        found[key] = sum(name in photos.names for name in names)
    found["other_files"] = len(photos.others)
    if controls:
        theirs = Counter(of[name] for name in kept if name not in photos.names)
        found["controls"] = theirs.total()
        found |= {f"controls_{part}": theirs[part] for part in parts}
        for key, names in left_out.items():
            found[f"controls_{key}"] = sum(name not in photos.names for name in names)
        found["controls_other_files"] = sum(len(each.others) for each in controls)
    return found


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
    intakes: Sequence[Intake],
    numbers: Mapping[str, int],
) -> dict[str, list[str]]:
    """What the tables say of the pictures beside their files' names: column → values.

    The tone is measured where the photos' table has none.
    """
    names = list(kept)
    whose = [str(numbers[patient[name]]) for name in names]
    if data.patients in ("unknown", "none"):
        whose = [table.UNKNOWN] * len(names)
    columns = {"patient": whose, "group": [str(numbers[groups[name]]) for name in names]}
    for column in dict.fromkeys(column for each in intakes for column in each.columns):
        of = {name: said for each in intakes for name, said in each.columns[column].items()}
        said = [of[name] for name in names]
        columns[column] = said if column == "text" else table.uniform(column, said)
    if "tone" not in columns:
        columns["tone"] = [tone.word(photo.tone) for photo in kept.values()]
    return columns


def _numbers(first: Iterable[str], every: Iterable[str], seed: int) -> dict[str, int]:
    """Patient → number, in an order of the seed's: no id, nor anything made from one.

    The mpox photos' have the first ones, whoever is among the controls.
    """
    numbers: dict[str, int] = {}
    for some in (set(first), set(every) - set(first)):
        rng = np.random.default_rng(seeds.derive(seed, "patients"))
        order = rng.permutation(len(some)) + len(numbers)
        numbers |= dict(zip(sorted(some), order.tolist(), strict=True))
    return numbers
