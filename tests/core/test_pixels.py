"""Pixels of files that other programs wrote: within 1 of 255 of the truth, or refused.

tifffile, OpenCV and pypng write every file; none of them has a part in reading it.
"""

import io
import itertools
import struct
from collections.abc import Iterator
from pathlib import Path
from zlib import compress

import cv2
import numpy as np
import png
import pytest
import tifffile
from PIL import Image, ImageCms
from test_images import HEIC

from mpox.core import images
from mpox.core.errors import InputError

HEIGHT, WIDTH = 11, 40
y, x = np.mgrid[:HEIGHT, :WIDTH]
# Dark values are close together, as nothing else tells linear light from sRGB so well.
RAMPS = np.stack([(x / (WIDTH - 1)) ** 2, (y / (HEIGHT - 1)) ** 2, ((x + y) / (x + y).max())], -1)
DEEP = np.rint(RAMPS * 65535).astype(np.uint16)
ALPHA = np.where(x < 5, 0, np.where(x < 10, 32768, 65535))[..., None]
LEVEL = {8: np.uint8, 16: np.uint16}
BANDS = {"grey": 1, "grey+alpha": 2, "RGB": 3, "RGBA": 4, "palette": 3}


def values(kind: str, bits: int) -> np.ndarray:
    """H×W×bands of that many bits, with alpha last."""
    colours = DEEP[..., :1] if kind.startswith("grey") else DEEP
    alpha = [ALPHA] if kind in ("grey+alpha", "RGBA") else []
    bands = np.concatenate([colours, *alpha], -1)
    return np.rint(bands / (65535 / np.iinfo(LEVEL[bits]).max)).astype(LEVEL[bits])


def truth(stored: np.ndarray, light=lambda share: share) -> np.ndarray:
    """What is to be seen of stored values, which are of all bits of their type."""
    return shown(stored / np.iinfo(stored.dtype).max, light)


def shown(shares: np.ndarray, light=lambda share: share) -> np.ndarray:
    """`light` of shares of white, alpha over white; 0 to 255, not rounded."""
    bands = shares.shape[-1]
    colours = light(np.repeat(shares[..., :1], 3, -1) if bands < 3 else shares[..., :3])
    alpha = shares[..., -1:] if bands in (2, 4) else 1
    return 255 * (colours * alpha + 1 - alpha)


def srgb(linear: np.ndarray) -> np.ndarray:
    """IEC 61966-2-1."""
    linear = np.clip(linear, 0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def read(content: bytes, folder: Path) -> np.ndarray:
    file = folder / "a"
    file.write_bytes(content)
    return images.read(file).astype(float)


def check(content: bytes, expected: np.ndarray, folder: Path, case: object) -> None:
    assert np.abs(read(content, folder) - np.rint(expected)).max() <= 1, case


# ---------------------------------------------------------------- TIFF


def tiff(stored: np.ndarray, planar: bool = False, **options) -> bytes:
    """By tifffile, of H×W×bands."""
    buffer, bands = io.BytesIO(), stored.shape[-1]
    options |= {"metadata": None, "photometric": options.get("photometric", "rgb")}
    if bands in (2, 4):
        options["extrasamples"] = ["unassalpha"]
    if bands > 1:
        options["planarconfig"] = "separate" if planar else "contig"
    content = stored.transpose(2, 0, 1) if planar else stored[..., 0] if bands == 1 else stored
    tifffile.imwrite(buffer, np.ascontiguousarray(content), **options)
    return buffer.getvalue()


TIFFS = list(itertools.product(
    (8, 16), ("grey", "grey+alpha", "RGB", "RGBA"), (False, True), ("minisblack", "miniswhite"),
    "<>", (None, "zlib"), (False, True), (None, 4), (None, (16, 16)),
))  # fmt: skip


def refused_tiff(bits, kind, photometric, order) -> bool:
    """Pillow knows no such values, and says so."""
    if bits == 16 and kind == "grey":
        return photometric == "miniswhite" and order == ">"
    return bits == 16 and kind == "grey+alpha"


def test_tiff(tmp_path):
    """Bits, colours, planes, white as zero, byte order, deflate, predictor, strips, tiles."""
    read_ones = refused = 0
    for bits, kind, planar, photometric, order, compression, predictor, rows, tile in TIFFS:
        colour = not kind.startswith("grey")
        if (colour and photometric == "miniswhite") or (planar and not colour):
            continue
        if (predictor and not compression) or (rows and tile):
            continue
        if kind == "grey+alpha" and photometric == "miniswhite":
            continue
        stored = values(kind, bits)
        expected = truth(stored)
        if photometric == "miniswhite":
            stored = np.invert(stored)
        content = tiff(
            stored, planar, photometric="rgb" if colour else photometric, byteorder=order,
            compression=compression, predictor=predictor, rowsperstrip=rows, tile=tile,
        )  # fmt: skip
        case = (bits, kind, planar, photometric, order, compression, predictor, rows, tile)
        if refused_tiff(bits, kind, photometric, order):
            with pytest.raises(InputError, match=r"TIFF of [12] × 16-bit values, which"):
                read(content, tmp_path)
            refused += 1
        else:
            check(content, expected, tmp_path, case)
            read_ones += 1
    assert (read_ones, refused) == (225, 27)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("kind", ["grey", "RGB", "RGBA"])
@pytest.mark.parametrize("compression", [1, 5, 8, 32773, 32946])  # none, LZW, deflate, PackBits
def test_opencvs_tiff(bits, kind, compression, tmp_path):
    stored = values(kind, bits)
    options = [cv2.IMWRITE_TIFF_COMPRESSION, compression]
    order = [2, 1, 0, 3][: stored.shape[-1]] if stored.shape[-1] > 1 else [0]
    done, content = cv2.imencode(".tiff", stored[..., order], options)
    assert done
    check(content.tobytes(), truth(stored), tmp_path, (bits, kind, compression))


def transfer_function(curve: np.ndarray, channels: int) -> tuple:
    """A tag of that curve, shares of white, for tifffile."""
    table = np.rint(np.tile(curve, channels) * 65535).astype(int).tolist()
    return 301, "H", len(table), table, True


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize(
    ("kind", "planar"),
    [("grey", False), ("RGB", False), ("RGB", True), ("RGBA", False), ("RGBA", True)],
)
@pytest.mark.parametrize("gamma", [1.0, 1.8])
def test_a_tiff_with_a_transfer_function(bits, kind, planar, gamma, tmp_path):
    stored = values(kind, bits)
    curve = np.linspace(0, 1, 1 << bits) ** gamma
    tag = transfer_function(curve, 1 if kind == "grey" else 3)
    photometric = "minisblack" if kind == "grey" else "rgb"
    content = tiff(stored, planar, photometric=photometric, extratags=[tag])
    check(content, truth(stored, lambda v: srgb(v**gamma)), tmp_path, "")


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_planes_of_16_bits_in_tiles_keep_their_low_bytes(order, compression, tmp_path):
    stored = values("RGB", 16)
    tag = transfer_function(np.linspace(0, 1, 1 << 16), 3)
    content = tiff(stored, True, extratags=[tag], tile=(16, 16), byteorder=order,
                   compression=compression)  # fmt: skip
    check(content, truth(stored, srgb), tmp_path, "")


def test_a_tiff_says_which_red_green_and_blue(tmp_path):
    """With red's and green's place exchanged, and sRGB's white."""
    colours = [0.30, 0.60, 0.64, 0.33, 0.15, 0.06]
    numbers = [round(10_000 * number) for number in colours]
    ratios = [part for number in numbers for part in (number, 10_000)]
    content = tiff(values("RGB", 8), extratags=[(319, "2I", 6, ratios, True)])
    check(content, truth(values("RGB", 8))[..., [1, 0, 2]], tmp_path, "")


# ---------------------------------------------------------------- PNG


def pypng(stored: np.ndarray, chunks: tuple = (), **options) -> bytes:
    """By pypng, of H×W×bands; `chunks` come after its header."""
    buffer, bands = io.BytesIO(), stored.shape[-1]
    options |= {"greyscale": bands < 3 and "palette" not in options, "alpha": bands in (2, 4)}
    rows = stored.reshape(HEIGHT, -1)
    writer = png.Writer(WIDTH, HEIGHT, **options)
    (writer.write_array if options.get("interlace") else writer.write)(
        buffer, rows.ravel().tolist() if options.get("interlace") else rows.tolist()
    )
    header, *others = png.Reader(bytes=buffer.getvalue()).chunks()
    buffer = io.BytesIO()
    png.write_chunks(buffer, [header, *chunks, *others])
    return buffer.getvalue()


def profile(curve: bytes, exchange: bool = False, grey: bool = False) -> bytes:
    """LittleCMS' sRGB with another curve, with red and green exchanged, or for grey."""
    made = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    at = made.index(b"para")
    assert made.count(b"para") == 1 and len(curve) <= 32
    made = made[:at] + curve.ljust(32, b"\0") + made[at + 32 :]
    if exchange:
        made = made.replace(b"rXYZ", b"swap").replace(b"gXYZ", b"rXYZ").replace(b"swap", b"gXYZ")
    if grey:
        made = made[:16] + b"GRAY" + made[20:].replace(b"rTRC", b"kTRC")
    return made


def power(gamma: float) -> bytes:
    return b"curv" + struct.pack(">IIH", 0, 1, round(gamma * 256))


LINEAR = b"curv" + bytes(8)
POWER = b"para" + struct.pack(">IHHi", 0, 0, 0, round(1.8 * 65536))  # type 0
# Type 3, of sRGB's form with other numbers: ((x + 0.1) / 1.1) ^ 2, below 0.2 a line.
JOINED = b"para" + struct.pack(
    ">IHH5i", 0, 3, 0, *(round(number * 65536) for number in (2, 1 / 1.1, 0.1 / 1.1, 0.3719, 0.2))
)
CURVES = {
    "linear": (LINEAR, lambda v: srgb(v)),
    "gamma 2.2": (power(2.2), lambda v: srgb(v ** (563 / 256))),
    "gamma 1.8": (POWER, lambda v: srgb(v**1.8)),
    "joined": (
        JOINED,
        lambda v: srgb(np.where(v < 0.2, 0.3719 * v, ((v + 0.1) / 1.1) ** 2)),
    ),
}
PNGS = list(itertools.product(
    BANDS, (8, 16, 5, 12), (None, 1.0, 0.45455, 0.55556), (None, *CURVES), (False, True),
    (False, True),
))  # fmt: skip


def png_cases() -> Iterator[tuple[tuple, bytes, np.ndarray]]:
    """Every combination, its file, and what is to be seen."""
    for case in PNGS:
        kind, depth, gamma, curve, transparent, interlace = case
        container = 8 if depth in (5, 8) else 16  # bits; pypng says in sBIT that they were fewer
        if kind == "palette" and depth != 8:
            continue
        if transparent and (depth != container or kind in ("grey+alpha", "RGBA")):
            continue
        if (curve and gamma == 0.45455) or (interlace and (curve or gamma)):
            continue
        stored = values(kind, container) >> (container - depth)
        light = (lambda v: v) if gamma in (None, 0.45455) else lambda v, g=gamma: srgb(v ** (1 / g))
        chunks = []
        if curve:
            content, light = CURVES[curve]
            made = profile(content, grey=kind.startswith("grey"))
            chunks.append((b"iCCP", b"a\0\0" + compress(made)))
        options = {"bitdepth": depth, "gamma": gamma, "interlace": interlace}
        shares = stored / ((1 << depth) - 1)
        key = stored[4, 20].tolist()
        if kind == "palette":
            colours, index = np.unique(stored.reshape(-1, 3), axis=0, return_inverse=True)
            colours, index = colours[:: len(colours) // 200], index // (len(index) // 200 + 1)
            shares = colours[index].reshape(stored.shape) / 255
            key = np.rint(255 * shares[4, 20]).astype(int).tolist()
            alpha = [0 if row == key else 255 for row in colours.tolist()]
            rows = [(*row, a) for row, a in zip(colours.tolist(), alpha, strict=True)]
            options["palette"] = rows if transparent else colours.tolist()
            stored = index.reshape(HEIGHT, WIDTH, 1)
        elif transparent:
            options["transparent"] = key[0] if kind == "grey" else tuple(key)
        expected = shown(shares, light)
        if transparent:
            whole = 255 if depth == 8 else 65535
            expected[(np.rint(shares * whole) == key).all(-1)] = 255
        yield case, pypng(stored, tuple(chunks), **options), expected


def test_png(tmp_path):
    """Colours, bits, gAMA, iCCP, tRNS, sBIT and interlacing."""
    number = 0
    for case, content, expected in png_cases():
        check(content, expected, tmp_path, case)
        number += 1
    assert number == 374


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("kind", ["grey", "RGB", "RGBA"])
def test_opencvs_png(bits, kind, tmp_path):
    stored = values(kind, bits)
    order = [2, 1, 0, 3][: stored.shape[-1]] if stored.shape[-1] > 1 else [0]
    done, content = cv2.imencode(".png", stored[..., order])
    assert done
    check(content.tobytes(), truth(stored), tmp_path, "")


@pytest.mark.parametrize("kind", ["grey", "grey+alpha", "RGB", "RGBA"])
def test_five_bits_shifted_up_have_their_white_at_248(kind, tmp_path):
    five = values(kind, 8) >> 3
    chunk = (b"sBIT", bytes([5] * BANDS[kind]))
    content = pypng(five << 3, (chunk,), bitdepth=8)
    check(content, shown(five / 31), tmp_path, "")


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_few_bits_and_a_transparent_grey(bits, tmp_path):
    stored = values("grey", 8) >> (8 - bits)
    key = int(stored[2, 20, 0])
    expected = shown(stored / ((1 << bits) - 1))
    expected[(stored == key).all(-1)] = 255
    check(pypng(stored, bitdepth=bits, transparent=key), expected, tmp_path, "")


# W3C CSS Color 4, from linear Display P3 and BT.2020 to linear sRGB.
TO_SRGB = {
    12: [[1.2249, -0.2247, 0], [-0.0420, 1.0419, 0], [-0.0197, -0.0786, 1.0979]],
    9: [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]],
}


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("primaries", TO_SRGB)
@pytest.mark.parametrize("transfer", [8, 13])
def test_a_png_with_cicp(bits, primaries, transfer, tmp_path):
    """Before its gAMA. 8 is linear, 13 sRGB."""
    stored = values("RGB", bits)
    shares = stored / np.iinfo(stored.dtype).max
    linear = shares if transfer == 8 else np.where(
        shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4
    )  # fmt: skip
    chunks = ((b"cICP", bytes([primaries, transfer, 0, 1])), (b"gAMA", struct.pack(">I", 70_000)))
    content = pypng(stored, chunks, bitdepth=bits)
    check(content, 255 * srgb(linear @ np.transpose(TO_SRGB[primaries])), tmp_path, "")


def test_a_png_with_primaries_by_chrm(tmp_path):
    numbers = [0.3127, 0.3290, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060]
    chunk = (b"cHRM", struct.pack(">8I", *(round(100_000 * number) for number in numbers)))
    stored = values("RGB", 16)
    expected = 255 * srgb(stored / 65535 @ np.transpose(TO_SRGB[12]))
    check(pypng(stored, (chunk,), bitdepth=16, gamma=1.0), expected, tmp_path, "")
    alone = pypng(stored, (chunk, (b"sRGB", b"\0")), bitdepth=16, gamma=1.0)
    check(alone, truth(stored), tmp_path, "")  # sRGB comes before both


@pytest.mark.parametrize("file_format", ["AVIF", "HEIF"])
def test_primaries_by_nclx(file_format, tmp_path):
    """The same bytes once called BT.709's, once Display P3's."""
    if file_format == "HEIF":
        content, old = HEIC, HEIC[HEIC.index(b"colrprof") :][:15]
        content = content.replace(old, b"colrnclx" + struct.pack(">3HB", 1, 13, 6, 128))
    else:
        buffer = io.BytesIO()
        Image.fromarray(values("RGB", 8)).save(buffer, "AVIF", quality=90)
        content = buffer.getvalue()
    at = content.index(b"colrnclx") + 8
    assert struct.unpack(">HH", content[at : at + 4]) == (1, 13)
    plain = read(content, tmp_path) / 255
    linear = np.where(plain <= 0.04045, plain / 12.92, ((plain + 0.055) / 1.055) ** 2.4)
    other = content[:at] + struct.pack(">H", 12) + content[at + 2 :]
    check(other, 255 * srgb(linear @ np.transpose(TO_SRGB[12])), tmp_path, "")
    for transfer in (16, 18):
        hdr = content[: at + 2] + struct.pack(">H", transfer) + content[at + 4 :]
        with pytest.raises(InputError, match="a: is an HDR picture"):
            read(hdr, tmp_path)


UNREAD = [
    *((b"cICP", bytes(code)) for code in [(9, 16, 0, 1), (1, 17, 0, 1), (4, 13, 0, 1)]),
    *((b"cICP", bytes(code)) for code in [(1, 13, 1, 1), (1, 13, 0, 0)]),
    (b"cHRM", bytes(32)),
]


@pytest.mark.parametrize("stated", UNREAD)
def test_colours_that_are_not_read_are_refused(stated, tmp_path):
    with pytest.raises(
        InputError, match=r"a: (is an HDR picture|states|has a cICP chunk|cannot be read)"
    ):
        read(pypng(values("RGB", 8), (stated,), bitdepth=8, gamma=1.0), tmp_path)


# ---------------------------------------------------------------- white


WRITERS = {
    "tifffile": tiff,
    "OpenCV's TIFF": lambda stored: cv2.imencode(".tiff", stored)[1].tobytes(),
    "OpenCV's PNG": lambda stored: cv2.imencode(".png", stored)[1].tobytes(),
    "pypng": lambda stored: pypng(stored, bitdepth=16),
}


@pytest.mark.parametrize("kind", ["grey", "RGB", "RGBA"])
@pytest.mark.parametrize("writer", WRITERS)
def test_twelve_bits_in_sixteen_have_no_known_white(writer, kind, tmp_path):
    twelve = np.rint(values(kind, 16) * (4095 / 65535)).astype(np.uint16)
    if kind == "grey" and writer == "tifffile":
        content = tiff(twelve, photometric="minisblack")
    else:
        content = WRITERS[writer](twelve)
    with pytest.raises(InputError, match="a: has only 16-bit values below 4,096"):
        read(content, tmp_path)


@pytest.mark.parametrize("kind", ["grey", "RGB"])
def test_a_dark_picture_of_sixteen_significant_bits_is_dark(kind, tmp_path):
    dark = values(kind, 16) // 32
    chunk = (b"sBIT", bytes([16] * BANDS[kind]))
    check(pypng(dark, (chunk,), bitdepth=16), truth(dark), tmp_path, "")


def test_a_tiff_of_twelve_bits_says_so(tmp_path):
    """Two values in three bytes, as TIFF packs them; by hand, since no writer here can."""
    twelve = values("grey", 16)[..., 0] >> 4
    pairs = twelve.reshape(HEIGHT, -1, 2).astype(np.uint32)
    packed = pairs[..., 0] << 12 | pairs[..., 1]
    rows = np.stack([packed >> 16, packed >> 8, packed], -1).astype(np.uint8)
    entries = [(256, WIDTH), (257, HEIGHT), (258, 12), (259, 1), (262, 1), (273, 8),
               (277, 1), (278, HEIGHT), (279, rows.size)]  # fmt: skip
    directory = b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in entries)
    content = struct.pack("<2sHI", b"II", 42, 8 + rows.size) + rows.tobytes()
    content += struct.pack("<H", len(entries)) + directory + bytes(4)
    check(content, shown(twelve[..., None] / 4095), tmp_path, "")


# ---------------------------------------------------------------- other


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("planar", [False, True])
def test_sixteen_bits_are_turned_upright(orientation, planar, tmp_path):
    stored = values("RGB", 16)
    exif = Image.Exif()
    exif[0x0112] = orientation
    chunk = (b"eXIf", exif.tobytes()[6:])
    turned = {1: stored, 2: stored[:, ::-1], 3: stored[::-1, ::-1], 4: stored[::-1]}
    turned |= {k + 4: turned[j].transpose(1, 0, 2) for k, j in {1: 1, 2: 4, 3: 3, 4: 2}.items()}
    expected = truth(turned[orientation])
    tag = (274, "H", 1, orientation, True)
    check(tiff(stored, planar, extratags=[tag]), expected, tmp_path, "")
    if not planar:
        check(pypng(stored, (chunk,), bitdepth=16), expected, tmp_path, "")


@pytest.mark.parametrize("kind", ["grey+alpha", "RGBA"])
def test_what_nobody_can_see_is_no_white_picture(kind, tmp_path):
    stored = values(kind, 8)
    stored[..., -1] = 0
    with pytest.raises(
        InputError, match="a: is fully transparent; save it without an alpha channel"
    ):
        read(pypng(stored, bitdepth=8), tmp_path)


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("bits", [8, 16])
def test_a_reduced_copy_is_no_second_picture(first, bits, tmp_path):
    stored = values("RGB", bits)
    pages = [(stored, 0), (stored[::4, ::4], 1)]
    with tifffile.TiffWriter(tmp_path / "pages.tif") as writer:
        for page, kind in pages[::-1] if first else pages:
            writer.write(page, photometric="rgb", subfiletype=kind, metadata=None)
    check((tmp_path / "pages.tif").read_bytes(), truth(stored), tmp_path, "")
    with tifffile.TiffWriter(tmp_path / "pages.tif") as writer:
        for page, _ in pages:
            writer.write(page, photometric="rgb", metadata=None)
    with pytest.raises(InputError, match="a: holds 2 pictures, expected one"):
        read((tmp_path / "pages.tif").read_bytes(), tmp_path)


def test_floats_are_named(tmp_path):
    for stored, kind_of_values in ((RAMPS.astype(np.float32), "3 × 32-bit floats"),
                         (RAMPS[..., :1].astype(np.float16), "1 × 16-bit floats")):  # fmt: skip
        kind = "rgb" if stored.shape[-1] == 3 else "minisblack"
        with pytest.raises(
            InputError, match=f"a: is a TIFF of {kind_of_values}, whose white level is undefined"
        ):
            read(tiff(stored, photometric=kind), tmp_path)


@pytest.mark.parametrize("chunk", [b"zTXt", b"iTXt"])
def test_text_of_a_megabyte_beside_a_picture_is_named(chunk, tmp_path):
    head = b"a\0\0" if chunk == b"zTXt" else b"a\0\1\0\0\0"
    content = pypng(values("RGB", 8), ((chunk, head + compress(bytes(2 << 20))),), bitdepth=8)
    with pytest.raises(InputError, match=r"a: cannot be read \(more than 1 MB of text or profile"):
        read(content, tmp_path)
