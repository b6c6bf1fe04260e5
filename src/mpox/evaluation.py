"""Synthetic pictures held against real ones: the numbers, and what to read them beside.

docs/metrics.md explains each. Beside `name` stand, where they make sense,
- `name_null`: what the same measure gives for held-out pictures in the place of synthetic ones;
- `name_lo`, `name_hi`: an interval of 95 %, over other test patients and other synthetic pictures;
- `name_noise`: half the width of one over other synthetic pictures alone, with the same test
  pictures: what a change of the model must exceed.
"""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import binomtest
from tqdm import tqdm

from mpox import copies, coverage, features, frechet, halves, images, kernel, sheets, ssim, vendi
from mpox.collection import Pictures, choose, collect, fingerprint, pictures
from mpox.errors import InputError
from mpox.params import Evaluate
from mpox.seeds import derive

SWAPS = 999  # of the permutation test
NEIGHBOURS = 5  # k of precision, recall, density, coverage
DIVERSITY = 50  # pictures of each kind, all pairs of which give MS-SSIM …
DIVERSITY_SIDE = 128  # … pixels, at most: as in Odena et al. 2017
SHOWN_SIDE = 256  # pixels, the most a picture on the contact sheet gets

Metrics = dict[str, str | int | float | dict[str, str | int]]


def evaluate(
    real: Path,
    synthetic: Path,
    settings: Evaluate,
    resolution: int,
    seed: int,
    training: Path | None = None,
) -> tuple[Metrics, dict[str, np.ndarray]]:
    """Metrics of a folder of synthetic pictures against one of real ones, and sheets by name.

    `training` holds what the model was trained on: without it nothing is said of copies.
    Patients are those of each folder's `metadata.csv`, as `prepare` writes it: without one each
    picture counts as a patient of its own. Every picture is cropped and resized to
    resolution×resolution and passes through one codec before anything is measured.

    Raises InputError for missing weights, a folder with fewer than four pictures, a picture that
    cannot be read or is not in its table, and test pictures of too few patients.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    extractor = features.load(settings.features, settings.weights, device)
    folders = {"real": real, "synthetic": synthetic}
    if training is not None:
        folders["training"] = training

    paths = {
        kind: choose(folder, settings.max_pictures, derive(seed, "evaluate", kind))
        for kind, folder in folders.items()
    }
    sets = {
        kind: collect(folder, paths[kind], resolution, extractor, kind == "training")
        for kind, folder in folders.items()
    }
    test, fake, train = sets["real"], sets["synthetic"], sets.get("training")

    metrics = measure(test, fake, train, extractor, resolution, seed)
    sheet = contact_sheet(test.paths, fake.paths, min(resolution, SHOWN_SIDE))
    shown = {"contact_sheet": sheet}
    if train is not None:
        shown["suspicious_pairs"] = suspicious_pairs(fake, train, resolution)
    return metrics, shown


def measure(
    test: Pictures,
    fake: Pictures,
    train: Pictures | None,
    extractor: features.Extractor,
    resolution: int,
    seed: int,
) -> Metrics:
    """All numbers, and in `identity` what they are of: where it differs, they do not compare."""

    def rng(purpose: str) -> np.random.Generator:
        return np.random.default_rng(derive(seed, "evaluate", purpose))

    draws = draw_halves(test, fake, train, rng("halves"))
    size = len(draws[0].one)
    neighbours, side = min(NEIGHBOURS, size - 1), min(resolution, DIVERSITY_SIDE)
    metrics: Metrics = {
        "identity": {
            "features": extractor.name,
            "features_sha256": extractor.sha256[:8],
            "preprocessing": f"square {resolution}, JPEG 95, network {extractor.size}",
            "split": fingerprint([test] if train is None else [test, train]),
            "patients": "known" if test.known and (train is None or train.known) else "unknown",
            "n_test": len(test.paths),
            "n_training": 0 if train is None else len(train.paths),
            "n_synthetic": len(fake.paths),
            "n_fid": min(len(test.paths), len(fake.paths)),
            "n_half": size,
            "neighbours": neighbours,
            "ms_ssim_scales": ssim.scales(side),
        }
    }
    metrics |= distances(test, fake, draws, neighbours, rng("distances"))
    metrics |= diversity(test, fake, side, rng("diversity"))
    metrics |= repeats(test, fake, rng("repeats"))
    if train is not None:
        metrics |= memorisation(test, fake, train, draws, resolution)
    return metrics | similarities(test.paths, fake.paths, resolution)


class Draw(NamedTuple):
    """Indices of h pictures each, at random: what one repetition of a measure looks at."""

    one: np.ndarray  # of the test pictures …
    other: np.ndarray  # … and as many of other patients
    synthetic: np.ndarray
    redrawn: np.ndarray  # other synthetic ones
    training: np.ndarray  # empty without training pictures


def draw_halves(
    test: Pictures, fake: Pictures, train: Pictures | None, rng: np.random.Generator
) -> list[Draw]:
    """Halves of every set, cut to the smallest: a distance compares only at equal N."""
    tests = halves.draw(test.patients, halves.DRAWS, rng)
    fakes = halves.draw(fake.patients, halves.DRAWS, rng)
    trains = fakes if train is None else halves.draw(train.patients, halves.DRAWS, rng)
    sizes = {
        sets.paths[0].parent: len(pairs[0][0])
        for sets, pairs in ((test, tests), (fake, fakes), (train or fake, trains))
    }
    folder = min(sizes, key=lambda folder: sizes[folder])
    if (size := sizes[folder]) < halves.FEWEST:
        raise InputError(
            f"{folder}: too few patients: halves that share none have {size} pictures, "
            f"expected at least {halves.FEWEST}"
        )
    learnt = 0 if train is None else size
    return [
        Draw(one[:size], other[:size], drawn[:size], redrawn[:size], some[:learnt])
        for (one, other), (drawn, redrawn), (some, _) in zip(tests, fakes, trains, strict=True)
    ]


def distances(
    test: Pictures,
    fake: Pictures,
    draws: Sequence[Draw],
    neighbours: int,
    rng: np.random.Generator,
) -> Metrics:
    """How far the synthetic pictures are from the test pictures, and how much of them they cover.

    - fid: Fréchet distance of n_fid test pictures from as many synthetic ones;
    - fid_half, fid_floor, fid_excess: the mean over the draws of the same at n_half pictures a
      side, of one half of the test pictures from the other, and the difference of the two, which
      alone is the synthetic pictures' doing;
    - kid, kid_p: kernel distance of all from all, and a permutation p at n_fid pictures a side;
    - precision, recall, density, coverage: means over the draws, at n_half pictures a side;
    - vendi_ratio: Vendi score of n_fid synthetic pictures over that of as many test pictures.
    """

    def measure(half: np.ndarray, rows: np.ndarray) -> dict[str, float]:
        return {
            "fid": frechet.distance(half, rows),
            "kid": kernel.distance(half, rows),
            **coverage.measure(half, rows, neighbours)._asdict(),
            "vendi_ratio": vendi.score(rows) / vendi.score(half),
        }

    def measure_all(draw: Draw) -> tuple[dict[str, float], ...]:
        half = test.rows[draw.one]
        others = fake.rows[draw.synthetic], fake.rows[draw.redrawn], test.rows[draw.other]
        return tuple(measure(half, rows) for rows in others)

    # Threads, for the work is LAPACK's and BLAS', which leave Python free; one draw, one thread.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        drawn = pool.map(measure_all, draws)
        found, again, null = zip(*tqdm(drawn, "halves", len(draws), unit="draw"), strict=True)
    values, redrawn, nulls = (
        {name: np.array([each[name] for each in rows]) for name in found[0]}
        for rows in (found, again, null)
    )
    width = {name: halves.spread(values[name] - nulls[name]) for name in values}
    sides = [(draw.synthetic, draw.redrawn) for draw in draws]
    noise = {
        name: halves.noise(values[name] - redrawn[name], sides, len(fake.rows)) for name in values
    }
    mean = {name: float(np.mean([values[name], redrawn[name]])) for name in values}
    floor = {name: float(np.mean(nulls[name])) for name in values}
    n = min(len(test.rows), len(fake.rows))
    real, synthetic = (rng.permutation(len(each.rows))[:n] for each in (test, fake))
    pair = test.rows[real], fake.rows[synthetic]
    metrics: Metrics = {
        "fid": _six_digits(frechet.distance(*pair)),
        "fid_half": _six_digits(mean["fid"]),
        "fid_floor": _six_digits(floor["fid"]),
        **_interval("fid_excess", mean["fid"] - floor["fid"], width["fid"]),
        "fid_noise": _six_digits(noise["fid"]),
        **_interval("kid", kernel.distance(test.rows, fake.rows), width["kid"]),
        "kid_null": _six_digits(floor["kid"]),
        "kid_noise": _six_digits(noise["kid"]),
        "kid_p": kernel.p_value(*pair, [test.patients[i] for i in real], SWAPS, rng),
    }
    # repeats show in a whole set, less in half of it
    mean["vendi_ratio"] = vendi.score(pair[1]) / vendi.score(pair[0])
    for name in ("precision", "recall", "density", "coverage", "vendi_ratio"):
        most = 1.0 if name in ("precision", "recall", "coverage") else np.inf
        metrics |= _interval(name, mean[name], width[name], 0.0, most)
        metrics[f"{name}_null"] = _six_digits(floor[name])
        metrics[f"{name}_noise"] = _six_digits(noise[name])
    return metrics


def diversity(test: Pictures, fake: Pictures, side: int, rng: np.random.Generator) -> Metrics:
    """ms_ssim: mean MS-SSIM of all pairs of synthetic pictures; the more, the more alike they are.

    ms_ssim_null is that of test pictures. At most DIVERSITY of each, the same number of both.
    """
    n = min(DIVERSITY, len(test.paths), len(fake.paths))
    tables = []
    for each in (fake, test):
        paths = [each.paths[i] for i in rng.permutation(len(each.paths))[:n]]
        shown, table = list(pictures(paths, side)), np.zeros((n, n))
        pairs = list(combinations(range(n), 2))
        for i, j in tqdm(pairs, desc="ms-ssim", unit="pair"):
            table[i, j] = table[j, i] = ssim.multiscale(shown[i], shown[j])
        tables.append(table)

    def mean(table: np.ndarray) -> float:
        return float(table.sum() / (len(table) * (len(table) - 1)))

    def over(table: np.ndarray, sides: list[np.ndarray]) -> np.ndarray:
        return np.array([mean(table[np.ix_(some, some)]) for some in sides])

    names = [str(i) for i in range(n)]
    synthetic, real = (halves.draw(names, halves.DRAWS, rng) for _ in tables)
    one, other = (over(tables[0], list(side)) for side in zip(*synthetic, strict=True))
    null = over(tables[1], [side for side, _ in real])
    return {
        **_interval("ms_ssim", mean(tables[0]), halves.spread(one - null)),
        "ms_ssim_null": _six_digits(mean(tables[1])),
        "ms_ssim_noise": _six_digits(halves.noise(one - other, synthetic, n)),
    }


def repeats(test: Pictures, fake: Pictures, rng: np.random.Generator) -> Metrics:
    """repeat_rate: share of synthetic pictures too like another synthetic one.

    Too like is nearer than 99 % of the test pictures are to their nearest one of another patient,
    so repeat_rate_null is about 0.01. Among n_fid of each, with an exact binomial interval.
    """
    n = min(len(test.rows), len(fake.rows))
    real, synthetic = (rng.permutation(len(each.rows))[:n] for each in (test, fake))
    known = copies.among(test.rows[real], [test.patients[i] for i in real])
    limit = copies.threshold(known)
    found = copies.among(fake.rows[synthetic], [fake.patients[i] for i in synthetic])
    return {
        **_rate("repeat_rate", int(np.sum(found > limit)), n),
        "repeat_rate_null": _six_digits(float(np.mean(known > limit))),
    }


def memorisation(
    test: Pictures, fake: Pictures, train: Pictures, draws: Sequence[Draw], resolution: int
) -> Metrics:
    """Whether the synthetic pictures are nearer to the training pictures than they should be.

    - fid_gap: Fréchet distance to the test pictures minus that to the training pictures, mean
      over the draws at n_half a side: above zero they are nearer to what the model has seen;
    - copy_rate: share of them nearer than copy_threshold, a cosine of features, to some training
      picture in any of the ways it can lie, with its exact binomial interval;
    - hash_rate: the same by fewer than hash_threshold bits, of 64, in which perceptual hashes
      differ: it finds what compression makes the features miss;
    - copy_cosine, hash_bits: the largest cosine and the fewest bits of any pair;
    - ssim_nearest: mean SSIM of each with its nearest training picture, by features.

    The test pictures are no copies, so the _null of a rate is that of false alarms.
    """

    def gap(draw: Draw, drawn: np.ndarray) -> float:
        learnt, some = train.rows[draw.training, 0], fake.rows[drawn]
        return frechet.distance(test.rows[draw.one], some) - frechet.distance(learnt, some)

    gaps = np.array([gap(draw, draw.synthetic) for draw in draws])
    redrawn = np.array([gap(draw, draw.redrawn) for draw in draws])
    sides = [(draw.synthetic, draw.redrawn) for draw in draws]
    limit = copies.threshold(copies.among(train.rows, train.patients))
    hash_limit = copies.threshold(copies.among(train.hashes, train.patients))
    metrics: Metrics = {
        **_interval("fid_gap", float(np.mean([gaps, redrawn])), halves.spread(gaps)),
        "fid_gap_noise": _six_digits(halves.noise(gaps - redrawn, sides, len(fake.rows))),
        "copy_threshold": _six_digits(limit),
        "hash_threshold": copies.bits(hash_limit),
    }
    for each in (fake, test):
        near = copies.nearest(each.rows, train.rows)
        near_hash = copies.nearest(each.hashes, train.hashes)
        scores = [
            ssim.similarity(*pair) for pair in _nearest_pairs(each.paths, train, near, resolution)
        ]
        n = len(each.paths)
        rates = {
            **_rate("copy_rate", int(np.sum(near.cosine > limit)), n),
            **_rate("hash_rate", int(np.sum(near_hash.cosine > hash_limit)), n),
            "ssim_nearest": _six_digits(float(np.mean(scores))),
            "ssim_nearest_noise": _six_digits(halves.spread(np.array(scores)) / np.sqrt(n)),
            "copy_cosine": _six_digits(near.cosine.max()),
            "hash_bits": copies.bits(near_hash.cosine.max()),
        }
        if each is test:  # of a null its value is enough, of a rate its noise: n is small
            rates = {
                f"{name}_null": rates[name]
                for name in rates
                if not name.endswith(("_lo", "_hi", "_noise"))
            } | {
                f"{name}_null_noise": rates[f"{name}_noise"] for name in ("copy_rate", "hash_rate")
            }
        metrics |= rates
    return metrics


def similarities(real: list[Path], synthetic: list[Path], resolution: int) -> Metrics:
    """Mean SSIM over n_fid pairs, as the earlier study paired them, and why it says little.

    - ssim: the i-th real with the i-th synthetic picture by name, which have nothing in common;
    - ssim_constant: each real picture with one plain picture of the real set's mean colour;
    - ssim_real: each real picture with another one, half the set further on.
    """
    n = min(len(real), len(synthetic))
    colour = np.mean([each.mean(axis=(0, 1)) for each in pictures(real, resolution)], axis=0)
    plain = np.full((resolution, resolution, 3), colour.round(), np.uint8)
    scores = []
    for i in tqdm(range(n), desc="ssim", unit="pair"):
        others = real[(i + len(real) // 2) % len(real)], synthetic[i]
        one, another, fake = pictures([real[i], *others], resolution)
        scores.append([ssim.similarity(one, other) for other in (fake, plain, another)])
    paired, constant, among_real = np.mean(scores, axis=0)
    return {
        "ssim": _six_digits(paired),
        "ssim_noise": _six_digits(halves.spread(np.array(scores)[:, 0]) / np.sqrt(n)),
        "ssim_constant": _six_digits(constant),
        "ssim_real": _six_digits(among_real),
    }


def contact_sheet(real: list[Path], synthetic: list[Path], side: int) -> np.ndarray:
    """Real pictures on the left, synthetic ones on the right, spread evenly over the names."""
    rows = min(sheets.ROWS, len(real) // sheets.COLUMNS, len(synthetic) // sheets.COLUMNS)
    shown = (
        list(pictures([paths[i] for i in sheets.spread(len(paths), rows)], side))
        for paths in (real, synthetic)
    )
    return sheets.contact(*shown)


def suspicious_pairs(fake: Pictures, train: Pictures, resolution: int) -> np.ndarray:
    """The synthetic pictures most like a training picture, each beside it, the worst first.

    A row each by features and by perceptual hashes.
    """
    shown = []
    by_features = copies.nearest(fake.rows, train.rows)
    by_hashes = copies.nearest(fake.hashes, train.hashes)
    for near in (by_features, by_hashes):
        for i in np.argsort(-near.cosine, kind="stable")[: sheets.PAIRS]:
            ((own, other),) = _nearest_pairs(
                [fake.paths[i]], train, copies.Nearest(*(each[[i]] for each in near)), resolution
            )
            cosine, bits = (
                f"cosine {near.cosine[i]:.4f}",
                f"{copies.bits(near.cosine[i])} of 64 bits",
            )
            words = (
                (fake.paths[i].name, cosine if near is by_features else bits),
                (train.paths[near.picture[i]].name, f"SSIM {ssim.similarity(own, other):.3f}"),
            )
            shown.append(sheets.Pair(own, other, words))
    return sheets.pairs(shown)


def _nearest_pairs(
    paths: list[Path], train: Pictures, near: copies.Nearest, resolution: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Each picture and its nearest training picture, lying as it does there."""
    learnt = pictures([train.paths[i] for i in near.picture], resolution)
    own = pictures(paths, resolution)
    for picture, other, way in zip(own, learnt, near.way, strict=True):
        yield picture, images.ways(other)[way]


def _interval(
    name: str, value: float, width: float, least: float = -np.inf, most: float = np.inf
) -> Metrics:
    """A number and its interval of 95 %, value ± width, within what is possible."""
    return {
        name: _six_digits(value),
        f"{name}_lo": _six_digits(max(value - width, least)),
        f"{name}_hi": _six_digits(min(value + width, most)),
    }


def _rate(name: str, count: int, n: int) -> Metrics:
    """A share of n pictures, its exact binomial interval, and half the width of that."""
    bounds = binomtest(count, n).proportion_ci(method="exact")
    return {
        name: _six_digits(count / n),
        f"{name}_lo": _six_digits(bounds.low),
        f"{name}_hi": _six_digits(bounds.high),
        f"{name}_noise": _six_digits((bounds.high - bounds.low) / 2),
    }


def _six_digits(value: float) -> float:
    """`value` to six significant digits: what is left of a float32 network's precision."""
    return float(f"{value:.6g}")
