"""Colour encodings: how files state their transfer curve and primaries, and conversion to sRGB.

Pillow's colour management works on 8 bits a value, too few for linear light. Files of 16 bits, and
files that state their colours without an ICC profile, are therefore converted here.
"""

import struct
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mpox.core.errors import InputError

WHITE = 65535  # in 16 bits
SHARES = np.arange(WHITE + 1) / WHITE  # every 16-bit value as a share of white
ROWS = 64  # converted at a time, to bound the memory
D65 = (0.3127, 0.3290)
# x and y of red, green, blue and white, by code of ITU-T H.273.
BT709 = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06), D65)
PRIMARIES = {
    1: BT709,
    2: BT709,  # unspecified
    5: ((0.64, 0.33), (0.29, 0.60), (0.15, 0.06), D65),  # BT.601 of 625 lines
    6: ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070), D65),  # BT.601 of 525 lines
    9: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046), D65),  # BT.2020
    12: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), D65),  # Display P3
}
HDR = (16, 18)  # transfer characteristics of H.273: PQ and HLG
# Viewers show video's curves (1, 6, 14, 15) and unspecified ones (2) as sRGB.
SRGB_LIKE = (1, 2, 6, 13, 14, 15)
POWERS = {4: 2.2, 5: 2.8, 8: 1.0}
# A gAMA this close to 1/2.2 means sRGB, as in libpng (PNG_GAMMA_THRESHOLD): sRGB files state it.
SAME_GAMMA = 0.05
SAME_COLOURS = 0.002  # in the matrix: files round sRGB's primaries
BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)


class Light(NamedTuple):
    """The conversion from stored values to linear light in sRGB's primaries."""

    curves: Sequence[np.ndarray]  # one, or one per channel: WHITE + 1 shares of white
    matrix: np.ndarray | None  # (3, 3), applied to RGB; None: the primaries are sRGB's


def _decode(shares: np.ndarray) -> np.ndarray:
    """sRGB to linear light, both as shares of white (IEC 61966-2-1)."""
    return np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)


def _encode(light: np.ndarray) -> np.ndarray:
    """Linear light to uint8 sRGB."""
    power = 1.055 * np.maximum(light, 0) ** (1 / 2.4) - 0.055
    shares = np.where(light <= 0.0031308, 12.92 * light, power)
    return np.rint(255 * np.clip(shares, 0, 1)).astype(np.uint8)


ENCODED = _encode(SHARES)
SRGB = _decode(SHARES)


def to_srgb(values: np.ndarray, light: Light | None) -> np.ndarray:
    """Values (H×W×3, uint8 or uint16) as uint8 sRGB. Without `light` they are sRGB already."""
    step = WHITE // np.iinfo(values.dtype).max
    if light is None:
        return values if step > 1 else np.rint(values / 257).astype(np.uint8)
    curves = [curve[::step] for curve in light.curves] * (3 // len(light.curves))
    converted = np.empty(values.shape, np.uint8)
    for top in range(0, len(values), ROWS):
        band = values[top : top + ROWS]
        linear = np.stack([curve[band[..., k]] for k, curve in enumerate(curves)], -1)
        if light.matrix is not None:
            linear = linear @ light.matrix.T
        converted[top : top + ROWS] = ENCODED[np.rint(WHITE * linear.clip(0, 1)).astype(int)]
    return converted


def make(curves: Sequence[np.ndarray], to_xyz: np.ndarray | None = None) -> Light | None:
    """The encoding with these curves and primaries (columns: XYZ of R, G, B); None for sRGB.

    Raises InputError if they are not finite.
    """
    matrix = None
    if to_xyz is not None:
        matrix = np.linalg.inv(_to_xyz(BT709)) @ to_xyz
        if np.abs(matrix - np.eye(3)).max() < SAME_COLOURS:
            matrix = None
    if matrix is None and all(curve is SRGB for curve in curves):
        return None
    parts = list(curves) if matrix is None else [*curves, matrix]
    if not all(np.isfinite(part).all() for part in parts):
        raise InputError("states impossible colours; save it as sRGB")
    return Light(curves, matrix)


def _to_xyz(colours: Sequence[Sequence[float]]) -> np.ndarray:
    """XYZ (columns) of red, green and blue from x and y, adapted to the white of sRGB."""
    x, y = np.array(colours).T
    with np.errstate(all="ignore"):  # `make` refuses what is not finite
        xyz = np.stack([x / y, np.ones(4), (1 - x - y) / y])
    primaries, white = xyz[:, :3], xyz[:, 3]
    return _adapt(white) @ (primaries * np.linalg.solve(primaries, white))


def _adapt(white: np.ndarray) -> np.ndarray:
    """Bradford's adaptation matrix from a white (XYZ) to that of sRGB."""
    x, y = D65
    ratio = (BRADFORD @ (x / y, 1, (1 - x - y) / y)) / (BRADFORD @ white)
    return np.linalg.inv(BRADFORD) @ (ratio[:, None] * BRADFORD)


def from_codes(primaries: int, transfer: int) -> Light | None:
    """The encoding of H.273 codes, from PNG's cICP or the nclx box of HEIF and AVIF."""
    if transfer in HDR:
        raise InputError("is an HDR picture (PQ or HLG); export it as JPEG")
    if primaries not in PRIMARIES or transfer not in (*SRGB_LIKE, *POWERS):
        raise InputError(
            f"states primaries {primaries} and transfer {transfer} of H.273, which are not "
            "supported; save it as sRGB"
        )
    curve = SRGB if transfer in SRGB_LIKE else SHARES ** POWERS[transfer]
    return make([curve], _to_xyz(PRIMARIES[primaries]))


def from_png(chunks: Mapping[bytes, bytes]) -> Light | None:
    """The encoding of a PNG without ICC profile: its cICP, sRGB, or gAMA and cHRM chunks."""
    if code := chunks.get(b"cICP"):
        primaries, transfer, matrix, full = code
        if matrix or not full:
            raise InputError(
                "has a cICP chunk of a kind other than full-range RGB; save it as sRGB"
            )
        return from_codes(primaries, transfer)
    gamma = int.from_bytes(chunks.get(b"gAMA", b"")) / 100_000
    if b"sRGB" in chunks or not gamma:
        return None
    curve = SRGB if abs(2.2 * gamma - 1) < SAME_GAMMA else SHARES ** (1 / gamma)
    if b"cHRM" not in chunks:
        return make([curve])
    numbers = np.array(struct.unpack(">8I", chunks[b"cHRM"])) / 100_000
    white, *colours = numbers.reshape(4, 2).tolist()
    return make([curve], _to_xyz([*colours, white]))


def from_tiff(tags: Mapping[int, Any]) -> Light | None:
    """The encoding of a TIFF without an ICC profile, from its TransferFunction and primaries."""
    curves = [SRGB]
    if table := tags.get(301):
        levels = 1 << tags.get(258, (1,))[0]
        if len(table) not in (levels, 3 * levels):
            raise InputError(f"its TransferFunction has {len(table)} values, expected {levels}")
        rows = np.reshape(np.array(table) / WHITE, (-1, levels))
        curves = [np.interp(SHARES, np.linspace(0, 1, levels), row) for row in rows]
    if 319 not in tags:
        return make(curves)
    colours = np.array(tags[319], float).reshape(3, 2).tolist()
    return make(curves, _to_xyz([*colours, tags.get(318, D65)]))


def from_icc(profile: bytes) -> Light | None:
    """The encoding of an ICC profile of curves (and primaries, for RGB); None for other kinds.

    Raises ValueError or struct.error if the profile is damaged.
    """
    tags = {
        profile[at : at + 4]: profile[slice(start, start + size)]
        for at in range(132, 132 + 12 * int.from_bytes(profile[128:132]), 12)
        for start, size in [struct.unpack(">II", profile[at + 4 : at + 12])]
    }
    if b"A2B0" in tags:  # lookup tables take precedence over curves
        return None
    if profile[16:24] == b"GRAYXYZ " and b"kTRC" in tags:
        return make([_curve(tags[b"kTRC"])])
    names = [(colour + b"XYZ", colour + b"TRC") for colour in (b"r", b"g", b"b")]
    if profile[16:24] != b"RGB XYZ " or not all(n in tags for pair in names for n in pair):
        return None
    curves = [_curve(tags[name]) for _, name in names]
    columns = [np.frombuffer(tags[name][8:20], ">i4") / 65536 for name, _ in names]
    d50 = np.array([0.9642, 1.0, 0.8249])  # the white of every profile's colours
    return make(curves, _adapt(d50) @ np.array(columns).T)


def _curve(tag: bytes) -> np.ndarray:
    """A curveType or parametricCurveType of ICC.1:2022, 10.6 and 10.18."""
    kind, count = tag[:4], int.from_bytes(tag[8:12])
    if kind == b"curv" and count < 2:
        return SHARES ** (int.from_bytes(tag[12:14]) / 256) if count else SHARES
    if kind == b"curv":
        points = np.frombuffer(tag[12 : 12 + 2 * count], ">u2") / WHITE
        return np.interp(SHARES, np.linspace(0, 1, count), points)
    function = count >> 16
    if kind != b"para" or function > 4:
        raise ValueError("not a curve of ICC.1:2022")
    number = (1, 3, 4, 5, 7)[function]
    numbers = np.frombuffer(tag[12 : 12 + 4 * number], ">i4") / 65536
    g, a, b, c, d, e, f = np.pad(numbers, (0, 7 - number))
    if function == 0:
        return SHARES**g
    if function in (1, 2):  # a x + b is positive from -b / a on; c offsets both parts
        c, d, e, f = 0.0, -b / a, c, c
    return np.where(d <= SHARES, np.maximum(a * SHARES + b, 0) ** g + e, c * SHARES + f)
