"""The lesions: each function draws one kind into a skin's fields.

The order of the calls of `rng` decides the committed phantoms: keep it.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from mpox.embedded.skin import (
    Outline,
    Patient,
    Skin,
    Window,
    bump,
    inside,
    lay,
    noise,
    places,
    step,
)

# Stages of mpox by maturity: papule below the first pair, crust above the second, between them the
# umbilicated pustule; within a pair one passes into the other.
PAPULE_TO_PUSTULE = (0.10, 0.22)
PUSTULE_TO_CRUST = (0.62, 0.95)


def _inflame(skin: Skin, who: Patient, window: Window, halo: np.ndarray) -> None:
    """Redness. On dark skin it shows as a darker, violet-brown hue instead."""
    skin.blood[window] += who.redness * halo
    skin.melanin[window] += 0.40 * who.tone * who.redness * halo


# ---------------------------------------------------------------- mpox and its look-alikes


class _Pox(NamedTuple):
    """How far a lesion has developed, 0 … 1, and the strength of each sign: 1 as in mpox."""

    pustule: float
    crusted: float
    redness: float = 1.0
    rim: float = 1.0
    dimple: float = 1.0
    crust: float = 1.0
    blister: float = 0.0  # gloss of a clear tense blister
    ragged: float = 0.06


class _Rash(NamedTuple):
    """How many lesions of which size; `small` and `many` hold for lesion_size 0."""

    small: float  # radius, in shares of the side
    growth: float  # of the radius, up to lesion_size 1
    fewest: int
    extra: int  # lesions at most beyond `fewest`, each with the probability …
    many: float
    fewer: float  # … many − fewer × lesion_size
    spacing: float = 2.6  # radii between centres, at least
    spread: float = 0.31  # of the centres, in shares of the side


Draw = Callable[[np.random.Generator], tuple[float, _Pox]]


def _erupt(skin: Skin, who: Patient, rng: np.random.Generator, rash: _Rash, draw: Draw) -> None:
    """A rash. `draw` gives each lesion its size, in shares of the rash's radius, and its signs."""
    radius = skin.size * (rash.small + rash.growth * who.lesion_size)
    number = rash.fewest + rng.binomial(rash.extra, rash.many - rash.fewer * who.lesion_size)
    uneven, grain = noise(rng, skin.size, 11), noise(rng, skin.size, 36)
    for place in places(rng, skin.size, number, rash.spacing * radius, rash.spread):
        scale, pox = draw(rng)
        outline = Outline(ellipse=1.15, ragged=pox.ragged)
        window, r = skin.spot(place, radius * scale, rng, outline)
        shape = r, radius * scale, uneven[window], grain[window]
        _pox(skin, who, pox, window, shape)


def _pox(
    skin: Skin,
    who: Patient,
    pox: _Pox,
    window: Window,
    shape: tuple[np.ndarray, float, np.ndarray, np.ndarray],
) -> None:
    """One lesion. shape: r (`Skin.spot`), the radius in pixels, and two fields of noise."""
    r, radius, patchy, grain = shape
    pustule, crusted = pox.pustule, pox.crusted
    ragged = r * (1 + 0.10 * patchy)
    core = 0.22 + 0.10 * pustule + 0.33 * crusted
    middle = inside(ragged, core, 0.22)
    dry = 1 - 0.3 * crusted * np.clip(grain, 0, 1)
    dome = inside(r, 0.92, 0.32)
    _inflame(skin, who, window, pox.redness * (0.62 + 0.12 * patchy) * bump(r, 1.05, 0.34))
    _inflame(skin, who, window, pox.redness * 0.50 * bump(r, 0.9, 0.80))
    sunken = pox.dimple * (0.10 + 0.16 * pustule - 0.20 * crusted) * bump(r, 0, core + 0.08)
    skin.height[window] += radius * (0.36 * dome - sunken) + 0.8 * crusted * middle * grain
    rim = pox.rim * (0.22 + 0.50 * pustule - 0.05 * crusted) * (1 + 0.1 * patchy)
    lay(skin.pus, window, rim * bump(r, 0.50 + 0.50 * core, 0.30) * dome)
    skin.blood[window] += pox.crust * (1.1 - 0.4 * crusted) * middle
    dark = pox.crust * (0.50 + 0.28 * pustule + 0.16 * crusted)
    lay(skin.crust, window, dark * middle * dry)
    skin.gloss[window] += ((0.02 + 0.04 * pustule) * (1 - crusted) + pox.blister) * dome
    skin.mask[window] |= r < 1


def _mpox(skin: Skin, who: Patient, rng: np.random.Generator) -> None:
    """Firm, deep-seated lesions in a red halo around a dark middle, all in one stage.

    A papule with a first dimple; a pustule with a pale raised rim and a sunken dark centre; a dark
    uneven crust in a pale collar (WHO, Atlas of mpox lesions, 2023).
    """
    pustule, crusted = step(who.maturity, PAPULE_TO_PUSTULE), step(who.maturity, PUSTULE_TO_CRUST)
    rash = _Rash(0.10, 0.09, 1, 3, 0.75, 0.5)
    _erupt(skin, who, rng, rash, lambda rng: (rng.uniform(0.88, 1.06), _Pox(pustule, crusted)))


def _chickenpox(skin: Skin, who: Patient, rng: np.random.Generator) -> None:
    """Smaller, more superficial lesions of all stages side by side, with some clear blisters."""

    def draw(rng: np.random.Generator) -> tuple[float, _Pox]:
        scale, maturity = rng.uniform(0.75, 1.25), rng.uniform()
        pustule, crusted = step(maturity, PAPULE_TO_PUSTULE), step(maturity, PUSTULE_TO_CRUST)
        clear = 0.3 * rng.uniform() * (1 - crusted)
        return scale, _Pox(pustule, crusted, 1.0, 0.85, 0.6, 0.5 + 0.5 * crusted, clear, 0.09)

    _erupt(skin, who, rng, _Rash(0.08, 0.08, 2, 3, 0.75, 0.5, 2.4, 0.33), draw)


def _molluscum(skin: Skin, who: Patient, rng: np.random.Generator) -> None:
    """Pearly dimpled papules on skin that is hardly red, never dark in their middle."""

    def draw(rng: np.random.Generator) -> tuple[float, _Pox]:
        scale, pustule = rng.uniform(0.8, 1.15), rng.uniform(0.2, 1.0)
        return scale, _Pox(pustule, 0.0, 0.7, 0.9, 1.2, rng.uniform(0.3, 0.9), 0.03)

    _erupt(skin, who, rng, _Rash(0.08, 0.08, 2, 3, 0.75, 0.5), draw)


def _ecthyma(skin: Skin, who: Patient, rng: np.random.Generator) -> None:
    """Few ragged ulcers under an adherent crust, widely inflamed, without a pale collar."""

    def draw(rng: np.random.Generator) -> tuple[float, _Pox]:
        scale, crusted = rng.uniform(0.85, 1.15), rng.uniform(0.3, 1.0)
        return scale, _Pox(rng.uniform(0.3, 1.0), crusted, 1.25, 0.6, 1.0, 1.0, 0.0, 0.14)

    _erupt(skin, who, rng, _Rash(0.10, 0.10, 1, 2, 0.6, 0.4), draw)


# ---------------------------------------------------------------- other kinds


def _vesicle(skin: Skin, who: Patient, rng: np.random.Generator) -> None:
    """Clear tense blisters in a group on a common red base, each with a highlight of the lamp."""
    radius = skin.size * (0.055 + 0.035 * who.lesion_size)
    for place in places(rng, skin.size, int(rng.integers(3, 8)), 2.2 * radius, 0.26):
        blister = radius * rng.uniform(0.85, 1.1)
        window, r = skin.spot(place, blister, rng, Outline(ellipse=1.12, reach=3.2))
        dome = np.sqrt(np.clip(1 - r**2, 0, None))
        skin.height[window] += 0.65 * blister * dome
        _inflame(skin, who, window, 0.40 * bump(r, 0.8, 1.0) + 0.35 * bump(r, 1.05, 0.3))
        lay(skin.pus, window, 0.26 * inside(r, 0.92))
        skin.gloss[window] += 0.65 * inside(r, 0.95)
        skin.mask[window] |= r < 1


def _acne(skin: Skin, who: Patient, rng: np.random.Generator) -> None:
    """Inflamed papules of all stages, some with a small yellow-white head, and open pores."""
    radius = skin.size * (0.065 + 0.030 * who.lesion_size)
    pimples, pores = int(rng.integers(4, 8)), int(rng.integers(3, 8))
    centres = places(rng, skin.size, pimples + pores, 2.2 * radius, 0.42)
    for place in centres[:pimples]:
        papule = radius * rng.uniform(0.65, 1.2)
        window, r = skin.spot(place, papule, rng, Outline(ragged=0.12, reach=3.0))
        _inflame(skin, who, window, 0.95 * bump(r, 0, 0.95) + 0.25 * bump(r, 0, 1.7))
        skin.height[window] += 0.50 * papule * bump(r, 0, 0.75)
        if rng.uniform() < 0.6:
            lay(skin.pus, window, 0.85 * inside(r, 0.38, 0.22))
        skin.gloss[window] += 0.08 * bump(r, 0, 0.6)
        skin.mask[window] |= r < 1
    for place in centres[pimples:]:
        pore = skin.size * rng.uniform(0.011, 0.018)
        window, r = skin.spot(place, pore, rng, Outline(reach=4))
        lay(skin.crust, window, 0.8 * inside(r, 1.0, 0.6))
        skin.height[window] -= 0.5 * bump(r, 0, 1.0)
        skin.mask[window] |= r < 1


def _naevus(skin: Skin, who: Patient, rng: np.random.Generator) -> None:
    """One or two flat brown moles with a darker, slightly uneven middle."""
    radius = skin.size * (0.10 + 0.13 * who.lesion_size)
    mottle = 1 + 0.12 * noise(rng, skin.size, 14) + 0.08 * noise(rng, skin.size, 36)
    for place in places(rng, skin.size, 1 + (rng.uniform() < 0.3), 2.6 * radius, 0.28):
        mole = radius * rng.uniform(0.75, 1.1)
        window, r = skin.spot(place, mole, rng, Outline(ellipse=1.35, ragged=0.12))
        depth = rng.uniform(0.9, 1.4) + 0.5 * who.tone  # a mole is darker than the skin it is on
        pigment = inside(r, 1.0, 0.24) * (depth + 0.5 * bump(r, 0.2, 0.5))
        skin.melanin[window] += pigment * mottle[window]
        skin.height[window] += 0.10 * mole * inside(r, 0.85, 0.4)
        skin.mask[window] |= r < 1


def _plaque(skin: Skin, who: Patient, rng: np.random.Generator) -> None:
    """A broad, raised, sharply edged red area covered with silvery scale, as in psoriasis."""
    radius = skin.size * (0.22 + 0.14 * who.lesion_size)
    sheets, splinters = noise(rng, skin.size, 9), noise(rng, skin.size, 34, stretch=1.6)
    for place in places(rng, skin.size, 1 + (rng.uniform() < 0.25), 1.9 * radius, 0.24):
        plaque = radius * rng.uniform(0.8, 1.1)
        window, r = skin.spot(place, plaque, rng, Outline(ellipse=1.4, ragged=0.2, reach=2.0))
        r = r * (1 + 0.02 * splinters[window])
        area = inside(r, 1.0, 0.07)
        flakes = np.clip(0.52 + 0.15 * sheets[window] + 0.18 * splinters[window], 0, 1)
        _inflame(skin, who, window, area * (1.05 + 0.25 * bump(r, 0.95, 0.12)))
        lay(skin.scale, window, 0.75 * flakes * inside(r, 0.86, 0.2))
        skin.height[window] += area * (0.015 * skin.size + 1.1 * flakes)
        skin.mask[window] |= r < 1


LESIONS = {
    "mpox": _mpox,
    "vesicle": _vesicle,
    "acne": _acne,
    "naevus": _naevus,
    "plaque": _plaque,
    "chickenpox": _chickenpox,
    "molluscum": _molluscum,
    "ecthyma": _ecthyma,
}
