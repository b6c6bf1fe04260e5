"""How light or dark a picture is, on the scale that dermatology uses for skin."""

import cv2
import numpy as np

# Lower bounds in degrees (Chardon et al. 1991, Del Bino & Bernerd 2013).
BANDS = {"very light": 55, "light": 41, "intermediate": 28, "tan": 10, "brown": -30, "dark": -91}


def word(angle: float) -> str:
    """The published band of a picture's typology angle in degrees; it classifies no person."""
    return next(name for name, least in BANDS.items() if angle > least)


def typology_angle(picture: np.ndarray) -> float:
    """The individual typology angle of the median colour (Chardon et al. 1991), in degrees.

    tan⁻¹((L* − 50) / b*) of CIELAB, with b* at least 1, so that greys and blues have an order too.
    Skin ranges from about −60 (very dark) to 60 (very light). Light and lesion change the angle as
    well, so it orders photos and classifies nobody's skin. `picture`: uint8, H×W×3.
    """
    median = np.median(picture.reshape(1, -1, 3), axis=1, keepdims=True).astype(np.float32)
    lightness, _, yellow = cv2.cvtColor(median / 255, cv2.COLOR_RGB2LAB).ravel()
    return float(np.degrees(np.arctan((lightness - 50) / max(yellow, 1))))
