"""How light or dark a picture is, on the scale that dermatology has for skin."""

import cv2
import numpy as np


def typology_angle(picture: np.ndarray) -> float:
    """The individual typology angle of the median colour (Chardon et al. 1991), in degrees.

    tan⁻¹((L* − 50) / b*) of CIELAB, with b* at least 1, so that greys and blues have an order too:
    skin is at some −60 (very dark) to 60 (very light). It is of the light and the lesion too, so
    here it orders photos and classes nobody's skin. `picture`: uint8, H×W×3.
    """
    median = np.median(picture.reshape(1, -1, 3), axis=1, keepdims=True).astype(np.float32)
    lightness, _, yellow = cv2.cvtColor(median / 255, cv2.COLOR_RGB2LAB).ravel()
    return float(np.degrees(np.arctan((lightness - 50) / max(yellow, 1))))
