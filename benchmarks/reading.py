"""Whether a reading study's intervals hold the truth, and what it takes to show equivalence.

python benchmarks/reading.py: readers of known d′ judge made-up pictures, a thousand studies of each
kind. Readers share a part of what they see in a picture (RHO), and have criteria and, beside a d′
of 0, skills of their own. Prints two tables; four minutes on one core.
"""

import sys
from pathlib import Path

import numpy as np
from scipy.special import ndtr
from tqdm import tqdm

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "src")]
import stages  # noqa: F401
from mpox.reading import scores

STUDIES, RHO = 1000, 0.3  # studies of a kind; correlation of two readers' impressions of a picture
CRITERIA, SKILLS = 0.3, 0.2  # standard deviations among readers
READERS, PICTURES = (3, 5, 10), (50, 100, 200)  # pictures of both classes together
MARGIN = 0.1


def readers(rng: np.random.Generator, number: int, d: float) -> tuple[np.ndarray, np.ndarray]:
    """Their d′ and their criteria."""
    own = np.maximum(d + SKILLS * rng.standard_normal(number), 0) if d else np.zeros(number)
    return own, own / 2 + CRITERIA * rng.standard_normal(number)


def study(rng: np.random.Generator, number: int, pictures: int, d: float) -> tuple:
    """Calls, number×pictures, and which pictures are synthetic."""
    synthetic = np.arange(pictures) < pictures // 2
    own, criteria = readers(rng, number, d)
    seen = own[:, None] * synthetic + np.sqrt(RHO) * rng.standard_normal(pictures)
    seen = seen + np.sqrt(1 - RHO) * rng.standard_normal((number, pictures))
    return (seen > criteria[:, None]).astype(float), synthetic


def truth(d: float) -> tuple[float, float]:
    """Mean accuracy and d′ of all readers there are."""
    own, criteria = readers(np.random.default_rng(0), 10**6, d)
    return float((ndtr(own - criteria) + ndtr(criteria)).mean() / 2), float(own.mean())


def main() -> None:
    print("| d′ | readers | accuracy held | d′ held |\n|--:|--:|--:|--:|")
    for d in (0.0, 1.0, 2.0):
        wanted = truth(d)
        for number in READERS:
            held = np.zeros(2, int)
            for seed in tqdm(range(STUDIES), f"d′ {d:g}, {number} readers", leave=False):
                calls, synthetic = study(np.random.default_rng(seed), number, 100, d)
                for k, statistic in enumerate((scores.accuracy, scores.d_prime)):
                    of = scores.pooled(statistic, calls, synthetic)
                    held[k] += of.low <= wanted[k] <= of.high
            shares = " | ".join(f"{100 * each / STUDIES:.1f} %" for each in held)
            print(f"| {d:g} | {number} | {shares} |", flush=True)
    head = " | ".join(f"{pictures} pictures" for pictures in PICTURES)
    print(f"\n| readers | {head} |\n|--:|{'--:|' * len(PICTURES)}")
    for number in READERS:
        shares = []
        for pictures in PICTURES:
            shown = 0
            for seed in tqdm(range(STUDIES // 4), f"{number}, {pictures}", leave=False):
                calls, synthetic = study(np.random.default_rng(seed), number, pictures, 0.0)
                shown += scores.equivalent(scores.accuracy, calls, synthetic, MARGIN)
            shares.append(f"{400 * shown / STUDIES:.0f} %")
        print(f"| {number} | {' | '.join(shares)} |", flush=True)


if __name__ == "__main__":
    main()
