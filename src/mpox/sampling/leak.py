"""The signal leak: what of a picture still shows through the noise of the first step.

At Stable Diffusion's last timestep ᾱ = 0.0047, not 0: training shows the network a photo's mean
colour there, and it learns to read the colour from the noise and not from the prompt. Pure noise
then says "medium". Sampling from √ᾱ m + √(1−ᾱ) ε, with m as training has it, mends that (Everaert
et al., "Exploiting the Signal-Leak Bias in Diffusion Models", WACV 2024, eq. 5; here only the mean
of each latent channel, of which a Gaussian is kept and no photo's own).
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
FEWEST = 8  # photos of a value: the mean of fewer would nearly be one photo's own


def fit(latents: Tensor, rows: Sequence[Mapping[str, str]], fields: Sequence[str]) -> dict:
    """What generation needs to know of the training photos, as plain numbers.

    `latents`: (N, 4, h, w), the photos'; `rows`: their tables' rows. `mean` and `covariance` are
    of the photos' mean latents (4 numbers a photo), `fields` has for each value of a field how
    many photos have it and, of FEWEST or more, their mean; `within` is the covariance left within
    the values; `combinations` counts the values that go together.
    """
    means = latents.float().mean((2, 3)).double().cpu().numpy()
    whole = means.mean(0)
    values: dict[str, dict[str, Any]] = {}
    left = means - whole
    for field in fields:
        values[field] = {}
        said = np.array([row[field] for row in rows])
        for value in sorted(set(said.tolist())):
            own = said == value
            enough = int(own.sum()) >= FEWEST
            centre = means[own].mean(0) if enough else None
            values[field][value] = {"n": int(own.sum()), "mean": _plain(centre)}
            if centre is not None:
                left[own] -= centre - whole
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
    """What `write` wrote; InputError if there is none, as beside a LoRA of another program."""
    file = folder / FILE_NAME
    try:
        return json.loads(file.read_text())
    except FileNotFoundError:
        raise InputError(
            f"{file}: no such file; expected what train_lora writes beside the LoRA, or "
            "generate.signal_leak: none and generate.fields: [] or values"
        ) from None
    except ValueError as error:
        raise InputError(f"{file}: not readable as JSON: {error}") from None


def draw(photos: dict, asked: Mapping[str, str] | None, seed: int, index: int) -> Tensor:
    """m of picture `index`: (4,), from all photos, or with `asked` from those of such values.

    Of several fields the means' differences add up; a value of fewer than FEWEST photos has none.
    InputError for a value that no photo has.
    """
    whole = np.array(photos["mean"])
    mean, covariance = whole, photos["covariance"]
    for field, value in (asked or {}).items():
        known = photos["fields"].get(field, {}).get(value)
        if known is None:
            raise InputError(
                f"generate.signal_leak: field, but no training photo has the {field} {value!r}; "
                f"expected one of {sorted(photos['fields'].get(field, {}))}"
            )
        if known["mean"] is not None:
            mean, covariance = mean + np.array(known["mean"]) - whole, photos["within"]
    rng = np.random.default_rng(seeds.derive(seed, "leak", index))
    return torch.from_numpy(rng.multivariate_normal(mean, covariance, method="eigh")).float()
