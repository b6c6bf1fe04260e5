"""Folders of photos through `prepare`, and its rules on random patients and duplicates."""

import csv
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import POINTER, UNFETCHED, contents
from PIL import Image

from mpox.core import images, table
from mpox.core.errors import InputError
from mpox.params import Data
from mpox.photos import inspection, preparation
from mpox.photos import splits as splitting
from mpox.statistics import tone

SHARES = {"train": 0.5, "val": 0.1, "test": 0.4}
SIDE = 32  # pixels
inspect_all = inspection.inspect_all


@pytest.fixture(autouse=True)
def in_process(monkeypatch):
    """Read photos in this process: another takes a second to start."""

    def here(paths, squares, resolution, workers):
        return [inspection.inspect(resolution, *pair) for pair in zip(paths, squares, strict=True)]

    monkeypatch.setattr(inspection, "inspect_all", here)


def settings(source: Path | str = "unused", **changes) -> Data:
    values = {
        "source": str(source),
        "controls": "unused",
        "patients": r"(?:^|/)(p\d+)_",
        "columns": (),
        "on_invalid": "stop",
        "duplicate_distance": 4,
        "split": SHARES,
    }
    return Data(**values | changes)


def prepare(source: Path, out: Path, seed: int = 0, **changes) -> dict[str, float]:
    return preparation.prepare(settings(source, **changes), out, SIDE, seed, workers=1)


def refusal(source: Path, out: Path, **changes) -> str:
    """What `prepare` rejects the photos with; nothing is written."""
    with pytest.raises(InputError) as error:
        prepare(source, out, **changes)
    assert not list(out.parent.glob(f"{out.name}*"))
    return str(error.value)


def skin(seed: int, height: int = 40, width: int = 48) -> np.ndarray:
    """Coarse random blotches, with a different perceptual hash for each seed."""
    rng = np.random.default_rng(seed)
    blotches = Image.fromarray(rng.integers(60, 200, (8, 8, 3), dtype=np.uint8))
    return np.asarray(blotches.resize((width, height), Image.Resampling.BICUBIC))


def manifest(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "manifest.csv").open(newline="", encoding="utf-8") as file:
        return {row["source"]: row for row in csv.DictReader(file)}


def table_rows(folder: Path) -> dict[str, dict[str, str]]:
    """The rows of all sets, by path below the output folder."""
    rows = {}
    for part in SHARES:
        known = table.read(folder / part)
        assert known and {p.name for p in (folder / part).glob("*.png")} == known.rows.keys()
        rows |= {f"{part}/{name}": row for name, row in known.rows.items()}
    return rows


def rows_by_photo(folder: Path) -> dict[str, dict[str, str]]:
    """The rows of all sets, by the photos' original names."""
    rows = table_rows(folder)
    return {name: rows[row["file"]] for name, row in manifest(folder).items() if row["file"]}


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """12 patients with 3 pictures each, and every kind of file that needs care."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "more").mkdir()
    for patient in range(12):
        for picture in range(3):
            image = Image.fromarray(skin(3 * patient + picture))
            exif = Image.Exif()
            exif[0x010E] = "Jane Doe"
            suffix = ["jpg", "JPG", "png"][picture]
            parent = folder / "more" if patient % 2 else folder
            image.save(parent / f"p{patient}_{picture}.{suffix}", quality=95, exif=exif)
    shutil.copy(folder / "p0_0.jpg", folder / "p0_copy.jpg")  # the same bytes
    with Image.open(folder / "p0_2.png") as image:
        image.save(folder / "p2_same.tif")  # the same pixels, of another patient
    with Image.open(folder / "p4_0.jpg") as image:
        image.save(folder / "p6_near.jpg", quality=60)  # nearly the same, of another patient
    Image.fromarray(skin(100, 90, 70)).save(folder / "p8_large.png")
    Image.fromarray(skin(101, 20, 70)).save(folder / "p8_flat.png")
    (folder / "p10_link.png").symlink_to(folder / "p8_large.png")
    (folder / "notes.txt").write_text("two others")
    (folder / ".DS_Store").touch()
    return folder


@pytest.fixture(scope="module")
def prepared(photos, tmp_path_factory) -> tuple[Path, dict[str, float]]:
    """By as many processes as there are cores."""
    out = tmp_path_factory.mktemp("prepared") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inspection, "inspect_all", inspect_all)
        return out, preparation.prepare(settings(photos), out, SIDE, seed=0)


def test_counts_agree_with_the_files(prepared):
    out, counts = prepared
    pictures = {name: len(list((out / name).glob("*.png"))) for name in SHARES}
    assert {name: counts[name] for name in SHARES} == pictures
    assert counts["pictures"] == sum(pictures.values()) == 36 + 3  # near, large, flat
    assert counts["exact_duplicates"] == 3  # copy, same, link
    assert counts["near_duplicates"] == 1
    assert counts["groups"] == 12 - 3  # 0 with 2, 4 with 6, 8 with 10
    assert counts["groups"] == sum(counts[f"groups_{name}"] for name in SHARES)
    assert counts["invalid"] == 0 and counts["other_files"] == 2
    assert sorted(path.name for path in out.iterdir()) == ["manifest.csv", "test", "train", "val"]


def test_no_patient_and_no_duplicate_is_in_two_sets(prepared):
    rows = manifest(prepared[0])
    sets: dict[str, set[str]] = {}
    for name, row in rows.items():
        if row["split"]:
            sets.setdefault(Path(name).name.split("_")[0], set()).add(row["split"])
    assert all(len(parts) == 1 for parts in sets.values())
    for one, other in [("p0", "p2"), ("p4", "p6"), ("p8", "p10")]:
        assert sets[one] == sets[other]
    assert rows["p0_copy.jpg"]["reason"] == "the same as p0_0.jpg"
    assert rows["p2_same.tif"]["reason"] == "the same as p0_2.png"
    assert rows["p2_same.tif"]["file"] == rows["p2_same.tif"]["split"] == ""
    assert rows["p6_near.jpg"]["reason"] == "nearly the same as p4_0.jpg"
    assert rows["p6_near.jpg"]["group"] == "p4"


def test_pictures_are_the_photos_squares(photos, prepared):
    out, _ = prepared
    sides = {}
    for name, row in manifest(out).items():
        if row["file"]:
            photo, picture = images.read(photos / name), images.read(out / row["file"])
            sides[name] = min(*photo.shape[:2], 2 * SIDE)
            assert np.array_equal(picture, images.square(photo, sides[name]))
            assert Path(row["file"]).stem == row["sha256"][:16]
    assert sides["p10_link.png"] == 64 and sides["p8_flat.png"] == 20 and sides["p0_0.jpg"] == 40


def test_neither_workers_nor_a_second_run_change_a_byte(photos, prepared, tmp_path):
    assert prepare(photos, tmp_path / "again") == prepared[1]
    assert contents(tmp_path / "again") == contents(prepared[0])


@pytest.fixture
def faulty(photos, tmp_path) -> Path:
    source = tmp_path / "source"
    shutil.copytree(photos, source, symlinks=True)
    (source / "p1_text.jpg").write_text("no picture")
    whole = (source / "p0_0.jpg").read_bytes()
    (source / "p1_half.jpg").write_bytes(whole[: len(whole) // 2])
    Image.new("RGB", (15, 400)).save(source / "p1_thin.png")
    return source


def test_stop_names_every_bad_file_and_writes_nothing(faulty, tmp_path):
    head, *lines = refusal(faulty, tmp_path / "out").splitlines()
    assert head == "data.on_invalid: stop, and 3 files cannot be used:"
    names, reasons = zip(*(line.split(": ", 1) for line in lines), strict=True)
    assert names == tuple(f"{faulty}/p1_{each}" for each in ("half.jpg", "text.jpg", "thin.png"))
    assert "truncated" in reasons[0] and "is not a JPEG" in reasons[1]
    assert reasons[2].startswith("is 15 pixels across, expected at least half of resolution (32)")


def test_skip_lists_and_counts_them(faulty, prepared, tmp_path):
    counts = prepare(faulty, tmp_path / "out", on_invalid="skip")
    assert counts == prepared[1] | {"invalid": 3}
    rows = manifest(tmp_path / "out")
    assert rows["p1_text.jpg"]["reason"].startswith("is not a JPEG")
    assert rows["p1_text.jpg"]["file"] == rows["p1_text.jpg"]["split"] == ""
    without = {name: row for name, row in rows.items() if name in manifest(prepared[0])}
    assert without == manifest(prepared[0])


def test_an_interrupted_run_leaves_nothing(photos, tmp_path, monkeypatch):
    def interrupted(paths, squares, *_):
        images.write(squares[0], skin(0))
        raise KeyboardInterrupt

    monkeypatch.setattr(inspection, "inspect_all", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare(photos, tmp_path / "out")
    assert os.listdir(tmp_path) == []


def test_reading_stops_soon_after_an_error(tmp_path):
    """For example, when the disk is full at the first of a thousand photos."""
    images.write(tmp_path / "photo.png", skin(0, 400, 400))
    squares = [tmp_path / f"{k}.png" for k in range(1000)]
    results = inspect_all([tmp_path / "photo.png"] * 1000, squares, 64, 1)
    next(results)
    results.close()
    assert sum(square.exists() for square in squares) < 500


def test_a_source_that_contains_the_output_is_refused(photos, tmp_path):
    """Otherwise the next run would read the pictures that stages made."""
    for source in (tmp_path, tmp_path / "a/.."):
        assert "contains the output" in refusal(source, tmp_path / "a/out")


@pytest.mark.parametrize("seed", range(5))
def test_split_keeps_the_shares_on_random_groups(seed):
    rng = np.random.default_rng(seed)
    number = rng.integers(30, 200)
    tones = {f"g{k}": rng.normal(size=rng.geometric(0.3)).tolist() for k in range(number)}
    splits = splitting.split(tones, SHARES, seed)
    assert set(splits) == set(tones)
    sizes = {group: len(values) for group, values in tones.items()}
    for name, share in SHARES.items():
        pictures = sum(sizes[group] for group in sizes if splits[group] == name)
        assert abs(pictures - share * sum(sizes.values())) <= max(sizes.values())
    backwards = dict(reversed(tones.items()))
    assert splitting.split(backwards, SHARES, seed) == splits
    assert splitting.split(tones, SHARES, seed + 1) != splits


@pytest.mark.parametrize("seed", range(10))
def test_split_spreads_a_rare_tone_evenly(seed):
    """Of 50 patients 10 have dark skin: 5 of 25 in training and 4 of 20 in the test set, or nearly.

    Drawn at random, the test set would have 2 or fewer, or 6 or more, in a quarter of splits.
    """
    rng = np.random.default_rng(seed)
    means = rng.permutation([*rng.normal(-40, 8, 10), *rng.normal(40, 8, 40)])
    tones = {f"g{k:02}": rng.normal(mean, 3, 4).tolist() for k, mean in enumerate(means)}
    splits = splitting.split(tones, SHARES, seed)
    dark = [splits[group] for group, mean in zip(tones, means, strict=True) if mean < 0]
    assert abs(dark.count("train") - 5) <= 1 and abs(dark.count("test") - 4) <= 1


def test_prepare_puts_dark_skin_into_training_and_test_set(tmp_path):
    """6 of 24 patients; in the order of names they would all be in training."""
    dark_skin = (1, 4, 9, 10, 17, 20)
    source = tmp_path / "photos"
    source.mkdir()
    for k in range(24):
        dark = np.array([0.35, 0.3, 0.25]) if k in dark_skin else np.array([1.1, 0.95, 0.85])
        picture = (skin(k).mean(axis=2, keepdims=True) * dark).astype(np.uint8)
        Image.fromarray(picture).save(source / f"p{k:02}_a.png")
    counts = prepare(source, tmp_path / "out")
    rows = manifest(tmp_path / "out")
    sets = [rows[f"p{k:02}_a.png"]["split"] for k in dark_skin]
    assert sets.count("train") in (2, 3, 4) and sets.count("test") in (2, 3)
    for part in ("train", "test"):
        pictures = map(images.read, (tmp_path / "out" / part).glob("*.png"))
        mean = np.mean([tone.typology_angle(picture) for picture in pictures])
        assert counts[f"tone_{part}"] == pytest.approx(mean, abs=0.051)


# ---------------------------------------------------------------- the user's table


@pytest.fixture
def hospital(tmp_path) -> Path:
    """12 patients, two photos each, and a hospital's table."""
    source = tmp_path / "photos"
    rows = ["File_name;Patient;Name;Born;Tone;Text"]
    for patient in range(12):
        for picture in range(2):
            name = f"ward {patient % 3}/{patient}{picture}ä.png"
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(skin(2 * patient + picture)).save(source / name)
            tone = "" if patient == 3 else patient % 6 + 1
            rows.append(f"{name};MRN-{patient:04};Jane Doe {patient};1970-01-01;{tone};left; arm")
    text = "\r\n".join(row.replace(";left; arm", ';"left; arm"') for row in rows)
    (source / "metadata.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    return source


def test_only_the_named_columns_of_a_table_are_carried_on(hospital, tmp_path, caplog):
    caplog.set_level("INFO")
    out = tmp_path / "out"
    counts = prepare(hospital, out, patients="table", columns=("tone", "text"))
    assert counts["pictures"] == 24 and counts["groups"] == 12 and counts["other_files"] == 1
    assert "metadata.csv: 2 columns left out: name, born" in caplog.text
    origin = manifest(out)
    assert origin["metadata.csv"]["reason"] == "the table"
    rows = rows_by_photo(out)
    assert len(rows) == 24
    for name, row in rows.items():
        patient = int(Path(name).name[:-6])
        assert origin[name]["group"] == f"MRN-{patient:04}"
        assert row["tone"] == ("unknown" if patient == 3 else f"tone {patient % 6 + 1}")
        assert row["text"] == "left; arm"
    assert {row["patient"] for row in rows.values()} == {str(k) for k in range(12)}
    for name, content in contents(out).items():
        if name != "manifest.csv":
            assert not any(word in content for word in (b"Jane", b"MRN", b"1970", b"ward"))
    prepare(hospital, tmp_path / "again", seed=1, patients="table")
    numbers = [
        [int(rows_by_photo(folder)[name]["patient"]) for name in rows]
        for folder in (out, tmp_path / "again")
    ]
    assert numbers[0] != numbers[1] and numbers[0] != sorted(numbers[0])


def test_unknown_patients_still_have_groups_of_duplicates(hospital, tmp_path):
    shutil.copy(hospital / "ward 0/00ä.png", hospital / "ward 1/again.png")
    picture = Image.fromarray(skin(0)).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    picture.save(hospital / "ward 2/flipped.jpg", quality=90)
    (hospital / "metadata.csv").unlink()
    counts = prepare(hospital, tmp_path / "out", patients="none")
    assert counts["groups"] == 24 and counts["exact_duplicates"] == counts["near_duplicates"] == 1
    rows = table_rows(tmp_path / "out")
    assert {row["patient"] for row in rows.values()} == {"unknown"}
    assert len({row["group"] for row in rows.values()}) == 24
    origin = manifest(tmp_path / "out")
    assert origin["ward 2/flipped.jpg"]["group"] == origin["ward 0/00ä.png"]["group"]
    assert origin["ward 2/flipped.jpg"]["reason"] == "nearly the same as ward 0/00ä.png"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"columns": ("site",)}, "data.columns: site: no such column in"),
        ({"patients": r"/(\d\d)\d*ä"}, "and the column patient of"),
        ({"patients": "unknown"}, "unknown, but something may identify the patients"),
    ],
)
def test_a_table_that_does_not_fit_stops_before_work(changes, reason, hospital, tmp_path):
    assert reason in refusal(hospital, tmp_path / "out", **{"patients": "table"} | changes)


def test_a_table_in_a_sub_folder_is_refused(hospital, tmp_path):
    (hospital / "metadata.csv").rename(hospital / "ward 0/metadata.csv")
    message = refusal(hospital, tmp_path / "out", patients="none")
    assert "ward 0/metadata.csv: a table in a sub-folder is not read" in message
    (hospital / ".trash").mkdir()
    (hospital / "ward 0/metadata.csv").rename(hospital / ".trash/metadata.csv")
    prepare(hospital, tmp_path / "out", patients="none")


def test_near_duplicates_that_leave_no_split_are_named(tmp_path):
    source = tmp_path / "photos"
    source.mkdir()
    for patient in range(9):
        picture = images.ways(skin(0, 48, 48))[patient % images.WAYS]
        Image.fromarray(picture).save(source / f"p{patient}_a.jpg", quality=90 - patient)
    message = refusal(source, tmp_path / "out")
    assert message.startswith("no pictures left for test, val: 9 pictures of 1 patients")
    assert message.endswith(
        "; 9 photos of several patients are in one group because they are nearly the same, such as "
        "p1_a.jpg and p0_a.jpg"
    )


# ---------------------------------------------------------------- captions and tones


@pytest.fixture
def captioned(tmp_path) -> Path:
    """12 patients with 3 photos each, and a caption beside each photo."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(36):
        Image.fromarray(skin(number)).save(folder / f"p{number // 3}_{number % 3}.jpg")
        text = f'  lesion {number},\t"sore"; left arm\r\nsecond line\n'
        (folder / f"p{number // 3}_{number % 3}.txt").write_bytes(b"\xef\xbb\xbf" + text.encode())
    return folder


TEXT = {"columns": ("text",)}


def test_the_first_line_of_a_text_beside_a_photo_is_its_caption(captioned, tmp_path, caplog):
    caplog.set_level("INFO")
    prepare(captioned, tmp_path / "without")
    assert "text" not in rows_by_photo(tmp_path / "without")["p3_1.jpg"]
    prepare(captioned, tmp_path / "out", **TEXT)
    assert rows_by_photo(tmp_path / "out")["p3_1.jpg"]["text"] == 'lesion 10, "sore"; left arm'
    assert manifest(tmp_path / "out")["p3_1.txt"]["reason"] == "a caption"
    assert "36 captions have several lines; only the first is used" in caplog.text


@pytest.mark.parametrize("name", ["p3_1.jpg", "p3_1.txt", "metadata.csv"])
def test_pointers_of_git_lfs_stop_whatever_is_skipped(captioned, tmp_path, name):
    for other in ("p4_0.jpg", name):
        (captioned / other).write_bytes(POINTER)
    first = min(captioned / name, captioned / "p4_0.jpg", key=lambda path: path.suffix != ".jpg")
    message = refusal(captioned, tmp_path / "out", on_invalid="skip", **TEXT)
    assert message == f"{first}: {UNFETCHED} (2 such files)"


def test_unusable_captions_are_named_before_work(captioned, tmp_path):
    (captioned / "p2_1.txt").unlink()
    (captioned / "p2_2.txt").write_text(" \n")
    (captioned / "p3_0.txt").write_bytes("a patient\u2019s sore".encode("cp1252"))
    (captioned / "p3_1.txt").write_bytes("a sore".encode("utf-16"))
    (captioned / "p4_0.txt").write_text("a sore, {tone} skin")
    assert refusal(captioned, tmp_path / "out", **TEXT).splitlines() == [
        f"{captioned}/p2_1.txt: no text, and data.columns asks for one for every photo",
        f"{captioned}/p2_2.txt: no text, and data.columns asks for one for every photo",
        f"{captioned}/p3_0.txt: not UTF-8; save it as UTF-8",
        f"{captioned}/p3_1.txt: not UTF-8; save it as UTF-8",
        f"{captioned}/p4_0.txt: {{tone}} would not be filled in a caption; write the word, or "
        "remove text from data.columns and use the field in train.instance_prompt",
    ]


def test_a_tables_text_comes_before_files_beside_the_photos(captioned, tmp_path):
    lines = ["file_name;text"]  # as Excel saves it in many countries, with a byte order mark
    lines += [f'p{n // 3}_{n % 3}.jpg;"said ""{n}"" and' + f'\n more; {n}"' for n in range(36)]
    file = captioned / "metadata.csv"
    file.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    prepare(captioned, tmp_path / "out", **TEXT)
    assert rows_by_photo(tmp_path / "out")["p3_1.jpg"]["text"] == 'said "10" and more; 10'
    lines[11], lines[12] = "p3_1.jpg;", "p3_2.jpg;a {site} sore"
    file.write_bytes("\r\n".join(lines).encode())
    empty, braces = refusal(captioned, tmp_path / "again", **TEXT).splitlines()
    assert empty.startswith(f"{file}: p3_1.jpg: no text")
    assert braces.startswith(f"{file}: p3_2.jpg: {{site}} would not be filled")


def test_the_tone_is_measured_unless_the_table_has_one(captioned, tmp_path):
    prepare(captioned, tmp_path / "out")
    for name, row in table_rows(tmp_path / "out").items():
        angle = tone.typology_angle(images.read(tmp_path / "out" / name))
        assert row["tone"] == tone.word(angle)
    assert "no metadata.csv" in refusal(captioned, tmp_path / "lab", columns=("tone",))
    lines = [f"p{n // 3}_{n % 3}.jpg,{'IV' if n % 2 else ''}" for n in range(36)]
    (captioned / "metadata.csv").write_text("\n".join(["file_name,tone", *lines]))
    prepare(captioned, tmp_path / "lab", columns=("tone",))
    assert {row["tone"] for row in table_rows(tmp_path / "lab").values()} == {"IV", "unknown"}
