"""From a folder of photos to square, anonymous pictures, split by patient and evenly in skin tone.

Two photos belong together when they show one patient, or have the same or nearly the same pixels
(one photo collected twice, under two names). All that a chain of such links holds together is a
group, and a group is never split.
"""

import csv
import hashlib
import multiprocessing
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import cv2
import imagehash
import numpy as np
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from tqdm import tqdm

from mpox import folders, halves, images, seeds
from mpox.errors import InputError
from mpox.params import Data

SHAKE = 4  # places in the order of tones by which a seed moves a group
COLUMNS = ("source", "sha256", "group", "split", "file", "reason")


class Photo(NamedTuple):
    """What was found in one file; where `reason` says why it cannot be used, the rest is empty."""

    sha256: str = ""  # of the file's bytes
    pixels: str = ""  # SHA-256 of the square's pixels
    bits: np.ndarray = np.empty(0)  # bool, 64: the square's perceptual hash
    tone: float = 0.0  # the square's individual typology angle
    reason: str = ""

    @property
    def key(self) -> str:
        """The picture's name from here on: a photo's own name may be a patient's."""
        return self.sha256[:16]


def prepare(
    source: Path, out: Path, data: Data, resolution: int, seed: int, workers: int | None = None
) -> dict[str, float]:
    """Write `out`/{train,val,test}/<key>.png and `out`/manifest.csv; return the counts.

    A picture is the central square of its photo, of side min(shorter side, 2 × resolution): room
    for random crops, never enlarged. `workers` (default: all cores) changes no result. Beside the
    counts stand `tone_train` and `tone_test`, the mean `typology_angle` of their pictures.

    InputError, with nothing written, on: names that do not match `data.group_pattern`; files that
    cannot be used, while `data.on_invalid` is stop; a split that would be empty, or too small for
    the evaluation.
    """
    paths, others = images.find(source)
    if not paths:
        raise InputError(f"{source}: holds no picture ({others} other files)")
    names = [path.relative_to(source).as_posix() for path in paths]
    patients = patients_of(names, data.group_pattern)

    with folders.whole(out) as folder:
        squares = {name: folder / f"{k}.png" for k, name in enumerate(names)}
        found = _inspect_all(paths, list(squares.values()), resolution, workers)
        photos = dict(zip(names, found, strict=True))
        refused = {name: photo.reason for name, photo in photos.items() if photo.reason}
        if refused and data.on_invalid == "stop":
            bad = [f"{line(source / name)}: {reason}" for name, reason in refused.items()]
            head = f"data.on_invalid: stop, and {len(bad)} files cannot be used:"
            raise InputError("\n".join([head, *bad]))

        usable = [name for name in names if name not in refused]
        twins = exact_duplicates({name: photos[name].pixels for name in usable})
        kept = [name for name in usable if name not in twins]
        near = near_duplicates({name: photos[name].bits for name in kept}, data.duplicate_distance)

        links = [(patients[a], patients[b]) for a, b in [*twins.items(), *near]]
        merged = merge({patients[name] for name in usable}, links)
        groups = {name: merged[patients[name]] for name in usable}
        tones: dict[str, list[float]] = {}
        for name in kept:
            tones.setdefault(groups[name], []).append(photos[name].tone)
        splits = split(tones, data.split.model_dump(), seed)
        for part in ("train", "test"):
            check_halves(part, [groups[name] for name in kept if splits[groups[name]] == part])

        files = {name: f"{splits[groups[name]]}/{photos[name].key}.png" for name in kept}
        for name, file in files.items():
            (folder / file).parent.mkdir(exist_ok=True)
            squares[name].rename(folder / file)
        for name in twins:
            squares[name].unlink()

        reasons = {later: f"nearly the same as {earlier}" for later, earlier in reversed(near)}
        reasons |= {name: f"the same as {first}" for name, first in twins.items()} | refused
        rows = []
        for name, photo in photos.items():
            file, group = files.get(name, ""), groups.get(name, "")
            reason = reasons.get(name, "")
            rows.append([name, photo.sha256, group, file.split("/")[0], file, reason])
        _write_table(folder / "manifest.csv", rows)

    pictures = Counter(splits[groups[name]] for name in kept)
    members = Counter(splits.values())
    spread = {
        # Not of val, which may be a single patient: metrics are in git.
        part: np.mean([tone for group in tones if splits[group] == part for tone in tones[group]])
        for part in ("train", "test")
    }
    return {
        "pictures": len(kept),
        **{name: pictures[name] for name in ("train", "val", "test")},
        "groups": len(splits),
        **{f"groups_{name}": members[name] for name in ("train", "val", "test")},
        **{f"tone_{name}": round(float(tone), 1) for name, tone in spread.items()},
        "exact_duplicates": len(twins),
        "near_duplicates": len({later for later, _ in near}),
        "invalid": len(refused),
        "other_files": others,
    }


def patients_of(names: Sequence[str], pattern: str | None) -> dict[str, str]:
    """Name → patient: the one group of `pattern` in the file's name, or each its own."""
    if pattern is None:
        return {name: name for name in names}
    matches = {name: re.search(pattern, PurePosixPath(name).name) for name in names}
    patients = {name: match[1] for name, match in matches.items() if match and match[1]}
    unnamed = [name for name in names if name not in patients]
    if unnamed:
        head = f"data.group_pattern: '{pattern}' finds no patient in these names:"
        raise InputError("\n".join([head, *map(line, unnamed)]))
    return patients


def line(name: str | Path) -> str:
    """A file's name on one line: what does not print, as a line break, as its escape."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(name))


def exact_duplicates(pixels: Mapping[str, str]) -> dict[str, str]:
    """Name → the first name with the same pixels, for all but the first."""
    first: dict[str, str] = {}
    for name, digest in pixels.items():
        first.setdefault(digest, name)
    return {name: first[digest] for name, digest in pixels.items() if first[digest] != name}


def near_duplicates(bits: Mapping[str, np.ndarray], distance: int) -> list[tuple[str, str]]:
    """Pairs (later, earlier) of names whose perceptual hashes differ in at most `distance` bits.

    Of a name's pairs the first is with the earliest such name, and further ones stand only where
    they join what is not yet joined: fewer pairs than names, however many pictures are alike.

    At 64 bits, copies recompressed, resized, brightened or in grey mostly differ in 0 to 4 bits,
    photos of different skin in 12 or more. Different photos of one round lesion in the middle of
    plain skin can come as close as copies. The hash is trusted all the same: a false alarm only
    keeps two pictures in one split, a missed copy would let training see a test picture.
    """
    names = list(bits)
    octets = np.packbits(np.array(list(bits.values()), bool).reshape(-1, 64), axis=1)
    codes = octets.view(np.uint64)[:, 0]
    joined = np.arange(len(names))  # the same number where a chain of pairs leads
    pairs = []
    for later, code in enumerate(codes):
        near = np.flatnonzero(np.bitwise_count(codes[:later] ^ code) <= distance)
        numbers, first = np.unique(joined[near], return_index=True)
        pairs += [(names[later], names[near[k]]) for k in sorted(first)]
        joined[:later][np.isin(joined[:later], numbers)] = later
    return pairs


def merge(patients: Iterable[str], links: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Patient → group, named after the first of all patients that a chain of `links` joins."""
    order = {patient: k for k, patient in enumerate(sorted(patients))}
    ends = np.array([(order[a], order[b]) for a, b in links], int).reshape(-1, 2).T
    graph = coo_array((np.ones(ends.shape[1]), ends), shape=(len(order), len(order)))
    first: dict[int, str] = {}
    components = connected_components(graph, directed=False)[1]
    return {p: first.setdefault(k, p) for p, k in zip(order, components.tolist(), strict=True)}


def typology_angle(picture: np.ndarray) -> float:
    """The individual typology angle of the median colour (Chardon et al. 1991), in degrees.

    tan⁻¹((L* − 50) / b*) of CIELAB, with b* at least 1, so that greys and blues have an order too:
    skin is at some −60 (very dark) to 60 (very light). It is of the light and the lesion too, so
    here it orders photos and classes nobody's skin. `picture`: uint8, H×W×3.
    """
    median = np.median(picture.reshape(1, -1, 3), axis=1, keepdims=True).astype(np.float32)
    lightness, _, yellow = cv2.cvtColor(median / 255, cv2.COLOR_RGB2LAB).ravel()
    return float(np.degrees(np.arctan((lightness - 50) / max(yellow, 1))))


def split(
    tones: Mapping[str, Sequence[float]], shares: Mapping[str, float], seed: int
) -> dict[str, str]:
    """Group → split: from dark to light, each to the split that is furthest behind its share.

    `tones` are the tones of a group's pictures, `shares` the splits' parts of all pictures. A set
    drawn at random from few patients often has hardly any of the rarer skin tones; in order every
    set has its share of those that 1/share or more groups have. `seed` shakes the order by a few
    places.
    """
    rng = np.random.default_rng(seeds.derive(seed, "split"))
    order = sorted(tones, key=lambda group: (np.mean(tones[group]), group))
    places = np.arange(len(order)) + rng.uniform(0, SHAKE, len(order))
    behind = dict.fromkeys(shares, 0.0)
    splits = {}
    for group in (order[k] for k in np.argsort(places)):
        for name, share in shares.items():
            behind[name] += share * len(tones[group])
        splits[group] = max(behind, key=lambda name: behind[name])
        behind[splits[group]] -= len(tones[group])
    empty = sorted(set(shares) - set(splits.values()))
    if empty:
        raise InputError(
            f"no pictures left for {', '.join(empty)}: {sum(map(len, tones.values()))} pictures of "
            f"{len(tones)} patients (or groups of duplicates) cannot be split as data.split says"
        )
    return splits


def check_halves(part: str, groups: Sequence[str]) -> None:
    """Stops here, not after hours of training, what evaluation could not measure."""
    half = len(halves.draw(groups, halves.DRAWS, np.random.default_rng(0))[0][0])
    if half < halves.FEWEST:
        raise InputError(
            f"data.split.{part}: {len(groups)} pictures of {len(set(groups))} patients (or groups "
            f"of duplicates) give halves of {half} that share no patient, and evaluation needs "
            f"{halves.FEWEST} or more: more patients, or a larger share"
        )


def _write_table(file: Path, rows: Iterable[Sequence[str]]) -> None:
    # surrogateescape: a name that is no UTF-8 is written as the bytes it has on the disk.
    with file.open("w", encoding="utf-8", errors="surrogateescape", newline="") as stream:
        table = csv.writer(stream, lineterminator="\n")
        # A lone carriage return in a name ends a row for who reads it, but is not quoted by itself.
        quoted = csv.writer(stream, lineterminator="\n", quoting=csv.QUOTE_ALL)
        table.writerow(COLUMNS)
        for row in rows:
            (quoted if "\r" in "".join(row) else table).writerow(row)


def _inspect_all(
    paths: Sequence[Path], squares: Sequence[Path], resolution: int, workers: int | None
) -> list[Photo]:
    # spawn, the same on every system: a forked worker inherits locks that threads may hold.
    spawn = multiprocessing.get_context("spawn")
    photos: list[Photo] = []
    with ProcessPoolExecutor(workers, mp_context=spawn) as pool:
        found = pool.map(partial(_inspect, resolution), paths, squares, chunksize=4)
        try:
            photos.extend(tqdm(found, "reading photos", len(paths), unit="photo"))
        except BrokenProcessPool:
            raise InputError(
                f"{line(paths[len(photos)])}: reading this photo, or one of the next, ended its "
                "process (2 GB of memory a core are enough for the largest)"
            ) from None
    return photos


def _inspect(resolution: int, path: Path, out: Path) -> Photo:
    """Read one photo and write its square to `out`, or say what is wrong with it."""
    try:
        picture = images.read(path)
    except InputError as error:
        return Photo(reason=str(error).removeprefix(f"{path}: "))
    shorter = min(picture.shape[:2])
    if 2 * shorter < resolution:
        return Photo(reason=f"is {shorter} pixels across, expected half of {resolution} or more")
    square = images.square(picture, min(shorter, 2 * resolution))
    images.write(out, square)
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return Photo(
        sha256=sha256,
        pixels=hashlib.sha256(square.tobytes()).hexdigest(),
        bits=imagehash.phash(Image.fromarray(square)).hash.ravel(),
        tone=typology_angle(square),
    )
