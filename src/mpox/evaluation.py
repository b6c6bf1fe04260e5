"""Synthetic pictures held against real ones: the numbers, and what to read them beside."""

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from mpox import features, frechet, images, kernel, ssim
from mpox.errors import InputError
from mpox.params import Evaluate
from mpox.seeds import derive

logger = logging.getLogger(__name__)

FEWEST = 4  # pictures: two halves with a covariance each
FLOOR_DRAWS = 20  # random halves the noise floor is the mean of
SHEET_ROWS, SHEET_COLUMNS = 8, 4  # columns of each kind
SHEET_SIDE = 256  # pixels, the most a picture on the contact sheet gets

Metrics = dict[str, str | int | float]


def evaluate(
    real: Path, synthetic: Path, settings: Evaluate, resolution: int, seed: int
) -> tuple[Metrics, np.ndarray]:
    """Metrics of a folder of synthetic pictures against one of real ones, and a contact sheet.

    Every picture is cropped and resized to resolution×resolution and passes through one codec
    before anything is measured. See `distances` and `similarities` for the numbers; the sheet has
    the real pictures left, the synthetic ones right. Raises InputError for missing weights, a
    folder with fewer than four pictures, or a picture that cannot be read.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    weights = None if settings.weights is None else Path(settings.weights)
    extractor = features.load(settings.features, weights, device)

    real_paths = choose(real, settings.max_pictures, derive(seed, "evaluate", "real"))
    fake_paths = choose(synthetic, settings.max_pictures, derive(seed, "evaluate", "synthetic"))
    real_rows, fake_rows = (
        features.extract(_pictures(paths, resolution), extractor, total=len(paths))
        for paths in (real_paths, fake_paths)
    )
    metrics: Metrics = {
        "features": extractor.name,
        "features_sha256": extractor.sha256[:8],
        "resolution": resolution,
        "n_real": len(real_paths),
        "n_synthetic": len(fake_paths),
    }
    metrics |= distances(real_rows, fake_rows, derive(seed, "evaluate", "draws"))
    metrics |= similarities(real_paths, fake_paths, resolution)
    return metrics, contact_sheet(real_paths, fake_paths, min(resolution, SHEET_SIDE))


def choose(folder: Path, most: int | None, seed: int) -> list[Path]:
    """The folder's pictures by name, at most `most` of them, drawn by `seed`."""
    paths, others = images.find(folder)
    logger.info("%s: %d pictures and %d other files", folder, len(paths), others)
    if len(paths) < FEWEST:
        raise InputError(f"{folder}: {len(paths)} pictures, expected at least {FEWEST}")
    drawn = np.random.default_rng(seed).permutation(len(paths))[:most]
    return [paths[i] for i in np.sort(drawn)]


def distances(real: np.ndarray, synthetic: np.ndarray, seed: int) -> Metrics:
    """Distances between the features of real (n×d) and synthetic (m×d) pictures.

    - fid: Fréchet distance of fid_n real pictures from as many synthetic ones;
    - fid_half, fid_floor, fid_excess: the same at half the N, real against real at half the N, and
      the difference, which alone is the synthetic pictures' doing. The halves are random: where
      they share patients the floor is too low and the excess too high, never the reverse;
    - kid: kernel distance of all from all.
    """
    rng = np.random.default_rng(seed)
    n = min(len(real), len(synthetic))
    some_real, some_synthetic = (rows[rng.permutation(len(rows))[:n]] for rows in (real, synthetic))
    half, floor = frechet.with_floor(real, synthetic, FLOOR_DRAWS, rng)
    return {
        "fid": _six_digits(frechet.distance(some_real, some_synthetic)),
        "fid_n": n,
        "fid_half": _six_digits(half),
        "fid_floor": _six_digits(floor),
        "fid_excess": _six_digits(half - floor),
        "fid_half_n": frechet.half_size(len(real), len(synthetic)),
        "kid": _six_digits(kernel.distance(real, synthetic)),
    }


def similarities(real: list[Path], synthetic: list[Path], resolution: int) -> Metrics:
    """Mean SSIM over ssim_n pairs, as the earlier study paired them, and why it says little.

    - ssim: the i-th real with the i-th synthetic picture by name, which have nothing in common;
    - ssim_constant: each real picture with one plain picture of the real set's mean colour;
    - ssim_real: each real picture with another one, half the set further on.
    """
    n = min(len(real), len(synthetic))
    colour = np.mean([each.mean(axis=(0, 1)) for each in _pictures(real, resolution)], axis=0)
    plain = np.full((resolution, resolution, 3), colour.round(), np.uint8)
    scores = []
    for i in tqdm(range(n), desc="ssim", unit="pair"):
        others = real[(i + len(real) // 2) % len(real)], synthetic[i]
        one, another, fake = _pictures([real[i], *others], resolution)
        scores.append([ssim.similarity(one, other) for other in (fake, plain, another)])
    paired, constant, among_real = np.mean(scores, axis=0)
    return {
        "ssim": _six_digits(paired),
        "ssim_constant": _six_digits(constant),
        "ssim_real": _six_digits(among_real),
        "ssim_n": n,
    }


def contact_sheet(real: list[Path], synthetic: list[Path], side: int) -> np.ndarray:
    """Up to 8×4 real pictures left of as many synthetic ones, spread evenly over the names."""
    rows = min(SHEET_ROWS, len(real) // SHEET_COLUMNS, len(synthetic) // SHEET_COLUMNS)
    halves = []
    for paths in (real, synthetic):
        spread = np.linspace(0, len(paths) - 1, rows * SHEET_COLUMNS).astype(int)
        shown = list(_pictures([paths[i] for i in spread], side))
        halves.append(
            images.sheet(
                [shown[i : i + SHEET_COLUMNS] for i in range(0, len(shown), SHEET_COLUMNS)]
            )
        )
    between = np.full_like(halves[0][:, : side // 4], 255)
    return np.hstack([halves[0], between, halves[1]])


def _pictures(paths: list[Path], side: int) -> Iterator[np.ndarray]:
    """The pictures, side×side, through the one geometry and codec all are measured in."""
    for path in paths:
        yield images.recode(images.square(images.read(path), side))


def _six_digits(value: float) -> float:
    """`value` to six significant digits: what is left of a float32 network's precision."""
    return float(f"{value:.6g}")
