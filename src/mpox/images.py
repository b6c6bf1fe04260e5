"""Pictures in and out: the only module that opens or writes one, and the project's one geometry.

A picture is a uint8 array H×W×3, sRGB, upright.
"""

import io
import os
import stat
import struct
import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np
from PIL import Image, ImageCms, ImageOps, PngImagePlugin

from mpox.errors import InputError

FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "AVIF", "BMP", "GIF")
# HEIC is what phones save: it cannot be read here, so it is refused by name, not left out.
SUFFIXES = {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".tif", ".tiff", ".webp", ".avif", ".bmp"}
SUFFIXES |= {".gif", ".heic", ".heif"}
MOST_BYTES = 2**29  # of a file: as many pixels as Pillow takes, plain RGB of 16 bits
# What Pillow's decoders raise on damaged bytes; found by flipping bytes at random.
DAMAGED = (OSError, ValueError, SyntaxError, EOFError, TypeError, RuntimeError, struct.error)

FORMAT = {".jpg": "JPEG", ".png": "PNG"}  # what is written
TRAINED_ALGORITHMIC_MEDIA = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"


def find(folder: Path) -> tuple[list[Path], int]:
    """Every file below `folder` with a picture's suffix, by relative path, and how many are not.

    Hidden files (`._IMG_1.jpg` of a Mac) count among the others. Links to files are followed; links
    to folders are refused, for DVC does not look behind them: it would miss what changes there.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    files = []
    for parent, folders, names in os.walk(folder, onerror=_refuse):
        for path in (Path(parent, name) for name in folders):
            if path.is_symlink():
                raise InputError(
                    f"{path}: is a link to a folder, and DVC does not look behind it; copy or link "
                    "the files instead, or name that folder itself as data.source"
                )
        files += [Path(parent, name) for name in names]
    pictures = [path for path in files if path.suffix.lower() in SUFFIXES and path.name[0] != "."]
    pictures.sort(key=lambda path: path.relative_to(folder).as_posix())
    return pictures, len(files) - len(pictures)


def _refuse(error: OSError) -> None:
    raise InputError(f"{error.filename}: cannot be read ({error.strerror})")


def read(path: Path) -> np.ndarray:
    """The picture, fully decoded, upright, in sRGB, alpha over white; InputError says why not."""
    try:
        _check_file(path)
        return np.asarray(_rgb(_upright(path)))
    except InputError:
        raise
    except Image.UnidentifiedImageError:
        raise InputError(f"{path}: is no {', '.join(FORMATS[:-1])} or {FORMATS[-1]}") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        limit = Image.MAX_IMAGE_PIXELS
        raise InputError(f"{path}: has more than {limit:,} pixels") from None
    except DAMAGED as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: cannot be read ({reason})") from None


def _check_file(path: Path) -> None:
    """Before it is opened: a pipe would be waited for, a huge file be read into memory."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"{path}: is no regular file")
    if status.st_size > MOST_BYTES:
        raise InputError(f"{path}: has {status.st_size:,} bytes, expected at most {MOST_BYTES:,}")


def _upright(path: Path) -> Image.Image:
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(path, formats=FORMATS) as image:
            # JPEGs of phones may hold a depth map behind the photo: those open as MPO.
            frames = getattr(image, "n_frames", 1)
            if frames > 1 and image.format != "MPO":
                raise InputError(f"{path}: holds {frames} pictures, expected one")
            image.load()
            return ImageOps.exif_transpose(image)


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


def recode(picture: np.ndarray) -> np.ndarray:
    """`picture` after a JPEG round trip (quality 95, 4:4:4), as `write` would store it.

    Real and synthetic pictures pass through it before features are taken: else a metric sees
    the codec.
    """
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=95, subsampling=0)
    with Image.open(buffer) as image:
        return np.asarray(image)


def write(path: Path, picture: np.ndarray, text: Mapping[str, str] | None = None) -> None:
    """Write `picture` as .jpg (quality 95, 4:4:4) or .png, whole or not at all.

    `text` is what to say of a synthetic picture, as `{"prompt": …, "seed": …}`: it is stored as
    XMP beside the IPTC mark for trained algorithmic media. Without it no metadata is written.
    """
    xmp, chunks = None, None
    if text is not None:
        xmp, chunks = _xmp(text), PngImagePlugin.PngInfo()
        chunks.add_itxt("XML:com.adobe.xmp", xmp.decode())
    # Each format takes the options it knows. Level 4 takes a third of PNG's usual time.
    jpeg: dict[str, Any] = {"quality": 95, "subsampling": 0, "xmp": xmp}
    png: dict[str, Any] = {"compress_level": 4, "pnginfo": chunks}
    # Into memory: given the file, Pillow takes no notice if a full disk took a part only.
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, FORMAT[path.suffix], **jpeg, **png)
    # One name for every try, so that what a killed run left is overwritten, not kept.
    partial = path.with_name(f".{path.name}")
    try:
        with partial.open("wb") as stream:
            stream.write(buffer.getbuffer())
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


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
