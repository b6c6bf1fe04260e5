"""From a picture file to upright 8-bit sRGB pixels, whatever the format and what it states."""

import io
import stat
import struct
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import _pi_heif
import numpy as np
from PIL import (
    Image,
    ImageCms,
    ImageFile,
    ImageOps,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
)

from mpox.core import folders, light, sixteen_bits
from mpox.core.errors import InputError
from mpox.core.light import Light
from mpox.core.sixteen_bits import Picture, Tags

FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "AVIF", "BMP", "GIF")  # Pillow's; HEIF is read apart
# These limits keep the memory of one read below 2 GB.
MOST_BYTES = 2**29  # of a file: MOST_PIXELS as uncompressed 16-bit RGB
MOST_HEIF_BYTES = 2**26  # the HEIF decoder holds the whole file beside the picture
MOST_PIXELS = 2**28 // 3  # Pillow's own limit
MOST_JPEG_PIXELS = 2**28  # of a progressive JPEG all coefficients are held, 2 bytes each
TOO_LARGE = (
    f"has more than {MOST_PIXELS:,} pixels; save it smaller, or as JPEG of up to "
    f"{MOST_JPEG_PIXELS:,} pixels"
)
# The decoders raise these on damaged bytes (tried by flipping bytes at random).
DAMAGED = (OSError, ValueError, SyntaxError, EOFError, TypeError, RuntimeError, struct.error)


def read(path: Path) -> np.ndarray:
    """Decode a picture: uint8 H×W×3, upright, sRGB, transparency over white.

    A JPEG of more than MOST_PIXELS (phones with 108 megapixels) is decoded at half its width and
    height. Raises InputError, with the file's name and the reason, for anything unreadable.
    """
    try:
        _check_file(path)
        return np.asarray(_rgb(*_upright(path)))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except Image.UnidentifiedImageError:
        raise InputError(f"{path}: {_unidentified(path)}") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise InputError(f"{path}: {TOO_LARGE}") from None
    except DAMAGED as error:
        reason = getattr(error, "strerror", None) or str(error).strip()
        if "MAX_TEXT" in reason:
            reason = "more than 1 MB of text or profile; save it without them"
        raise InputError(f"{path}: cannot be read ({reason})") from None


def _check_file(path: Path) -> None:
    """Refuse a pipe, which would block, and a file too large for the memory."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise InputError("is not a regular file")
    _check_bytes(path, MOST_BYTES)


def _check_bytes(path: Path, most: int) -> None:
    size = path.stat().st_size
    if size > most:
        raise InputError(f"has {size:,} bytes, expected at most {most:,}")


def _unidentified(path: Path) -> str:
    """Why Pillow recognises no format. For a TIFF the reason is the type of its values."""
    with path.open("rb") as file:
        head = file.read(8)
        if head[:4] not in (b"II*\0", b"MM\0*"):
            return f"is not a {', '.join(FORMATS)} or HEIF picture"
        tags = Tags(head)
        file.seek(tags.next)
        with suppress(*DAMAGED):
            tags.load(file)
    bits = tags.get(TiffImagePlugin.BITSPERSAMPLE, (1,))
    floats = 3 in tags.get(TiffImagePlugin.SAMPLEFORMAT, ())
    kind = "floats, whose white level is undefined" if floats else "values, which are not supported"
    return f"is a TIFF of {len(bits)} × {bits[0]}-bit {kind}; save it as RGB of 8 or 16 bits"


def _upright(path: Path) -> Picture:
    with path.open("rb") as file:
        head = file.read(2**16)
    brands = head[8 : int.from_bytes(head[:4])] if head[4:8] == b"ftyp" else b""
    avif = b"avif" in brands or b"avis" in brands
    if brands and not avif:
        return _heif(path)
    if reason := folders.pointer(head):
        raise InputError(reason)
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with _opened(path, head) as image:
            _choose_page(image)
            if isinstance(image, JpegImagePlugin.JpegImageFile):
                _halve_a_large(image)
            elif isinstance(image, TiffImagePlugin.TiffImageFile):
                sixteen_bits.read_planes(image)
            raw = sixteen_bits.raw_mode(image)
            image.load()
            picture = _stated(path, image, head if avif else b"")
            if ";16" in raw or image.mode.startswith("I;16"):
                picture = sixteen_bits.to_eight(path, picture, raw)
            return picture._replace(image=ImageOps.exif_transpose(picture.image))


def _opened(path: Path, head: bytes) -> ImageFile.ImageFile:
    if not head.startswith(b"\xff\xd8\xff"):
        return Image.open(path, formats=FORMATS)
    # Image.open would refuse a large JPEG before `draft` can ask for a smaller one. In a JPEG with
    # several pictures (MPO: a photo and its depth map) this opens the first, the photo.
    try:
        return JpegImagePlugin.JpegImageFile(path)
    except SyntaxError:
        raise ValueError("its beginning is damaged") from None


def _choose_page(image: ImageFile.ImageFile) -> None:
    """Seek to the file's only picture. Reduced copies and masks do not count as pictures."""
    pages = list(range(getattr(image, "n_frames", 1)))
    if len(pages) > 1 and isinstance(image, TiffImagePlugin.TiffImageFile):
        pages = [page for page in pages if not _is_copy_or_mask(image, page)]
    if len(pages) != 1:
        raise InputError(f"holds {len(pages)} pictures, expected one")
    if pages[0] != image.tell():
        image.seek(pages[0])


def _is_copy_or_mask(image: TiffImagePlugin.TiffImageFile, page: int) -> bool:
    """Whether NewSubfileType or SubfileType marks a page as a reduced copy or a mask."""
    image.seek(page)
    return bool(image.tag_v2.get(254, 0) & 0b101) or image.tag_v2.get(255) == 2


def _stated(path: Path, image: Image.Image, head: bytes) -> Picture:
    """The picture with the colour encoding that its file states; `head`: an AVIF's first bytes."""
    stated, bits = None, b""
    if isinstance(image, PngImagePlugin.PngImageFile):
        chunks = _chunks(path)
        bits, stated = chunks.get(b"sBIT", b""), light.from_png(chunks)
        if image.mode == "L" and isinstance(image.info.get("transparency"), int):
            # Pillow scales 2- and 4-bit grey to 8 bits, but not the value that is transparent.
            image.info["transparency"] *= 255 // ((1 << chunks[b"IHDR"][8]) - 1)
    elif isinstance(image, TiffImagePlugin.TiffImageFile):
        stated = light.from_tiff(image.tag_v2)
    elif (at := head.find(b"colrnclx")) > 0:
        stated = light.from_codes(*struct.unpack(">HH", head[at + 8 : at + 12]))
    return Picture(image, None if image.info.get("icc_profile") else stated, bits)


def _chunks(path: Path) -> dict[bytes, bytes]:
    """The first 64 bytes of each chunk that stands before a PNG's pixels."""
    chunks = {}
    with path.open("rb") as file:
        file.seek(8)
        while len(head := file.read(8)) == 8 and head[4:] != b"IDAT":
            size = int.from_bytes(head[:4])
            chunks[head[4:]] = file.read(min(size, 64))
            file.seek(size - len(chunks[head[4:]]) + 4, 1)
    return chunks


def _heif(path: Path) -> Picture:
    """The only picture of a HEIF file, upright.

    The decoder applies the file's own orientation, which its EXIF data only repeats. The
    package's plugin for Pillow is not used, because damaged metadata can crash it.
    """
    _check_bytes(path, MOST_HEIF_BYTES)
    # With 1 thread; RGB to 8 bits, grey to 16; rows as they are stored.
    pictures = _pi_heif.load_file(path.read_bytes(), 1, True, False, False, True, "", False)
    if len(pictures) != 1:
        raise InputError(f"holds {len(pictures)} pictures, expected one")
    if (stored := pictures[0]) is None:
        raise ValueError("its picture is damaged")
    (width, height), _ = stored.size_mode
    if width * height > MOST_PIXELS:
        raise InputError(TOO_LARGE)
    profile, stated = stored.color_profile, None
    if profile.get("type") == "nclx":
        codes = profile["data"]
        stated = light.from_codes(codes["color_primaries"], codes["transfer_characteristics"])
    pixels = stored.data
    size, mode = stored.size_mode
    image = Image.frombytes(mode, size, pixels, "raw", mode, stored.stride)
    if profile.get("type") in ("prof", "rICC"):
        image.info["icc_profile"] = profile["data"]
    picture = Picture(image, stated)
    return sixteen_bits.to_eight(path, picture, mode) if mode.startswith("I;16") else picture


def _halve_a_large(image: JpegImagePlugin.JpegImageFile) -> None:
    """Decode a JPEG of more than MOST_PIXELS at half its width and height."""
    width, height = image.size
    most = 3 * MOST_JPEG_PIXELS // max(3, image.layers)
    if width * height > most:
        raise InputError(
            f"has {width * height:,} pixels, expected at most {most:,}; save it smaller"
        )
    if width * height > MOST_PIXELS:
        image.draft(None, (width // 2, height // 2))


def _rgb(image: Image.Image, stated: Light | None, bits: Sequence[int]) -> Image.Image:
    if image.mode in ("I", "F"):
        raise ValueError("32-bit images are not supported: their white level is undefined")
    profile, alpha = image.info.get("icc_profile"), None
    if image.has_transparency_data:
        grey, image = image.mode in ("L", "LA"), image.convert("RGBA")
        alpha, image = image.getchannel("A"), image.convert("L" if grey else "RGB")
    elif image.mode in ("1", "P"):
        image = image.convert("RGB")
    if min(bits, default=8) < 8:
        colours = bits[:-1] if len(bits) in (2, 4) else bits
        numbers = [*colours, *colours, *colours][: len(image.getbands())]
        image = image.point([level for number in numbers for level in _levels(number)])
        if alpha and len(colours) < len(bits):
            alpha = alpha.point(_levels(bits[-1]))
    if stated:
        image = Image.fromarray(light.to_srgb(np.asarray(image.convert("RGB")), stated))
    elif profile:
        # Like browsers, ignore a profile that is broken or does not match the pixels.
        with suppress(ImageCms.PyCMSError, OSError):
            image = ImageCms.buildTransform(
                ImageCms.ImageCmsProfile(io.BytesIO(profile)),
                ImageCms.createProfile("sRGB"),
                image.mode,
                "RGB",
                # For grey, LittleCMS' optimised curve is off by up to 10 where it is steep.
                flags=ImageCms.Flags.NOOPTIMIZE if image.mode == "L" else ImageCms.Flags.NONE,
            ).apply(image)
    image = image.convert("RGB")
    if alpha:
        if alpha.getextrema()[1] == 0:
            raise InputError("is fully transparent; save it without an alpha channel")
        image.putalpha(alpha)
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _levels(number: int) -> list[int]:
    """A lookup table that scales `number` significant bits to 8, so that white becomes 255.

    Programs that only shift the bits up leave white below 255.
    """
    number = min(max(number, 1), 8)
    return [round((value >> 8 - number) * 255 / ((1 << number) - 1)) for value in range(256)]
