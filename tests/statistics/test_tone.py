import math

import numpy as np
import pytest
import skimage

from mpox.statistics import tone


def test_typology_angles_of_greys_and_blues_rise_from_dark_to_light():
    for tint in (0, 12):
        angles = [
            tone.typology_angle(np.full((4, 4, 3), (v, v, v + tint), np.uint8))
            for v in range(0, 240, 8)
        ]
        assert angles == sorted(angles) and -90 <= angles[0] < angles[-1] <= 90


@pytest.mark.parametrize("colour", [(236, 200, 180), (198, 150, 120), (141, 85, 54), (60, 40, 30)])
def test_typology_angle_against_skimage(colour):
    """The angle of the median colour: a lesion on a third of the skin does not change it."""
    picture = np.full((30, 30, 3), colour, np.uint8)
    picture[:10] = (120, 20, 30)
    lightness, _, yellow = skimage.color.rgb2lab(np.array(colour) / 255)
    expected = math.degrees(math.atan((lightness - 50) / yellow))
    assert tone.typology_angle(picture) == pytest.approx(expected, abs=0.5)


@pytest.mark.parametrize(
    ("angle", "word"),
    [(90, "very light"), (55.1, "very light"), (55, "light"), (41, "intermediate"), (28, "tan"),
     (10, "brown"), (0, "brown"), (-30, "dark"), (-90, "dark")],
)  # fmt: skip
def test_the_published_bands(angle, word):
    """Del Bino & Bernerd 2013: light above 41 up to 55 degrees, and so on."""
    assert tone.word(angle) == word
