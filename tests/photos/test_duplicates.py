"""Near duplicates by perceptual hash, compared with all pairs and with imagehash."""

import imagehash
import networkx as nx
import numpy as np
import pytest
from PIL import Image
from test_preparation import skin

from mpox.core import images
from mpox.embedded import phantom
from mpox.photos import duplicates


def apart(one: np.ndarray, other: np.ndarray) -> int:
    """The bits that differ, in the best of all ways to turn `other`."""
    return int(np.bitwise_count(one[0] ^ other).min())


def all_true(later: int, earlier: int, way: int) -> bool:
    return True


def codes_near(centres: int, rng: np.random.Generator) -> np.ndarray:
    """Hashes of 60 pictures in all ways; those of the first way are near one of the centres."""
    middle = rng.integers(0, 2, (centres, 64))
    bits = middle[rng.integers(0, centres, 60)] ^ (rng.random((60, 64)) < 0.04)
    first = np.packbits(bits.astype(np.uint8), axis=1).view(np.uint64)
    others = rng.integers(0, 2**64, (60, images.WAYS - 1), dtype=np.uint64)
    return np.hstack([first, others])


@pytest.mark.parametrize("seed", range(5))
def test_near_duplicates_agree_with_a_search_of_all_pairs(seed):
    """The nearest pair of each picture first, the same groups, fewer pairs than pictures."""
    codes = codes_near(8, np.random.default_rng(seed))
    every = [(b, a) for b in range(60) for a in range(b) if apart(codes[a], codes[b]) <= 4]
    near = duplicates.near(codes, 4, all_true)
    assert set(near) <= set(every)
    for later, earlier in dict(reversed(near)).items():
        pairs = [(apart(codes[a], codes[later]), a) for b, a in every if b == later]
        assert (apart(codes[earlier], codes[later]), earlier) == min(pairs)
    graphs = [nx.Graph(), nx.Graph()]
    for graph, pairs in zip(graphs, (near, every), strict=True):
        graph.add_nodes_from(range(60))
        graph.add_edges_from(pairs)
    one, other = ({frozenset(c) for c in nx.connected_components(graph)} for graph in graphs)
    assert one == other
    assert 5 < len(near) < 60 < len(every)


def test_a_turned_near_duplicate_is_found():
    codes = np.random.default_rng(0).integers(0, 2**64, (60, images.WAYS), dtype=np.uint64)
    codes[7, 5] = codes[3, 0]
    calls = []
    near = duplicates.near(codes, 0, lambda *pair: not calls.append(pair))
    assert near == [(7, 3)] and calls == [(7, 3, 5)]


def test_hashes_are_those_of_imagehash():
    """Of the picture turned at full size, up to a bit or two of rounding."""
    for seed in range(10):
        picture = skin(seed, 128, 128)
        codes = duplicates.hashes(picture)
        whole = [imagehash.phash(Image.fromarray(way)).hash for way in images.ways(picture)]
        packed = np.array([np.packbits(bits.ravel()).view(np.uint64)[0] for bits in whole])
        assert codes[0] == packed[0]
        assert np.bitwise_count(codes ^ packed).max() <= 2


def test_hash_tells_copies_from_other_photos():
    """Recompressed, brightened, halved, flipped and rotated photos are found; others are not."""
    pictures = [skin(seed, 128, 128) for seed in range(30)]
    copies = []
    for number, picture in enumerate(pictures):
        brighter = np.clip(picture * 1.1 + 5, 0, 255).astype(np.uint8)
        turned = images.ways(images.recode(picture))[number % images.WAYS]
        half = images.square(images.square(picture, 64), 128)
        copies += [(number, each) for each in (images.recode(picture), brighter, half, turned)]
    codes = np.array([duplicates.hashes(each) for each in [*pictures, *(c for _, c in copies)]])
    photo = [*range(30), *(number for number, _ in copies)]
    near = duplicates.near(codes, 4, all_true)
    assert all(photo[one] == photo[other] for one, other in near)
    assert len({one for one, _ in near}) >= 0.95 * len(copies)


def test_components_join_chains():
    joined = duplicates.components(np.array([4, 1, 1, 7, 9, 9]), [(0, 2), (5, 3)])
    assert len(set(joined[:3])) == 1 and len(set(joined[3:])) == 1
    assert joined[0] != joined[3]
    alone = duplicates.components(np.arange(3), [])
    assert len(set(alone)) == 3
    assert len(duplicates.components(np.empty(0, int), [])) == 0


def test_phantoms_of_other_patients_are_no_duplicates():
    drawn = [phantom.draw("mpox", patient, 0, 5, 128).picture for patient in range(60)]
    codes = np.array([duplicates.hashes(each) for each in drawn])
    assert duplicates.near(codes, 4, all_true) == []


def test_unconfirmed_pairs_are_not_tried_for_ever():
    """A thousand photos share a hash, for example because of a black border."""
    calls = []
    codes = np.full((1000, images.WAYS), 5, np.uint64)
    assert duplicates.near(codes, 4, lambda *pair: bool(calls.append(pair))) == []
    assert len(calls) < duplicates.FAILURES * 1000


def test_an_unconfirmed_pair_hides_no_duplicate():
    codes = np.full((4, images.WAYS), 5, np.uint64)
    near = duplicates.near(codes, 4, lambda later, earlier, _: (later, earlier) == (3, 2))
    assert near == [(3, 2)]
