"""Folders of data sets and hospitals: what `unknown` reports, what the right choice gives."""

import csv
import hashlib
import io
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import pytest
import test_preparation
import variants
import yaml
from conftest import ROOT, contents
from PIL import Image

from mpox.core.errors import InputError
from mpox.embedded import phantom
from mpox.photos import inspection, keypoints, patients, preparation

Shown = tuple[int, ...]  # a patient, a photo of the patient, and which variant of it, if any
FORMATS = {".png": "PNG", ".tif": "TIFF", ".webp": "WEBP", ".bmp": "BMP"}
HEIC = {"IMG_0901.HEIC": (90, 1)}  # tests/phantom.heic


class Layout(NamedTuple):
    photos: dict[str, Shown]
    evidence: tuple[str, ...]  # parts of the error for `unknown`; none: it is accepted
    choice: str  # the right one for data.patients
    others: Mapping[str, bytes] = MappingProxyType({})
    columns: tuple[str, ...] = ()  # data.columns
    refused: str = ""  # part of the error for the right choice, until the user changes something
    offered: bool = True  # whether the error for `unknown` lists the right choice


# ---------------------------------------------------------------- making them


@cache
def picture(patient: int, photo: int, variant: int = 0) -> np.ndarray:
    drawn = phantom.draw("mpox", patient, photo, seed=7, size=128).picture
    if not variant:
        return drawn
    kind = variants.KINDS[(variant - 1) % len(variants.KINDS)]
    return variants.variant(kind, drawn, np.random.default_rng([patient, photo, variant]))


@cache
def content(suffix: str, *shown: int) -> bytes:
    if suffix == ".heic":
        return (ROOT / "tests/phantom.heic").read_bytes()
    buffer = io.BytesIO()
    Image.fromarray(picture(*shown)).save(buffer, FORMATS.get(suffix, "JPEG"), quality=92)
    return buffer.getvalue()


def put(folder: Path, layout: Layout) -> Path:
    source = folder / "photos"
    files = {name: content(Path(name).suffix.lower(), *who) for name, who in layout.photos.items()}
    for name, data in {**files, **layout.others}.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(data)
    return source


def random_hex(number: int, size: int = 16) -> str:
    return hashlib.sha512(str(number).encode()).hexdigest()[:size]


def grid(form: str, count: int = 12, each: int = 3, start: int = 1) -> dict[str, Shown]:
    """Photos named by `form`: {p} patient, {k} photo, {n} number in all, {d} date, {h} random."""
    every = [(p, k) for p in range(start, start + count) for k in range(1, each + 1)]
    return {
        form.format(p=p, k=k, n=n, d=20220501 + p // 3 + 7 * (k == each), h=random_hex(n)): (p, k)
        for n, (p, k) in enumerate(every, 1)
    }


def rows(photos: dict[str, Shown], head: str, row: str) -> bytes:
    """A table with {f} a file's path, {s} its stem, {p} patient, {k} photo."""
    lines = [row.format(f=f, s=Path(f).stem, p=who[0], k=who[1]) for f, who in photos.items()]
    return "\n".join([head, *lines, ""]).encode()


# ---------------------------------------------------------------- preparing them

INSPECTED: dict[bytes, tuple[inspection.Inspection, bytes]] = {}
COMPARED: dict[tuple[int, int], bool] = {}


@pytest.fixture(autouse=True)
def _each_photo_once(monkeypatch):
    """Read and compare photos once: the same ones are in many layouts."""
    same_skin = keypoints.same_skin

    def here(paths, squares, resolution, workers):
        results = []
        for path, square in zip(paths, squares, strict=True):
            data = path.read_bytes()
            if data not in INSPECTED:
                result = inspection.inspect(resolution, path, square)
                INSPECTED[data] = result, square.read_bytes()
            result, written = INSPECTED[data]
            square.write_bytes(written)
            results.append(result)
        return results

    def compared(one, other):
        pair = hash(one.grey.tobytes()), hash(other.grey.tobytes())
        if pair not in COMPARED:
            COMPARED[pair] = same_skin(one, other)
        return COMPARED[pair]

    monkeypatch.setattr(inspection, "inspect_all", here)
    monkeypatch.setattr(keypoints, "same_skin", compared)


def prepare(source: Path, choice: str, columns: tuple[str, ...] = ()) -> dict[str, float]:
    data = test_preparation.settings(source, patients=choice, columns=columns)
    return preparation.prepare(data, source.parent / "out", 64, seed=0, workers=1)


def manifest(source: Path) -> list[dict[str, str]]:
    with (source.parent / "out/manifest.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def refusal(source: Path, choice: str, columns: tuple[str, ...] = ()) -> list[str]:
    with pytest.raises(InputError) as error:
        prepare(source, choice, columns)
    assert not (source.parent / "out").exists()
    return str(error.value).splitlines()


def apart(source: Path, key: Callable[[str], object]) -> int:
    """The number of keys (patients, or photos) that have pictures in two sets."""
    splits: dict[object, set[str]] = {}
    for row in manifest(source):
        if row["split"]:
            splits.setdefault(key(row["source"]), set()).add(row["split"])
    return sum(len(parts) > 1 for parts in splits.values())


# ---------------------------------------------------------------- the layouts

FOLDERS = grid("p{p:03}/IMG_{k:04}.JPG")
FLAT = grid("IMG_{n:04}.jpg")
HEX = grid("{h}.jpg")
MSLD = grid("M{p:02}_{k:02}.jpg")
FIELD, MARKS = r"[^\W_]+", r"(?:[^\w/]|_)+"


def begins(fields: int, mark: str = "_") -> str:
    """The pattern for the first fields of a name, as `unknown` offers it."""
    return rf"(?:^|/)({mark.join([FIELD] * fields)})(?:{mark}[^/]*)?\.[^/.]+$"


def deleted(*folders: str, form: str = "IMG_{n:04}.jpg", count: int = 2) -> dict[str, bytes]:
    """Three photos each of `count` other patients, in each of these folders."""
    photos = {name: content(".jpg", *who) for name, who in grid(form, count, start=60).items()}
    return {f"{folder}/{name}": data for folder in folders for name, data in photos.items()}


def augmented(form: str, count: int, each: int) -> dict[str, Shown]:
    """Each photo, {v} = 0, and its variants 1 to 13."""
    return {
        form.format(p=p, k=k, v=v, h=random_hex(1000 * p + 100 * k + v)): (p, k, v)
        for p in range(1, count + 1)
        for k in range(1, each + 1)
        for v in range(14)
    }


def five_folds() -> dict[str, Shown]:
    codes = {"MKP": "Monkeypox", "CHP": "Chickenpox", "CPX": "Cowpox", "MSL": "Measles",
             "HFMD": "HFMD", "HEALTHY": "Healthy"}  # fmt: skip
    photos: dict[str, Shown] = {}
    for fold in range(1, 6):
        for number, (code, name) in enumerate(codes.items()):
            for p in (1, 2, 3):
                part = "Test" if p == 1 else "Valid" if (p + fold) % 5 == 0 else "Train"
                where = f"Fold{fold}/{part}/{name}/{code}_{p:02}"
                photos |= {f"{where}_{k:02}.jpg": (3 * number + p, k) for k in (1, 2)}
    return photos


HAM = grid("HAM10000_images_part_{p}/ISIC_{n:07}.jpg", 2, 18)
HAM = {name: (n // 3, n % 3) for n, name in enumerate(HAM)}
ISIC = grid("train/ISIC_{n:07}.jpg")
PAD = grid("images/PAT_{p}_{p}{k}_{n}.png")
PARTS = grid("train/{n}.jpg", 8) | grid("test/{n}.jpg", 4, start=20)
PACS = grid("PAT{p:03}/20220512/IM{k:04}.jpg")
WITH_TABLE = rows(FLAT, "file_name,patient,text", "{f},{p},a lesion")
NAMED = rows(
    FLAT, "file_name,patient,name,geburtsdatum,site", "{f},Doe{p},Jane Doe{p},1980-01-{p:02},arm"
)

LAYOUTS: dict[str, Layout] = {
    "MSLD: originals": Layout(
        grid("Monkey Pox/M{p:02}_{k:02}.jpg", 8) | grid("Others/NM{p:02}_{k:02}.jpg", 8, start=20),
        ("sub-folders", "a part of their names"), begins(1)),
    "MSLD: augmented, fourteen of each photo": Layout(
        augmented("Monkeypox_augmented/M{p:02}_{k:02}_{v:02}.jpg", 6, 2),
        ("a part of their names",), begins(1)),
    "The same, renamed at random": Layout(augmented("{h}.jpg", 8, 1), (), "unknown"),
    "MSLD v2.0: five folds of the same photos": Layout(
        five_folds(), ("sub-folders", "a part of their names"), begins(2)),
    "MSID: a folder a class": Layout(
        grid("Monkeypox/monkeypox{n}.png", 8) | grid("Measles/measles{n}.png", 8, start=20),
        ("sub-folders",), "none"),
    "HAM10000: as it is downloaded": Layout(
        HAM, ("HAM10000_metadata.csv is beside", "sub-folders"), "table",
        {"HAM10000_metadata.csv": rows(HAM, "lesion_id,image_id,dx", "HAM_{p},{s},nv")},
        refused="has no metadata.csv"),
    "HAM10000: its table as metadata.csv, the lesion as it was": Layout(
        HAM, ("a column 'lesion_id'", "sub-folders"), "table",
        {"metadata.csv": rows(HAM, "file_name,lesion_id,dx", "{f},HAM_{p},nv")},
        refused="has no column patient"),
    "HAM10000: the lesion as patient": Layout(
        HAM, ("a column 'patient'", "sub-folders"), "table",
        {"metadata.csv": rows(HAM, "file_name,patient,label", "{f},HAM_{p},nv")}, ("label",)),
    "Fitzpatrick17k: MD5 names and a table": Layout(
        grid("images/{h}{h}.jpg"), ("fitzpatrick17k.csv is beside",), "none",
        {"fitzpatrick17k.csv": rows(HEX, "md5hash,fitzpatrick_scale,label", "{s},3,mpox")}),
    "PAD-UFES-20: its own metadata.csv": Layout(
        PAD, ("file_name among them",), "table",
        {"metadata.csv": rows(PAD, "patient_id,lesion_id,img_id", "PAT_{p},{p},{s}.png")},
        refused="file_name among them; got patient_id,lesion_id,img_id"),
    "PAD-UFES-20: by its names": Layout(PAD, ("a part of their names",), begins(2)),
    "SCIN: cases of up to three photos": Layout(
        grid("images/-{n:019}.png"), ("scin_cases.csv is beside",), "table",
        {"scin_cases.csv": b"case_id,image_1_path,image_2_path,image_3_path\n"},
        refused="has no metadata.csv"),
    "Roboflow: three versions of each photo, a hash in each name": Layout(
        {f"train/images/M{p:02}_{k:02}_jpg.rf.{random_hex(9 * p + 3 * k + v)}.jpg": (p, k, v)
         for p in range(1, 13) for k in (1, 2) for v in (1, 2, 3)},
        ("a part of their names",), begins(1, MARKS),
        {"data.yaml": b"", "train/labels/a.txt": b""}),
    "PACS: JPEG beside DICOM": Layout(
        PACS, ("sub-folders",), "folder", {n.replace(".jpg", ".dcm"): b"" for n in PACS}),
    "Hospital: a folder a visit, in it one a patient": Layout(
        grid("{d}/p{p:03}/IMG_{k:04}.jpg"), ("sub-folders",), "^[^/]+/([^/]+)/"),
    "Hospital: a folder a patient, and a list in Excel": Layout(
        FOLDERS, ("Patientenliste.xlsx is beside", "p001/Verlauf.xls is", "sub-folders"),
        "folder",
        {"Patientenliste.xlsx": b"", "~$Patientenliste.xlsx": b"", "p001/Verlauf.xls": b""}),
    "Hospital: one photo filed under two patients": Layout(
        grid("p{p:03}/IMG_{k:04}.JPG", 11) | {"p012/IMG_0001.JPG": (11, 4),
                                              "p012/IMG_0002.JPG": (11, 1)},
        ("sub-folders",), "folder", offered=False),
    "Hospital: names of people": Layout(
        {f"Müller-{'ABCDEFGHIJKL'[p - 1]}nna {k}.jpg": (p, k) for p, k in MSLD.values()},
        ("a part of their names",), begins(2, MARKS)),
    "Hospital: date, patient, number": Layout(
        grid("{d}_p{p:03}_{k}.jpg"), ("a part of their names",),
        rf"(?:^|/){FIELD}_({FIELD})(?:_[^/]*)?\.[^/.]+$"),
    "Windows: many files renamed at once": Layout(
        grid("Patient {p} ({k}).jpg"), ("a part of their names",), begins(2, MARKS)),
    "An apostrophe in each name": Layout(
        grid("Patient's {p}-{k}.jpg"), ("a part of their names",), begins(3, MARKS)),
    "Three sources in one folder": Layout(
        grid("M{p:02}_{k:02}.jpg", 5) | grid("IMG_{n:04}.jpg", 12, 1, start=20)
        | grid("{h}.jpg", 12, 1, start=40),
        ("a part of their names",), r"(?:^|/)(M\d+(?=_)|[^/]+$)", offered=False),
    "Phone: HEIC, live photos, edits": Layout(
        FLAT | HEIC, (), "unknown",
        {"IMG_0901.MOV": b"", "IMG_0901.AAE": b"", "IMG_0001.AAE": b""}),
    "Camera: two folders": Layout(
        grid("DCIM/100CANON/IMG_{n:04}.JPG", 6) | grid("DCIM/101CANON/IMG_{n:04}.JPG", 6, start=20),
        ("sub-folders",), "none"),
    "NAS: previews and deleted photos": Layout(
        FOLDERS, ("sub-folders",), "folder",
        deleted("#recycle/p060", "@eaDir", "p001/@eaDir/IMG_0001.JPG") | {"Thumbs.db": b""}),
    "A ZIP of a Mac, umlauts apart, in the table composed": Layout(
        {unicodedata.normalize("NFD", n): w for n, w in grid("Läsion {n}.jpg").items()},
        ("a column 'patient'",), "table",
        {"metadata.csv": rows(grid("Läsion {n}.jpg"), "file_name,patient", "{f},{p}"),
         "__MACOSX/._Läsion 1.jpg": b"", ".DS_Store": b"", "._metadata.csv": b""}),
    "Umlauts composed on one day, apart on another": Layout(
        {unicodedata.normalize("NFC" if k == 1 else "NFD", f"visit{k}/Jürgen{p:02}/{k}.jpg"): (p, k)
         for p, k in MSLD.values()}, ("sub-folders",), "^[^/]+/([^/]+)/"),
    "A table on a Mac's disk": Layout(
        FLAT, (), "unknown",
        {"metadata.csv": rows(FLAT, "file_name,text", "{f},a lesion"), "._metadata.csv": b""}),
    "Excel: semicolons and a byte order mark": Layout(
        FLAT, ("a column 'patient'",), "table",
        {"metadata.csv": b"\xef\xbb\xbf" + WITH_TABLE.replace(b",", b";").replace(b"\n", b"\r\n")},
        ("text",)),
    "Excel: not UTF-8": Layout(
        FLAT, ("is not UTF-8",), "table",
        {"metadata.csv": WITH_TABLE.replace(b"lesion", b"l\xe4sion")},
        refused="in Excel: CSV UTF-8"),
    "Hospital: a table with names and birth dates": Layout(
        FLAT, ("a column 'patient'",), "table", {"metadata.csv": NAMED}, ("site",)),
    "Hospital: a table of names without folders": Layout(
        FOLDERS, ("no row names a photo",), "table",
        {"metadata.csv": rows(FLAT, "file_name,patient", "{f},{p}")},
        refused="no row names a photo"),
    "Hugging Face: metadata.jsonl": Layout(
        FLAT, ("a column 'patient'",), "table",
        {"metadata.jsonl": rows(FLAT, "", '{{"file_name": "{f}", "patient": {p}, "text": "x"}}')},
        ("text",)),
    "Hugging Face: train and test, one table": Layout(
        PARTS, ("a column 'patient'", "sub-folders"), "table",
        {"metadata.csv": rows(PARTS, "file_name,patient", "{f},{p}")}),
    "Hugging Face: train and test, a table in each": Layout(
        PARTS, ("a table in a sub-folder is not read",), "table",
        {"train/metadata.csv": b"file_name\n", "test/metadata.csv": b"file_name\n"},
        refused="expected one table"),
    "Names at random": Layout(HEX, (), "unknown"),
    "Copies": Layout(
        FLAT | {f"IMG_{n:04} (1).jpg": FLAT[f"IMG_{n:04}.jpg"] for n in (1, 2, 3, 30)},
        ("a part of their names",), "none"),
    "Mixed formats": Layout(
        {f"{5 * n + k}{suffix}": (n, k)
         for n in range(5) for k, suffix in enumerate((".jpg", ".JPEG", ".png", ".tif", ".webp"))},
        (), "unknown"),
}  # fmt: skip


# ---------------------------------------------------------------- what becomes of them


class Outcome(NamedTuple):
    unknown: list[str]  # the error for `unknown`
    refused: list[str]  # the error for the right choice
    counts: dict[str, float]
    manifest: list[dict[str, str]]
    files: list[str]  # every file of the folder
    apart: int  # patients, or photos if nobody knows the patients, in two sets


@cache
def outcome(what: str) -> Outcome:
    layout = LAYOUTS[what]
    with TemporaryDirectory() as folder:
        source = put(Path(folder), layout)
        files = [p.relative_to(source).as_posix() for p in source.rglob("*") if p.is_file()]
        unknown = refusal(source, "unknown") if layout.evidence else []
        if layout.refused:
            refused = refusal(source, layout.choice, layout.columns)
            return Outcome(unknown, refused, {}, [], files, 0)
        counts = prepare(source, layout.choice, layout.columns)
        split = apart(source, lambda name: together(layout, name))
        return Outcome(unknown, [], counts, manifest(source), files, split)


def together(layout: Layout, name: str) -> Shown:
    """What may not be in two sets: the patient, or the photo if nobody knows the patient."""
    return layout.photos[name][: 2 if layout.choice in ("unknown", "none") else 1]


@pytest.mark.parametrize("what", LAYOUTS)
def test_unknown_is_accepted_or_names_the_right_choice(what):
    layout, lines = LAYOUTS[what], outcome(what).unknown
    assert bool(layout.evidence) == (layout.choice != "unknown")
    for reason in layout.evidence:
        assert any(reason in line for line in lines), lines
    choices = [line.split("  # ") for line in lines if line.startswith("  patients: ")]
    offered = [(yaml.safe_load(choice)["patients"], count) for choice, count in choices]
    for choice, count in offered:
        if choice not in ("table", "none") and " would have none" not in count:
            patient = patients.find(Path(), list(layout.photos), choice, None)
            number = len(set(patient.values()))
            assert count.startswith(f"{number} patients of {len(patient)} photos")
    if lines and not layout.refused:
        number = len({together(layout, name) for name in layout.photos})
        start = "" if layout.choice == "none" else f"{number} patients of "
        right = layout.choice, f"{start}{len(layout.photos)} photos"
        shown = [(choice, count[: len(right[1])]) for choice, count in offered]
        assert (right in shown) == layout.offered


@pytest.mark.parametrize("form", ["{}pox {}.jpg", "{}pox{}.jpg", "p{}_{}.jpg"])
def test_few_names_of_many_photos_may_be_classes_or_patients(form, tmp_path):
    """Only a person can tell; `none` is the way out."""
    names = [form.format("abcdef"[c], k) for c in range(6) for k in range(30)]
    with pytest.raises(InputError, match="6 patients of 180 photos, 30 to 30 each"):
        patients.find(tmp_path, names, "unknown", None)


@pytest.mark.parametrize("what", LAYOUTS)
def test_the_right_choice_splits_no_patient_or_names_what_to_change(what):
    layout, result = LAYOUTS[what], outcome(what)
    if layout.refused:
        assert layout.refused in result.refused[0]
        return
    assert result.apart == 0
    assert Counter(row["source"] for row in result.manifest) == Counter(result.files)
    assert {row["source"] for row in result.manifest if row["sha256"]} == set(layout.photos)
    shown = {content(Path(name).suffix.lower(), *who) for name, who in layout.photos.items()}
    assert result.counts["pictures"] == len(shown)
    assert result.counts["exact_duplicates"] == len(layout.photos) - len(shown)
    assert result.counts["groups"] == len({together(layout, name) for name in layout.photos})
    assert result.counts["invalid"] == 0
    assert result.counts["other_files"] == len(result.files) - len(layout.photos)


def test_names_and_birth_dates_stay_behind(tmp_path, caplog):
    layout = LAYOUTS["Hospital: a table with names and birth dates"]
    with caplog.at_level("INFO"):
        prepare(put(tmp_path, layout), "table", layout.columns)
    written = contents(tmp_path / "out")
    assert b"Doe12" in written.pop("manifest.csv")
    assert b"arm" in written["train/metadata.csv"]
    for name, data in written.items():
        assert "Doe" not in name and b"Doe" not in data and b"1980" not in data
    assert "2 columns left out: name, geburtsdatum" in caplog.text
    assert "Doe" not in caplog.text and "1980" not in caplog.text


@pytest.mark.slow
def test_variants_with_random_names_stay_with_their_photo(tmp_path):
    photos = {
        f"{random_hex(100 * p + v)}.jpg": (p, 1, v)
        for p in range(1, 33)
        for v in [0, *((p + j) % len(variants.KINDS) + 1 for j in range(8))]
    }
    source = put(tmp_path, Layout(photos, (), "unknown"))
    prepare(source, "unknown")
    groups: dict[str, set[int]] = {}
    for row in manifest(source):
        groups.setdefault(row["group"], set()).add(photos[row["source"]][0])
    assert all(len(who) == 1 for who in groups.values())
    assert apart(source, lambda name: photos[name][0]) == 0
