"""Pictures in and out: the only module that opens or writes one, and the project's one geometry.

A picture is a uint8 array H×W×3, sRGB, upright.
"""

import io
import stat
import struct
import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import _pi_heif
import numpy as np
from PIL import Image, ImageCms, ImageOps, JpegImagePlugin, PngImagePlugin

from mpox.core import folders
from mpox.core.errors import InputError

FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "AVIF", "BMP", "GIF")  # that Pillow reads; and HEIF
# With these, reading takes less than 2 GB.
MOST_BYTES = 2**29  # of a file: as many pixels as Pillow takes, plain RGB of 16 bits
MOST_HEIF_BYTES = 2**26  # its decoder holds the whole file beside the picture
MOST_PIXELS = 2**28 // 3  # what Pillow takes
MOST_JPEG_PIXELS = 2**28  # of three colours: a progressive one is held whole, in 2 bytes a value
HDR = (16, 18)  # transfer characteristics of ITU-T H.273: PQ and HLG
# What the decoders raise on damaged bytes; found by flipping bytes at random.
DAMAGED = (OSError, ValueError, SyntaxError, EOFError, TypeError, RuntimeError, struct.error)

FORMAT = {".jpg": "JPEG", ".png": "PNG"}  # what is written
WAYS = 8  # a square can lie: four turns, and those of its mirror image
TRAINED_ALGORITHMIC_MEDIA = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"


def read(path: Path) -> np.ndarray:
    """The picture, fully decoded, upright, in sRGB, alpha over white; InputError says why not.

    A JPEG of more than MOST_PIXELS, as of phones with 108 megapixels, comes with half its sides.
    """
    try:
        _check_file(path)
        return np.asarray(_rgb(_upright(path)))
    except InputError:
        raise
    except Image.UnidentifiedImageError:
        raise InputError(f"{path}: is no {', '.join(FORMATS)} or HEIF") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _too_large(path) from None
    except DAMAGED as error:
        reason = getattr(error, "strerror", None) or str(error).strip()
        raise InputError(f"{path}: cannot be read ({reason})") from None


def _too_large(path: Path) -> InputError:
    return InputError(
        f"{path}: has more than {MOST_PIXELS:,} pixels; save it smaller, or as JPEG of up to "
        f"{MOST_JPEG_PIXELS:,} pixels"
    )


def _check_file(path: Path) -> None:
    """Before it is opened: a pipe would be waited for, a huge file be read into memory."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise InputError(f"{path}: is no regular file")
    _check_bytes(path, MOST_BYTES)


def _check_bytes(path: Path, most: int) -> None:
    size = path.stat().st_size
    if size > most:
        raise InputError(f"{path}: has {size:,} bytes, expected at most {most:,}")


def _upright(path: Path) -> Image.Image:
    with path.open("rb") as file:
        head = file.read(256)
    brands = head[8 : int.from_bytes(head[:4])] if head[4:8] == b"ftyp" else b""
    if brands and b"avif" not in brands and b"avis" not in brands:
        return _heif(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with _opened(path, head) as image:
            frames = getattr(image, "n_frames", 1)
            if frames > 1:
                raise InputError(f"{path}: holds {frames} pictures, expected one")
            if isinstance(image, JpegImagePlugin.JpegImageFile):
                _halve_a_large(path, image)
            image.load()
            return ImageOps.exif_transpose(image)


def _opened(path: Path, head: bytes) -> Image.Image:
    if not head.startswith(b"\xff\xd8\xff"):
        return Image.open(path, formats=FORMATS)
    # Image.open refuses a large JPEG before it can be told to decode it smaller. Of the pictures
    # that a phone stores in one JPEG (MPO: behind the photo a depth map) this one is the first.
    try:
        return JpegImagePlugin.JpegImageFile(path)
    except SyntaxError:
        raise ValueError("its beginning is damaged") from None  # Pillow's word: "not identified"


def _heif(path: Path) -> Image.Image:
    """The one picture of a HEIF, turned as it says itself: what its EXIF says only repeats that.

    Not by the package's plugin for Pillow: that reads metadata too, where damage can crash it.
    """
    _check_bytes(path, MOST_HEIF_BYTES)
    # With 1 thread, to 8 bits but for grey, in RGB, rows as they are stored, grey to 16 bits.
    found = _pi_heif.load_file(path.read_bytes(), 1, True, False, False, True, "", False)
    if len(found) != 1:
        raise InputError(f"{path}: holds {len(found)} pictures, expected one")
    if found[0] is None:
        raise ValueError("its picture is damaged")
    (width, height), _ = found[0].size_mode
    if width * height > MOST_PIXELS:
        raise _too_large(path)
    profile = found[0].color_profile
    if profile.get("type") == "nclx" and profile["data"]["transfer_characteristics"] in HDR:
        raise InputError(f"{path}: holds the light of HDR (PQ or HLG); export it as JPEG")
    pixels = found[0].data
    size, mode = found[0].size_mode
    image = Image.frombytes(mode, size, pixels, "raw", mode, found[0].stride)
    if profile.get("type") in ("prof", "rICC"):
        image.info["icc_profile"] = profile["data"]
    return image


def _halve_a_large(path: Path, image: JpegImagePlugin.JpegImageFile) -> None:
    """Have a JPEG of more than MOST_PIXELS decoded at half its width and height."""
    width, height = image.size
    most = 3 * MOST_JPEG_PIXELS // max(3, image.layers)
    if width * height > most:
        raise InputError(
            f"{path}: has {width * height:,} pixels, expected at most {most:,}; save it smaller"
        )
    if width * height > MOST_PIXELS:
        image.draft(None, (width // 2, height // 2))


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        # Pillow's own conversion clips at 255 instead of scaling.
        image = Image.fromarray((np.asarray(image) / 257).round().astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise ValueError(f"{image.mode} pixels of 32 bits have no known white")
    profile = image.info.get("icc_profile")
    if image.has_transparency_data:
        image = image.convert("RGBA")
    elif image.mode in ("1", "P"):
        image = image.convert("RGB")
    if profile:
        # A profile that is broken or of another kind than the pixels is ignored, as browsers do.
        with suppress(ImageCms.PyCMSError, OSError):
            image = ImageCms.buildTransform(
                ImageCms.ImageCmsProfile(io.BytesIO(profile)),
                ImageCms.createProfile("sRGB"),
                image.mode,
                "RGBA" if image.mode == "RGBA" else "RGB",
            ).apply(image)
    if image.mode == "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def square(picture: np.ndarray, size: int) -> np.ndarray:
    """The central square of `picture`, resized to size×size×3 (Lanczos)."""
    height, width = picture.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    cropped = Image.fromarray(picture[top : top + side, left : left + side])
    return np.asarray(cropped.resize((size, size), Image.Resampling.LANCZOS))


def ways(picture: np.ndarray) -> list[np.ndarray]:
    """A square picture in all WAYS: as it is, turned by 90°, 180°, 270°, and those mirrored."""
    turned = [np.rot90(picture, quarter) for quarter in range(4)]
    return [np.ascontiguousarray(each) for each in [*turned, *(each[:, ::-1] for each in turned)]]


def recode(picture: np.ndarray) -> np.ndarray:
    """`picture` after a JPEG round trip (quality 95, 4:4:4), as `write` would store it.

    Real and synthetic pictures pass through it before features are taken: else a metric sees
    the codec.
    """
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=95, subsampling=0)
    with Image.open(buffer) as image:
        return np.asarray(image)


def write(
    path: Path, picture: np.ndarray, text: Mapping[str, str] | None = None, quality: int = 95
) -> None:
    """Write `picture` as .jpg (of `quality`, 4:4:4) or .png, whole or not at all.

    `text` is what to say of a synthetic picture, as `{"prompt": …, "seed": …}`: it is stored as
    XMP beside the IPTC mark for trained algorithmic media. Without it no metadata is written.
    """
    xmp, chunks = None, None
    if text is not None:
        xmp, chunks = _xmp(text), PngImagePlugin.PngInfo()
        chunks.add_itxt("XML:com.adobe.xmp", xmp.decode())
    # Each format takes the options it knows. Level 4 takes a third of PNG's usual time.
    jpeg: dict[str, Any] = {"quality": quality, "subsampling": 0, "xmp": xmp}
    png: dict[str, Any] = {"compress_level": 4, "pnginfo": chunks}
    # Into memory: given the file, Pillow takes no notice if a full disk took a part only.
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, FORMAT[path.suffix], **jpeg, **png)
    folders.write(path, buffer.getvalue())


def _xmp(text: Mapping[str, str]) -> bytes:
    said = "".join(f" mpox:{name}={quoteattr(value)}" for name, value in text.items())
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about=""'
        ' xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"'
        ' xmlns:mpox="urn:mpox-diffusion:generation"'
        f' Iptc4xmpExt:DigitalSourceType="{TRAINED_ALGORITHMIC_MEDIA}"{said}/>'
        '</rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
    ).encode()


def sheet(rows: list[list[np.ndarray]], gap: int = 2) -> np.ndarray:
    """A contact sheet: pictures of one size in `rows` (may be ragged), `gap` pixels of white."""
    height, width = rows[0][0].shape[:2]
    down, across = height + gap, width + gap
    longest = max(len(row) for row in rows)
    canvas = np.full((len(rows) * down - gap, longest * across - gap, 3), 255, np.uint8)
    for i, row in enumerate(rows):
        for j, picture in enumerate(row):
            canvas[i * down : i * down + height, j * across : j * across + width] = picture
    return canvas
