"""Procedural skin: pictures of lesions of known kind, to run and test on without a patient.

A picture is rendered in linear light from a height field and its pigments, then passed through a
simple camera. It is a test instrument: it shows no real person, and no clinical claim rests on it.
"""

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from mpox import seeds

KINDS = ("mpox", "vesicle", "naevus", "plaque", "healthy")


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
PUS = _vector([0.80, 0.66, 0.46])  # linear RGB, yellowish white
CRUST = _vector([0.055, 0.022, 0.014])  # linear RGB, dried blood
SCALE = _vector([0.72, 0.68, 0.66])  # linear RGB, dry horn
GOLDEN_RATIO = 0.6180339887  # steps through [0, 1) evenly whatever the number of patients

FURROW_DEPTH = 0.14  # pixels
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
    maturity: float  # mpox: 0 fresh pustule … 1 crusted


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
    )


def draw(kind: str, index: int, picture: int, seed: int, size: int = 128) -> Phantom:
    """Picture number `picture` of patient `index`: the same arguments draw the same picture.

    Raises ValueError for a kind not in `KINDS`.
    """
    if kind not in KINDS:
        raise ValueError(f"kind: got {kind!r}, expected one of {', '.join(KINDS)}")
    who = patient(kind, index, seed)
    rng = np.random.default_rng(seeds.derive(seed, "phantom", kind, index, picture))
    skin = _Skin(size, rng)
    if kind != "healthy":
        _LESIONS[kind](skin, who, rng)
    return Phantom(_photograph(skin, who, rng), skin.mask)


# ---------------------------------------------------------------- skin


class _Skin:
    """The fields a picture is rendered from, each float32 (size, size)."""

    def __init__(self, size: int, rng: np.random.Generator):
        self.size = size
        self.height = self._relief(rng)  # pixels
        self.blood = 0.14 + 0.035 * _noise(rng, size, 5) + 0.02 * _noise(rng, size, 24)
        self.melanin = 0.03 * _noise(rng, size, 4) + 0.02 * _noise(rng, size, 16)
        self.pus = np.zeros((size, size), np.float32)  # 0 … 1, opaque at 1; likewise:
        self.crust = np.zeros((size, size), np.float32)
        self.scale = np.zeros((size, size), np.float32)
        self.gloss = np.full((size, size), 0.02, np.float32)
        self.mask = np.zeros((size, size), bool)

    def _relief(self, rng: np.random.Generator) -> np.ndarray:
        """Primary furrows in two crossing directions on a gently curved body."""
        angle = rng.uniform(0, np.pi)
        relief = 0.018 * self.size * _noise(rng, self.size, 2)
        for turn in (angle, angle + rng.uniform(1.0, 1.6)):
            lines = _noise(rng, self.size, 18, stretch=2.2, angle=turn)
            relief -= FURROW_DEPTH * np.exp(-((lines / 0.35) ** 2))
        return relief + 0.08 * _noise(rng, self.size, 40)

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


def _places(rng, size: int, number: int, radius: float, spacing: float, spread: float) -> list:
    """Up to `number` centres at least `spacing` radii apart, within `spread` of the middle."""
    middle = size / 2 + rng.uniform(-0.12, 0.12, 2) * size
    places: list[np.ndarray] = []
    for _ in range(8 * number):
        place = middle + rng.uniform(-spread, spread, 2) * size
        if all(np.hypot(*(place - other)) > spacing * radius for other in places):
            places.append(place)
        if len(places) == number:
            break
    return places


# ---------------------------------------------------------------- lesions


def _mpox(skin: _Skin, who: Patient, rng: np.random.Generator) -> None:
    """Umbilicated pustules, firm and deep-seated, all in one stage, on a red halo.

    Pale raised rim, sunken dark centre that grows into a crust (WHO, Atlas of mpox lesions, 2023).
    """
    radius = skin.size * (0.075 + 0.085 * who.lesion_size)
    number = 1 + rng.poisson(5.0 * (1 - who.lesion_size) + 0.8)
    for x, y in _places(rng, skin.size, number, radius, 2.5, 0.36):
        own = radius * rng.uniform(0.85, 1.15)
        window, r = skin.spot(x, y, own, rng)
        core = 0.30 + 0.28 * who.maturity
        dome = _inside(r, 0.95, 0.22)
        skin.height[window] += own * (0.34 * dome - 0.26 * _bump(r, 0, core))
        skin.blood[window] += who.redness * (1.5 * _bump(r, 1.10, 0.34) + 0.5 * _bump(r, 1.3, 0.55))
        rim = _bump(r, 0.68, 0.20) * (0.75 - 0.45 * who.maturity)
        skin.pus[window] = np.maximum(skin.pus[window], rim)
        skin.crust[window] = np.maximum(skin.crust[window], 0.95 * _inside(r, core, 0.16))
        skin.gloss[window] += 0.22 * (1 - who.maturity) * dome
        skin.mask[window] |= r < 1


def _vesicle(skin: _Skin, who: Patient, rng: np.random.Generator) -> None:
    """Clear tense blisters in a group on a common red base, each with a glint of the lamp."""
    radius = skin.size * (0.045 + 0.035 * who.lesion_size)
    number = 4 + rng.poisson(4)
    for x, y in _places(rng, skin.size, number, radius, 1.9, 0.24):
        own = radius * rng.uniform(0.7, 1.2)
        window, r = skin.spot(x, y, own, rng, reach=3.2)
        dome = np.sqrt(np.clip(1 - r**2, 0, None))
        skin.height[window] += 0.75 * own * dome
        skin.blood[window] += who.redness * (0.45 * _bump(r, 0.8, 1.0) + 0.25 * _bump(r, 1.0, 0.25))
        skin.pus[window] = np.maximum(skin.pus[window], 0.28 * _inside(r, 0.9))
        skin.gloss[window] += 1.1 * _inside(r, 0.95)
        skin.mask[window] |= r < 1


def _naevus(skin: _Skin, who: Patient, rng: np.random.Generator) -> None:
    """One or two flat brown moles with a darker, slightly uneven middle."""
    radius = skin.size * (0.09 + 0.14 * who.lesion_size)
    for x, y in _places(rng, skin.size, 1 + (rng.uniform() < 0.3), radius, 2.6, 0.30):
        own = radius * rng.uniform(0.7, 1.1)
        window, r = skin.spot(x, y, own, rng, ellipse=1.4, ragged=0.2)
        pigment = _inside(r, 1.0, 0.22) * (1.15 + 0.45 * _bump(r, 0.2, 0.5))
        mottle = 1 + 0.16 * _noise(rng, skin.size, 14)[window]
        skin.melanin[window] += pigment * mottle
        skin.height[window] += 0.10 * own * _inside(r, 0.85, 0.4)
        skin.mask[window] |= r < 1


def _plaque(skin: _Skin, who: Patient, rng: np.random.Generator) -> None:
    """A broad, raised, sharply edged red area covered with silvery scale, as in psoriasis."""
    radius = skin.size * (0.20 + 0.14 * who.lesion_size)
    for x, y in _places(rng, skin.size, 1 + (rng.uniform() < 0.25), radius, 1.9, 0.24):
        own = radius * rng.uniform(0.8, 1.1)
        window, r = skin.spot(x, y, own, rng, ellipse=1.4, ragged=0.3, reach=2.0)
        area = _inside(r, 1.0, 0.14)
        flakes = np.clip(_noise(rng, skin.size, 22)[window] - 0.25, 0, 1)
        skin.blood[window] += who.redness * area * (1.15 + 0.2 * _bump(r, 0.95, 0.15))
        skin.scale[window] = np.maximum(skin.scale[window], 0.6 * flakes * _inside(r, 0.85, 0.3))
        skin.height[window] += 1.2 * area + 1.0 * flakes * area
        skin.mask[window] |= r < 1


_LESIONS = {"mpox": _mpox, "vesicle": _vesicle, "naevus": _naevus, "plaque": _plaque}


# ---------------------------------------------------------------- light and camera


def _to_linear(srgb: np.ndarray) -> np.ndarray:
    """sRGB in 0 … 1 to linear light (IEC 61966-2-1)."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def _to_srgb(linear: np.ndarray) -> np.ndarray:
    """Linear light in 0 … 1 to sRGB (IEC 61966-2-1)."""
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def _albedo(skin: _Skin, tone: float) -> np.ndarray:
    """Linear RGB reflectance (size, size, 3): skin tone × exp(−pigment), then what lies on it."""
    monk = _to_linear(np.array(MONK_TONES) / 255).astype(np.float32)
    steps = np.arange(len(monk))
    base = _vector([np.interp(tone * (len(monk) - 1), steps, monk[:, c]) for c in range(3)])
    density = skin.blood[..., None] * BLOOD_ABSORPTION
    density = density + skin.melanin[..., None] * MELANIN_ABSORPTION
    colour = base * np.exp(-density)
    # Pus and scale are lit by the light that the skin below lets through.
    veil = 0.18 + 0.82 * float(base.mean())
    for cover, matter in ((skin.pus, PUS * veil), (skin.scale, SCALE * veil), (skin.crust, CRUST)):
        colour += cover[..., None] * (matter - colour)
    return colour


def _photograph(skin: _Skin, who: Patient, rng: np.random.Generator) -> np.ndarray:
    """Lambert and Blinn–Phong light, then exposure, white balance, lens and sensor, to uint8."""
    along = np.cos(who.lamp_height)
    lamp = _vector([along * np.cos(who.light), along * np.sin(who.light), np.sin(who.lamp_height)])
    half = lamp + _vector([0, 0, 1])
    half /= np.linalg.norm(half)
    slope_x = cv2.Sobel(skin.height, cv2.CV_32F, 1, 0, scale=1 / 8)
    slope_y = cv2.Sobel(skin.height, cv2.CV_32F, 0, 1, scale=1 / 8)
    normal = np.dstack([-slope_x, -slope_y, np.ones_like(slope_x)])
    normal = normal / np.linalg.norm(normal, axis=2, keepdims=True)
    diffuse = 0.35 + 0.75 * np.clip(normal @ lamp, 0, None)
    glint = skin.gloss * np.clip(normal @ half, 0, None) ** 40

    light = _albedo(skin, who.tone) * diffuse[..., None] + glint[..., None]
    light *= (TARGET_BRIGHTNESS / light.mean()) ** EXPOSURE_STRENGTH
    light *= _vector([who.warmth, 1, 1 / who.warmth]) * rng.uniform(0.92, 1.08)
    light = cv2.GaussianBlur(light, (0, 0), rng.uniform(0.4, 0.8))
    shot = rng.standard_normal(light.shape, dtype=np.float32)
    light += shot * (0.012 * np.sqrt(np.clip(light, 0, None)) + 0.002)
    return np.round(255 * _to_srgb(np.clip(light, 0, 1))).astype(np.uint8)


# ---------------------------------------------------------------- words

_NAMES = {
    "mpox": ("a monkeypox skin lesion",),
    "vesicle": ("vesicles", "a group of blisters", "herpes vesicles on the skin"),
    "naevus": ("a naevus", "a brown mole", "a pigmented naevus on the skin"),
    "plaque": ("a plaque", "a red scaly plaque", "a psoriasis plaque on the skin"),
    "healthy": ("healthy skin", "normal skin", "clear healthy skin without lesions"),
}
_TEMPLATES = ("clinical photo of {}", "photo of {}", "a close-up photo of {}", "{}")
_TONES = ("very light skin", "light skin", "medium brown skin", "dark skin", "very dark skin")


def caption(kind: str, tone: float, rng: np.random.Generator) -> str:
    """One of many wordings for a picture; every second names the skin tone (0 light … 1 dark)."""
    words = str(rng.choice(_TEMPLATES)).format(rng.choice(_NAMES[kind]))
    if rng.uniform() < 0.5:
        words += ", " + _TONES[min(int(tone * len(_TONES)), len(_TONES) - 1)]
    return words
