"""All that features alone tell, of many rows, beside torch-fidelity's: large.py N [N …].

N real and N synthetic rows of 1,280 features (1,000 or more, for its KID): every number of
evaluation.measure_features, with its interval and noise, and torch-fidelity's FID, KID and PRC,
from the same rows in the same run.
"""

import resource
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric
from torch_fidelity.metric_prc import prc_features_to_metric

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "src")]
import stages  # noqa: F401
from mpox.measures import evaluation

WIDTH = 1280


def rows(number: int, seed: int) -> np.ndarray:
    """Correlated, as features are: the spectrum falls with the rank."""
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((WIDTH, WIDTH)) / np.sqrt(np.arange(1, WIDTH + 1))[:, None]
    drawn = np.random.default_rng(seed + 1).standard_normal((number, WIDTH)) @ mixing
    return (drawn + 0.1 * seed).astype(np.float32)


def peer(real: np.ndarray, synthetic: np.ndarray) -> None:
    one, other = torch.from_numpy(real), torch.from_numpy(synthetic)
    statistics = [fid_features_to_statistics(each) for each in (one, other)]
    fid_statistics_to_metric(*statistics, False)
    kid_features_to_metric(one, other, verbose=False)
    prc_features_to_metric(one, other, verbose=False)


def seconds(work, *given) -> float:
    started = time.perf_counter()
    work(*given)
    return time.perf_counter() - started


for number in map(int, sys.argv[1:]):
    real, synthetic = rows(number, 0), rows(number, 2)
    mine = seconds(evaluation.measure_features, real, synthetic, 1)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    theirs = seconds(peer, real, synthetic)
    print(f"2 × {number:,}: {mine:.0f} s, {memory:.1f} GB; torch-fidelity's three: {theirs:.0f} s")
