"""Whether synthetic pictures are closer to training pictures than real test pictures are."""

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
    """A synthetic picture and a suspiciously similar training picture."""

    by: str  # features | hashes: the similarity by which the pair was chosen
    synthetic: str  # path within the folder of its set
    training: str  # likewise
    orientation: int  # of the training picture, index into `images.ways`
    cosine: float  # of features
    bits: int  # number of the 64 bits of the perceptual hashes that differ
    ssim: float
    pictures: tuple[np.ndarray, np.ndarray]  # uint8 S×S×3; the training picture in `orientation`


class Neighbours(NamedTuple):
    """The nearest training picture of each of n pictures, by features and by hashes."""

    features: copies.Nearest
    hashes: copies.Nearest
    ssim: np.ndarray  # n, with the nearest by features, in the same orientation


def neighbours(pictures: FeatureSet, train: FeatureSet) -> Neighbours:
    """The nearest training picture of each, in all eight orientations."""
    near = copies.nearest(pictures.rows, train.rows)
    scores = [
        ssim.similarity(picture, images.ways(train.pixels[other])[way])
        for picture, other, way in zip(pictures.pixels, near.picture, near.way, strict=True)
    ]
    return Neighbours(near, copies.nearest(pictures.hashes, train.hashes), np.array(scores))


def suspicious(fake: FeatureSet, train: FeatureSet, nearest: Neighbours, most: int) -> list[Pair]:
    """The `most` synthetic pictures most similar to a training picture, the worst first.

    First those chosen by features, then those chosen by perceptual hashes.
    """
    names, training_names = fake.pictures.names, train.pictures.names

    def pair(by: str, near: copies.Nearest, i: int) -> Pair:
        j, way = near.picture[i], near.way[i]
        pictures = fake.pixels[i], images.ways(train.pixels[j])[way]
        cosine = copies.cosine(fake.rows[i], train.rows[j, way])
        bits = copies.bits(copies.cosine(fake.hashes[i], train.hashes[j, way]))
        score = ssim.similarity(*pictures)
        return Pair(by, names[i], training_names[j], int(way), cosine, bits, score, pictures)

    return [
        pair(by, near, int(i))
        for by, near in (("features", nearest.features), ("hashes", nearest.hashes))
        for i in np.argsort(-near.cosine, kind="stable")[:most]
    ]


def measure_copies(
    sets: Sets[FeatureSet], draws: Sequence[Draw], nearest: Neighbours
) -> dict[str, Estimate]:
    """Measures of copies, with the `nearest` training pictures of the synthetic pictures.

    - fid_gap: Fréchet distance to the test pictures minus that to the training pictures, mean over
      the draws with n_half on each side; above 0 they are closer to the training pictures;
    - copy_rate: share whose cosine to a training picture in any orientation exceeds
      copy_threshold, with an exact binomial interval;
    - hash_rate: share whose perceptual hash differs from a training picture's in fewer than
      hash_threshold of 64 bits; it finds copies after compression, which features can miss;
    - copy_cosine, hash_bits: the largest cosine and the fewest differing bits of any pair;
    - ssim_nearest: mean SSIM with the nearest training picture by features.

    Test pictures are not copies, so the null of a rate is the rate of false alarms.
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
    """`fid_gap`, as in `measure_copies`."""
    test, fake, train = sets
    assert train is not None

    def apart(draw: Draw, drawn: np.ndarray) -> float:
        rows, trained = fake.rows[drawn], train.rows[draw.training, 0]
        return frechet.distance(test.rows[draw.one], rows) - frechet.distance(trained, rows)

    first = np.array([apart(draw, draw.synthetic) for draw in draws])
    again = np.array([apart(draw, draw.redrawn) for draw in draws])
    over = distances.summarise(sets, draws, first, again, np.zeros(len(draws)))
    return over.estimate(over.mean)
