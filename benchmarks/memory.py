"""Peak memory of the distances of 20,000 synthetic pictures: python benchmarks/memory.py.

Some minutes on one core.
"""

import resource
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))
from mpox.measures import coverage, frechet, kernel

SYNTHETIC, REAL, D = 20_000, 500, 2048


def main() -> None:
    rng = np.random.default_rng(0)
    real, synthetic = (rng.random((n, D), np.float32) for n in (REAL, SYNTHETIC))
    for name, measure in (
        ("frechet", frechet.distance),
        ("kernel", kernel.distance),
        ("coverage", lambda a, b: coverage.measure(a, b, 5)),
    ):
        started = time.perf_counter()
        measure(real, synthetic)
        seconds = time.perf_counter() - started
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"{name} {REAL} × {SYNTHETIC} × {D}  {seconds:.0f} s  peak so far {peak:.2f} GB")


if __name__ == "__main__":
    main()
