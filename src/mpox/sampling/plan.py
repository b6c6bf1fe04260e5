"""What is asked of each picture: the prompts of params.yaml, in their shares."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from mpox.core import captions
from mpox.params import Generate


class Asked(NamedTuple):
    """Of one picture: its words, and the values of the fields in them."""

    prompt: str
    fields: dict[str, str]


def plan(settings: Generate, photos: dict | None = None) -> list[Asked]:
    """What is asked of each of `settings.num_images` pictures.

    Every prompt goes with all values of `settings.fields`; counts are exact (largest remainder) and
    spread evenly over the pictures, so that the first k have nearly the same shares. `photos` is
    what leak.read gives, for `fields: as_training`. InputError for a field that has no values.
    """
    prompts = [(each.prompt, each.share) for each in settings.prompts]
    prompts = prompts or [(settings.prompt, 1.0)]
    if settings.fields == "as_training":
        assert photos is not None
        entries = photos["combinations"]
        values = [({k: v for k, v in each.items() if k != "n"}, each["n"]) for each in entries]
    else:
        values = [(each.values(), each.share) for each in settings.fields] or [({}, 1.0)]
    key = "generate.prompts" if settings.prompts else "generate.prompt"
    asked = [
        Asked(captions.fill(prompt, own, key), own) for prompt, _ in prompts for own, _ in values
    ]
    shares = [share * weight for _, share in prompts for _, weight in values]
    return [asked[k] for k in spread(apportion(shares, settings.num_images))]


def apportion(shares: Sequence[float], number: int) -> list[int]:
    """`number` divided by the largest remainder (Hamilton's method); of equal ones the first."""
    quotas = [number * share / math.fsum(shares) for share in shares]
    counts = [math.floor(quota + 1e-9) for quota in quotas]
    order = sorted(range(len(shares)), key=lambda k: counts[k] - quotas[k])
    for k in order[: number - sum(counts)]:
        counts[k] += 1
    return counts


def spread(counts: Sequence[int]) -> list[int]:
    """So many of each, evenly mixed: the j-th of n is due at (j + ½) / n."""
    due = [((j + 0.5) / n, k) for k, n in enumerate(counts) for j in range(n)]
    return [k for _, k in sorted(due)]
