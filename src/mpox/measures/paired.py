"""SSIM of unrelated pairs, as an earlier study reported it, and two values to compare it with."""

import numpy as np
from tqdm import tqdm

from mpox.measures import ssim
from mpox.pictures.feature_set import FeatureSet
from mpox.statistics import halves
from mpox.statistics.estimate import Estimate


def measure_ssim(test: FeatureSet, fake: FeatureSet) -> dict[str, Estimate]:
    """Mean SSIM over n_fid pairs.

    - ssim: the i-th real and the i-th synthetic picture by name;
    - ssim_constant: each real picture and one plain picture of the real set's mean colour;
    - ssim_real: each real picture and the one half a set further on.
    """
    n, real = min(len(test), len(fake)), test.pixels
    colour = np.mean([each.mean(axis=(0, 1)) for each in real], axis=0)
    plain = np.full_like(real[0], colour.round())
    scores = np.array(
        [
            [ssim.similarity(real[i], other) for other in (fake.pixels[i], plain, another)]
            for i in tqdm(range(n), desc="ssim", unit="pair")
            for another in [real[(i + len(real) // 2) % len(real)]]
        ]
    )
    paired, constant, real_pairs = (float(mean) for mean in scores.mean(axis=0))
    noise = halves.spread(scores[:, 0]) / np.sqrt(n)
    return {
        "ssim": Estimate(paired, noise=noise),
        "ssim_constant": Estimate(constant),
        "ssim_real": Estimate(real_pairs),
    }
