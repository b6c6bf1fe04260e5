"""Pictures in and out: the only module that opens or writes one, and the project's one geometry.

A picture is a uint8 array H×W×3, sRGB, upright.
"""

import io
import shutil
import stat
import struct
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple
from xml.sax.saxutils import quoteattr

import _pi_heif
import numpy as np
from PIL import (
    ExifTags,
    Image,
    ImageCms,
    ImageFile,
    ImageOps,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
)

from mpox.core import folders, light
from mpox.core.errors import InputError
from mpox.core.light import Light

FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "AVIF", "BMP", "GIF")  # that Pillow reads; and HEIF
# With these, reading takes less than 2 GB.
MOST_BYTES = 2**29  # of a file: as many pixels as Pillow takes, plain RGB of 16 bits
MOST_HEIF_BYTES = 2**26  # its decoder holds the whole file beside the picture
MOST_PIXELS = 2**28 // 3  # what Pillow takes
MOST_JPEG_PIXELS = 2**28  # of three colours: a progressive one is held whole, in 2 bytes a value
TOO_LARGE = (
    f"has more than {MOST_PIXELS:,} pixels; save it smaller, or as JPEG of up to "
    f"{MOST_JPEG_PIXELS:,} pixels"
)
ORIENTATION = ExifTags.Base.Orientation
Tags = TiffImagePlugin.ImageFileDirectory_v2
Rows = Callable[[slice], np.ndarray]  # of a picture: uint16 H×W×3
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
            reason = "more than 1 MB of text or profile beside the picture; save it without"
        raise InputError(f"{path}: cannot be read ({reason})") from None


def _check_file(path: Path) -> None:
    """Before it is opened: a pipe would be waited for, a huge file be read into memory."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise InputError("is no regular file")
    _check_bytes(path, MOST_BYTES)


def _check_bytes(path: Path, most: int) -> None:
    size = path.stat().st_size
    if size > most:
        raise InputError(f"has {size:,} bytes, expected at most {most:,}")


def _unidentified(path: Path) -> str:
    """Why Pillow knows no format: of a TIFF, which it is by its head, the kind of its values."""
    with path.open("rb") as file:
        head = file.read(8)
        if head[:4] not in (b"II*\0", b"MM\0*"):
            return f"is no {', '.join(FORMATS)} or HEIF"
        tags = Tags(head)
        file.seek(tags.next)
        with suppress(*DAMAGED):
            tags.load(file)
    bits = tags.get(TiffImagePlugin.BITSPERSAMPLE, (1,))
    floats = 3 in tags.get(TiffImagePlugin.SAMPLEFORMAT, ())
    kind = "floats, which have no known white" if floats else "values, which are not read"
    return f"is a TIFF of {len(bits)} × {bits[0]}-bit {kind}; save it as RGB of 8 or 16 bits"


class _Picture(NamedTuple):
    """A picture as it is stored, upright, and what the file says of its values."""

    image: Image.Image
    light: Light | None = None  # None: sRGB, or what its ICC profile says
    bits: Sequence[int] = ()  # PNG's sBIT


def _upright(path: Path) -> _Picture:
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
                _read_planes_rightly(image)
            raw = _raw_mode(image)
            image.load()
            picture = _stated(path, image, head if avif else b"")
            if ";16" in raw or image.mode.startswith("I;16"):
                picture = _eight_bits(path, picture, raw)
            return picture._replace(image=ImageOps.exif_transpose(picture.image))


def _opened(path: Path, head: bytes) -> ImageFile.ImageFile:
    if not head.startswith(b"\xff\xd8\xff"):
        return Image.open(path, formats=FORMATS)
    # Image.open refuses a large JPEG before it can be told to decode it smaller. Of the pictures
    # that a phone stores in one JPEG (MPO: behind the photo a depth map) this one is the first.
    try:
        return JpegImagePlugin.JpegImageFile(path)
    except SyntaxError:
        raise ValueError("its beginning is damaged") from None  # Pillow's word: "not identified"


def _choose_page(image: ImageFile.ImageFile) -> None:
    """Go to the file's one picture; reduced copies and masks of it are no others."""
    pages = list(range(getattr(image, "n_frames", 1)))
    if len(pages) > 1 and isinstance(image, TiffImagePlugin.TiffImageFile):
        pages = [page for page in pages if not _is_aside(image, page)]
    if len(pages) != 1:
        raise InputError(f"holds {len(pages)} pictures, expected one")
    if pages[0] != image.tell():
        image.seek(pages[0])


def _is_aside(image: TiffImagePlugin.TiffImageFile, page: int) -> bool:
    """Whether a page's NewSubfileType or SubfileType says: a reduced copy, or a mask."""
    image.seek(page)
    return bool(image.tag_v2.get(254, 0) & 0b101) or image.tag_v2.get(255) == 2


def _stated(path: Path, image: Image.Image, head: bytes) -> _Picture:
    """What a file says of its values; `head`: the beginning of an AVIF."""
    stated, bits = None, b""
    if isinstance(image, PngImagePlugin.PngImageFile):
        chunks = _chunks(path)
        bits, stated = chunks.get(b"sBIT", b""), light.from_png(chunks)
        if image.mode == "L" and isinstance(image.info.get("transparency"), int):
            # Pillow scales grey of 2 and 4 bits to 8, but not the grey that is transparent.
            image.info["transparency"] *= 255 // ((1 << chunks[b"IHDR"][8]) - 1)
    elif isinstance(image, TiffImagePlugin.TiffImageFile):
        stated = light.from_tiff(image.tag_v2)
    elif (at := head.find(b"colrnclx")) > 0:
        stated = light.from_codes(*struct.unpack(">HH", head[at + 8 : at + 12]))
    return _Picture(image, None if image.info.get("icc_profile") else stated, bits)


def _chunks(path: Path) -> dict[bytes, bytes]:
    """The chunks of a PNG before its pixels, the first 64 bytes of each."""
    chunks = {}
    with path.open("rb") as file:
        file.seek(8)
        while len(head := file.read(8)) == 8 and head[4:] != b"IDAT":
            size = int.from_bytes(head[:4])
            chunks[head[4:]] = file.read(min(size, 64))
            file.seek(size - len(chunks[head[4:]]) + 4, 1)
    return chunks


def _heif(path: Path) -> _Picture:
    """The one picture of a HEIF, turned as it says itself: what its EXIF says only repeats that.

    Not by the package's plugin for Pillow: that reads metadata too, where damage can crash it.
    """
    _check_bytes(path, MOST_HEIF_BYTES)
    # With 1 thread, to 8 bits but for grey, in RGB, rows as they are stored, grey to 16 bits.
    found = _pi_heif.load_file(path.read_bytes(), 1, True, False, False, True, "", False)
    if len(found) != 1:
        raise InputError(f"holds {len(found)} pictures, expected one")
    if found[0] is None:
        raise ValueError("its picture is damaged")
    (width, height), _ = found[0].size_mode
    if width * height > MOST_PIXELS:
        raise InputError(TOO_LARGE)
    profile, stated = found[0].color_profile, None
    if profile.get("type") == "nclx":
        codes = profile["data"]
        stated = light.from_codes(codes["color_primaries"], codes["transfer_characteristics"])
    pixels = found[0].data
    size, mode = found[0].size_mode
    image = Image.frombytes(mode, size, pixels, "raw", mode, found[0].stride)
    if profile.get("type") in ("prof", "rICC"):
        image.info["icc_profile"] = profile["data"]
    picture = _Picture(image, stated)
    return _eight_bits(path, picture, mode) if mode.startswith("I;16") else picture


def _halve_a_large(image: JpegImagePlugin.JpegImageFile) -> None:
    """Have a JPEG of more than MOST_PIXELS decoded at half its width and height."""
    width, height = image.size
    most = 3 * MOST_JPEG_PIXELS // max(3, image.layers)
    if width * height > most:
        raise InputError(
            f"has {width * height:,} pixels, expected at most {most:,}; save it smaller"
        )
    if width * height > MOST_PIXELS:
        image.draft(None, (width // 2, height // 2))


# ---------------------------------------------------------------- 16 bits a value


def _raw_mode(image: ImageFile.ImageFile) -> str:
    """Pillow's name for how the values are stored; empty where it has none."""
    args = image.tile[0].args if image.tile else ""
    name = args[0] if isinstance(args, tuple) and args else args
    return name if isinstance(name, str) else ""


def _read_planes_rightly(image: TiffImagePlugin.TiffImageFile) -> None:
    """Of 16 bits in planes by libtiff, as Pillow reads compressed files; itself it takes 8 bits."""
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


def _eight_bits(path: Path, picture: _Picture, raw: str) -> _Picture:
    """A picture of 16 bits a value as one of 8, in sRGB unless only its profile is left to tell."""
    image, stated, bits = picture
    grey = image.mode.startswith("I;16")
    if not grey and image.mode != "CMYK":
        bands = np.reshape(image.getextrema(), (-1, 2))  # of the high bytes
        _check_white(256 * int(bands[:3, 1].max()) + 255, bits)
    if not grey and not raw.startswith(("RGB;", "RGBA;", "RGBX;", "LA;")):
        if stated:
            raise InputError("has 16-bit values of CMYK or multiplied by alpha; save it as RGB")
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
        some = slice(top, min(top + light.ROWS, height))
        values = rows(some)
        pixels[some] = light.to_srgb(values, stated)
        alpha[some] = np.where((values == key).all(-1), 0, 255) if key is not None else 255
    made = Image.fromarray(pixels)
    if profile and stated is None:
        made = made.convert("L") if grey else made  # as the profile has it
        made.info["icc_profile"] = profile
    if key is not None or image.mode == "RGBA":
        made.putalpha(image.getchannel("A") if key is None else Image.fromarray(alpha))
    made.getexif()[ORIENTATION] = image.getexif().get(ORIENTATION, 1)
    return _Picture(made)


def _check_white(brightest: int, bits: Sequence[int]) -> None:
    """InputError where the values may be those of 12 bits, so that their white is not known.

    12 significant `bits` say nothing about it: some programs store them at the lower end.
    """
    if brightest < 4096 and max(bits, default=0) <= 12:
        raise InputError(
            "has 16-bit values below 4,096 alone, so its white is not known; save it with values "
            "up to 65,535, or of 8 bits"
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
    return lambda some: np.repeat(values[some, :, None], 3, -1)


def _colours(path: Path, image: Image.Image, raw: str) -> Rows:
    low = _low_bytes(path, image, raw)

    def rows(some: slice) -> np.ndarray:
        box = (0, some.start, image.width, some.stop)
        high = np.asarray(image.crop(box))[..., :3].astype(np.uint16)
        return high << 8 | np.asarray(low.crop(box))[..., :3]

    return rows


def _low_bytes(path: Path, image: Image.Image, raw: str) -> Image.Image:
    """The low byte of each value: Pillow gives the high one, but of another byte order the low."""
    with Image.open(path, formats=("PNG", "TIFF")) as low:
        low.seek(image.tell())
        if isinstance(low, TiffImagePlugin.TiffImageFile) and low.tag_v2.get(284) == 2:  # planes
            return Image.merge("RGB", [_low_plane(path, low.tag_v2, plane) for plane in range(3)])
        if raw == "LA;16B":  # as four bytes a pixel, the second of which is grey's low one
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
    """The low bytes of one plane of a TIFF, as a grey TIFF that has the strips of that plane."""
    start = Tags(prefix=tags.prefix)
    for tag in (256, 257, 259, 266, 274, 278, 317, 322, 323):  # sides, how compressed, how cut
        if tag in tags:
            start[tag] = tags[tag]
    start[258], start[262], start[277] = 16, 1, 1  # bits, black is zero, one value a pixel
    places, sizes = (273, 279) if 273 in tags else (324, 325)
    number = len(tags[places]) // tags[277]
    for tag in (places, sizes):
        if tag in tags:
            start[tag] = tags[tag][plane * number :][:number]
    if places == 324:  # those of strips are shifted by Pillow
        length = 8 + len(start.tobytes(8))
        start[places] = tuple(place + length for place in start[places])
    with tempfile.TemporaryFile() as file, path.open("rb") as content:
        start.save(file)
        shutil.copyfileobj(content, file)
        file.seek(0)
        with Image.open(file, formats=("TIFF",)) as alone:
            return Image.fromarray(np.asarray(alone).astype(np.uint8))


# ---------------------------------------------------------------- 8 bits a value


def _rgb(image: Image.Image, stated: Light | None, bits: Sequence[int]) -> Image.Image:
    if image.mode in ("I", "F"):
        raise ValueError(f"{image.mode} pixels of 32 bits have no known white")
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
        # A profile that is broken or of another kind than the pixels is ignored, as browsers do.
        with suppress(ImageCms.PyCMSError, OSError):
            image = ImageCms.buildTransform(
                ImageCms.ImageCmsProfile(io.BytesIO(profile)),
                ImageCms.createProfile("sRGB"),
                image.mode,
                "RGB",
                # Of grey LittleCMS' short cut is off by up to 10 where the curve is steep.
                flags=ImageCms.Flags.NOOPTIMIZE if image.mode == "L" else ImageCms.Flags.NONE,
            ).apply(image)
    image = image.convert("RGB")
    if alpha:
        if alpha.getextrema()[1] == 0:
            raise InputError("is transparent all over; save it without alpha")
        image.putalpha(alpha)
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _levels(number: int) -> list[int]:
    """So many significant bits over all 8: programs that shift them up leave white below 255."""
    number = min(max(number, 1), 8)
    return [round((value >> 8 - number) * 255 / ((1 << number) - 1)) for value in range(256)]


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
    with Image.open(io.BytesIO(encode(picture))) as image:
        return np.asarray(image)


def encode(
    picture: np.ndarray, kind: str = "JPEG", quality: int = 95, xmp: bytes | None = None
) -> bytes:
    """A picture as a file's content: JPEG of `quality` (4:4:4), or PNG; `xmp`: its metadata."""
    chunks = PngImagePlugin.PngInfo()
    if xmp is not None:
        chunks.add_itxt("XML:com.adobe.xmp", xmp.decode())
    # Each format takes the options it knows. Level 4 takes a third of PNG's usual time.
    jpeg: dict[str, Any] = {"quality": quality, "subsampling": 0, "xmp": xmp}
    png: dict[str, Any] = {"compress_level": 4, "pnginfo": chunks}
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, kind, **jpeg, **png)
    return buffer.getvalue()


def write(
    path: Path, picture: np.ndarray, text: Mapping[str, str] | None = None, quality: int = 95
) -> None:
    """Write `picture` as .jpg (of `quality`, 4:4:4) or .png, whole or not at all.

    `text` is what to say of a synthetic picture, as `{"prompt": …, "seed": …}`: it is stored as
    XMP beside the IPTC mark for trained algorithmic media. Without it no metadata is written.
    """
    # In memory first: Pillow itself does not notice that a full disk took only a part.
    xmp = None if text is None else _xmp(text)
    folders.write(path, encode(picture, FORMAT[path.suffix], quality, xmp))


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
