"""The signal leak: the colour of a picture shows through the noise of the first step.

At Stable Diffusion's last timestep ᾱ = 0.0047, not 0. The network therefore sees a photo's mean
colour even there, and learns to read colour from the noise instead of the prompt. Sampling from
pure noise then gives medium tones. Starting from √ᾱ m + √(1−ᾱ) ε, with m distributed as in the
training photos, corrects this (Everaert et al., "Exploiting the Signal-Leak Bias in Diffusion
Models", WACV 2024, eq. 5). Here m is only the mean of each latent channel. The LoRA's folder stores
a Gaussian of m, not the colours of single photos.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mpox.core import folders, seeds
from mpox.core.errors import InputError

FILE_NAME = "photos.json"
FEWEST = 8  # photos with a value; a mean of fewer would say much about single photos


def fit(latents: Tensor, rows: Sequence[Mapping[str, str]], fields: Sequence[str]) -> dict:
    """The numbers about the training photos that generation needs.

    `latents`: (N, 4, h, w) of the photos; `rows`: their rows in the table. In the result, `mean`
    and `covariance` describe the photos' mean latents (4 numbers per photo). `fields` has the
    number of photos for each value of a field and, if there are FEWEST or more, their mean.
    `within` is the covariance within the values, and `combinations` counts combinations of values.
    """
    means = latents.float().mean((2, 3)).double().cpu().numpy()
    whole = means.mean(0)
    values: dict[str, dict[str, Any]] = {}
    left = means - whole
    for field in fields:
        values[field] = {}
        column = np.array([row[field] for row in rows])
        for value in sorted(set(column.tolist())):
            having = column == value
            number = int(having.sum())
            centre = means[having].mean(0) if number >= FEWEST else None
            values[field][value] = {"n": number, "mean": _plain(centre)}
            if centre is not None:
                left[having] -= centre - whole
    counted = Counter(tuple(row[field] for field in fields) for row in rows)
    return {
        "n": len(means),
        "mean": _plain(whole),
        "covariance": _plain(np.cov(means.T)),
        "within": _plain(np.cov(left.T)),
        "fields": values,
        "combinations": [
            {**dict(zip(fields, together, strict=True)), "n": n}
            for together, n in sorted(counted.items())
        ],
    }


def _plain(numbers: np.ndarray | None) -> list | None:
    return None if numbers is None else np.round(numbers, 5).tolist()


def write(folder: Path, photos: dict) -> None:
    """`folder`/photos.json."""
    folders.write(folder / FILE_NAME, (json.dumps(photos, indent=2) + "\n").encode())


def read(folder: Path) -> dict:
    """The numbers that `write` stored; InputError if the file is missing or damaged."""
    file = folder / FILE_NAME
    try:
        return json.loads(file.read_text())
    except FileNotFoundError:
        raise InputError(
            f"{file}: no such file; expected the one that train_lora writes beside the LoRA, or "
            "generate.signal_leak: none and generate.fields: [] or a list of values"
        ) from None
    except ValueError as error:
        raise InputError(f"{file}: not readable as JSON: {error}") from None


def draw(photos: dict, fields: Mapping[str, str] | None, seed: int, index: int) -> Tensor:
    """m of picture `index`, (4,): from all photos or, with `fields`, from those with these values.

    The shifts of several fields add up; a value of fewer than FEWEST photos gives no shift.
    InputError for a value that no photo has.
    """
    whole = np.array(photos["mean"])
    mean, covariance = whole, photos["covariance"]
    for field, value in (fields or {}).items():
        known = photos["fields"].get(field, {}).get(value)
        if known is None:
            raise InputError(
                f"generate.signal_leak: field, but no training photo has {field} {value!r}; "
                f"expected one of {sorted(photos['fields'].get(field, {}))}"
            )
        if known["mean"] is not None:
            mean, covariance = mean + np.array(known["mean"]) - whole, photos["within"]
    rng = np.random.default_rng(seeds.derive(seed, "leak", index))
    return torch.from_numpy(rng.multivariate_normal(mean, covariance, method="eigh")).float()
