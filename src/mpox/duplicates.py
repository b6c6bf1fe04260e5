"""Photos that were collected twice: with the same pixels, or nearly, however they lie."""

from collections.abc import Iterable, Mapping

import imagehash
import numpy as np
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from mpox.images import WAYS, ways

HASH_SIDE = 32  # pixels, to which `imagehash` reduces a picture


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


def near(codes: np.ndarray, distance: int) -> list[tuple[int, int]]:
    """Pairs (later, earlier) of pictures whose `hashes` (n×WAYS) come within `distance` bits.

    Of a picture's pairs the first is with the earliest such, and further ones stand only where they
    join what is not yet joined: fewer pairs than pictures, however many are alike.

    At 64 bits, copies recompressed, resized, brightened or in grey mostly differ in 0 to 4 bits,
    photos of different skin in 10 or more. Different photos of one round lesion in the middle of
    plain skin can come as close as copies. The hash is trusted all the same: a false alarm only
    keeps two pictures in one split, a missed copy would let training see a test picture.
    """
    joined = np.arange(len(codes))  # the same number where a chain of pairs leads
    pairs = []
    for later, ways_of_it in enumerate(codes.reshape(-1, WAYS)):
        apart = np.bitwise_count(codes[:later, 0] ^ ways_of_it[:, None]).min(axis=0)
        alike = np.flatnonzero(apart <= distance)
        numbers, first = np.unique(joined[alike], return_index=True)
        pairs += [(later, int(alike[k])) for k in sorted(first)]
        joined[:later][np.isin(joined[:later], numbers)] = later
    return pairs


def components(joined: np.ndarray, pairs: Iterable[tuple[int, int]]) -> np.ndarray:
    """n numbers, the same for what belongs together: as in `joined`, or by a chain of `pairs`."""
    ends = np.array([(joined[a], joined[b]) for a, b in pairs], int).reshape(-1, 2).T
    size = int(joined.max(initial=-1)) + 1
    graph = coo_array((np.ones(ends.shape[1]), ends), shape=(size, size))
    return connected_components(graph, directed=False)[1][joined]
