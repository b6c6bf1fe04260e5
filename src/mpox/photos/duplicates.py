"""Photos that were collected twice: with the same pixels, or nearly, however they lie."""

from collections.abc import Callable, Iterable, Mapping

import imagehash
import numpy as np
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import breadth_first_order, connected_components

from mpox.core.images import WAYS, ways

HASH_SIDE = 32  # pixels, to which `imagehash` reduces a picture
FAILURES = 20  # accidents of one picture's hash, after which no more is asked of it


def exact(pixels: Mapping[str, str]) -> dict[str, str]:
    """Name → the first name with the same pixels, for all but the first."""
    first: dict[str, str] = {}
    for name, digest in pixels.items():
        first.setdefault(digest, name)
    return {name: first[digest] for name, digest in pixels.items() if first[digest] != name}


def hashes(square: np.ndarray) -> np.ndarray:
    """The 64-bit perceptual hash (Zauner 2010) of a square picture in all WAYS, uint64."""
    size = (HASH_SIDE, HASH_SIDE)
    small = Image.fromarray(square).convert("L").resize(size, Image.Resampling.LANCZOS)
    bits = [imagehash.phash(Image.fromarray(way)).hash.ravel() for way in ways(np.asarray(small))]
    return np.packbits(np.array(bits), axis=1).view(np.uint64)[:, 0]


def near(
    codes: np.ndarray,
    distance: int,
    confirm: Callable[[int, int, int], bool],
    first: int | None = None,
) -> list[tuple[int, int]]:
    """Pairs (later, earlier) of pictures whose `hashes` (n×WAYS) come within `distance` bits.

    confirm: whether that is no accident, asked of (later, earlier, way): the later picture, lying
    in that way, is nearly the earlier one. Of what is already joined a picture is paired with the
    nearest alone: fewer pairs than pictures, however many are alike. Nothing more is asked of a
    picture after FAILURES accidents. `first`: only pairs of one of the first so many and one of
    the others.

    At 64 bits, copies recompressed, resized, brightened or in grey mostly differ in 0 to 4 bits,
    photos of different skin in 10 or more. But photos of one round lesion in the middle of plain
    skin come as close as copies, and so do photos with the same black border.
    """
    codes = codes.reshape(-1, WAYS)
    standing = np.ascontiguousarray(codes[:, 0])  # three times as fast, of many
    joined = np.arange(len(codes))  # the same number where a chain of pairs leads
    pairs = []
    for later, lying in enumerate(codes):
        asked = later if first is None else first * (later >= first)
        if not asked:
            continue
        bits = np.bitwise_count(standing[:asked] ^ lying[:, None])
        apart = bits.min(axis=0)
        alike = np.flatnonzero(apart <= distance)
        alike = alike[np.argsort(apart[alike], kind="stable")]
        numbers, failures = [], 0
        while len(alike) and failures < FAILURES:
            earlier = int(alike[0])
            if confirm(later, earlier, int(bits[:, earlier].argmin())):
                pairs.append((later, earlier))
                numbers.append(joined[earlier])
                alike = alike[joined[alike] != joined[earlier]]
            else:
                failures += 1
                alike = alike[1:]
        if numbers:
            joined[:later][np.isin(joined[:later], numbers)] = later
    return pairs


def components(joined: np.ndarray, pairs: Iterable[tuple[int, int]]) -> np.ndarray:
    """n numbers, the same for what belongs together: as in `joined`, or by a chain of `pairs`."""
    ends = np.array([(joined[a], joined[b]) for a, b in pairs], int).reshape(-1, 2).T
    size = int(joined.max(initial=-1)) + 1
    graph = coo_array((np.ones(ends.shape[1]), ends), shape=(size, size))
    return connected_components(graph, directed=False)[1][joined]


def towards_first(n: int, pairs: Iterable[tuple[int, int]]) -> dict[int, int]:
    """Of n, each that `pairs` join to another: its neighbour on the way to the first of them."""
    ends = np.array(list(pairs), int).reshape(-1, 2).T
    graph = coo_array((np.ones(ends.shape[1]), ends), shape=(n, n)).tocsr()
    found: dict[int, int] = {}
    for first in np.unique(ends).tolist():
        if first not in found:
            order, before = breadth_first_order(graph, first, directed=False)
            found |= {k: int(before[k]) for k in order.tolist()}
            found[first] = first
    return {k: other for k, other in found.items() if k != other}
