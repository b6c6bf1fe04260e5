"""Fréchet distance against scipy's matrix square root: python benchmarks/frechet.py."""

import sys
import time
from pathlib import Path

import numpy as np
from scipy.linalg import sqrtm

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))
from mpox.measures import frechet

N, D = 376, 2048


def peer(a: np.ndarray, b: np.ndarray) -> float:
    """Heusel et al. 2017, eq. 6, as it is written."""
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = np.trace(sqrtm(cov_a @ cov_b)).real
    means = np.sum((a.mean(axis=0) - b.mean(axis=0)) ** 2)
    return float(means + np.trace(cov_a) + np.trace(cov_b) - 2 * root)


def main() -> None:
    a, b = np.random.default_rng(0).normal(size=(2, N, D))
    frechet.distance(a[:9], b[:9])  # libraries are loaded
    started = time.perf_counter()
    ours = frechet.distance(a, b)
    middle = time.perf_counter()
    theirs = peer(a, b)
    ended = time.perf_counter()
    own, other = middle - started, ended - middle
    print(f"frechet N={N} d={D}  {own:.2f} s  scipy.sqrtm {other:.2f} s  {other / own:.1f}x")
    print(f"frechet N={N} d={D}  differ by {abs(ours - theirs) / theirs:.1e} of {theirs:.4g}")


if __name__ == "__main__":
    main()
