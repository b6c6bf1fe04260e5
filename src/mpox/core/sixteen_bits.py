"""Pictures of 16 bits a value, which Pillow reads as 8 or misreads: to 8 bits, in sRGB."""

import shutil
import struct
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageFile, TiffImagePlugin

from mpox.core import light
from mpox.core.errors import InputError
from mpox.core.light import Light

ORIENTATION = ExifTags.Base.Orientation
Tags = TiffImagePlugin.ImageFileDirectory_v2
Rows = Callable[[slice], np.ndarray]  # of a picture: uint16 H×W×3


class Picture(NamedTuple):
    """A decoded picture, and what its file states about the values."""

    image: Image.Image
    light: Light | None = None  # None: sRGB, or as its ICC profile states
    bits: Sequence[int] = ()  # significant bits of each channel (PNG's sBIT)


def raw_mode(image: ImageFile.ImageFile) -> str:
    """Pillow's name for how the values are stored; empty if it has none."""
    args = image.tile[0].args if image.tile else ""
    name = args[0] if isinstance(args, tuple) and args else args
    return name if isinstance(name, str) else ""


def read_planes(image: TiffImagePlugin.TiffImageFile) -> None:
    """Read planes of 16 bits through libtiff; Pillow's own reader assumes 8 bits."""
    tags = image.tag_v2
    if tags.get(284) == 2 and tags.get(258, (1,))[0] == 16 and not image.use_load_libtiff:
        kind = "RGBa" if tags.get(338) == (1,) else image.mode
        image.use_load_libtiff = True
        image.tile = [
            image.tile[0]._replace(
                codec_name="libtiff",
                extents=(0, 0, tags[256], tags[257]),
                offset=0,
                args=(f"{kind};16N", False, tags.offset),
            )
        ]


def to_eight(path: Path, picture: Picture, raw: str) -> Picture:
    """Convert 16 bits a value to 8, in sRGB. A profile that is not understood stays attached."""
    image, stated, bits = picture
    grey = image.mode.startswith("I;16")
    if not grey and image.mode != "CMYK":
        bands = np.reshape(image.getextrema(), (-1, 2))  # the high bytes
        _check_white(256 * int(bands[:3, 1].max()) + 255, bits)
    if not grey and not raw.startswith(("RGB;", "RGBA;", "RGBX;", "LA;")):
        if stated:
            raise InputError(
                "has 16-bit CMYK or premultiplied values, which are not supported; save it as RGB"
            )
        return picture
    profile = image.info.get("icc_profile")
    if profile:
        with suppress(ValueError, struct.error):
            stated = light.from_icc(profile)
    rows = _shades(image, bits) if grey else _colours(path, image, raw)
    width, height = image.size
    pixels, alpha = np.empty((height, width, 3), np.uint8), np.empty((height, width), np.uint8)
    key = image.info.get("transparency")
    for top in range(0, height, light.ROWS):
        band = slice(top, min(top + light.ROWS, height))
        values = rows(band)
        pixels[band] = light.to_srgb(values, stated)
        alpha[band] = np.where((values == key).all(-1), 0, 255) if key is not None else 255
    converted = Image.fromarray(pixels)
    if profile and stated is None:
        converted = (
            converted.convert("L") if grey else converted
        )  # the kind that the profile describes
        converted.info["icc_profile"] = profile
    if key is not None or image.mode == "RGBA":
        converted.putalpha(image.getchannel("A") if key is None else Image.fromarray(alpha))
    converted.getexif()[ORIENTATION] = image.getexif().get(ORIENTATION, 1)
    return Picture(converted)


def _check_white(brightest: int, bits: Sequence[int]) -> None:
    """Refuse values that may be of 12 bits, because their white level is unknown.

    A stated depth of 12 significant `bits` does not help: some programs store them in the low end.
    """
    if brightest < 4096 and max(bits, default=0) <= 12:
        raise InputError(
            "has only 16-bit values below 4,096, so its white level is unknown; save it with "
            "values up to 65,535, or with 8 bits"
        )


def _shades(image: Image.Image, bits: Sequence[int]) -> Rows:
    values: np.ndarray = np.asarray(image).astype(np.uint16)
    tags = getattr(image, "tag_v2", {})
    if tags.get(TiffImagePlugin.BITSPERSAMPLE) == (12,):
        values = values << 4 | values >> 8
    else:
        _check_white(int(values.max()), bits)
    if tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0:  # white is zero
        values = np.invert(values)
    return lambda band: np.repeat(values[band, :, None], 3, -1)


def _colours(path: Path, image: Image.Image, raw: str) -> Rows:
    low = _low_bytes(path, image, raw)

    def rows(band: slice) -> np.ndarray:
        box = (0, band.start, image.width, band.stop)
        high = np.asarray(image.crop(box))[..., :3].astype(np.uint16)
        return high << 8 | np.asarray(low.crop(box))[..., :3]

    return rows


def _low_bytes(path: Path, image: Image.Image, raw: str) -> Image.Image:
    """The low byte of each value. Pillow gives the high byte; in the other byte order, the low."""
    with Image.open(path, formats=("PNG", "TIFF")) as low:
        low.seek(image.tell())
        if isinstance(low, TiffImagePlugin.TiffImageFile) and low.tag_v2.get(284) == 2:  # planes
            return Image.merge("RGB", [_low_plane(path, low.tag_v2, plane) for plane in range(3)])
        if raw == "LA;16B":  # read as four bytes a pixel; the second is grey's low byte
            other = "RGBA"
        else:
            native = "B" if sys.byteorder == "little" else "L"
            other = raw[:-1] + {"B": "L", "L": "B", "N": native}[raw[-1]]
        low.tile = [
            tile._replace(args=(other, *tile.args[1:]) if isinstance(tile.args, tuple) else other)
            for tile in low.tile
        ]
        low.load()
        return Image.merge("RGB", [low.getchannel("G")] * 3) if raw == "LA;16B" else low.copy()


def _low_plane(path: Path, tags: Tags, plane: int) -> Image.Image:
    """The low bytes of one plane of a TIFF, read from a grey TIFF made of that plane's strips."""
    start = Tags(prefix=tags.prefix)
    for tag in (256, 257, 259, 266, 274, 278, 317, 322, 323):  # sizes, compression, strips, tiles
        if tag in tags:
            start[tag] = tags[tag]
    start[258], start[262], start[277] = 16, 1, 1  # bits, black is zero, one value a pixel
    places, sizes = (273, 279) if 273 in tags else (324, 325)
    number = len(tags[places]) // tags[277]
    for tag in (places, sizes):
        if tag in tags:
            start[tag] = tags[tag][plane * number :][:number]
    if places == 324:  # Pillow shifts the offsets of strips itself
        length = 8 + len(start.tobytes(8))
        start[places] = tuple(place + length for place in start[places])
    with tempfile.TemporaryFile() as file, path.open("rb") as content:
        start.save(file)
        shutil.copyfileobj(content, file)
        file.seek(0)
        with Image.open(file, formats=("TIFF",)) as one:
            return Image.fromarray(np.asarray(one).astype(np.uint8))
