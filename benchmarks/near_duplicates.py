"""Which variants of a photo `prepare` keeps together, which strangers it joins, and at what price.

python benchmarks/near_duplicates.py [FOLDER]

Of every photo in FOLDER (default: a phantom of each of 256 patients) one variant of each kind is
drawn, and each is asked alone: is it joined to its photo by the hash (as ImageHash has it, of the
picture as it lies; and in all eight ways), by the second look, by both? Then all of them together,
as one folder whose patients are unknown: photos in two groups, groups of two photos. Last, how the
second look's time grows with the photos. Ten minutes.
"""

import sys
import time
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
import variants

import stages  # noqa: F401
from mpox.core import images, listing
from mpox.embedded import phantom
from mpox.photos import duplicates, keypoints

DISTANCE = 4  # bits: data.duplicate_distance
SIDE = 512  # pixels, at most
SIZES = (1000, 2000, 4000)  # photos, for the time

Seen = tuple[np.ndarray, keypoints.Look]


def see(picture: np.ndarray) -> Seen:
    return duplicates.hashes(picture), keypoints.describe(picture)


def photo(source: int | Path) -> np.ndarray:
    if isinstance(source, int):
        return images.recode(phantom.draw("mpox", source, 0, 2022, 128).picture)
    picture = images.read(source)
    return images.square(picture, min(SIDE, *picture.shape[:2]))


def see_all(source: int | Path) -> list[Seen]:
    """A photo, and each of its variants as a JPEG."""
    picture = photo(source)
    rng = np.random.default_rng(source if isinstance(source, int) else len(source.name))
    drawn = [images.recode(variants.variant(kind, picture, rng)) for kind in variants.KINDS]
    return [see(each) for each in [picture, *drawn]]


def see_one(source: int) -> keypoints.Look:
    return keypoints.describe(photo(source))


def main(folder: Path | None) -> None:
    sources = listing.find(folder)[0] if folder else list(range(256))
    with ProcessPoolExecutor() as pool:
        seen = list(pool.map(see_all, sources, chunksize=4))
    missed: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(4, int))
    for (hashes, look), *others in seen:
        for kind, (other_hashes, other_look) in zip(variants.KINDS, others, strict=True):
            as_it_lies = np.bitwise_count(hashes[0] ^ other_hashes[0]) <= DISTANCE
            bits = np.bitwise_count(hashes[0] ^ other_hashes)
            by_hash = bits.min() <= DISTANCE
            by_hash &= keypoints.same_place(other_look, look, int(bits.argmin()))
            by_look = keypoints.same_skin(look, other_look)
            missed[kind] += ~np.array([as_it_lies, by_hash, by_look, by_hash or by_look])
    print(f"missed of {len(sources)} | ImageHash as it lies | hash, 8 ways | second look | both")
    for kind, counts in missed.items():
        print(f"{kind} | {' | '.join(f'{count / len(sources):.1%}' for count in counts)}")

    every = [each for some in seen for each in some]
    whose = np.repeat(np.arange(len(sources)), len(seen[0]))
    looks = [look for _, look in every]
    near = duplicates.near(
        np.array([hashes for hashes, _ in every]),
        DISTANCE,
        lambda later, earlier, way: keypoints.same_place(looks[later], looks[earlier], way),
    )
    joined = duplicates.components(np.arange(len(every)), near)
    joined = duplicates.components(joined, keypoints.near_duplicates(looks, joined))
    apart = sum(len(set(joined[whose == k])) > 1 for k in range(len(sources)))
    members = [set(whose[joined == group]) for group in set(joined)]
    strangers = sum(len(some) for some in members if len(some) > 1)
    print(
        f"together: {apart} of {len(sources)} photos apart from a variant, {strangers} joined with "
        f"another photo, at most {max(map(len, members))} in one group"
    )

    if folder:
        return
    with ProcessPoolExecutor() as pool:
        looks = list(pool.map(see_one, range(1000, 1000 + max(SIZES)), chunksize=50))
    for size in SIZES:
        started = time.perf_counter()
        found = keypoints.near_duplicates(looks[:size], np.arange(size))
        seconds = time.perf_counter() - started
        print(
            f"{size} photos: {1000 * seconds / size:.1f} ms each, {len(found)} pairs of strangers"
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
