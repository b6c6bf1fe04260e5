"""Whether the synthetic pictures are nearer to the training pictures than they should be."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mpox.core import images
from mpox.measures import distances, frechet, ssim
from mpox.measures.distances import Draw
from mpox.pictures import copies
from mpox.pictures.feature_set import FeatureSet, Sets
from mpox.statistics import halves
from mpox.statistics.estimate import Estimate
from mpox.statistics.rates import rate


class Pair(NamedTuple):
    """A synthetic picture and a training picture that it is suspiciously like."""

    by: str  # features | hashes: what found it
    synthetic: str  # file names, from the sets' folders
    training: str
    orientation: int  # of the training picture, into `images.ways`
    cosine: float  # of features
    bits: int  # of 64, in which the perceptual hashes differ
    ssim: float
    pictures: tuple[np.ndarray, np.ndarray]  # uint8 S×S×3, the training picture as orientated


class Neighbours(NamedTuple):
    """The nearest training picture of each of n pictures, by features and by hashes."""

    features: copies.Nearest
    hashes: copies.Nearest
    ssim: np.ndarray  # n, with the one by features, as it is turned there


def neighbours(pictures: FeatureSet, train: FeatureSet) -> Neighbours:
    """The nearest training picture of each, in all eight orientations."""
    near = copies.nearest(pictures.rows, train.rows)
    scores = [
        ssim.similarity(own, images.ways(train.pixels[other])[way])
        for own, other, way in zip(pictures.pixels, near.picture, near.way, strict=True)
    ]
    return Neighbours(near, copies.nearest(pictures.hashes, train.hashes), np.array(scores))


def suspicious(fake: FeatureSet, train: FeatureSet, nearest: Neighbours, most: int) -> list[Pair]:
    """The `most` synthetic pictures most like a training picture, the worst first.

    By features, then by perceptual hashes.
    """
    names, training_names = fake.pictures.names, train.pictures.names

    def pair(by: str, near: copies.Nearest, i: int) -> Pair:
        j, way = near.picture[i], near.way[i]
        own, other = fake.pixels[i], images.ways(train.pixels[j])[way]
        cosine = copies.cosine(fake.rows[i], train.rows[j, way])
        bits = copies.bits(copies.cosine(fake.hashes[i], train.hashes[j, way]))
        likeness = ssim.similarity(own, other)
        pictures = (own, other)
        return Pair(by, names[i], training_names[j], int(way), cosine, bits, likeness, pictures)

    return [
        pair(by, near, int(i))
        for by, near in (("features", nearest.features), ("hashes", nearest.hashes))
        for i in np.argsort(-near.cosine, kind="stable")[:most]
    ]


def measure_copies(
    sets: Sets[FeatureSet], draws: Sequence[Draw], nearest: Neighbours
) -> dict[str, Estimate]:
    """The measures of sets with training pictures; `nearest`: the synthetic pictures' neighbours.

    - fid_gap: Fréchet distance to the test pictures minus that to the training pictures, mean
      over the draws at n_half a side: above zero they are nearer to what the model has seen;
    - copy_rate: share of them nearer than copy_threshold, a cosine of features, to some training
      picture in any orientation, with its exact binomial interval;
    - hash_rate: the same by fewer than hash_threshold bits, of 64, in which perceptual hashes
      differ: it finds what compression makes the features miss;
    - copy_cosine, hash_bits: the largest cosine and the fewest bits of any pair;
    - ssim_nearest: mean SSIM of each with its nearest training picture, by features.

    The test pictures are no copies, so the null of a rate is that of false alarms.
    """
    test, fake, train = sets
    assert train is not None
    held_out = neighbours(test, train)
    limit = copies.threshold(copies.among(train.rows, train.patients))
    hash_limit = copies.threshold(copies.among(train.hashes, train.patients))

    def share(near: copies.Nearest, null: copies.Nearest, limit: float) -> Estimate:
        count, alarms = (int(np.sum(each.cosine > limit)) for each in (near, null))
        return rate(count, len(fake), alarms, len(test))

    noise = halves.spread(nearest.ssim) / np.sqrt(len(fake))
    fewest, null_fewest = (copies.bits(each.hashes.cosine.max()) for each in (nearest, held_out))
    return {
        "fid_gap": gap(sets, draws),
        "copy_threshold": Estimate(limit),
        "hash_threshold": Estimate(copies.fewer_than(hash_limit)),
        "copy_rate": share(nearest.features, held_out.features, limit),
        "hash_rate": share(nearest.hashes, held_out.hashes, hash_limit),
        "ssim_nearest": Estimate(
            float(nearest.ssim.mean()), null=float(held_out.ssim.mean()), noise=noise
        ),
        "copy_cosine": Estimate(
            float(nearest.features.cosine.max()), null=float(held_out.features.cosine.max())
        ),
        "hash_bits": Estimate(fewest, null=null_fewest),
    }


def gap(sets: Sets[FeatureSet], draws: Sequence[Draw]) -> Estimate:
    """`fid_gap` of `measure_copies`."""
    test, fake, train = sets
    assert train is not None

    def apart(draw: Draw, drawn: np.ndarray) -> float:
        rows, trained = fake.rows[drawn], train.rows[draw.training, 0]
        return frechet.distance(test.rows[draw.one], rows) - frechet.distance(trained, rows)

    first = np.array([apart(draw, draw.synthetic) for draw in draws])
    again = np.array([apart(draw, draw.redrawn) for draw in draws])
    over = distances.summarise(sets, draws, first, again, np.zeros(len(draws)))
    return over.estimate(over.mean)
