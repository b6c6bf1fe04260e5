"""Near duplicates by perceptual hash, in any of the eight orientations of a square."""

from collections.abc import Callable, Iterable

import imagehash
import numpy as np
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import breadth_first_order, connected_components

from mpox.core.images import WAYS, ways

HASH_SIDE = 32  # pixels, to which `imagehash` reduces a picture
FAILURES = 20  # unconfirmed pairs after which no more are tried for a picture


def hashes(square: np.ndarray) -> np.ndarray:
    """The 64-bit perceptual hash (Zauner 2010) of a square picture in all WAYS: uint64, WAYS."""
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
    """Pairs (later, earlier) of pictures whose `hashes` (n×WAYS) are within `distance` bits.

    confirm: whether the pictures agree too; its arguments are later, earlier, and the way in which
    the later picture must be turned. Of pictures that are already connected only the nearest is
    paired, so there are fewer pairs than pictures, however many are alike. After FAILURES pairs
    that were not confirmed no more are tried for a picture. `first`: only pairs between the first
    so many pictures and the others.

    At 64 bits, copies that were recompressed, resized, brightened or turned grey mostly differ in 0
    to 4 bits, photos of different skin in 10 or more. But photos of one round lesion in the middle
    of plain skin come as close as copies, and so do photos with the same black border.
    """
    codes = codes.reshape(-1, WAYS)
    upright = np.ascontiguousarray(codes[:, 0])  # contiguous: three times as fast
    joined = np.arange(len(codes))  # equal for pictures that a chain of pairs connects
    pairs = []
    for later, turned in enumerate(codes):
        tried = later if first is None else first * (later >= first)
        if not tried:
            continue
        bits = np.bitwise_count(upright[:tried] ^ turned[:, None])
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
    """n numbers, equal for pictures that `joined` or a chain of `pairs` connects."""
    ends = np.array([(joined[a], joined[b]) for a, b in pairs], int).reshape(-1, 2).T
    size = int(joined.max(initial=-1)) + 1
    graph = coo_array((np.ones(ends.shape[1]), ends), shape=(size, size))
    return connected_components(graph, directed=False)[1][joined]


def towards_first(n: int, pairs: Iterable[tuple[int, int]]) -> dict[int, int]:
    """Picture → its neighbour on the way to the first picture that `pairs` connect it to."""
    ends = np.array(list(pairs), int).reshape(-1, 2).T
    graph = coo_array((np.ones(ends.shape[1]), ends), shape=(n, n)).tocsr()
    neighbours: dict[int, int] = {}
    for first in np.unique(ends).tolist():
        if first not in neighbours:
            order, before = breadth_first_order(graph, first, directed=False)
            neighbours |= {k: int(before[k]) for k in order.tolist()}
            neighbours[first] = first
    return {k: other for k, other in neighbours.items() if k != other}
