"""Reading against Pillow's own operations on pictures whose right answer is known."""

import io
import re
import struct
import zlib
from xml.etree import ElementTree

import numpy as np
import pytest
from conftest import ROOT, full_disk
from PIL import Image, ImageCms, ImageOps, PngImagePlugin
from ruamel.yaml import YAML

from mpox import images
from mpox.errors import InputError

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


def test_find_is_sorted_recursive_and_counts_the_others(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "elsewhere").mkdir()
    for name in ("z.JPG", "b/a.jpeg", "b/.hidden.png", "._z.JPG", "notes.txt", "b.tif", "c.HEIC"):
        (tmp_path / name).touch()
    pictures, others = images.find(tmp_path)
    found = [path.relative_to(tmp_path).as_posix() for path in pictures]
    assert found == ["b.tif", "b/a.jpeg", "c.HEIC", "z.JPG"]
    assert others == 3


def test_find_follows_linked_files_and_keeps_broken_ones(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    (tmp_path / "a.txt").touch()
    (source / "a.png").symlink_to(tmp_path / "a.txt")
    (source / "gone.png").symlink_to(tmp_path / "nowhere.png")
    assert images.find(source) == ([source / "a.png", source / "gone.png"], 0)
    with pytest.raises(InputError, match=r"gone\.png: cannot be read \(No such file"):
        images.read(source / "gone.png")


@pytest.mark.parametrize("target", ["real", "source", "source/more"])
def test_find_refuses_linked_folders(tmp_path, target):
    """DVC does not look behind them. One that leads to its own parent would never end, besides."""
    (tmp_path / "real").mkdir()
    (tmp_path / "source" / "more").mkdir(parents=True)
    (tmp_path / "source" / "more" / "2023").symlink_to(tmp_path / target)
    with pytest.raises(InputError, match=f"{tmp_path}/source/more/2023: is a link to a folder"):
        images.find(tmp_path / "source")


def test_find_takes_a_link_to_the_folder_itself(tmp_path):
    """As `data/photos` may be: DVC looks behind this one."""
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.png").touch()
    (tmp_path / "source").symlink_to(tmp_path / "real")
    assert images.find(tmp_path / "source") == ([tmp_path / "source" / "a.png"], 0)


def test_no_suffix_passes_the_commit_hook():
    hooks = YAML(typ="safe").load(ROOT / ".pre-commit-config.yaml")["repos"][0]["hooks"]
    refused = next(hook["files"] for hook in hooks if hook["id"] == "no-photos")
    for suffix in images.SUFFIXES:
        assert re.search(refused, f"data/a{suffix}") and re.search(refused, f"A{suffix.upper()}")


def test_find_refuses_a_missing_folder(tmp_path):
    with pytest.raises(InputError, match="nowhere: no such folder"):
        images.find(tmp_path / "nowhere")


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


def test_read_converts_to_srgb(tmp_path):
    """In a profile with red's and green's primaries exchanged, 255 of red is sRGB's green."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exchanged = srgb.replace(b"rXYZ", b"swap").replace(b"gXYZ", b"rXYZ").replace(b"swap", b"gXYZ")
    corners().save(tmp_path / "exchanged.png", icc_profile=exchanged)
    expected = np.asarray(corners())[..., [1, 0, 2]]
    assert np.abs(images.read(tmp_path / "exchanged.png").astype(int) - expected).max() <= 1

    for name, profile in {"same": srgb, "broken": b"no profile"}.items():
        corners().save(tmp_path / f"{name}.png", icc_profile=profile)
        assert np.array_equal(images.read(tmp_path / f"{name}.png"), np.asarray(corners()))
    # A grey picture with a profile for colour, as ImageMagick writes them.
    corners().convert("L").save(tmp_path / "grey.png", icc_profile=srgb)
    grey = np.asarray(corners().convert("L").convert("RGB"))
    assert np.array_equal(images.read(tmp_path / "grey.png"), grey)


def jpeg(picture: np.ndarray, **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def animation() -> bytes:
    buffer = io.BytesIO()
    frames = [Image.new("L", (8, 8), grey) for grey in (0, 255)]
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def bomb(side: int) -> bytes:
    """A PNG of a few bytes that claims side×side pixels."""
    buffer = io.BytesIO()
    Image.new("1", (1, 1)).save(buffer, "PNG")
    content = bytearray(buffer.getvalue())
    content[16:24] = struct.pack(">II", side, side)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    return bytes(content)


REFUSED = {
    "text.jpg": (lambda: b"GIF is what this is not", "is no JPEG"),
    "empty.jpg": (lambda: b"", "is no JPEG"),
    "half.jpg": (lambda: jpeg(noise(64, 64))[:-500], "truncated"),
    "half-progressive.jpg": (lambda: jpeg(noise(64, 64), progressive=True)[:-500], "truncated"),
    "animation.gif": (animation, "holds 2 pictures"),
    "large.png": (lambda: bomb(10_000), "more than 89,478,485 pixels"),
    "bomb.png": (lambda: bomb(100_000), "more than 89,478,485 pixels"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_read_names_the_file_and_the_reason(tmp_path, name):
    content, reason = REFUSED[name]
    (tmp_path / name).write_bytes(content())
    with pytest.raises(InputError, match=f"{name}: .*{reason}"):
        images.read(tmp_path / name)


def test_read_refuses_unknown_white(tmp_path):
    Image.fromarray(np.full((4, 4), 0.5, np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(InputError, match="no known white"):
        images.read(tmp_path / "a.tif")


def test_read_takes_a_phones_two_picture_jpeg(tmp_path):
    corners().save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[Image.new("L", (4, 4))])
    assert images.read(tmp_path / "a.jpg").shape == (32, 48, 3)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, about damaged tags
def test_damaged_bytes_are_refused_or_read_never_a_crash(tmp_path):
    rng = np.random.default_rng(0)
    exif = Image.Exif()
    exif[0x0112] = 6
    for file_format in images.FORMATS:
        buffer = io.BytesIO()
        Image.fromarray(noise(20, 30)).save(buffer, file_format, exif=exif)
        for _ in range(60):
            damaged = bytearray(buffer.getvalue())
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
    with full_disk(3000), pytest.raises(OSError) as error:  # of some 8000 bytes
        images.write(tmp_path / f"a.{suffix}", noise(64, 64))
    assert error.value.filename == str(tmp_path / f"a.{suffix}")
    assert not (tmp_path / f"a.{suffix}").exists()


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
