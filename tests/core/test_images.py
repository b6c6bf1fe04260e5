"""Reading against Pillow's own operations on pictures whose right answer is known."""

import io
import os
import re
import shutil
import struct
import zlib
from xml.etree import ElementTree

import cv2
import numpy as np
import pi_heif
import pytest
import tifffile
from conftest import POINTER, ROOT, UNFETCHED, full_disk
from dvc.fs import localfs
from dvc.ignore import DvcIgnoreFilter
from PIL import Image, ImageCms, ImageOps, PngImagePlugin
from ruamel.yaml import YAML

from mpox.core import decoding, images, listing
from mpox.core.errors import InputError
from mpox.embedded import phantom

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


def corners(width: int = 48, height: int = 32) -> Image.Image:
    """A picture no turn or mirror leaves alone: its quarters are red, green, blue, white."""
    picture = Image.new("RGB", (width, height), WHITE)
    picture.paste(RED, (0, 0, width // 2, height // 2))
    picture.paste(GREEN, (width // 2, 0, width, height // 2))
    picture.paste(BLUE, (0, height // 2, width // 2, height))
    return picture


def test_find_is_sorted_recursive_and_says_why_not_the_others(tmp_path):
    pictures = ["b.tif", "b/a.jpeg", "c.HEIC", "d.hif", "z.JPG"]
    others = {
        "._z.JPG": "a hidden file",
        ".b/deep/a.png": "in a hidden or system folder (.b)",
        "1.dcm": "DICOM is not supported; export it as PNG, without names in the picture",
        "@EADIR/a.jpg/SYNO_THUMB.jpg": "in a hidden or system folder (@EADIR)",
        "b/#recycle/p1.jpg": "in a hidden or system folder (#recycle)",
        "b/.hidden.png": "a hidden file",
        "b/IMG_1.CR3": "camera raw files are not supported; export them as JPEG",
        "live.MOV": "a video",
        "notes.txt": "not a picture",
        "p2": "not a picture",
        "phone.zip": "an archive; unpack it",
        "slides.pptx": "a document; save its pictures as separate files",
        "stereo.mpo": "this format is not supported; save it as JPEG or PNG",
    }
    for name in [*others, *pictures]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "elsewhere").mkdir()
    found, reasons = listing.find(tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in found] == pictures
    assert {path.relative_to(tmp_path).as_posix(): why for path, why in reasons.items()} == others
    assert list(reasons) == sorted(reasons, key=lambda path: path.relative_to(tmp_path).as_posix())


def test_no_reason_is_of_what_is_read():
    assert not listing.REASONS.keys() & listing.SUFFIXES
    assert len(listing.REASONS) == sum(len(each.split()) for each in listing.LEFT_OUT.values())


def test_hidden_and_system_folders_are_no_error(tmp_path, monkeypatch):
    """Not a link in their place or within, nor what may not be listed: all of it is counted."""
    source, outside = tmp_path / ".Trash-0" / "photos", tmp_path / "outside"
    (source / "$Recycle.Bin" / "locked").mkdir(parents=True)  # only what is below counts
    (source / "System Volume Information").mkdir()
    outside.mkdir()
    (outside / "b.png").touch()
    for name in ("a.png", "$Recycle.Bin/c.png", "$Recycle.Bin/locked/d.png"):
        (source / name).touch()
    for name in (".Trash-1000", "$Recycle.Bin/link", "lost+found"):
        (source / name).symlink_to(outside)
    scandir = os.scandir

    def refusing(path):
        if str(path).endswith(("locked", "Information")):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    pictures, others = listing.find(source)
    assert pictures == [source / "a.png"]
    found = {path.relative_to(source).as_posix(): reason for path, reason in others.items()}
    assert found == {
        "$Recycle.Bin/c.png": "in a hidden or system folder ($Recycle.Bin)",
        "$Recycle.Bin/link": "in a hidden or system folder ($Recycle.Bin)",
        "$Recycle.Bin/locked": "in a hidden or system folder ($Recycle.Bin)",
        ".Trash-1000": "in a hidden or system folder (.Trash-1000)",
        "System Volume Information": "in a hidden or system folder (System Volume Information)",
        "lost+found": "in a hidden or system folder (lost+found)",
    }


@pytest.mark.parametrize("away", [".IMG_1.jpg.icloud", "IMG_1.jpg.nextcloud", "IMG_1.JPG.ownCloud"])
def test_what_is_in_the_cloud_alone_stops(tmp_path, away):
    """Left out, the split would be one of the other photos. So also the photos' table."""
    (tmp_path / "more").mkdir()
    for name in ("a.jpg", f"more/{away}", "more/.metadata.csv.icloud"):
        (tmp_path / name).touch()
    said = f"{tmp_path}: 2 not downloaded from the cloud yet, for example more/"
    with pytest.raises(InputError, match=f"^{said}.*; download the folder"):
        listing.find(tmp_path)
    for name in (f"more/{away}", "more/.metadata.csv.icloud"):
        (tmp_path / name).unlink()
    (tmp_path / ".Trash").mkdir()
    (tmp_path / ".Trash" / away).touch()
    assert listing.find(tmp_path)[0] == [tmp_path / "a.jpg"]


def test_summary_counts_by_reason_and_suffix(tmp_path):
    for folder in (".Tra\nsh", "__MACOSX"):
        (tmp_path / folder).mkdir()
    names = ["a.dcm", "b.DCM", "c.dicom", "a.mov", "a.txt", "b.txt", "c.csv", "d", ".x", ".y.jpg"]
    for name in [*names, "e.1", "e.2", "__MACOSX/._a.jpg", ".Tra\nsh/1.jpg", ".Tra\nsh/2.jpg"]:
        (tmp_path / name).touch()
    assert listing.summary(listing.find(tmp_path)[1]) == [
        "2 .dcm files: DICOM is not supported; export it as PNG, without names in the picture",
        "1 .dicom file: DICOM is not supported; export it as PNG, without names in the picture",
        "1 .mov file: a video",
        r"2 files in a hidden or system folder (.Tra\nsh)",
        "1 file in a hidden or system folder (__MACOSX)",
        "3 other files: not a picture",
        "2 .txt files: not a picture",
        "1 .csv file: not a picture",
        "1 .jpg file: a hidden file",
        "1 other file: a hidden file",
    ]
    assert listing.summary({}) == []


def test_dvc_sees_what_find_takes(tmp_path):
    """A deleted photo gets neither into DVC's hash nor into its cache."""
    shutil.copy(ROOT / ".dvcignore", tmp_path)
    source = tmp_path / "data" / "photos"
    names = [*listing.SYSTEM_FOLDERS, ".Trash-1000", ".hidden.jpg", "FOUND.0000", "recycle", "tmp"]
    for name in {spelt for each in names for spelt in (each, each.lower(), each.upper())}:
        for folder in (source / name, source / "p1" / name / "more"):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "a.jpg").touch()
            (folder / ".b.jpg").touch()
    pictures, others = listing.find(source)
    assert len(pictures) == 2 * len(
        {"FOUND.0000", "found.0000", "recycle", "RECYCLE", "tmp", "TMP"}
    )
    seen = DvcIgnoreFilter(localfs, str(tmp_path)).find(localfs, str(source))
    assert sorted(seen) == sorted(map(str, pictures))
    assert len(others) > 100

    lines = (ROOT / ".dvcignore").read_text().splitlines()
    folders = {line[8:-1] for line in lines if line.startswith("data/**/") and line[-1] == "/"}
    named = {re.sub(r"\[(\w)\w\]", r"\1", folder) for folder in folders}
    numbered = {f"found.00{digit}" for digit in range(10)}
    assert (named - {"found.00[0-9]"}) | numbered == {n.lower() for n in listing.SYSTEM_FOLDERS}


def test_dvc_sees_this_repository():
    """But for what hidden files there may be below data/."""
    ignored = DvcIgnoreFilter(localfs, str(ROOT))
    for folder in ("photos", "phantom/photos", "prepared/train", "augmented", "synthetic"):
        assert not ignored.is_ignored_dir(str(ROOT / "data" / folder))
        assert not ignored.is_ignored_file(str(ROOT / "data" / folder / "a.jpg"))
    for file in (
        "data/photos.dvc",
        "data/phantom/dvc.yaml",
        "models/dvc.lock",
        ".pre-commit-config.yaml",
    ):
        assert not ignored.is_ignored_file(str(ROOT / file))


def test_find_follows_linked_files_and_keeps_broken_ones(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    (tmp_path / "a.txt").touch()
    (source / "a.png").symlink_to(tmp_path / "a.txt")
    (source / "gone.png").symlink_to(tmp_path / "nowhere.png")
    assert listing.find(source) == ([source / "a.png", source / "gone.png"], {})
    with pytest.raises(InputError, match=r"gone\.png: cannot be read \(No such file"):
        images.read(source / "gone.png")


@pytest.mark.parametrize("target", ["real", "source", "source/more"])
def test_find_refuses_linked_folders(tmp_path, target):
    """DVC does not look behind them. One that leads to its own parent would never end, besides."""
    (tmp_path / "real").mkdir()
    (tmp_path / "source" / "more").mkdir(parents=True)
    (tmp_path / "source" / "more" / "2023").symlink_to(tmp_path / target)
    with pytest.raises(InputError, match=f"{tmp_path}/source/more/2023: is a link to a folder"):
        listing.find(tmp_path / "source")


def test_find_takes_a_link_to_the_folder_itself(tmp_path):
    """As `data/photos` may be: DVC looks behind this one."""
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.png").touch()
    (tmp_path / "source").symlink_to(tmp_path / "real")
    assert listing.find(tmp_path / "source") == ([tmp_path / "source" / "a.png"], {})


def test_no_suffix_passes_the_commit_hook():
    hooks = YAML(typ="safe").load(ROOT / ".pre-commit-config.yaml")["repos"][0]["hooks"]
    hook = next(hook for hook in hooks if hook["id"] == "no-photos")
    refused, allowed = hook["files"], hook["exclude"]
    assert re.search(allowed, "tests/phantom.heic")
    assert not re.search(allowed, "tests/phantom.heic.heic") and not re.search(allowed, "a.heic")
    for suffix in listing.SUFFIXES:
        assert re.search(refused, f"data/a{suffix}") and re.search(refused, f"A{suffix.upper()}")


def test_find_refuses_a_missing_folder(tmp_path):
    with pytest.raises(InputError, match="nowhere: no such folder"):
        listing.find(tmp_path / "nowhere")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_read_turns_upright(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    corners().save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    picture = images.read(tmp_path / "a.png")
    assert np.array_equal(picture, expected)
    assert (orientation == 1) == np.array_equal(picture, np.asarray(corners()))


def test_read_lays_alpha_over_white(tmp_path):
    half = Image.new("RGBA", (8, 8), (*BLUE, 128))
    half.save(tmp_path / "a.png")
    assert np.abs(images.read(tmp_path / "a.png")[0, 0] - np.array([127, 127, 255])).max() <= 1


def test_read_scales_16_bits(tmp_path):
    grey = np.arange(0, 65536, 257, dtype=np.uint16).reshape(16, 16)
    for name in ("a.png", "a.tif"):
        Image.fromarray(grey).save(tmp_path / name)
        expected = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, 2)
        assert np.array_equal(images.read(tmp_path / name), expected)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "CMYK", "YCbCr"])
def test_read_takes_any_mode(tmp_path, mode):
    suffix = "tif" if mode in ("CMYK", "YCbCr") else "png"
    converted = corners().convert(mode)
    converted.save(tmp_path / f"a.{suffix}")
    picture = images.read(tmp_path / f"a.{suffix}")
    assert np.array_equal(picture, np.asarray(converted.convert("RGB")))


def test_read_takes_transparent_palette(tmp_path):
    image = Image.new("P", (4, 4), 1)
    image.putpalette([*RED, *BLUE])
    image.putpixel((0, 0), 0)
    image.save(tmp_path / "a.png", transparency=0)
    picture = images.read(tmp_path / "a.png")
    assert tuple(picture[0, 0]) == WHITE and tuple(picture[1, 1]) == BLUE


def srgb() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def exchanged() -> bytes:
    """A profile with red's and green's primaries exchanged."""
    return srgb().replace(b"rXYZ", b"swap").replace(b"gXYZ", b"rXYZ").replace(b"swap", b"gXYZ")


def test_read_converts_to_srgb(tmp_path):
    """With the primaries exchanged, 255 of red is sRGB's green."""
    corners().save(tmp_path / "exchanged.png", icc_profile=exchanged())
    expected = np.asarray(corners())[..., [1, 0, 2]]
    assert np.abs(images.read(tmp_path / "exchanged.png").astype(int) - expected).max() <= 1

    for name, profile in {"same": srgb(), "broken": b"no profile"}.items():
        corners().save(tmp_path / f"{name}.png", icc_profile=profile)
        assert np.array_equal(images.read(tmp_path / f"{name}.png"), np.asarray(corners()))
    # A grey picture with a profile for colour, as ImageMagick writes them.
    corners().convert("L").save(tmp_path / "grey.png", icc_profile=srgb())
    grey = np.asarray(corners().convert("L").convert("RGB"))
    assert np.array_equal(images.read(tmp_path / "grey.png"), grey)


# A phone's file in small: phantom.draw("mpox", 0, 0, seed=2022, size=128), in Display P3, stored
# turned by 90 degrees, with irot and EXIF to turn it back, a thumbnail, and a name in EXIF and XMP.
# Made with pillow-heif (quality 80, 4:4:4), which can encode.
HEIC = (ROOT / "tests" / "phantom.heic").read_bytes()


@pytest.mark.parametrize("name", ["a.heic", "a.HIF", "a.jpg"])
def test_read_takes_a_phones_heic(tmp_path, name):
    """Not turned or turned twice it would be off by 18 or more, without its profile by 3.4."""
    (tmp_path / name).write_bytes(HEIC)
    picture = images.read(tmp_path / name).astype(int)
    wanted = phantom.draw("mpox", 0, 0, seed=2022, size=128).picture.astype(int)
    assert np.abs(picture - wanted).mean() < 2
    assert np.abs((picture - wanted).mean((0, 1))).max() < 0.5
    for turns in (1, 2, 3):
        assert np.abs(np.rot90(picture, turns) - wanted).mean() > 10


def test_the_heic_has_what_the_test_needs():
    """Two ways to turn it that say the same, and a profile that shows when it is ignored."""
    image = pi_heif.open_heif(io.BytesIO(HEIC))
    exif = Image.Exif()
    exif.load(image.info["exif"])
    assert exif[0x0112] == 6 and exif[0x010E] == "Jane Doe"
    stored = np.asarray(image.to_pillow()).astype(int)
    wanted = phantom.draw("mpox", 0, 0, seed=2022, size=128).picture.astype(int)
    assert np.abs(stored - wanted).mean() > 3
    assert HEIC.count(b"irot") == HEIC.count(b"thmb") == 1
    assert len(HEIC) < 20_000


def light(transfer: int) -> bytes:
    """The HEIC with `transfer` characteristics of ITU-T H.273 in the place of its ICC profile."""
    box = b"colrnclx" + struct.pack(">3HB", 9, transfer, 6, 128)
    at = HEIC.index(b"colrprof")
    return HEIC[:at] + box + HEIC[at + len(box) :]


@pytest.mark.parametrize("transfer", [1, 13])
def test_read_takes_a_heic_without_profile(tmp_path, transfer):
    (tmp_path / "a.heic").write_bytes(light(transfer))
    assert images.read(tmp_path / "a.heic").shape == (128, 128, 3)


def blotches(width: int, height: int) -> Image.Image:
    coarse = Image.fromarray(noise(12, 16) // 2 + 64)
    return coarse.resize((width, height), Image.Resampling.BICUBIC)


def phones_jpeg(path, image: Image.Image, **options) -> None:
    """Stored turned, in a profile with red and green exchanged, as MPO with a depth map."""
    exif = Image.Exif()
    exif[0x0112] = 6
    red, green, blue = image.transpose(Image.Transpose.ROTATE_90).split()
    stored = Image.merge("RGB", (green, red, blue))
    depth = [Image.new("L", (8, 8))]
    options |= {"exif": exif, "icc_profile": exchanged(), "append_images": depth}
    stored.save(path, "MPO", save_all=True, **options)


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_beyond_the_limit_is_halved(tmp_path, monkeypatch, progressive):
    image = blotches(801, 600)
    phones_jpeg(tmp_path / "a.jpg", image, quality=95, progressive=progressive)
    whole = images.read(tmp_path / "a.jpg")
    assert whole.shape == (600, 801, 3)
    monkeypatch.setattr(decoding, "MOST_PIXELS", 801 * 600)  # the most that is left as it is
    assert np.array_equal(images.read(tmp_path / "a.jpg"), whole)
    monkeypatch.setattr(decoding, "MOST_PIXELS", 801 * 600 - 1)
    halved = images.read(tmp_path / "a.jpg").astype(int)
    assert halved.shape == (300, 401, 3)
    wanted = np.asarray(image.resize((401, 300), Image.Resampling.BOX)).astype(int)
    assert np.abs(halved - wanted).mean() < 2
    assert np.abs(halved[..., [1, 0, 2]] - wanted).mean() > 10  # were the profile ignored


def test_the_most_pixels_are_pillows():
    assert decoding.MOST_PIXELS == Image.MAX_IMAGE_PIXELS
    assert decoding.MOST_JPEG_PIXELS <= 4 * decoding.MOST_PIXELS  # halved they are within


def jpeg(picture: np.ndarray, **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def animation() -> bytes:
    buffer = io.BytesIO()
    frames = [Image.new("L", (8, 8), grey) for grey in (0, 255)]
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def huge(width: int, height: int, colours: int) -> bytes:
    """A JPEG of a few bytes that claims so many pixels."""
    mode = {1: "L", 3: "RGB", 4: "CMYK"}[colours]
    buffer = io.BytesIO()
    Image.new(mode, (8, 8)).save(buffer, "JPEG")
    return buffer.getvalue().replace(
        struct.pack(">HHB", 8, 8, colours), struct.pack(">HHB", height, width, colours)
    )


def bomb(side: int) -> bytes:
    """A PNG of a few bytes that claims side×side pixels."""
    buffer = io.BytesIO()
    Image.new("1", (1, 1)).save(buffer, "PNG")
    content = bytearray(buffer.getvalue())
    content[16:24] = struct.pack(">II", side, side)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    return bytes(content)


def enlarged(side: int) -> bytes:
    """The HEIC with side×side pixels claimed, of which 128×128 are there."""
    return HEIC.replace(struct.pack(">II", 128, 128), struct.pack(">II", side, side))


HDR_LIGHT = r"is an HDR picture \(PQ or HLG\); export it as JPEG"
PIXELS = "has more than 89,478,485 pixels"
REFUSED = {
    "lfs.jpg": (lambda: POINTER, UNFETCHED),
    "annex.jpg": (
        lambda: b"/annex/objects/SHA256E-s1--4d7a.jpg\n",
        "is a pointer of git-annex, not the file itself; run: git annex get",
    ),
    "text.jpg": (lambda: b"GIF is what this is not", "is not a JPEG"),
    "empty.jpg": (lambda: b"", "is not a JPEG"),
    "header.jpg": (lambda: jpeg(noise(64, 64))[:20], "cannot be read .its beginning is damaged"),
    "half.jpg": (lambda: jpeg(noise(64, 64))[:-500], "truncated"),
    "half-progressive.jpg": (lambda: jpeg(noise(64, 64), progressive=True)[:-500], "truncated"),
    "animation.gif": (animation, "holds 2 pictures"),
    "two.heic": (lambda: HEIC.replace(b"thmb", b"none"), "holds 2 pictures, expected one"),
    "half.heic": (lambda: HEIC[: len(HEIC) // 2], "cannot be read"),
    "photo.heic": (lambda: HEIC[:9000], "cannot be read"),
    "pq.heic": (lambda: light(16), HDR_LIGHT),
    "hlg.heic": (lambda: light(18), HDR_LIGHT),
    "large.png": (
        lambda: bomb(10_000),
        f"{PIXELS}; save it smaller, or as JPEG of up to 268,435,456",
    ),
    "bomb.png": (lambda: bomb(100_000), PIXELS),
    "large.heic": (lambda: enlarged(10_000), PIXELS),
    "bomb.heic": (lambda: enlarged(100_000), PIXELS),
    "small.heic": (lambda: enlarged(16), "cannot be read"),
    "grey.jpg": (
        lambda: huge(16385, 16384, 1),
        "268,451,840 pixels, expected at most 268,435,456; save",
    ),
    "huge.jpg": (
        lambda: huge(16385, 16384, 3),
        "268,451,840 pixels, expected at most 268,435,456; save",
    ),
    "cmyk.jpg": (
        lambda: huge(15000, 14000, 4),
        "210,000,000 pixels, expected at most 201,326,592; save",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_read_names_the_file_and_the_reason(tmp_path, name):
    content, reason = REFUSED[name]
    (tmp_path / name).write_bytes(content())
    with pytest.raises(InputError, match=f"{name}: .*{reason}"):
        images.read(tmp_path / name)


def test_read_refuses_unknown_white(tmp_path):
    Image.fromarray(np.full((4, 4), 0.5, np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(InputError, match="white level is undefined"):
        images.read(tmp_path / "a.tif")


def test_read_takes_a_phones_two_picture_jpeg(tmp_path):
    corners().save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[Image.new("L", (4, 4))])
    assert images.read(tmp_path / "a.jpg").shape == (32, 48, 3)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, about damaged tags
def test_damaged_bytes_are_refused_or_read_never_a_crash(tmp_path):
    rng = np.random.default_rng(0)
    exif = Image.Exif()
    exif[0x0112] = 6
    originals = [HEIC]
    for file_format in decoding.FORMATS:
        buffer = io.BytesIO()
        Image.fromarray(noise(20, 30)).save(buffer, file_format, exif=exif)
        originals.append(buffer.getvalue())
    deep = 257 * noise(20, 30).astype(np.uint16)
    for stated in ({}, {"iccprofile": srgb()}, {"extratags": [(319, "2I", 6, [1, 3] * 6, True)]}):
        buffer = io.BytesIO()
        planes = np.ascontiguousarray(deep.transpose(2, 0, 1))
        tifffile.imwrite(buffer, planes, photometric="rgb", planarconfig="separate", **stated)
        originals.append(buffer.getvalue())
    plain = cv2.imencode(".png", deep)[1].tobytes()
    for chunk in (b"cICP\x0c\x0d\0\1", b"gAMA\0\1\x86\xa0", b"sBIT\5\6\5"):
        framed = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        originals.append(plain[:33] + framed + plain[33:])
    for original in originals:
        for _ in range(60):
            damaged = bytearray(original)
            for place in rng.integers(0, min(len(damaged), 400), 3):
                damaged[place] = rng.integers(256)
            (tmp_path / "a").write_bytes(damaged)
            try:
                assert images.read(tmp_path / "a").dtype == np.uint8
            except InputError as error:
                assert str(error).startswith(f"{tmp_path / 'a'}: ")


@pytest.mark.parametrize(("height", "width"), [(40, 60), (61, 40), (40, 40)])
def test_square_is_the_centre(height, width):
    picture = noise(height, width)
    top, left = (height - 40) // 2, (width - 40) // 2
    assert np.array_equal(images.square(picture, 40), picture[top : top + 40, left : left + 40])


def test_square_averages_what_it_shrinks():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 200  # beyond what 16 pixels can show: only the mean is left
    assert np.abs(images.square(stripes, 16).astype(int)[4:-4, 4:-4] - 100).max() <= 1


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_recode_is_what_write_stores(tmp_path, suffix):
    picture = noise(32, 32)
    images.write(tmp_path / f"a.{suffix}", picture)
    stored = images.read(tmp_path / f"a.{suffix}")
    assert np.array_equal(stored, images.recode(picture) if suffix == "jpg" else picture)
    assert [path.name for path in tmp_path.iterdir()] == [f"a.{suffix}"]


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_a_full_disk_leaves_no_cut_picture(tmp_path, suffix):
    with full_disk(3000), pytest.raises(InputError, match=f"a.{suffix}: cannot be w"):
        images.write(tmp_path / f"a.{suffix}", noise(64, 64))  # of some 8000 bytes
    assert list(tmp_path.iterdir()) == []


def test_jpeg_keeps_colour_at_full_resolution(tmp_path):
    """4:2:0 would blend columns of red and blue into each other."""
    columns = np.zeros((32, 32, 3), np.uint8)
    columns[:, ::2, 0] = columns[:, 1::2, 2] = 180
    assert np.abs(images.recode(columns).astype(int) - columns).max() < 20


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_metadata_of_the_photo_is_gone(tmp_path, suffix):
    exif = Image.Exif()
    exif[0x010E] = "Jane Doe"
    exif.get_ifd(0x8825)[1] = "N"
    text = PngImagePlugin.PngInfo()
    text.add_text("Author", "Jane Doe")
    source = tmp_path / f"source.{suffix}"
    options = {"exif": exif, "xmp": b"Jane Doe", "comment": b"Jane Doe", "pnginfo": text}
    corners().save(source, **options)
    assert b"Jane Doe" in source.read_bytes()
    images.write(tmp_path / f"out.{suffix}", images.read(source))
    with Image.open(tmp_path / f"out.{suffix}") as image:
        image.load()
        assert not image.getexif()
        assert set(image.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
    assert b"Jane Doe" not in (tmp_path / f"out.{suffix}").read_bytes()


def test_metadata_of_a_heic_is_gone(tmp_path):
    (tmp_path / "a.heic").write_bytes(HEIC)
    assert HEIC.count(b"Jane Doe") == 3
    for name in ("out.jpg", "out.png"):
        images.write(tmp_path / name, images.read(tmp_path / "a.heic"))
        assert b"Jane Doe" not in (tmp_path / name).read_bytes()


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_synthetic_pictures_say_so(tmp_path, suffix):
    prompt = 'a <bold> "lesion" & naïve'
    images.write(tmp_path / f"a.{suffix}", noise(8, 8), {"prompt": prompt, "seed": "7"})
    with Image.open(tmp_path / f"a.{suffix}") as image:
        xmp = image.info["xmp"]
    packet = xmp if isinstance(xmp, str) else xmp.decode()
    (description,) = ElementTree.fromstring(packet.strip())[0]
    assert description.attrib == {
        "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}about": "",
        "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType": (
            "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
        ),
        "{urn:mpox-diffusion:generation}prompt": prompt,
        "{urn:mpox-diffusion:generation}seed": "7",
    }


def test_sheet_places_ragged_rows():
    a, b, c = (noise(4, 6, seed) for seed in range(3))
    sheet = images.sheet([[a], [b, c]], gap=3)
    assert sheet.shape == (4 + 3 + 4, 6 + 3 + 6, 3)
    assert np.array_equal(sheet[:4, :6], a)
    assert np.array_equal(sheet[7:, :6], b) and np.array_equal(sheet[7:, 9:], c)
    assert (sheet[:4, 6:] == 255).all() and (sheet[4:7] == 255).all()
