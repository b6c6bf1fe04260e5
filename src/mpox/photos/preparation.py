"""From folders of photos to square, anonymous pictures, split by patient and evenly in skin tone.

Two photos belong together if they show one patient, or if one is nearly the other: one photo
collected twice, or a flipped, rotated or cropped variant of it. Photos that a chain of such links
connects are a group. A group is never split, neither between sets nor between the mpox photos and
the controls.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from mpox.core import folders, seeds, table
from mpox.core.errors import InputError, line
from mpox.params import Data, Split
from mpox.photos import duplicates, inspection, intake, keypoints, manifest, patients, splits
from mpox.photos.intake import Intake, Photo
from mpox.statistics import tone

FEWEST_CONTROLS = {"train": 2, "val": 1, "test": 2}  # patients
APART = 1000.0  # degrees, further than tones can be: labels are split one after the other


def prepare(
    data: Data,
    out: Path,
    resolution: int,
    seed: int,
    controls_out: Path | None = None,
    workers: int | None = None,
) -> dict[str, float]:
    """Write `out`/{train,val,test}/<key>.png, each with its table, and `out`/manifest.csv.

    A picture is the central square of its photo, of side min(shorter side, 2 × resolution): room
    for random crops, never enlarged. Each table has the columns `patient` (a number in a seeded
    order, or `unknown`), `group` (what is never split), `data.columns` and, if not among them,
    `tone`, as measured by `tone.word`. The manifest states what became of every file below
    `data.source`; only it has the original names. `workers` (default: all cores) changes no
    result. Returns the counts, and `tone_train` and `tone_test`: the mean `tone.typology_angle` of
    their pictures.

    `controls_out` receives the same of the photos in `data.controls`, with their `label`. A patient
    or a near duplicate that is in both folders is in one set.

    InputError, with nothing written, if patients or a table do not fit the photos; if files cannot
    be used while `data.on_invalid` is stop; if a photo is also a control; if a set would be empty
    or too small for the evaluation.
    """
    sides = {"source": (Path(data.source), out)}
    if controls_out:
        sides["controls"] = (Path(data.controls), controls_out)
    _check_outputs(sides)
    source, controls = Path(data.source), Path(data.controls)
    intakes = [intake.read(source, data)]
    intakes += [intake.read_controls(controls, source, data)] if controls_out else []
    photos = [photo for each in intakes for photo in each.photos]
    if data.patients not in ("unknown", "none"):  # there, each patient is the name of a file
        patients.check_spelling(photo.patient for photo in photos)

    with ExitStack() as stack:
        places = [stack.enter_context(folders.whole(written)) for _, written in sides.values()]
        _inspect(photos, places[0], resolution, workers)
        _check_readable(photos, data)
        usable = [photo for photo in photos if not photo.seen.reason]
        _find_twins(usable)
        _group(usable, data.duplicate_distance, workers)
        distinct = [photo for photo in usable if not photo.twin]
        try:
            _split(distinct, data, seed)
        except InputError as error:
            raise InputError(f"{error}{_joined(distinct)}") from None
        numbers = _numbers(photos, seed)
        for place, each, (base, _) in zip(places, intakes, sides.values(), strict=True):
            chosen = [photo for photo in each.photos if photo.split]
            _put(place, chosen, _columns(chosen, data, numbers))
            manifest.write(place / "manifest.csv", base, each)
    return _counts(intakes)


def _check_outputs(sides: Mapping[str, tuple[Path, Path]]) -> None:
    """InputError if a folder of photos contains an output: the next run would read the pictures."""
    for key, (folder, written) in sides.items():
        if folder.resolve() in (written.resolve(), *written.resolve().parents):
            raise InputError(
                f"data.{key}: {folder}: contains the output {written}; name the photos' folder"
            )


def _inspect(photos: Sequence[Photo], folder: Path, resolution: int, workers: int | None) -> None:
    """Sets `seen` and `square`."""
    for number, photo in enumerate(photos):
        photo.square = folder / f"{number}.png"
    paths, squares = [photo.path for photo in photos], [photo.square for photo in photos]
    results = inspection.inspect_all(paths, squares, resolution, workers)
    for photo, result in zip(photos, results, strict=True):
        photo.seen = result


def _check_readable(photos: Sequence[Photo], data: Data) -> None:
    """InputError if unusable files stop the run, or leave no mpox photo."""
    bad = [photo for photo in photos if photo.seen.reason]
    if bad and (data.on_invalid == "stop" or all(p.seen.reason for p in photos if not p.control)):
        head = f"data.on_invalid: {data.on_invalid}, and {len(bad)} files cannot be used:"
        raise InputError("\n".join([head, *(f"{line(p.path)}: {p.seen.reason}" for p in bad)]))


def _find_twins(usable: Sequence[Photo]) -> None:
    """Sets `twin` and removes the second square. InputError if the two have different labels."""
    first: dict[str, Photo] = {}
    wrong = []
    for photo in usable:
        twin = first.setdefault(photo.seen.pixels, photo)
        if twin is not photo:
            photo.twin = twin
            photo.square.unlink()
            if twin.label != photo.label:
                one, other = (f"{line(each.path)} ({each.label})" for each in (photo, twin))
                wrong.append(f"{one} is {other}")
    if wrong:
        raise InputError("\n".join(["data.controls: one photo has two labels:", *wrong]))


def _group(usable: Sequence[Photo], distance: int, workers: int | None) -> None:
    """Sets `group`, named after the first of its patients, and `near`.

    Photos are linked by patients, twins and hashes. Keypoints come last and are compared only
    between photos that are not linked yet.
    """
    place = {photo: number for number, photo in enumerate(usable)}
    number = {who: k for k, who in enumerate(sorted({photo.patient for photo in usable}))}
    joined = np.array([number[photo.patient] for photo in usable], int)
    twins = [(place[photo], place[photo.twin]) for photo in usable if photo.twin]
    joined = duplicates.components(joined, twins)
    distinct = np.array([place[photo] for photo in usable if not photo.twin], int)
    looks = [usable[k].seen.look for k in distinct]
    pairs = duplicates.near(
        np.array([usable[k].seen.hashes for k in distinct], np.uint64),
        distance,
        lambda later, earlier, way: keypoints.same_place(looks[later], looks[earlier], way),
    )
    joined = duplicates.components(joined, [(distinct[a], distinct[b]) for a, b in pairs])
    pairs += keypoints.near_duplicates(looks, joined[distinct], workers)
    joined = duplicates.components(joined, [(distinct[a], distinct[b]) for a, b in pairs])
    first: dict[int, str] = {}
    for photo in sorted(usable, key=lambda photo: photo.patient):
        photo.group = first.setdefault(int(joined[place[photo]]), photo.patient)
    for one, other in duplicates.towards_first(len(distinct), pairs).items():
        usable[distinct[one]].near = usable[distinct[other]]


def _joined(photos: Sequence[Photo]) -> str:
    """How near duplicates made one group of several patients: a split can fail for that alone."""
    pairs = [(p, p.near) for p in photos if p.near and p.near.patient != p.patient]
    if not pairs:
        return ""
    members = Counter(photo.group for photo in {photo for pair in pairs for photo in pair})
    largest, count = members.most_common(1)[0]
    one, other = next(pair for pair in pairs if pair[0].group == largest)
    return (
        f"; {count} photos of several patients are in one group because they are nearly the same, "
        f"such as {line(one.name)} and {line(other.name)}"
    )


def _split(distinct: Sequence[Photo], data: Data, seed: int) -> None:
    """Sets `split`. InputError if a set would be empty or too small for the evaluation.

    The mpox photos are split as if they were alone. A control in one of their groups goes with it;
    the others are split label by label.
    """
    shares = data.split.model_dump()
    controls = [photo for photo in distinct if photo.control]
    tones: dict[str, list[float]] = defaultdict(list)
    for photo in distinct:
        if not photo.control:
            tones[photo.group].append(photo.seen.tone)
    part_of = splits.split(tones, shares, seed)
    for part in ("train", "test"):
        groups = [p.group for p in distinct if not p.control and part_of[p.group] == part]
        splits.check_halves(part, groups)
    labels = sorted({photo.label for photo in controls})
    left: dict[str, list[float]] = defaultdict(list)
    for photo in controls:
        if photo.group not in part_of:
            left[photo.group].append(photo.seen.tone + APART * labels.index(photo.label))
    if left:
        try:
            part_of |= splits.split(left, shares, seed)
        except InputError as error:
            raise InputError(f"data.controls: {error}") from None
    for photo in distinct:
        photo.split = part_of[photo.group]
    for part, least in FEWEST_CONTROLS.items() if controls else ():
        number = len({photo.group for photo in controls if photo.split == part})
        if number < least:
            raise InputError(
                f"data.controls: only {number} patients (or groups of duplicates) are in "
                f"data.split.{part}, and a classifier needs {least}; add patients, or set "
                "data.controls to data/none"
            )


def _columns(
    chosen: Sequence[Photo], data: Data, numbers: dict[str, int]
) -> dict[str, Sequence[str]]:
    """The tables' columns but file_name, each with a value per photo.

    The tone is measured unless the user's table has one.
    """
    unknown = data.patients in ("unknown", "none")
    columns: dict[str, Sequence[str]] = {
        "patient": [table.UNKNOWN if unknown else str(numbers[p.patient]) for p in chosen],
        "group": [str(numbers[p.group]) for p in chosen],
    }
    for column in dict.fromkeys(column for photo in chosen for column in photo.columns):
        values = [photo.columns[column] for photo in chosen]
        columns[column] = values if column == "text" else table.uniform(column, values)
    if "tone" not in columns:
        columns["tone"] = [tone.word(photo.seen.tone) for photo in chosen]
    return columns


def _numbers(photos: Sequence[Photo], seed: int) -> dict[str, int]:
    """Patient → number, in a seeded order: no id, nor anything made from one.

    Patients of mpox photos have the first numbers, so that controls do not change these.
    """
    first = {photo.patient for photo in photos if not photo.control}
    numbers: dict[str, int] = {}
    for some in (first, {photo.patient for photo in photos} - first):
        rng = np.random.default_rng(seeds.derive(seed, "patients"))
        order = rng.permutation(len(some)) + len(numbers)
        numbers |= dict(zip(sorted(some), order.tolist(), strict=True))
    return numbers


def _put(folder: Path, chosen: Sequence[Photo], columns: dict[str, Sequence[str]]) -> None:
    """Moves the squares to their sets, and writes each set's table."""
    rows: dict[str, dict[str, Sequence[object]]] = {part: {} for part in Split.model_fields}
    for photo, *values in zip(chosen, *columns.values(), strict=True):
        (folder / photo.split).mkdir(exist_ok=True)
        photo.square.rename(folder / photo.file)
        rows[photo.split][Path(photo.file).name] = values
    for part, some in rows.items():
        table.write(folder / part, list(columns), some)


def _counts(intakes: Sequence[Intake]) -> dict[str, float]:
    """Counts of the mpox photos; those of the controls, if there are any, as `controls…`."""
    parts = list(Split.model_fields)
    chosen = [photo for photo in intakes[0].photos if photo.split]
    members = {part: {photo.group for photo in chosen if photo.split == part} for part in parts}
    counts: dict[str, float] = {"pictures": len(chosen)}
    counts |= _sizes(chosen)
    counts |= {"groups": sum(map(len, members.values()))}
    counts |= {f"groups_{part}": len(members[part]) for part in parts}
    # Not of val, which may be a single patient: metrics are in git.
    for part in ("train", "test"):
        mean = np.mean([photo.seen.tone for photo in chosen if photo.split == part])
        counts[f"tone_{part}"] = round(float(mean), 1)
    counts |= _left_out(intakes[0])
    if controls := [photo for each in intakes[1:] for photo in each.photos if photo.split]:
        counts["controls"] = len(controls)
        some = _sizes(controls) | _left_out(intakes[1])
        counts |= {f"controls_{key}": count for key, count in some.items()}
    return counts


def _sizes(photos: Sequence[Photo]) -> dict[str, int]:
    return {part: sum(p.split == part for p in photos) for part in Split.model_fields}


def _left_out(each: Intake) -> dict[str, int]:
    return {
        "exact_duplicates": sum(photo.twin is not None for photo in each.photos),
        "near_duplicates": sum(photo.near is not None for photo in each.photos),
        "invalid": sum(bool(photo.seen.reason) for photo in each.photos),
        "other_files": len(each.others),
    }
