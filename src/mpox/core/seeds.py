"""Stateless randomness: the seed of every draw is derived from its purpose."""

import hashlib
import json


def derive(seed: int, *key: str | int) -> int:
    """The seed of one draw: SHA-256 of (seed, purpose, index, …), an integer in [0, 2⁶³).

    It does not depend on anything that ran before. Any picture, step or variant can be drawn
    again alone, in any order, by any process.
    """
    digest = hashlib.sha256(json.dumps([seed, *key]).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def first(*seeds: int | None) -> int:
    """The first seed that is not None: the training's own, or the run's."""
    return next(seed for seed in seeds if seed is not None)
