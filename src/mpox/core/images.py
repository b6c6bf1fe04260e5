"""Pictures in and out, and the project's one geometry.

A picture is a uint8 array H×W×3, sRGB, upright. Only core/ opens or writes a picture file.
"""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np
from PIL import Image, PngImagePlugin

from mpox.core import folders
from mpox.core.decoding import read as read

FORMAT = {".jpg": "JPEG", ".png": "PNG"}  # by file suffix, of what `write` accepts
WAYS = 8  # orientations of a square: four turns, and those of its mirror image
TRAINED_ALGORITHMIC_MEDIA = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"


def square(picture: np.ndarray, size: int) -> np.ndarray:
    """The central square of `picture`, resized to size×size×3 (Lanczos)."""
    height, width = picture.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    cropped = Image.fromarray(picture[top : top + side, left : left + side])
    return np.asarray(cropped.resize((size, size), Image.Resampling.LANCZOS))


def ways(picture: np.ndarray) -> list[np.ndarray]:
    """A square picture in all WAYS: turned by 0°, 90°, 180° and 270°, then those four mirrored."""
    turned = [np.rot90(picture, quarter) for quarter in range(4)]
    mirrored = [turn[:, ::-1] for turn in turned]
    return [np.ascontiguousarray(way) for way in [*turned, *mirrored]]


def recode(picture: np.ndarray) -> np.ndarray:
    """`picture` after a JPEG round trip (quality 95, 4:4:4), as `write` stores it.

    Features are taken from recoded pictures, real and synthetic alike. Otherwise a metric would
    measure the difference between codecs.
    """
    with Image.open(io.BytesIO(encode(picture))) as image:
        return np.asarray(image)


def encode(
    picture: np.ndarray, kind: str = "JPEG", quality: int = 95, xmp: bytes | None = None
) -> bytes:
    """The bytes of a picture as JPEG (`quality`, 4:4:4) or PNG, with `xmp` as its metadata."""
    chunks = PngImagePlugin.PngInfo()
    if xmp is not None:
        chunks.add_itxt("XML:com.adobe.xmp", xmp.decode())
    # Each format ignores the other's options. PNG's level 4 takes a third of the usual time.
    jpeg: dict[str, Any] = {"quality": quality, "subsampling": 0, "xmp": xmp}
    png: dict[str, Any] = {"compress_level": 4, "pnginfo": chunks}
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, kind, **jpeg, **png)
    return buffer.getvalue()


def write(
    path: Path, picture: np.ndarray, text: Mapping[str, str] | None = None, quality: int = 95
) -> None:
    """Write `picture` as .jpg (`quality`, 4:4:4) or .png, whole or not at all.

    `text` describes a synthetic picture, as in `{"prompt": …, "seed": …}`. It is stored as XMP
    with the IPTC mark for trained algorithmic media. Without it no metadata is written.
    """
    # Encode in memory: Pillow does not notice when a full disk takes only part of a file.
    xmp = None if text is None else _xmp(text)
    folders.write(path, encode(picture, FORMAT[path.suffix], quality, xmp))


def _xmp(text: Mapping[str, str]) -> bytes:
    attributes = "".join(f" mpox:{name}={quoteattr(value)}" for name, value in text.items())
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about=""'
        ' xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"'
        ' xmlns:mpox="urn:mpox-diffusion:generation"'
        f' Iptc4xmpExt:DigitalSourceType="{TRAINED_ALGORITHMIC_MEDIA}"{attributes}/>'
        '</rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
    ).encode()


def sheet(rows: list[list[np.ndarray]], gap: int = 2) -> np.ndarray:
    """A contact sheet of pictures of one size, `gap` white pixels apart; rows may be ragged."""
    height, width = rows[0][0].shape[:2]
    down, across = height + gap, width + gap
    longest = max(len(row) for row in rows)
    canvas = np.full((len(rows) * down - gap, longest * across - gap, 3), 255, np.uint8)
    for i, row in enumerate(rows):
        for j, picture in enumerate(row):
            canvas[i * down : i * down + height, j * across : j * across + width] = picture
    return canvas
