"""Procedural skin: pictures of lesions of known kind, to run and test on without a patient.

A picture is rendered in linear light from a height field and its pigments, then passed through a
simple camera. It is a test instrument: it shows no real person, and no clinical claim rests on it.
"""

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from mpox.core import seeds

KINDS = ("mpox", "vesicle", "acne", "naevus", "plaque", "healthy")  # that the small base knows
LOOK_ALIKES = ("chickenpox", "molluscum", "ecthyma")  # of mpox, which a classifier tells from it


def _vector(values: list) -> np.ndarray:
    return np.array(values, np.float32)


# Monk Skin Tone scale, lightest to darkest, sRGB (E. Monk, 2019, skintone.google; CC BY 4.0).
MONK_TONES = (
    (246, 237, 228), (243, 231, 219), (247, 234, 208), (234, 218, 186), (215, 189, 150),
    (160, 126, 86), (130, 92, 67), (96, 65, 52), (58, 49, 42), (41, 36, 32),
)  # fmt: skip
# Optical density per unit of pigment in R, G, B: haemoglobin absorbs green and blue, melanin
# falls from blue to red (shape after Jacques 2013, Phys. Med. Biol. 58 R37, fig. 3).
BLOOD_ABSORPTION = _vector([0.20, 1.00, 0.85])
MELANIN_ABSORPTION = _vector([0.65, 1.00, 1.35])
PUS = _vector([0.86, 0.72, 0.50])  # linear RGB, yellowish white
CRUST = _vector([0.055, 0.022, 0.014])  # linear RGB, dried blood
SCALE = _vector([0.84, 0.80, 0.76])  # linear RGB, dry horn
DARK_HAIR = _vector([0.020, 0.014, 0.010])  # linear RGB
PALE_HAIR = _vector([0.62, 0.50, 0.34])  # linear RGB
GOLDEN_RATIO = 0.6180339887  # steps through [0, 1) evenly whatever the number of patients

FURROW_DEPTH = 0.18  # pixels
PORE_DEPTH = 0.35  # pixels
# Stages of mpox by maturity: papule below the first pair, crust above the second, between them the
# umbilicated pustule; within a pair one passes into the other.
PAPULE_TO_PUSTULE = (0.10, 0.22)
PUSTULE_TO_CRUST = (0.62, 0.95)
HAIRY_SHARE = 0.3  # of patients
PALE_HAIRED_SHARE = 0.4  # of the hairy
HAIRS = 6.0  # mean number in a picture of a hairy patient
HAIR_SHADOW = 1.5  # pixels from the hair when the lamp lies flat
SHINE_EXPONENT = 48  # Blinn–Phong
DEFOCUS_BLUR = 0.016  # shares of the side, standard deviation where the picture is least sharp
MOST_VIGNETTING = 0.3  # share of light lost in the corners
TARGET_BRIGHTNESS = 0.30  # linear light the camera exposes for …
EXPOSURE_STRENGTH = 0.45  # … reaching it to this degree, so that dark skin stays dark


@dataclass(frozen=True)
class Patient:
    """What all pictures of one patient share; lengths in shares of the picture's side."""

    tone: float  # 0 lightest … 1 darkest
    light: float  # direction of the lamp in the picture's plane, radians
    lamp_height: float  # radians above the skin
    warmth: float  # white balance: red gain, inverse blue gain
    lesion_size: float  # 0 smallest … 1 largest of the kind
    redness: float  # strength of the inflammation around lesions
    maturity: float  # mpox: 0 papule … 1 crusted
    oiliness: float  # 0 dry and dull … 1 oily and shining
    hairy: bool
    pale_hair: bool


class Phantom(NamedTuple):
    picture: np.ndarray  # uint8 (size, size, 3), RGB
    mask: np.ndarray  # bool (size, size), true inside lesions


def patient(kind: str, index: int, seed: int) -> Patient:
    """Patient `index` of a kind; tones follow the golden ratio and so fill the range evenly."""
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
    skin = _Skin(size, rng)
    if kind != "healthy":
        _LESIONS[kind](skin, who, rng)
    if who.hairy:
        skin.grow_hair(rng)
    return Phantom(_photograph(skin, who, rng), skin.mask)


# ---------------------------------------------------------------- skin


class _Skin:
    """The fields a picture is rendered from, each float32 (size, size)."""

    def __init__(self, size: int, rng: np.random.Generator):
        self.size = size
        self.height = self._relief(rng)  # pixels
        self.blood = 0.14 + 0.03 * _noise(rng, size, 5) + 0.02 * _noise(rng, size, 24)
        self.melanin = 0.03 * _noise(rng, size, 4) + 0.02 * _noise(rng, size, 16)
        self.pus = np.zeros((size, size), np.float32)  # 0 … 1, opaque at 1; likewise:
        self.crust = np.zeros((size, size), np.float32)
        self.scale = np.zeros((size, size), np.float32)
        self.hair = np.zeros((size, size), np.float32)
        self.gloss = np.zeros((size, size), np.float32)  # on top of the skin's own
        self.mask = np.zeros((size, size), bool)

    def _relief(self, rng: np.random.Generator) -> np.ndarray:
        """Primary furrows in two crossing directions on a gently curved body."""
        angle = rng.uniform(0, np.pi)
        relief = 0.011 * self.size * _noise(rng, self.size, 2)
        for turn in (angle, angle + rng.uniform(1.0, 1.6)):
            lines = _noise(rng, self.size, 18, stretch=2.2, angle=turn)
            relief -= FURROW_DEPTH * np.exp(-((lines / 0.35) ** 2))
        pores = np.clip(_noise(rng, self.size, 30) - 1.2, 0, 1)
        return relief + 0.07 * _noise(rng, self.size, 40) - PORE_DEPTH * pores

    def grow_hair(self, rng: np.random.Generator) -> None:
        """Fine curved hairs that lie roughly one way, anywhere in the picture."""
        hairs = np.zeros((self.size, self.size), np.uint8)
        lie, fraction = rng.uniform(0, 2 * np.pi), 4  # bits after the binary point
        along = np.linspace(0, 1, 12)
        for _ in range(1 + rng.poisson(HAIRS)):
            turn = lie + rng.normal(0, 0.35) + rng.normal(0, 0.5) * along
            step = self.size * rng.uniform(0.25, 0.6) / len(along)
            track = step * np.cumsum(np.c_[np.cos(turn), np.sin(turn)], axis=0)
            track += rng.uniform(-0.1, 1.0, 2) * self.size
            points = np.round(track * 2**fraction).astype(np.int32)
            thickness = rng.uniform(70, 180)  # of 255: thinner than a pixel shows as fainter
            cv2.polylines(hairs, [points], False, thickness, 1, cv2.LINE_AA, fraction)
        self.hair += hairs / np.float32(255)

    def spot(self, x, y, radius, rng, *, ellipse=1.25, ragged=0.08, reach=2.4):
        """A window around (x, y) and in it r, 1 on a slightly irregular outline (pixels)."""
        low_x, low_y = (max(0, int(c - reach * radius)) for c in (x, y))
        high_x, high_y = (min(self.size, int(c + reach * radius) + 2) for c in (x, y))
        window = np.s_[low_y:high_y, low_x:high_x]
        dy, dx = np.mgrid[window].astype(np.float32)
        dx, dy = dx - np.float32(x), dy - np.float32(y)
        theta = np.arctan2(dy, dx)
        stretch = rng.uniform(1, ellipse) * np.cos(2 * (theta - rng.uniform(0, np.pi)))
        outline = 1 + 0.12 * (ellipse - 1) / 0.25 * stretch
        for k in (3, 4, 5):
            outline += ragged * rng.normal() / k * np.cos(k * theta + rng.uniform(0, 2 * np.pi))
        return window, (np.hypot(dx, dy) / (radius * outline)).astype(np.float32)


def _noise(rng, size: int, cells: float, stretch: float = 1.0, angle: float = 0.0) -> np.ndarray:
    """Smooth noise of unit variance, about `cells` bumps along a side, float32 (size, size)."""
    rows, columns = max(2, round(cells)) + 3, max(2, round(cells / stretch)) + 3
    grid = rng.standard_normal((rows, columns)).astype(np.float32)
    # Turning needs a margin: draw on a square √2 wider, then rotate about its middle.
    wide = int(size * 1.5) if angle else size
    field = cv2.resize(grid, (wide, wide), interpolation=cv2.INTER_CUBIC)
    if angle:
        turn = cv2.getRotationMatrix2D((wide / 2, wide / 2), np.degrees(angle), 1.0)
        field = cv2.warpAffine(field, turn, (wide, wide), flags=cv2.INTER_LINEAR)
        margin = (wide - size) // 2
        field = field[margin : margin + size, margin : margin + size]
    return field / np.float32(0.75)


def _bump(r: np.ndarray, centre: float, width: float) -> np.ndarray:
    return np.exp(-(((r - centre) / width) ** 2))


def _inside(r: np.ndarray, edge: float = 1.0, softness: float = 0.12) -> np.ndarray:
    """1 for r well below `edge`, 0 well above, smooth between."""
    return 1 / (1 + np.exp(np.clip((r - edge) / (softness / 2), -30, 30)))


def _step(value: float, pair: tuple[float, float]) -> float:
    """0 below the pair, 1 above, smooth between."""
    share = min(max((value - pair[0]) / (pair[1] - pair[0]), 0.0), 1.0)
    return share * share * (3 - 2 * share)


def _lay(cover: np.ndarray, window: tuple, amount: np.ndarray) -> None:
    """Covers overlap without adding up: the thicker one counts."""
    cover[window] = np.maximum(cover[window], amount)


def _places(rng, size: int, number: int, radius: float, spacing: float, spread: float) -> list:
    """Up to `number` centres at least `spacing` radii apart, within `spread` of the middle."""
    middle = size / 2 + rng.uniform(-0.08, 0.08, 2) * size
    places: list[np.ndarray] = []
    for _ in range(20 * number):
        place = middle + rng.uniform(-spread, spread, 2) * size
        if all(np.hypot(*(place - other)) > spacing * radius for other in places):
            places.append(place)
        if len(places) == number:
            break
    return places


# ---------------------------------------------------------------- lesions


def _inflame(skin: _Skin, who: Patient, window: tuple, halo: np.ndarray) -> None:
    """Redness, which dark skin hides: there it is its darker, violet-brown hue that shows."""
    skin.blood[window] += who.redness * halo
    skin.melanin[window] += 0.40 * who.tone * who.redness * halo


def _mpox(skin: _Skin, who: Patient, rng: np.random.Generator) -> None:
    """Firm, deep-seated lesions, all in one stage, on a halo, round a dark middle.

    A papule with a first dimple; a pustule with a pale raised rim and a sunken dark centre; a dark
    uneven crust in a pale collar (WHO, Atlas of mpox lesions, 2023).
    """
    pustule, crusted = _step(who.maturity, PAPULE_TO_PUSTULE), _step(who.maturity, PUSTULE_TO_CRUST)
    radius = skin.size * (0.10 + 0.09 * who.lesion_size)
    number = 1 + rng.binomial(3, 0.75 - 0.5 * who.lesion_size)
    uneven, grain = _noise(rng, skin.size, 11), _noise(rng, skin.size, 36)
    for place in _places(rng, skin.size, number, radius, 2.6, 0.31):
        own = radius * rng.uniform(0.88, 1.06)
        _pox(skin, who, rng, place, own, _Pox(pustule, crusted), uneven, grain)


class _Pox(NamedTuple):
    """How far a lesion has come, 0 … 1, and how strongly it has what mpox has with 1."""

    pustule: float
    crusted: float
    redness: float = 1.0
    rim: float = 1.0
    dimple: float = 1.0
    crust: float = 1.0
    blister: float = 0.0  # gloss of a clear tense blister
    ragged: float = 0.06


def _pox(
    skin: _Skin,
    who: Patient,
    rng: np.random.Generator,
    place: np.ndarray,
    own: float,
    pox: _Pox,
    uneven: np.ndarray,
    grain: np.ndarray,
) -> None:
    """One lesion of radius `own` around `place`, on the fields of noise `uneven` and `grain`."""
    pustule, crusted = pox.pustule, pox.crusted
    window, r = skin.spot(place[0], place[1], own, rng, ellipse=1.15, ragged=pox.ragged)
    patchy = uneven[window]
    ragged = r * (1 + 0.10 * patchy)
    core = 0.22 + 0.10 * pustule + 0.33 * crusted
    middle = _inside(ragged, core, 0.22)
    dry = 1 - 0.3 * crusted * np.clip(grain[window], 0, 1)
    dome = _inside(r, 0.92, 0.32)
    _inflame(skin, who, window, pox.redness * (0.62 + 0.12 * patchy) * _bump(r, 1.05, 0.34))
    _inflame(skin, who, window, pox.redness * 0.50 * _bump(r, 0.9, 0.80))
    sunken = pox.dimple * (0.10 + 0.16 * pustule - 0.20 * crusted) * _bump(r, 0, core + 0.08)
    skin.height[window] += own * (0.36 * dome - sunken) + 0.8 * crusted * middle * grain[window]
    rim = pox.rim * (0.22 + 0.50 * pustule - 0.05 * crusted) * (1 + 0.1 * patchy)
    _lay(skin.pus, window, rim * _bump(r, 0.50 + 0.50 * core, 0.30) * dome)
    skin.blood[window] += pox.crust * (1.1 - 0.4 * crusted) * middle
    dark = pox.crust * (0.50 + 0.28 * pustule + 0.16 * crusted)
    _lay(skin.crust, window, dark * middle * dry)
    skin.gloss[window] += ((0.02 + 0.04 * pustule) * (1 - crusted) + pox.blister) * dome
    skin.mask[window] |= r < 1


def _chickenpox(skin: _Skin, who: Patient, rng: np.random.Generator) -> None:
    """Smaller, more superficial lesions of all stages side by side, clear blisters among them."""
    radius = skin.size * (0.08 + 0.08 * who.lesion_size)
    number = 2 + rng.binomial(3, 0.75 - 0.5 * who.lesion_size)
    uneven, grain = _noise(rng, skin.size, 11), _noise(rng, skin.size, 36)
    for place in _places(rng, skin.size, number, radius, 2.4, 0.33):
        own, maturity = radius * rng.uniform(0.75, 1.25), rng.uniform()
        pustule, crusted = _step(maturity, PAPULE_TO_PUSTULE), _step(maturity, PUSTULE_TO_CRUST)
        clear = 0.3 * rng.uniform() * (1 - crusted)
        pox = _Pox(pustule, crusted, 1.0, 0.85, 0.6, 0.5 + 0.5 * crusted, clear, 0.09)
        _pox(skin, who, rng, place, own, pox, uneven, grain)


def _molluscum(skin: _Skin, who: Patient, rng: np.random.Generator) -> None:
    """Pearly dimpled papules on skin that is hardly red, never dark in their middle."""
    radius = skin.size * (0.08 + 0.08 * who.lesion_size)
    number = 2 + rng.binomial(3, 0.75 - 0.5 * who.lesion_size)
    uneven, grain = _noise(rng, skin.size, 11), _noise(rng, skin.size, 36)
    for place in _places(rng, skin.size, number, radius, 2.6, 0.31):
        own, pustule = radius * rng.uniform(0.8, 1.15), rng.uniform(0.2, 1.0)
        pox = _Pox(pustule, 0.0, 0.7, 0.9, 1.2, rng.uniform(0.3, 0.9), 0.03)
        _pox(skin, who, rng, place, own, pox, uneven, grain)


def _ecthyma(skin: _Skin, who: Patient, rng: np.random.Generator) -> None:
    """Few ragged ulcers under an adherent crust, widely inflamed, without a pale collar."""
    radius = skin.size * (0.10 + 0.10 * who.lesion_size)
    number = 1 + rng.binomial(2, 0.6 - 0.4 * who.lesion_size)
    uneven, grain = _noise(rng, skin.size, 11), _noise(rng, skin.size, 36)
    for place in _places(rng, skin.size, number, radius, 2.6, 0.31):
        own, crusted = radius * rng.uniform(0.85, 1.15), rng.uniform(0.3, 1.0)
        pox = _Pox(rng.uniform(0.3, 1.0), crusted, 1.25, 0.6, 1.0, 1.0, 0.0, 0.14)
        _pox(skin, who, rng, place, own, pox, uneven, grain)


def _vesicle(skin: _Skin, who: Patient, rng: np.random.Generator) -> None:
    """Clear tense blisters in a group on a common red base, each with a glint of the lamp."""
    radius = skin.size * (0.055 + 0.035 * who.lesion_size)
    for x, y in _places(rng, skin.size, int(rng.integers(3, 8)), radius, 2.2, 0.26):
        own = radius * rng.uniform(0.85, 1.1)
        window, r = skin.spot(x, y, own, rng, ellipse=1.12, reach=3.2)
        dome = np.sqrt(np.clip(1 - r**2, 0, None))
        skin.height[window] += 0.65 * own * dome
        _inflame(skin, who, window, 0.40 * _bump(r, 0.8, 1.0) + 0.35 * _bump(r, 1.05, 0.3))
        _lay(skin.pus, window, 0.26 * _inside(r, 0.92))
        skin.gloss[window] += 0.65 * _inside(r, 0.95)
        skin.mask[window] |= r < 1


def _acne(skin: _Skin, who: Patient, rng: np.random.Generator) -> None:
    """Inflamed papules, some with a small yellow-white head, of all stages; and open pores."""
    radius = skin.size * (0.065 + 0.030 * who.lesion_size)
    pimples, pores = int(rng.integers(4, 8)), int(rng.integers(3, 8))
    places = _places(rng, skin.size, pimples + pores, radius, 2.2, 0.42)
    for x, y in places[:pimples]:
        own = radius * rng.uniform(0.65, 1.2)
        window, r = skin.spot(x, y, own, rng, ragged=0.12, reach=3.0)
        _inflame(skin, who, window, 0.95 * _bump(r, 0, 0.95) + 0.25 * _bump(r, 0, 1.7))
        skin.height[window] += 0.50 * own * _bump(r, 0, 0.75)
        if rng.uniform() < 0.6:
            _lay(skin.pus, window, 0.85 * _inside(r, 0.38, 0.22))
        skin.gloss[window] += 0.08 * _bump(r, 0, 0.6)
        skin.mask[window] |= r < 1
    for x, y in places[pimples:]:
        window, r = skin.spot(x, y, skin.size * rng.uniform(0.011, 0.018), rng, reach=4)
        _lay(skin.crust, window, 0.8 * _inside(r, 1.0, 0.6))
        skin.height[window] -= 0.5 * _bump(r, 0, 1.0)
        skin.mask[window] |= r < 1


def _naevus(skin: _Skin, who: Patient, rng: np.random.Generator) -> None:
    """One or two flat brown moles with a darker, slightly uneven middle."""
    radius = skin.size * (0.10 + 0.13 * who.lesion_size)
    mottle = 1 + 0.12 * _noise(rng, skin.size, 14) + 0.08 * _noise(rng, skin.size, 36)
    for x, y in _places(rng, skin.size, 1 + (rng.uniform() < 0.3), radius, 2.6, 0.28):
        own = radius * rng.uniform(0.75, 1.1)
        window, r = skin.spot(x, y, own, rng, ellipse=1.35, ragged=0.12)
        depth = rng.uniform(0.9, 1.4) + 0.5 * who.tone  # a mole is darker than the skin it is on
        pigment = _inside(r, 1.0, 0.24) * (depth + 0.5 * _bump(r, 0.2, 0.5))
        skin.melanin[window] += pigment * mottle[window]
        skin.height[window] += 0.10 * own * _inside(r, 0.85, 0.4)
        skin.mask[window] |= r < 1


def _plaque(skin: _Skin, who: Patient, rng: np.random.Generator) -> None:
    """A broad, raised, sharply edged red area covered with silvery scale, as in psoriasis."""
    radius = skin.size * (0.22 + 0.14 * who.lesion_size)
    sheets, splinters = _noise(rng, skin.size, 9), _noise(rng, skin.size, 34, stretch=1.6)
    for x, y in _places(rng, skin.size, 1 + (rng.uniform() < 0.25), radius, 1.9, 0.24):
        own = radius * rng.uniform(0.8, 1.1)
        window, r = skin.spot(x, y, own, rng, ellipse=1.4, ragged=0.2, reach=2.0)
        r = r * (1 + 0.02 * splinters[window])
        area = _inside(r, 1.0, 0.07)
        flakes = np.clip(0.52 + 0.15 * sheets[window] + 0.18 * splinters[window], 0, 1)
        _inflame(skin, who, window, area * (1.05 + 0.25 * _bump(r, 0.95, 0.12)))
        _lay(skin.scale, window, 0.75 * flakes * _inside(r, 0.86, 0.2))
        skin.height[window] += area * (0.015 * skin.size + 1.1 * flakes)
        skin.mask[window] |= r < 1


_LESIONS = {
    "mpox": _mpox,
    "vesicle": _vesicle,
    "acne": _acne,
    "naevus": _naevus,
    "plaque": _plaque,
    "chickenpox": _chickenpox,
    "molluscum": _molluscum,
    "ecthyma": _ecthyma,
}


# ---------------------------------------------------------------- light and camera


def _to_linear(srgb: np.ndarray) -> np.ndarray:
    """sRGB in 0 … 1 to linear light (IEC 61966-2-1)."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def _to_srgb(linear: np.ndarray) -> np.ndarray:
    """Linear light in 0 … 1 to sRGB (IEC 61966-2-1)."""
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def _albedo(skin: _Skin, who: Patient) -> np.ndarray:
    """Linear RGB reflectance (size, size, 3): skin tone × exp(−pigment), then what lies on it."""
    monk = _to_linear(np.array(MONK_TONES) / 255).astype(np.float32)
    steps = np.arange(len(monk))
    base = _vector([np.interp(who.tone * (len(monk) - 1), steps, monk[:, c]) for c in range(3)])
    density = skin.blood[..., None] * BLOOD_ABSORPTION
    density = density + skin.melanin[..., None] * MELANIN_ABSORPTION
    colour = base * np.exp(-density)
    # What lies on the skin is lit from below too, by the light that the skin lets through.
    veil = 0.20 + 0.90 * float(base.mean())
    hair = PALE_HAIR * veil if who.pale_hair else DARK_HAIR
    for cover, matter in (
        (skin.pus, PUS * veil),
        (skin.scale, SCALE * veil),
        (skin.crust, CRUST * veil),
        (skin.hair, hair),
    ):
        colour += cover[..., None] * (matter - colour)
    return colour


def _photograph(skin: _Skin, who: Patient, rng: np.random.Generator) -> np.ndarray:
    """The skin in the lamp's light, then exposure, white balance, lens and sensor, to uint8."""
    light = _light(skin, who)
    light *= (TARGET_BRIGHTNESS / light.mean()) ** EXPOSURE_STRENGTH
    light *= _vector([who.warmth, 1, 1 / who.warmth]) * rng.uniform(0.92, 1.08)
    light = _through_lens(light, rng)
    shot = rng.standard_normal(light.shape, dtype=np.float32)
    light += shot * (0.012 * np.sqrt(np.clip(light, 0, None)) + 0.002)
    return np.round(255 * _to_srgb(np.clip(light, 0, 1))).astype(np.uint8)


def _light(skin: _Skin, who: Patient) -> np.ndarray:
    """Lambert and Blinn–Phong light off the skin, linear RGB (size, size, 3)."""
    along = np.cos(who.lamp_height)
    lamp = _vector([along * np.cos(who.light), along * np.sin(who.light), np.sin(who.lamp_height)])
    half = lamp + _vector([0, 0, 1])
    half /= np.linalg.norm(half)
    slope_x = cv2.Sobel(skin.height, cv2.CV_32F, 1, 0, scale=1 / 8)
    slope_y = cv2.Sobel(skin.height, cv2.CV_32F, 0, 1, scale=1 / 8)
    normal = np.dstack([-slope_x, -slope_y, np.ones_like(slope_x)])
    normal = normal / np.linalg.norm(normal, axis=2, keepdims=True)
    # A hair's shadow falls away from the lamp and is soft.
    away = _vector([[1, 0, -HAIR_SHADOW * lamp[0]], [0, 1, -HAIR_SHADOW * lamp[1]]])
    shadow = cv2.GaussianBlur(cv2.warpAffine(skin.hair, away, (skin.size, skin.size)), (0, 0), 1.0)
    diffuse = (0.35 + 0.75 * np.clip(normal @ lamp, 0, None)) * (1 - 0.4 * shadow)
    gloss = 0.003 + 0.030 * who.oiliness + skin.gloss * (0.7 + 0.6 * who.oiliness)
    glint = gloss * (1 - skin.hair) * np.clip(normal @ half, 0, None) ** SHINE_EXPONENT
    return _albedo(skin, who) * diffuse[..., None] + glint[..., None]


def _through_lens(light: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blur that grows away from a tilted plane of focus, and darker corners."""
    size = len(light)
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j].astype(np.float32)
    tilt, shift = rng.uniform(0, 2 * np.pi), rng.uniform(-0.3, 0.3)
    distance = np.abs(float(np.cos(tilt)) * x + float(np.sin(tilt)) * y - shift)
    unsharp = np.clip(rng.uniform(0.0, 1.2) * (distance - 0.25), 0, 1)[..., None]
    sharp = cv2.GaussianBlur(light, (0, 0), rng.uniform(0.4, 0.8))
    soft = cv2.GaussianBlur(light, (0, 0), DEFOCUS_BLUR * size)
    corners = 1 - rng.uniform(0, MOST_VIGNETTING) * (x**2 + y**2) / 2
    return (sharp + unsharp * (soft - sharp)) * corners[..., None]


# ---------------------------------------------------------------- words

# What a picture is called in its caption, the plainest word first; as many for every kind but mpox.
NAMES = {
    "mpox": ("a monkeypox skin lesion",),
    "vesicle": ("vesicles", "a group of blisters", "herpes vesicles on the skin"),
    "acne": ("acne", "inflamed pimples", "acne papules and pustules on the skin"),
    "naevus": ("a naevus", "a brown mole", "a pigmented naevus on the skin"),
    "plaque": ("a plaque", "a red scaly plaque", "a psoriasis plaque on the skin"),
    "healthy": ("healthy skin", "normal skin", "clear healthy skin without lesions"),
}
ANY_LESION, ANY_SKIN = "a skin lesion", "skin"  # any kind but mpox and healthy; healthy
_TEMPLATES = ("clinical photo of {}", "photo of {}", "a close-up photo of {}", "{}")
_TONES = ("very light skin", "light skin", "medium brown skin", "dark skin", "very dark skin")


def captions(kind: str, tone: float) -> tuple[str, ...]:
    """Every wording for a picture, first without, then with the skin tone (0 light … 1 dark)."""
    names = NAMES[kind]
    if kind != "mpox":
        names += (ANY_SKIN if kind == "healthy" else ANY_LESION,)
    plain = [template.format(name) for template in _TEMPLATES for name in names]
    named = _TONES[min(int(tone * len(_TONES)), len(_TONES) - 1)]
    return (*plain, *(f"{words}, {named}" for words in plain))
