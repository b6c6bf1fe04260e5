"""A simple camera: skin in the light of one lamp, through a lens, onto a sensor."""

import cv2
import numpy as np

from mpox.embedded.skin import Patient, Skin


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

HAIR_SHADOW = 1.5  # pixels from the hair to its shadow when the lamp is level with the skin
SHINE_EXPONENT = 48  # Blinn–Phong
DEFOCUS_BLUR = 0.016  # standard deviation where the picture is least sharp, in shares of the side
MOST_VIGNETTING = 0.3  # share of light lost in the corners
TARGET_BRIGHTNESS = 0.30  # linear light that the exposure aims at
EXPOSURE_STRENGTH = 0.45  # 1 would reach the target, which would make dark skin light


def _to_linear(srgb: np.ndarray) -> np.ndarray:
    """sRGB in 0 … 1 to linear light (IEC 61966-2-1)."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def _to_srgb(linear: np.ndarray) -> np.ndarray:
    """Linear light in 0 … 1 to sRGB (IEC 61966-2-1)."""
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def _albedo(skin: Skin, who: Patient) -> np.ndarray:
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


def photograph(skin: Skin, who: Patient, rng: np.random.Generator) -> np.ndarray:
    """The skin in the lamp's light, then exposure, white balance, lens and sensor, to uint8."""
    light = _light(skin, who)
    light *= (TARGET_BRIGHTNESS / light.mean()) ** EXPOSURE_STRENGTH
    light *= _vector([who.warmth, 1, 1 / who.warmth]) * rng.uniform(0.92, 1.08)
    light = through_lens(light, rng)
    shot = rng.standard_normal(light.shape, dtype=np.float32)
    light += shot * (0.012 * np.sqrt(np.clip(light, 0, None)) + 0.002)
    return np.round(255 * _to_srgb(np.clip(light, 0, 1))).astype(np.uint8)


def _light(skin: Skin, who: Patient) -> np.ndarray:
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


def through_lens(light: np.ndarray, rng: np.random.Generator) -> np.ndarray:
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
