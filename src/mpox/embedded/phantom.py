"""Procedural skin: pictures of lesions of a known kind, for runs and tests without a patient.

`skin.py` has the height field and the pigments, `lesions.py` draws a kind of lesion into them, and
`camera.py` renders the picture. A phantom is a test instrument: it shows no real person, and no
clinical claim rests on it.
"""

from typing import NamedTuple

import numpy as np

from mpox.core import seeds
from mpox.embedded.camera import photograph
from mpox.embedded.lesions import LESIONS
from mpox.embedded.skin import Patient, Skin

KINDS = ("mpox", "vesicle", "acne", "naevus", "plaque", "healthy")  # that the small base knows
LOOK_ALIKES = ("chickenpox", "molluscum", "ecthyma")  # that a classifier must tell from mpox

GOLDEN_RATIO = 0.6180339887  # multiples modulo 1 fill [0, 1) evenly, for any number of patients
HAIRY_SHARE = 0.3  # of patients
PALE_HAIRED_SHARE = 0.4  # of hairy patients


class Phantom(NamedTuple):
    picture: np.ndarray  # uint8 (size, size, 3), RGB
    mask: np.ndarray  # bool (size, size), true inside lesions


def patient(kind: str, index: int, seed: int) -> Patient:
    """Patient `index` of a kind. The skin tones of the patients fill the range evenly."""
    rng = np.random.default_rng(seeds.derive(seed, "patient", kind, index))
    return Patient(
        tone=((index + 0.5) * GOLDEN_RATIO) % 1.0,
        light=rng.uniform(0, 2 * np.pi),
        lamp_height=rng.uniform(0.7, 1.2),
        warmth=rng.uniform(0.94, 1.07),
        lesion_size=rng.uniform(),
        redness=rng.uniform(0.5, 1.0),
        maturity=rng.uniform(),
        oiliness=rng.uniform(),
        hairy=rng.uniform() < HAIRY_SHARE,
        pale_hair=rng.uniform() < PALE_HAIRED_SHARE,
    )


def draw(kind: str, index: int, picture: int, seed: int, size: int = 128) -> Phantom:
    """Picture number `picture` of patient `index`: the same arguments draw the same picture.

    Raises ValueError for a kind in neither `KINDS` nor `LOOK_ALIKES`.
    """
    if kind not in (known := KINDS + LOOK_ALIKES):
        raise ValueError(f"kind: got {kind!r}, expected one of {', '.join(known)}")
    who = patient(kind, index, seed)
    rng = np.random.default_rng(seeds.derive(seed, "phantom", kind, index, picture))
    skin = Skin(size, rng)
    if kind != "healthy":
        LESIONS[kind](skin, who, rng)
    if who.hairy:
        skin.grow_hair(rng)
    return Phantom(photograph(skin, who, rng), skin.mask)
