"""Every kind of file in a folder of photos becomes a picture or is left out with a reason."""

import base64
import csv
import io
import json
import os
import signal
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import png
import pytest
import tifffile
from conftest import ROOT
from PIL import Image, ImageCms, PngImagePlugin
from test_preparation import in_process, inspect_all, prepare  # noqa: F401

from mpox.core import images, listing
from mpox.core.errors import InputError
from mpox.embedded import phantom
from mpox.photos import inspection
from mpox.statistics.estimate import Metrics

GIB = 2  # that reading a picture may take
SIDE = 9459  # pixels: its square is the largest that Pillow accepts
HEIC = (ROOT / "tests" / "phantom.heic").read_bytes()  # made as tests/test_images.py says
HIF = base64.b64decode("""
AAAAHGZ0eXBoZWl4AAAAAG1pZjFoZWl4bWlhZgAAAVJtZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAA
AAAAACJpbG9jAAAAAERAAAEAAQAAAAABdgABAAAAAAAAARYAAAAjaWluZgAAAAAAAQAAABVpbmZlAgAAAAABAABodmMxAAAA
AA5waXRtAAAAAAABAAAA0mlwcnAAAACzaXBjbwAAAHZodmNDAQQIAAAAAAAAAAAAHvAA/P76+gAADwNgAAEAF0ABDAH//wQI
AAADAJ04AAADAAAeugJAYQABACpCAQEECAAAAwCdOAAAAwAAHrAogSTZbqSRprm4CGgwIAAAAwMgAAADACFiAAEAB0QBwXKw
IkAAAAATY29scm5jbHgAAQANAAaAAAAAFGlzcGUAAAAAAAAAUAAAAEgAAAAOcGl4aQAAAAABCgAAABdpcG1hAAAAAAAAAAEA
AQSBAgMEAAABHm1kYXQAAAESKAGvGYD3jEI/SggZngA/WZf36GIxhSZUPaI/IcxcKi93DiZwceGNx/JLQVeM8+rVCXFdHfhI
SrddBOorAqiMPkvkWiCVLiEot+XrYqkhuZKgCWqJevE8d5i77oDq+qXOqDklq7P1k53hXGgH6dIkOF+P51ICsqQpmDP6psDf
2s1HlM8GUEbp+NgRW35JpZly7JF+UiqdH/kRDcxxDnoi02TJKxbG0pxSUm90HVBoBEQwLUt1wsaynXCwDQNE8MF/vT93P6D9
nCxBoD6QLD5R0Tbhyv8zkzEFoXnZQuSjEqD+RjeRY4DY3o1lcPfLFiz14K/6VYWsZ5i9nBSqq3+rBRF/7duV5azJHi2dlTqK
ISs/UA==
""")  # skin(231) at 10 bits and 4:2:2, by pillow-heif too
PHANTOM = Image.fromarray(phantom.draw("mpox", 0, 0, seed=2022, size=128).picture)
Write = Callable[[Path], object]


def skin(seed: int, size: tuple[int, int] = (80, 72)) -> Image.Image:
    """Coarse random blotches, with a different perceptual hash for each seed."""
    blotches = np.random.default_rng(seed).integers(60, 200, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(blotches).resize(size, Image.Resampling.BICUBIC)


def encoded(file_format: str, image: Image.Image | None = None, **options) -> bytes:
    buffer = io.BytesIO()
    (image or skin(0)).save(buffer, file_format, **options)
    return buffer.getvalue()


def turned(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    skin(201).transpose(Image.Transpose.ROTATE_90).save(path, exif=exif)


def sixteen_bits(path: Path) -> None:
    grey = np.asarray(skin(202).convert("L")).astype(np.uint16)
    Image.fromarray(grey * 257).save(path)


def see_through(path: Path) -> None:
    image = skin(203).convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    image.save(path)


def animated(path: Path) -> None:
    skin(204).save(path, save_all=True, append_images=[skin(205)])


def bomb(path: Path) -> None:
    """A few bytes that declare 60,000 × 60,000 pixels."""
    content = bytearray(encoded("PNG", Image.new("1", (1, 1))))
    content[16:24] = struct.pack(">II", 60_000, 60_000)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    path.write_bytes(content)


def annotated(path: Path) -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("history", " " * (2 << 20), zip=True)
    skin(233).save(path, pnginfo=text)


def planes(path: Path) -> None:
    """16 bits, red before green before blue, with a reduced copy as another page."""
    deep = 257 * np.asarray(skin(234)).astype(np.uint16)
    with tifffile.TiffWriter(path) as writer:
        content = np.ascontiguousarray(deep.transpose(2, 0, 1))
        writer.write(content, photometric="rgb", planarconfig="separate")
        writer.write(np.asarray(skin(234, (20, 18))), photometric="rgb", subfiletype=1)


def linear(path: Path) -> None:
    """16 bits of linear light, in a PNG whose gAMA chunk says so."""
    shares = np.asarray(skin(235)) / 255
    light = np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)
    rows = np.rint(65535 * light).astype(int).reshape(72, -1).tolist()
    with path.open("wb") as file:
        png.Writer(80, 72, greyscale=False, bitdepth=16, gamma=1.0).write(file, rows)


def padded(path: Path) -> None:
    """A picture, then three gigabytes of zeros, which take no room on the disk."""
    path.write_bytes(encoded("WEBP"))
    os.truncate(path, 3 << 30)


def locked(path: Path) -> None:
    skin(209).save(path)
    path.chmod(0)


def linked(path: Path) -> None:
    skin(228).save(path.parent.with_name("elsewhere.png"))
    path.symlink_to("../elsewhere.png")


# What the file is, its name, how it is made, and why it is refused.
REFUSED: dict[str, tuple[str, Write, str]] = {
    "nothing": ("empty.jpg", Path.touch, "is not a JPEG"),
    "a JPEG cut in half": (
        "half.jpg", lambda p: p.write_bytes(encoded("JPEG")[:1000]), "cannot be read"),
    "a PNG cut in half": (
        "half.png", lambda p: p.write_bytes(encoded("PNG")[:1000]), "cannot be read"),
    "a TIFF cut in half": (
        "half.tif", lambda p: p.write_bytes(encoded("TIFF")[:1000]), "cannot be read"),
    "text": ("text.jpg", lambda p: p.write_text("a photo of a lesion"), "is not a JPEG"),
    "a web page": (
        "page.jpg", lambda p: p.write_text("<!doctype html><title>404</title>"), "is not a JPEG"),
    "a PDF": ("scan.png", lambda p: p.write_bytes(encoded("PDF")), "is not a JPEG"),
    "a HEIC's first bytes and zeros": (
        "fake.HEIC", lambda p: p.write_bytes(b"\0\0\0\x18ftypheic" + bytes(99)), "cannot be read"),
    "a HEIC cut in half": (
        "half.heic", lambda p: p.write_bytes(HEIC[: len(HEIC) // 2]), "cannot be read"),
    "a HEIC of two pictures": (
        "two.heic", lambda p: p.write_bytes(HEIC.replace(b"thmb", b"none")), "holds 2 pictures"),
    "a HEIC that declares 60,000 × 60,000 pixels": (
        "bomb.heic", lambda p: p.write_bytes(HEIC.replace(
            struct.pack(">II", 128, 128), struct.pack(">II", 60_000, 60_000))),
        "more than 89,478,485"),
    "a HEIC and 100 MB of zeros": (
        "padded.heic", lambda p: (p.write_bytes(HEIC), os.truncate(p, 10**8)),
        "bytes, expected at most"),
    "a video": (
        "video.heic", lambda p: p.write_bytes(b"\0\0\0\x18ftypisom" + bytes(99)),
        "cannot be read"),
    "a JPEG of more than 2²⁸ pixels": (
        "giant.jpg", lambda p: p.write_bytes(encoded("JPEG", Image.new("L", (8, 8))).replace(
            b"\0\x08\0\x08\x01", b"\xff\xff\x20\0\x01")), "expected at most 268,435,456"),
    "an animated GIF": ("animated.gif", animated, "holds 2 pictures"),
    "an animated PNG": ("animated.png", animated, "holds 2 pictures"),
    "an animated WebP": ("animated.webp", animated, "holds 2 pictures"),
    "a TIFF of two pages": ("pages.tif", animated, "holds 2 pictures"),
    "a TIFF of 32-bit floats": (
        "floats.tif", lambda p: Image.new("F", (80, 80)).save(p), "white level is undefined"),
    "a TIFF of RGB floats": ("rgb-floats.tif", lambda p: tifffile.imwrite(
        p, np.zeros((80, 80, 3), np.float32), photometric="rgb"), "white level is undefined"),
    "12 bits in a PNG of 16": ("twelve.png", lambda p: p.write_bytes(cv2.imencode(
        ".png", 16 * np.asarray(skin(232)).astype(np.uint16))[1]), "16-bit values below 4,096"),
    "a PNG that is transparent all over": ("clear.png", lambda p: Image.new(
        "RGBA", (80, 72)).save(p), "is fully transparent"),
    "a PNG with two megabytes of text": ("text.png", annotated, "more than 1 MB of text"),
    "a PNG that declares 60,000 × 60,000 pixels": ("bomb.png", bomb, "more than 89,478,485"),
    "a WebP and 3 GB of zeros": ("padded.webp", padded, "bytes, expected at most"),
    "1 × 1 pixel": ("dot.png", lambda p: skin(206, (1, 1)).save(p), "is 1 pixels across"),
    "1 × 5000 pixels": ("hair.png", lambda p: skin(207, (1, 5000)).save(p), "is 1 pixels across"),
    "5000 × 1 pixels": ("thread.png", lambda p: skin(208, (5000, 1)).save(p), "is 1 pixels across"),
    "a link to nothing": ("broken.jpg", lambda p: p.symlink_to("nowhere"), "No such file"),
    "a link to itself": ("itself.jpg", lambda p: p.symlink_to(p), "symbolic links"),
    "a picture that may not be read": ("locked.png", locked, "Permission denied"),
    "a pipe": ("pipe.jpg", os.mkfifo, "is not a regular file"),
    "a device": ("device.jpg", lambda p: p.symlink_to("/dev/zero"), "is not a regular file"),
    "text, with a line break in its name": ("bad\nname.jpg", Path.touch, "is not a JPEG"),
}  # fmt: skip

# Files that are read: what, name, how it is made, and the picture it shows.
READ: dict[str, tuple[str, Write, Image.Image]] = {
    "a JPEG": ("plain.jpg", lambda p: skin(210).save(p, quality=95), skin(210)),
    "a PNG named as a JPEG": (
        "really.jpg", lambda p: p.write_bytes(encoded("PNG", skin(211))), skin(211)),
    "a CMYK JPEG": (
        "cmyk.jpg", lambda p: skin(212).convert("CMYK").save(p, quality=95), skin(212)),
    "a grey JPEG": ("grey.jpg", lambda p: skin(213).convert("L").save(p), skin(213).convert("L")),
    "a JPEG that EXIF turns": ("turned.jpg", turned, skin(201)),
    "a PNG of 16 bits": ("deep.png", sixteen_bits, skin(202).convert("L")),
    "a PNG with a palette": (
        "palette.png", lambda p: skin(214).quantize(256).save(p), skin(214)),
    "a PNG that is partly transparent": ("alpha.png", see_through, Image.alpha_composite(
        Image.new("RGBA", (80, 72), "white"),
        Image.merge("RGBA", (*skin(203).split(), Image.linear_gradient("L").resize((80, 72)))))),
    "a PNG of 1 bit": (
        "bit.png", lambda p: skin(215).convert("1").save(p), skin(215).convert("1")),
    "a WebP": ("a.webp", lambda p: skin(216).save(p, quality=95), skin(216)),
    "a HEIC, as phones save it": ("phone.HEIC", lambda p: p.write_bytes(HEIC), PHANTOM),
    "a HEIF of 10 bits, as cameras save it": (
        "camera.HIF", lambda p: p.write_bytes(HIF), skin(231)),
    "an AVIF": ("a.avif", lambda p: skin(217).save(p, quality=95), skin(217)),
    "a GIF": ("a.gif", lambda p: skin(218).quantize(256).save(p), skin(218)),
    "a BMP": ("a.bmp", lambda p: skin(219).save(p), skin(219)),
    "a TIFF": ("a.TIFF", lambda p: skin(220).save(p, compression="tiff_lzw"), skin(220)),
    "a TIFF of 16 bits in planes, with a reduced copy": ("planes.tif", planes, skin(234)),
    "a PNG of linear light": ("linear.png", linear, skin(235)),
    "32 × 5000 pixels, just wide enough": (
        "strip.png", lambda p: skin(221, (32, 5000)).save(p), skin(221, (32, 5000))),
    "a name with spaces": ("a photo of 1.jpg", lambda p: skin(222).save(p), skin(222)),
    "a name with a line break": ("a\nb.jpg", lambda p: skin(223).save(p), skin(223)),
    "a name with a carriage return": ("a\rb.jpg", lambda p: skin(224).save(p), skin(224)),
    "a name with letters of several scripts": (
        "löäsion 皮膚.jpg", lambda p: skin(225).save(p), skin(225)),
    "a name that is no UTF-8": (os.fsdecode(b"\xff.jpg"), lambda p: skin(226).save(p), skin(226)),
    "a link to a picture": ("linked.png", linked, skin(228)),
    "an upper-case suffix": ("IMG_1.JPG", lambda p: skin(227).save(p), skin(227)),
}  # fmt: skip


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """Good pictures, all of the above, and other files."""
    folder = tmp_path_factory.mktemp("bad") / "photos"
    folder.mkdir()
    for seed in range(12):
        skin(seed).save(folder / f"good{seed:02d}.png")
    for name, write, *_ in (*REFUSED.values(), *READ.values()):
        write(folder / name)
    (folder / "notes.txt").touch()
    (folder / "._plain.jpg").touch()
    return folder


def stage(source: Path, out: Path, *changes: str) -> subprocess.CompletedProcess:
    """The stage as DVC calls it, without root's right to read every file."""
    bounded = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    command = ["stages.prepare", str(out), str(out.with_name("others"))]
    command.append(str(out.with_name("prepare.json")))
    return subprocess.run(
        [
            *(bounded if os.geteuid() == 0 else []),
            sys.executable,
            "-m",
            *command,
            f"data.source={json.dumps(str(source))}",
            "data.controls=data/none",
            "data.patients=none",
            *changes,
        ],
        cwd=ROOT,
        capture_output=True,
        timeout=300,
        text=True,
        errors="surrogateescape",
    )


@pytest.fixture(scope="module")
def skipped(source, tmp_path_factory) -> tuple[dict[str, dict[str, str]], dict[str, int], Path]:
    """The manifest, the counts and the output of a run that skips bad files."""
    out = tmp_path_factory.mktemp("skipped") / "prepared"
    done = stage(source, out, "data.on_invalid=skip")
    assert done.returncode == 0, done.stderr
    with (out / "manifest.csv").open(newline="", errors="surrogateescape") as table:
        rows = {row["source"]: row for row in csv.DictReader(table)}
    return rows, Metrics.read(out.with_name("prepare.json")).counts, out


def test_bad_files_are_left_out_with_their_reason(skipped):
    rows, counts, _ = skipped
    reasons = {name: row["reason"] for name, row in rows.items() if not row["file"]}
    assert reasons.pop("notes.txt") == "not a picture"
    assert reasons.pop("._plain.jpg") == "a hidden file"
    assert reasons.keys() == {name for name, *_ in REFUSED.values()}
    for name, _, reason in REFUSED.values():
        assert reason in reasons[name]
    assert counts["invalid"] == len(REFUSED)


def test_pictures_show_what_the_files_show(skipped):
    rows, _, out = skipped
    for name, _, shown in READ.values():
        picture = images.read(out / rows[name]["file"]).astype(int)
        wanted = images.square(np.asarray(shown.convert("RGB")), picture.shape[0])
        assert np.abs(picture - wanted).mean() < 6, name


def test_every_file_is_counted_once(source, skipped):
    rows, counts, out = skipped
    assert len(list(source.rglob("*"))) == len(rows)
    assert len(rows) == sum(
        counts[kind] for kind in ("pictures", "exact_duplicates", "invalid", "other_files")
    )
    assert counts["other_files"] == 2
    assert counts["pictures"] == len(listing.find(out)[0]) == 12 + len(READ)


def few(number: int) -> Write:
    def write(folder: Path) -> None:
        for seed in range(number):
            skin(seed).save(folder / f"p{seed}_a.png")

    return write


def one_patient(folder: Path) -> None:
    for seed in range(9):
        skin(seed).save(folder / f"p1_{seed}.png")


def duplicates(folder: Path) -> None:
    for patient in range(9):
        skin(0).save(folder / f"p{patient}_a.png")


def all_bad(folder: Path) -> None:
    for patient in range(9):
        (folder / f"p{patient}_a.png").touch()


def pictures_and_a_stranger(folder: Path) -> None:
    few(9)(folder)
    skin(9).save(folder / "IMG_1.png")


# Folders that cannot be prepared although bad files are skipped, and the error.
FOLDERS: dict[str, tuple[Write, str]] = {
    "an empty folder": (lambda folder: None, "{source}: no pictures"),
    "one picture": (
        few(1), "no pictures left for test, val: 1 pictures of 1 patients (or groups of duplicates)"
        " are too few for data.split"),
    "one patient": (
        one_patient, "no pictures left for test, val: 9 pictures of 1 patients (or groups of"
        " duplicates) are too few for data.split"),
    "all duplicates": (
        duplicates, "no pictures left for test, val: 1 pictures of 1 patients (or groups of"
        " duplicates) are too few for data.split"),
    "too few for the evaluation": (
        few(6), "data.split.train: 3 pictures of 3 patients (or groups of duplicates) give halves"
        " of 1 pictures that share no patient, and the evaluation needs 2; add patients, or enlarge"
        " this share"),
    "no file a picture": (
        all_bad, "data.on_invalid: skip, and 9 files cannot be used:\n{source}/p0_a.png: "),
    "a name without a patient": (
        pictures_and_a_stranger,
        r"data.patients: '(?:^|/)(p\d+)_' matches no patient in these names:" "\nIMG_1.png"),
}  # fmt: skip


@pytest.mark.parametrize("what", FOLDERS)
def test_a_folder_that_cannot_be_prepared(what, tmp_path):
    fill, reason = FOLDERS[what]
    source = tmp_path / "photos"
    source.mkdir()
    fill(source)
    with pytest.raises(InputError) as error:
        prepare(source, tmp_path / "out", on_invalid="skip")
    assert str(error.value).startswith(reason.format(source=source))
    assert [path.name for path in tmp_path.iterdir()] in (["photos"], [])


def test_a_folder_that_cannot_be_listed_is_refused(tmp_path, monkeypatch):
    (tmp_path / "locked").mkdir()
    scandir = os.scandir

    def refusing(path):
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(InputError, match=r"locked: cannot be read \(Permission denied\)"):
        listing.find(tmp_path)


def die(*_) -> None:
    """What happens to a process that runs out of memory."""
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_reader_stops_the_run(tmp_path, monkeypatch):
    source = tmp_path / "photos"
    source.mkdir()
    few(3)(source)
    monkeypatch.setattr(inspection, "inspect_all", inspect_all)
    monkeypatch.setattr(inspection, "inspect", die)
    with pytest.raises(InputError, match=r"p0_a\.png: the process that read this photo, or one of"):
        prepare(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


# ---------------------------------------------------------------- in a process of its own

INSPECT = """
import json, pathlib, signal, sys, time, warnings
from mpox.photos import inspection
warnings.simplefilter("ignore")
for path in sys.stdin.read().splitlines():
    print(json.dumps([path]), flush=True)
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # resets the peak of memory
    signal.alarm(180)  # unhandled, it ends the process even within a decoder
    photo = inspection.inspect(64, pathlib.Path(path), pathlib.Path(sys.argv[1]))
    signal.alarm(0)
    status = pathlib.Path("/proc/self/status").read_text()
    memory = int(status.split("VmHWM:")[1].split()[0]) / 2**20
    print(json.dumps([path, photo.reason, memory]), flush=True)
"""


def inspected(files: list[Path], square: Path) -> dict[str, tuple[str, float]]:
    """File → its reason, or "", and the most memory that reading it took, in GiB."""
    done = subprocess.run(
        [sys.executable, "-c", INSPECT, str(square)],
        input="\n".join(map(str, files)),
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        timeout=600,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, f"{lines[-1:]}: {done.stderr[-2000:]}"
    return {Path(line[0]).name: (line[1], line[2]) for line in lines if len(line) == 3}


def large(path: Path, image: Image.Image, **options) -> Path:
    """Rotated and with a profile, which both cost memory."""
    exif = Image.Exif()
    exif[0x0112] = 6
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    colour = {"icc_profile": profile} if "RGB" in image.mode else {}
    image.save(path, exif=exif, **options | colour)
    return path


# The most pixels that are read of three formats: mode, side of a square, and options of storage.
LARGEST = {
    "alpha.png": ("RGBA", SIDE, {}),
    "progressive.jpg": ("RGB", 2**14, {"progressive": True, "subsampling": 0}),
    "a.tif": ("RGBA", SIDE, {"compression": "tiff_lzw"}),
}


@pytest.mark.slow
def test_the_largest_pictures_fit_into_memory(tmp_path):
    files = []
    for name, (mode, side, options) in LARGEST.items():
        image = Image.new(mode, (side, side), 1 if mode == "P" else "#11111180")
        files.append(large(tmp_path / name, image, **options))
    assert SIDE**2 <= Image.MAX_IMAGE_PIXELS < (SIDE + 1) ** 2
    for name, (reason, memory) in inspected(files, tmp_path / "square.png").items():
        assert reason == "", name
        assert 0.2 < memory < GIB, name


def test_bombs_take_no_memory(tmp_path):
    bomb(tmp_path / "bomb.png")
    padded(tmp_path / "padded.webp")
    results = inspected(sorted(tmp_path.iterdir()), tmp_path / "square.png")
    assert "more than 89,478,485 pixels" in results["bomb.png"][0]
    assert "has 3,221,225,472 bytes" in results["padded.webp"][0]
    assert max(memory for _, memory in results.values()) < 0.5


def originals() -> dict[str, bytes]:
    """Small pictures in every format, and with different compression."""
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "a lesion"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    both = {"exif": exif, "icc_profile": profile}
    return {
        "heic": HEIC,
        "hif": HIF,
        "jpg": encoded("JPEG", **both),
        "progressive.jpg": encoded("JPEG", progressive=True),
        "cmyk.jpg": encoded("JPEG", skin(0).convert("CMYK")),
        "png": encoded("PNG", **both),
        "palette.png": encoded("PNG", skin(0).quantize(16), transparency=0),
        "webp": encoded("WEBP", **both),
        "lossless.webp": encoded("WEBP", skin(0).convert("RGBA"), lossless=True),
        "tif": encoded("TIFF", **both),
        "lzw.tif": encoded("TIFF", compression="tiff_lzw"),
        "fax.tif": encoded("TIFF", skin(0).convert("1"), compression="group4"),
        "gif": encoded("GIF", skin(0).quantize(64)),
        "bmp": encoded("BMP"),
        "rle.bmp": encoded("BMP", skin(0).quantize(64)),
    }


def mutated(rng: np.random.Generator, name: str, pictures: dict[str, bytes]) -> bytes:
    """Bits flipped, most of them early, where the structure is; or cut; or two pictures spliced."""
    content = bytearray(pictures[name])
    kind = rng.integers(3)
    if kind == 0:
        reach = rng.choice([64, 500, len(content)])
        for place in rng.integers(0, min(reach, len(content)), rng.integers(1, 9)):
            content[place] ^= 1 << int(rng.integers(8))
        return bytes(content)
    cut = int(rng.integers(len(content)))
    if kind == 1:
        return bytes(content[:cut])
    other = pictures[list(pictures)[rng.integers(len(pictures))]]
    return bytes(content[:cut]) + other[int(rng.integers(len(other))) :]


def test_200_mutated_files_are_pictures_or_reasons(tmp_path):
    rng, pictures = np.random.default_rng(0), originals()
    names = list(pictures)
    files = []
    for number in range(200):
        name = names[number % len(names)]
        files.append(tmp_path / f"{number:03d}.{name}")
        files[-1].write_bytes(mutated(rng, name, pictures))
    results = inspected(files, tmp_path / "square.png")
    assert results.keys() == {file.name for file in files}
    reasons = [reason for reason, _ in results.values() if reason]
    assert 50 < len(reasons) < 180  # otherwise they are hardly mutated, or mere noise
    assert max(memory for _, memory in results.values()) < GIB


# ---------------------------------------------------------------- privacy

NAMES = b"Jane Doe"


def exif_with_names() -> Image.Exif:
    exif = Image.Exif()
    exif[0x010E] = exif[0x013B] = NAMES.decode()
    exif.get_ifd(0x8769)[0x9286] = b"ASCII\0\0\0" + NAMES
    exif.get_ifd(0x8825).update({1: "N", 2: (4.0, 3.0, 2.0), 29: NAMES.decode()})
    return exif


def with_everything(path: Path, image: Image.Image) -> None:
    """A JPEG with a name in EXIF, GPS, a thumbnail, XMP, a profile, IPTC and a comment."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    place = profile.index("sRGB built-in".encode("utf-16-be"))
    profile[place : place + len(NAMES)] = NAMES
    content = encoded(
        "JPEG", image, quality=95, exif=exif_with_names(), xmp=NAMES, icc_profile=bytes(profile),
        comment=NAMES,
    )  # fmt: skip
    thumbnail = encoded("JPEG", image.resize((16, 16)), comment=NAMES)
    extra = [(0xE1, b"Exif\0\0" + thumbnail), (0xED, b"Photoshop 3.0\0" + NAMES)]
    segments = b"".join(
        struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body for marker, body in extra
    )
    at = 4 + struct.unpack(">H", content[4:6])[0]  # behind JFIF
    path.write_bytes(content[:at] + segments + content[at:] + NAMES)


def png_chunks(content: bytes) -> list[bytes]:
    kinds, at = [], 8
    while at < len(content):
        kinds.append(content[at + 4 : at + 8])
        at += 12 + struct.unpack(">I", content[at : at + 4])[0]
    return kinds


def jpeg_markers(content: bytes) -> list[int]:
    """The markers before the scan's data."""
    markers, at = [], 2
    while content[at + 1] != 0xDA:
        markers.append(content[at + 1])
        at += 2 + struct.unpack(">H", content[at + 2 : at + 4])[0]
    return markers


def test_only_pixels_survive(tmp_path):
    source = tmp_path / "photos"
    source.mkdir()
    for seed in range(12):
        with_everything(source / f"p{seed}_a.jpg", skin(seed))
    photo = (source / "p0_a.jpg").read_bytes()
    assert photo.count(NAMES) >= 8
    assert {0xE1, 0xE2, 0xED, 0xFE} <= set(jpeg_markers(photo))

    counts = prepare(source, tmp_path / "out")
    pictures = listing.find(tmp_path / "out")[0]
    assert counts["pictures"] == len(pictures) == 12
    for path in pictures:
        content = path.read_bytes()
        assert set(png_chunks(content)) == {b"IHDR", b"IDAT", b"IEND"}
        assert NAMES not in content

    # JPEGs of later stages have no APP segment but JFIF's, and no comment.
    images.write(tmp_path / "later.jpg", images.read(pictures[0]))
    markers = jpeg_markers((tmp_path / "later.jpg").read_bytes())
    assert [m for m in markers if 0xE0 <= m <= 0xEF or m == 0xFE] == [0xE0]
    assert NAMES not in (tmp_path / "later.jpg").read_bytes()
