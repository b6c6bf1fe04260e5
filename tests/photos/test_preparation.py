"""Real folders through `prepare`, and its rules on random patients and duplicates."""

import csv
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import POINTER, UNFETCHED
from PIL import Image

from mpox.core import images
from mpox.core.errors import InputError
from mpox.params import Data
from mpox.photos import inspection, preparation
from mpox.photos import splits as splitting
from mpox.statistics import tone

SHARES = {"train": 0.5, "val": 0.1, "test": 0.4}


def settings(**changes) -> Data:
    values = {
        "source": "unused",
        "controls": "unused",
        "patients": r"(?:^|/)(p\d+)_",
        "columns": (),
        "on_invalid": "stop",
        "duplicate_distance": 4,
        "split": SHARES,
    }
    return Data(**values | changes)


def skin(seed: int, height: int = 40, width: int = 48) -> np.ndarray:
    """Coarse random blotches: a perceptual hash of its own for each seed."""
    rng = np.random.default_rng(seed)
    blotches = Image.fromarray(rng.integers(60, 200, (8, 8, 3), dtype=np.uint8))
    return np.asarray(blotches.resize((width, height), Image.Resampling.BICUBIC))


def manifest(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "manifest.csv").open(newline="") as file:
        return {row["source"]: row for row in csv.DictReader(file)}


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


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
def prepared(photos, tmp_path_factory) -> tuple[Path, dict[str, int]]:
    out = tmp_path_factory.mktemp("prepared") / "out"
    return out, preparation.prepare(photos, out, settings(), resolution=32, seed=0)


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


def test_no_patient_and_no_duplicate_is_in_two_splits(prepared):
    rows = manifest(prepared[0])
    splits: dict[str, set[str]] = {}
    for name, row in rows.items():
        if row["split"]:
            splits.setdefault(Path(name).name.split("_")[0], set()).add(row["split"])
    assert all(len(found) == 1 for found in splits.values())
    for one, other in [("p0", "p2"), ("p4", "p6"), ("p8", "p10")]:
        assert splits[one] == splits[other]
    assert rows["p0_copy.jpg"]["reason"] == "the same as p0_0.jpg"
    assert rows["p2_same.tif"]["reason"] == "the same as p0_2.png"
    assert rows["p2_same.tif"]["file"] == rows["p2_same.tif"]["split"] == ""
    assert rows["p6_near.jpg"]["reason"] == "nearly the same as p4_0.jpg"
    assert rows["p6_near.jpg"]["group"] == "p4"


def test_pictures_are_the_photos_squares(photos, prepared):
    out, _ = prepared
    for name, row in manifest(out).items():
        if row["file"]:
            photo = images.read(photos / name)
            side = min(*photo.shape[:2], 64)
            assert np.array_equal(images.read(out / row["file"]), images.square(photo, side))
            assert Path(row["file"]).stem == row["sha256"][:16]
    sides = {
        name: images.read(out / row["file"]).shape[0]
        for name, row in manifest(out).items()
        if row["file"]
    }
    assert sides["p10_link.png"] == 64 and sides["p8_flat.png"] == 20 and sides["p0_0.jpg"] == 40


def test_names_and_metadata_of_patients_stay_behind(photos, prepared):
    out, counts = prepared
    assert b"Jane Doe" in (photos / "p0_0.jpg").read_bytes()
    files = contents(out)
    del files["manifest.csv"]
    assert not any("p0" in name or b"Jane Doe" in content for name, content in files.items())
    tones = {"tone_train", "tone_test"}
    assert all(isinstance(count, int) for name, count in counts.items() if name not in tones)


def test_neither_workers_nor_a_second_run_change_a_byte(photos, prepared, tmp_path):
    again = preparation.prepare(photos, tmp_path / "a", settings(), 32, seed=0, workers=1)
    assert again == prepared[1]
    assert contents(tmp_path / "a") == contents(prepared[0])


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
    with pytest.raises(InputError) as error:
        preparation.prepare(faulty, tmp_path / "out", settings(), 32, seed=0, workers=1)
    head, *lines = str(error.value).splitlines()
    assert head == "data.on_invalid: stop, and 3 files cannot be used:"
    assert [line.removeprefix(f"{faulty}/").split(": ")[0] for line in lines] == [
        "p1_half.jpg",
        "p1_text.jpg",
        "p1_thin.png",
    ]
    assert "truncated" in lines[0] and "is not a JPEG" in lines[1]
    assert (
        "is 15 pixels across, expected half of resolution (32) or more: lower resolution to 30"
        in lines[2]
    )
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_skip_lists_and_counts_them(faulty, prepared, tmp_path):
    skip = settings(on_invalid="skip")
    counts = preparation.prepare(faulty, tmp_path / "out", skip, 32, seed=0, workers=1)
    assert counts == prepared[1] | {"invalid": 3}
    rows = manifest(tmp_path / "out")
    assert rows["p1_text.jpg"]["reason"].startswith("is not a JPEG")
    assert rows["p1_text.jpg"]["file"] == rows["p1_text.jpg"]["split"] == ""
    without = {name: row for name, row in rows.items() if name in manifest(prepared[0])}
    assert without == manifest(prepared[0])


def test_a_stopped_run_leaves_nothing_to_be_taken_for_whole(photos, tmp_path, monkeypatch):
    def stopped(paths, squares, *_):
        images.write(squares[0], skin(0))
        raise KeyboardInterrupt

    monkeypatch.setattr(preparation.inspection, "inspect_all", stopped)
    with pytest.raises(KeyboardInterrupt):
        preparation.prepare(photos, tmp_path / "out", settings(), 32, seed=0)
    assert os.listdir(tmp_path) == []


def test_who_stops_asking_waits_for_no_other_photo(tmp_path):
    """As when the disk is full at the first of a thousand."""
    images.write(tmp_path / "photo.png", skin(0, 400, 400))
    squares = [tmp_path / f"{k}.png" for k in range(1000)]
    found = inspection.inspect_all([tmp_path / "photo.png"] * 1000, squares, 64, 1)
    next(found)
    found.close()
    assert sum(square.exists() for square in squares) < 500


def test_a_folder_without_pictures_is_refused(tmp_path):
    source = tmp_path / "photos"
    source.mkdir()
    (source / "notes.txt").touch()
    with pytest.raises(InputError, match=r"holds no picture\n1 .txt file: not a picture$"):
        preparation.prepare(source, tmp_path / "out", settings(), 32, seed=0)


def test_a_source_that_holds_the_output_is_refused(photos, tmp_path):
    """Else the next run would take the pictures that stages made for photos."""
    for source in (tmp_path, tmp_path / "a/.."):
        with pytest.raises(InputError, match=r"data\.source: .*: holds the output"):
            preparation.prepare(source, tmp_path / "a/out", settings(), 32, seed=0)


@pytest.mark.parametrize("seed", range(20))
def test_split_keeps_the_shares_on_random_groups(seed):
    rng = np.random.default_rng(seed)
    number = rng.integers(30, 200)
    tones = {f"g{k}": rng.normal(size=rng.geometric(0.3)).tolist() for k in range(number)}
    splits = splitting.split(tones, SHARES, seed)
    assert set(splits) == set(tones)
    sizes = {group: len(found) for group, found in tones.items()}
    for name, share in SHARES.items():
        pictures = sum(sizes[group] for group in sizes if splits[group] == name)
        assert abs(pictures - share * sum(sizes.values())) <= max(sizes.values())
    backwards = dict(reversed(tones.items()))
    assert splitting.split(backwards, SHARES, seed) == splits
    assert splitting.split(tones, SHARES, seed + 1) != splits


@pytest.mark.parametrize("seed", range(20))
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
    counts = preparation.prepare(source, tmp_path / "out", settings(), 32, seed=0, workers=1)
    rows = manifest(tmp_path / "out")
    dark_ones = [rows[f"p{k:02}_a.png"]["split"] for k in dark_skin]
    assert dark_ones.count("train") in (2, 3, 4) and dark_ones.count("test") in (2, 3)
    for part in ("train", "test"):
        pictures = map(images.read, (tmp_path / "out" / part).glob("*.png"))
        mean = np.mean([tone.typology_angle(picture) for picture in pictures])
        assert counts[f"tone_{part}"] == pytest.approx(mean, abs=0.051)


def test_split_refuses_to_leave_one_empty():
    with pytest.raises(InputError, match="left for test, val: 9 pictures of 1 patients"):
        splitting.split({"a": [0.0] * 9}, SHARES, 0)


@pytest.fixture
def hospital(tmp_path) -> Path:
    """12 patients, two photos each, and a table as a hospital has it."""
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


def table_of(out: Path) -> dict[str, dict[str, str]]:
    """Key → row, of all splits."""
    found: dict[str, dict[str, str]] = {}
    for part in SHARES:
        with (out / part / "metadata.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert sorted(path.name for path in (out / part).glob("*.png")) == [
            row["file_name"] for row in rows
        ]
        found |= {row["file_name"].removesuffix(".png"): row | {"split": part} for row in rows}
    return found


def test_a_table_is_carried_on_without_what_nobody_named(hospital, tmp_path, caplog):
    caplog.set_level("INFO")
    out = tmp_path / "out"
    chosen = settings(patients="table", columns=("tone", "text"))
    counts = preparation.prepare(hospital, out, chosen, 32, seed=0, workers=1)
    assert counts["pictures"] == 24 and counts["groups"] == 12 and counts["other_files"] == 1
    assert "metadata.csv: 2 columns left out: name, born" in caplog.text
    rows, origin = table_of(out), manifest(out)
    assert len(rows) == 24
    for name, row in origin.items():
        if name == "metadata.csv":
            assert row["reason"] == "the table"
            continue
        patient = int(Path(name).name[:-6])
        assert row["group"] == f"MRN-{patient:04}"
        carried = rows[row["sha256"][:16]]
        assert carried["tone"] == ("unknown" if patient == 3 else f"tone {patient % 6 + 1}")
        assert carried["text"] == "left; arm"
        assert carried["split"] == row["split"]
    numbers = {rows[row["sha256"][:16]]["patient"] for row in origin.values() if row["file"]}
    assert numbers == {str(k) for k in range(12)}
    for name, content in contents(out).items():
        if name != "manifest.csv":
            assert not any(word in content for word in (b"Jane", b"MRN", b"1970", b"ward"))


def test_patients_numbers_are_in_an_order_of_the_seeds(hospital, tmp_path):
    found = []
    for seed in range(2):
        out = tmp_path / f"out {seed}"
        preparation.prepare(hospital, out, settings(patients="table"), 32, seed, workers=1)
        rows, origin = table_of(out), manifest(out)
        keys = [row["sha256"][:16] for row in origin.values() if row["file"]]
        found.append([int(rows[key]["patient"]) for key in keys])
    assert found[0] != found[1] and found[0] != sorted(found[0])


def test_where_patients_are_unknown_groups_still_hold_duplicates(hospital, tmp_path):
    shutil.copy(hospital / "ward 0/00ä.png", hospital / "ward 1/again.png")
    picture = Image.fromarray(skin(0)).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    picture.save(hospital / "ward 2/flipped.jpg", quality=90)
    (hospital / "metadata.csv").unlink()
    out = tmp_path / "out"
    counts = preparation.prepare(hospital, out, settings(patients="none"), 32, seed=0, workers=1)
    assert counts["groups"] == 24 and counts["exact_duplicates"] == counts["near_duplicates"] == 1
    rows = table_of(out)
    assert {row["patient"] for row in rows.values()} == {"unknown"}
    assert len({row["group"] for row in rows.values()}) == 24
    origin = manifest(out)
    assert origin["ward 2/flipped.jpg"]["group"] == origin["ward 0/00ä.png"]["group"]
    assert origin["ward 2/flipped.jpg"]["reason"] == "nearly the same as ward 0/00ä.png"
    with pytest.raises(InputError, match=r"data\.patients: unknown, but"):
        preparation.prepare(hospital, tmp_path / "x", settings(patients="unknown"), 32, seed=0)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"columns": ("site",)}, r"data\.columns: site: no such column in .*metadata\.csv$"),
        ({"patients": r"/(\d\d)\d*ä"}, "and the column patient of .* disagree:\n"),
        ({"patients": "unknown"}, "unknown, but something may say who"),
    ],
)
def test_what_does_not_fit_the_table_stops_before_work(changes, reason, hospital, tmp_path):
    with pytest.raises(InputError, match=reason):
        chosen = settings(**{"patients": "table"} | changes)
        preparation.prepare(hospital, tmp_path / "out", chosen, 32, seed=0, workers=1)
    assert not list(tmp_path.glob("out*"))


def test_a_table_in_a_sub_folder_is_not_passed_over(hospital, tmp_path):
    (hospital / "metadata.csv").rename(hospital / "ward 0/metadata.csv")
    with pytest.raises(InputError, match=r"ward 0/metadata\.csv: lies in a sub-folder and would"):
        preparation.prepare(hospital, tmp_path / "out", settings(patients="none"), 32, seed=0)
    (hospital / ".trash").mkdir()
    (hospital / "ward 0/metadata.csv").rename(hospital / ".trash/metadata.csv")
    preparation.prepare(hospital, tmp_path / "out", settings(patients="none"), 32, seed=0)


def test_patients_that_duplicates_join_are_named_where_no_split_is_left(tmp_path):
    source = tmp_path / "photos"
    source.mkdir()
    for patient in range(9):
        picture = images.ways(skin(0, 48, 48))[patient % images.WAYS]
        Image.fromarray(picture).save(source / f"p{patient}_a.jpg", quality=90 - patient)
    with pytest.raises(InputError) as error:
        preparation.prepare(source, tmp_path / "out", settings(), 32, seed=0, workers=1)
    assert str(error.value).startswith("no pictures left for test, val: 9 pictures of 1 patients")
    assert str(error.value).endswith(
        "; 9 photos of several patients are in one group, since they are nearly the same, as "
        "p1_a.jpg and p0_a.jpg"
    )


def test_columns_without_a_table_are_refused(photos, tmp_path):
    with pytest.raises(InputError, match=r"data\.columns: tone: .*which has no metadata\.csv"):
        preparation.prepare(photos, tmp_path / "out", settings(columns=("tone",)), 32, seed=0)


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


def prepared_rows(out: Path) -> dict[str, dict[str, str]]:
    """The tables' rows by the photos' own names."""
    rows = {}
    for part in SHARES:
        with (out / part / "metadata.csv").open(newline="") as file:
            rows |= {f"{part}/{row['file_name']}": row for row in csv.DictReader(file)}
    return {name: rows[row["file"]] for name, row in manifest(out).items() if row["file"]}


def test_a_text_beside_a_photo_is_its_caption_if_asked_for(captioned, tmp_path):
    preparation.prepare(captioned, tmp_path / "without", settings(), 32, seed=0)
    assert "text" not in next(iter(prepared_rows(tmp_path / "without").values()))
    preparation.prepare(captioned, tmp_path / "out", settings(columns=("text",)), 32, seed=0)
    rows = prepared_rows(tmp_path / "out")
    assert rows["p3_1.jpg"]["text"] == 'lesion 10, "sore"; left arm'
    assert manifest(tmp_path / "out")["p3_1.txt"]["reason"] == "a caption"


def test_photos_without_a_caption_are_named_before_work(captioned, tmp_path):
    (captioned / "p3_1.txt").unlink()
    (captioned / "p4_0.txt").write_text(" \n")
    with pytest.raises(InputError) as error:
        preparation.prepare(captioned, tmp_path / "out", settings(columns=("text",)), 32, seed=0)
    assert [line.partition(": ")[0] for line in str(error.value).splitlines()] == [
        str(captioned / name) for name in ("p3_1.txt", "p4_0.txt")
    ]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["p3_1.jpg", "p3_1.txt", "metadata.csv"])
def test_what_git_lfs_has_not_fetched_stops_whatever_is_skipped(captioned, tmp_path, name):
    for other in ("p4_0.jpg", name):
        (captioned / other).write_bytes(POINTER)
    given = settings(columns=("text",), on_invalid="skip")
    with pytest.raises(InputError) as error:
        preparation.prepare(captioned, tmp_path / "out", given, 32, seed=0)
    first = min(captioned / name, captioned / "p4_0.jpg", key=lambda path: path.suffix != ".jpg")
    assert str(error.value) == f"{first}: {UNFETCHED} (2 such files)"


def test_the_first_line_of_a_caption_counts(captioned, tmp_path, caplog):
    """As kohya's scripts have it: what comes after is for people."""
    caplog.set_level("INFO")
    (captioned / "p3_1.txt").write_bytes(b" a sore, \r\nnot for training\r\n")
    preparation.prepare(captioned, tmp_path / "out", settings(columns=("text",)), 32, seed=0)
    assert prepared_rows(tmp_path / "out")["p3_1.jpg"]["text"] == "a sore,"
    assert "36 captions have several lines, of which the first counts" in caplog.text


def test_captions_that_would_be_trained_wrongly_are_named(captioned, tmp_path):
    (captioned / "p3_0.txt").write_bytes("a patient\u2019s sore".encode("cp1252"))
    (captioned / "p3_1.txt").write_bytes("a sore".encode("utf-16"))
    (captioned / "p4_0.txt").write_text("a sore, {tone} skin")
    with pytest.raises(InputError) as error:
        preparation.prepare(captioned, tmp_path / "out", settings(columns=("text",)), 32, seed=0)
    assert str(error.value).splitlines() == [
        f"{captioned}/p3_0.txt: is not UTF-8; save it as such",
        f"{captioned}/p3_1.txt: is not UTF-8; save it as such",
        f"{captioned}/p4_0.txt: {{tone}} would be trained as it stands; write the word, or leave "
        "text out of data.columns: train.instance_prompt is filled",
    ]
    lines = ["file_name,text", *(f"p{n // 3}_{n % 3}.jpg,a {{site}} sore" for n in range(36))]
    (captioned / "metadata.csv").write_text("\n".join(lines))
    with pytest.raises(InputError, match=r"metadata\.csv: p0_0\.jpg: \{site\} would be trained as"):
        preparation.prepare(captioned, tmp_path / "out", settings(columns=("text",)), 32, seed=0)


def test_a_tables_text_goes_before_and_an_empty_one_is_named_by_its_row(captioned, tmp_path):
    lines = ["file_name;text"]  # as Excel saves it in many countries, with a byte order mark
    lines += [f'p{n // 3}_{n % 3}.jpg;"said ""{n}"" and' + f'\n more; {n}"' for n in range(36)]
    file = captioned / "metadata.csv"
    file.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    preparation.prepare(captioned, tmp_path / "out", settings(columns=("text",)), 32, seed=0)
    assert prepared_rows(tmp_path / "out")["p3_1.jpg"]["text"] == 'said "10" and more; 10'
    lines[11] = "p3_1.jpg;"
    file.write_bytes("\r\n".join(lines).encode())
    with pytest.raises(InputError, match=r"metadata\.csv: p3_1\.jpg: no text; data\.columns asks"):
        preparation.prepare(captioned, tmp_path / "again", settings(columns=("text",)), 32, seed=0)


def test_the_tone_is_measured_where_the_lab_has_none(captioned, tmp_path):
    preparation.prepare(captioned, tmp_path / "out", settings(), 32, seed=0)
    for name, row in manifest(tmp_path / "out").items():
        if row["file"]:
            angle = tone.typology_angle(images.read(tmp_path / "out" / row["file"]))
            assert prepared_rows(tmp_path / "out")[name]["tone"] == tone.word(angle)
    lines = [
        "file_name,tone",
        *(f"p{n // 3}_{n % 3}.jpg,{'IV' if n % 2 else ''}" for n in range(36)),
    ]
    (captioned / "metadata.csv").write_text("\n".join(lines))
    preparation.prepare(captioned, tmp_path / "lab", settings(columns=("tone",)), 32, seed=0)
    assert {row["tone"] for row in prepared_rows(tmp_path / "lab").values()} == {"IV", "unknown"}
