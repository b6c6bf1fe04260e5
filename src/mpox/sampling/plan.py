"""The plan of a drawing: which prompt of params.yaml each picture gets, in the given shares."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from mpox.core import captions
from mpox.params import Generate


class Entry(NamedTuple):
    """The prompt of one picture, and the values of its fields."""

    prompt: str
    fields: dict[str, str]


def plan(settings: Generate, photos: dict | None = None) -> list[Entry]:
    """One entry for each of `settings.num_images` pictures.

    Every prompt is combined with all values of `settings.fields`. Counts are exact (largest
    remainder) and evenly spread, so that the first k pictures have nearly the same shares. `photos`
    (from leak.read) is needed for `fields: as_training`. InputError for a field without values.
    """
    prompts = [(each.prompt, each.share) for each in settings.prompts]
    prompts = prompts or [(settings.prompt, 1.0)]
    if settings.fields == "as_training":
        assert photos is not None
        combinations = photos["combinations"]
        values = [({k: v for k, v in each.items() if k != "n"}, each["n"]) for each in combinations]
    else:
        values = [(each.values(), each.share) for each in settings.fields] or [({}, 1.0)]
    key = "generate.prompts" if settings.prompts else "generate.prompt"
    entries = [
        Entry(captions.fill(prompt, fields, key), fields)
        for prompt, _ in prompts
        for fields, _ in values
    ]
    shares = [share * weight for _, share in prompts for _, weight in values]
    return [entries[k] for k in spread(apportion(shares, settings.num_images))]


def apportion(shares: Sequence[float], number: int) -> list[int]:
    """`number` divided by largest remainder (Hamilton's method); ties go to the first."""
    quotas = [number * share / math.fsum(shares) for share in shares]
    counts = [math.floor(quota + 1e-9) for quota in quotas]
    order = sorted(range(len(shares)), key=lambda k: counts[k] - quotas[k])
    for k in order[: number - sum(counts)]:
        counts[k] += 1
    return counts


def spread(counts: Sequence[int]) -> list[int]:
    """Index k `counts[k]` times, evenly mixed: the j-th of n is placed at (j + ½) / n."""
    places = [((j + 0.5) / n, k) for k, n in enumerate(counts) for j in range(n)]
    return [k for _, k in sorted(places)]
