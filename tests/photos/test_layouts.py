"""Data sets and hospitals' folders as they really lie: what `unknown` says, and the right choice.

The tables in docs/layouts.md are what these tests found; `make bad-input` writes them anew.
"""

import csv
import hashlib
import io
import os
import subprocess
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
import test_bad_pictures
import test_preparation
import variants
import yaml
from conftest import ROOT, contents, same_table
from PIL import Image

from mpox.core import images, listing
from mpox.core.errors import InputError
from mpox.embedded import phantom
from mpox.photos import inspection, keypoints, patients, preparation
from stages import repository

Shown = tuple[int, ...]  # a patient, a photo of the patient, and which variant of it if not itself
FORMATS = {".png": "PNG", ".tif": "TIFF", ".webp": "WEBP", ".bmp": "BMP"}
HEIC = {"IMG_0901.HEIC": (90, 1)}  # tests/phantom.heic


class Layout(NamedTuple):
    photos: dict[str, Shown]
    evidence: tuple[str, ...]  # what `unknown` is refused with, in part; none: it is accepted
    choice: str  # the right one
    others: Mapping[str, bytes] = MappingProxyType({})
    columns: tuple[str, ...] = ()  # data.columns
    refused: str = ""  # why even the right choice is, until something is done
    offered: bool = True  # the right choice is among the lines of the refusal


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
    """A table: {f} file's path, {s} its stem, {p} patient, {k} photo."""
    lines = [row.format(f=f, s=Path(f).stem, p=who[0], k=who[1]) for f, who in photos.items()]
    return "\n".join([head, *lines, ""]).encode()


# ---------------------------------------------------------------- preparing them

INSPECTED: dict[bytes, tuple[inspection.Photo, bytes]] = {}
COMPARED: dict[tuple[int, int], bool] = {}


@pytest.fixture(autouse=True)
def _each_photo_once(monkeypatch):
    """The same photos lie in many layouts: they are read, and compared, once."""
    same_skin = keypoints.same_skin

    def here(paths, squares, resolution, workers):
        found = []
        for path, square in zip(paths, squares, strict=True):
            data = path.read_bytes()
            if data not in INSPECTED:
                photo = inspection.inspect(resolution, path, square)
                INSPECTED[data] = photo, b"" if photo.reason else square.read_bytes()
            photo, written = INSPECTED[data]
            square.write_bytes(written)
            found.append(photo)
        return found

    def compared(one, other):
        pair = hash(one.grey.tobytes()), hash(other.grey.tobytes())
        if pair not in COMPARED:
            COMPARED[pair] = same_skin(one, other)
        return COMPARED[pair]

    monkeypatch.setattr(inspection, "inspect_all", here)
    monkeypatch.setattr(keypoints, "same_skin", compared)


def prepare(source: Path, choice: str, **changes) -> dict[str, float]:
    data = test_preparation.settings(patients=choice, **changes)
    return preparation.prepare(source, source.parent / "out", data, 64, seed=0, workers=1)


def manifest(source: Path) -> list[dict[str, str]]:
    with (source.parent / "out/manifest.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def refusal(source: Path, choice: str, **changes) -> list[str]:
    with pytest.raises(InputError) as error:
        prepare(source, choice, **changes)
    assert not (source.parent / "out").exists()
    return str(error.value).replace(f"{source}", "…").splitlines()


def apart(source: Path, key: Callable[[str], object]) -> int:
    """How many `key`s (a patient, a photo) have pictures in two sets."""
    splits: dict[object, set[str]] = {}
    for row in manifest(source):
        if row["split"]:
            splits.setdefault(key(row["source"]), set()).add(row["split"])
    return sum(len(found) > 1 for found in splits.values())


# ---------------------------------------------------------------- the layouts

FOLDERS = grid("p{p:03}/IMG_{k:04}.JPG")
FLAT = grid("IMG_{n:04}.jpg")
HEX = grid("{h}.jpg")
MSLD = grid("M{p:02}_{k:02}.jpg")
FIELD, MARKS = r"[^\W_]+", r"(?:[^\w/]|_)+"


def begins(fields: int, mark: str = "_") -> str:
    """The pattern of a name's first fields, as it is offered."""
    return rf"(?:^|/)({mark.join([FIELD] * fields)})(?:{mark}[^/]*)?\.[^/.]+$"


def deleted(*folders: str, form: str = "IMG_{n:04}.jpg", count: int = 2) -> dict[str, bytes]:
    """Three photos of each of so many other patients in each of these folders."""
    photos = {name: content(".jpg", *who) for name, who in grid(form, count, start=60).items()}
    return {f"{folder}/{name}": data for folder in folders for name, data in photos.items()}


def augmented(form: str, count: int, each: int) -> dict[str, Shown]:
    """Each photo, {v} 0, and its variants 1 to 13."""
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
    "MSLD: one class": Layout(MSLD, ("a part of their names",), begins(1)),
    "MSLD: augmented, fourteen of each photo": Layout(
        augmented("Monkeypox_augmented/M{p:02}_{k:02}_{v:02}.jpg", 6, 2),
        ("a part of their names",), begins(1)),
    "The same, renamed at random": Layout(augmented("{h}.jpg", 8, 1), (), "unknown"),
    "MSLD v2.0: five folds of the same photos": Layout(
        five_folds(), ("sub-folders", "a part of their names"), begins(2)),
    "MSLD v2.0: augmented": Layout(
        {name.replace("_0.", "_ORIGINAL."): who
         for name, who in augmented("MKP_{p:02}_{k:02}_{v}.jpg", 6, 2).items()},
        ("a part of their names",), begins(2)),
    "MSID: a folder a class": Layout(
        grid("Monkeypox/monkeypox{n}.png", 8) | grid("Measles/measles{n}.png", 8, start=20),
        ("sub-folders",), "none"),
    "MSID: one class": Layout(grid("monkeypox{n}.png"), (), "unknown"),
    "DermNet: train and test, a folder a class": Layout(
        grid("train/Acne/07Acne{n:04}01.jpg", 6) | grid("test/Warts/Warts{n:04}.jpg", 6, start=20),
        ("sub-folders",), "none"),
    "HAM10000: as it is downloaded": Layout(
        HAM, ("HAM10000_metadata.csv lies beside", "sub-folders"), "table",
        {"HAM10000_metadata.csv": rows(HAM, "lesion_id,image_id,dx", "HAM_{p},{s},nv")},
        refused="holds no metadata.csv"),
    "HAM10000: its table as metadata.csv, the lesion as it was": Layout(
        HAM, ("a column 'lesion_id'", "sub-folders"), "table",
        {"metadata.csv": rows(HAM, "file_name,lesion_id,dx", "{f},HAM_{p},nv")},
        refused="has no column patient"),
    "HAM10000: the lesion as patient": Layout(
        HAM, ("a column 'patient'", "sub-folders"), "table",
        {"metadata.csv": rows(HAM, "file_name,patient,label", "{f},HAM_{p},nv")}, ("label",)),
    "Fitzpatrick17k: MD5 names and a table": Layout(
        grid("images/{h}{h}.jpg"), ("fitzpatrick17k.csv lies beside",), "none",
        {"fitzpatrick17k.csv": rows(HEX, "md5hash,fitzpatrick_scale,label", "{s},3,mpox")}),
    "Fitzpatrick17k: its table as metadata.csv": Layout(
        HEX, (), "unknown",
        {"metadata.csv": rows(HEX, "file_name,fitzpatrick_scale,label", "{f},3,mpox")},
        ("fitzpatrick_scale", "label")),
    "ISIC 2020: as it is downloaded": Layout(
        ISIC, ("train.csv lies beside",), "table",
        {"train.csv": rows(ISIC, "image_name,patient_id,sex", "{s},IP_{p},male")},
        refused="holds no metadata.csv"),
    "ISIC 2020: the folder train alone, its table outside": Layout(
        grid("ISIC_{n:07}.jpg"), (), "unknown"),
    "PAD-UFES-20: its own metadata.csv": Layout(
        PAD, ("file_name among them",), "table",
        {"metadata.csv": rows(PAD, "patient_id,lesion_id,img_id", "PAT_{p},{p},{s}.png")},
        refused="file_name among them; got patient_id,lesion_id,img_id"),
    "PAD-UFES-20: by its names": Layout(PAD, ("a part of their names",), begins(2)),
    "DDI: numbers and a table": Layout(
        grid("{n:06}.png"), ("ddi_metadata.csv lies beside",), "none",
        {"ddi_metadata.csv": rows(grid("{n:06}.png"), "DDI_ID,DDI_file,skin_tone", "{k},{f},12")}),
    "SCIN: cases of up to three photos": Layout(
        grid("images/-{n:019}.png"), ("scin_cases.csv lies beside",), "table",
        {"scin_cases.csv": b"case_id,image_1_path,image_2_path,image_3_path\n"},
        refused="holds no metadata.csv"),
    "Roboflow: three versions of each photo, a hash in each name": Layout(
        {f"train/images/M{p:02}_{k:02}_jpg.rf.{random_hex(9 * p + 3 * k + v)}.jpg": (p, k, v)
         for p in range(1, 13) for k in (1, 2) for v in (1, 2, 3)},
        ("a part of their names",), begins(1, MARKS),
        {"data.yaml": b"", "train/labels/a.txt": b""}),
    "PACS: JPEG beside DICOM": Layout(
        PACS, ("sub-folders",), "folder", {n.replace(".jpg", ".dcm"): b"" for n in PACS}),
    "PACS: a CD": Layout(
        grid("DICOM/PA{p:06}/ST000001/SE{k:06}/IM000001.jpg"),
        ("sub-folders",), "^[^/]+/([^/]+)/",
        {"DICOMDIR": b"", "autorun.inf": b"", "DICOM/PA000001/ST000001/SE000001/IM000001": b""}),
    "Hospital: a folder a patient": Layout(FOLDERS, ("sub-folders",), "folder"),
    "Hospital: a folder a visit, in it one a patient": Layout(
        grid("{d}/p{p:03}/IMG_{k:04}.jpg"), ("sub-folders",), "^[^/]+/([^/]+)/"),
    "Hospital: a folder a patient, in it one a visit": Layout(
        grid("p{p:03}/{d}/IMG_{k:04}.jpg"), ("sub-folders",), "folder"),
    "Hospital: a folder a patient, and a list in Excel": Layout(
        FOLDERS, ("Patientenliste.xlsx lies beside", "p001/Verlauf.xls lies", "sub-folders"),
        "folder",
        {"Patientenliste.xlsx": b"", "~$Patientenliste.xlsx": b"", "p001/Verlauf.xls": b""}),
    "Hospital: one photo filed under two patients": Layout(
        grid("p{p:03}/IMG_{k:04}.JPG", 11) | {"p012/IMG_0001.JPG": (11, 4),
                                              "p012/IMG_0002.JPG": (11, 1)},
        ("sub-folders",), "folder", offered=False),
    "Hospital: a pseudonym and a number": Layout(
        {f"{random_hex(p, 8)}_{k}.jpg": (p, k) for p, k in MSLD.values()},
        ("a part of their names",), begins(1)),
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
    "Phone: names of date and time": Layout(
        grid("IMG_{d}_1435{n:02}.jpg"), ("a part of their names",), "none"),
    "Camera: raw beside JPEG": Layout(
        grid("DCIM/100CANON/IMG_{n:04}.JPG"), (), "unknown",
        {n.replace(".JPG", ".CR2"): b"" for n in grid("DCIM/100CANON/IMG_{n:04}.JPG")}),
    "Camera: two folders": Layout(
        grid("DCIM/100CANON/IMG_{n:04}.JPG", 6) | grid("DCIM/101CANON/IMG_{n:04}.JPG", 6, start=20),
        ("sub-folders",), "none"),
    "WhatsApp": Layout(grid("IMG-{d}-WA{n:04}.jpg"), ("a part of their names",), "none"),
    "Google Takeout": Layout(
        {f"Photos from 2022/{n}": w for n, w in FLAT.items()}, (), "unknown",
        {f"Photos from 2022/{n}.supplemental-metadata.json": b"{}" for n in FLAT}),
    "NAS: previews and deleted photos": Layout(
        FOLDERS, ("sub-folders",), "folder",
        deleted("#recycle/p060", "@eaDir", "p001/@eaDir/IMG_0001.JPG") | {"Thumbs.db": b""}),
    "USB stick of Windows": Layout(
        FOLDERS, ("sub-folders",), "folder",
        deleted("$RECYCLE.BIN/S-1-5-21", "System Volume Information")
        | {"desktop.ini": b"", "p001/Thumbs.db": b""}),
    "Disk of Linux": Layout(
        FLAT, (), "unknown", deleted(".Trash-1000/files", "lost+found/#12")),
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
    "Jupyter: copies of opened photos": Layout(
        HEX, (), "unknown", deleted(".ipynb_checkpoints", form="{h}-checkpoint.jpg")),
    "Excel: semicolons and a byte order mark": Layout(
        FLAT, ("a column 'patient'",), "table",
        {"metadata.csv": b"\xef\xbb\xbf" + WITH_TABLE.replace(b",", b";").replace(b"\n", b"\r\n")},
        ("text",)),
    "Excel: tabs": Layout(
        FLAT, ("a column 'patient'",), "table",
        {"metadata.csv": WITH_TABLE.replace(b",", b"\t")}, ("text",)),
    "Excel: not UTF-8": Layout(
        FLAT, ("is not UTF-8",), "table",
        {"metadata.csv": WITH_TABLE.replace(b"lesion", b"l\xe4sion")},
        refused="in Excel: CSV UTF-8"),
    "Hospital: a table with names and birth dates": Layout(
        FLAT, ("a column 'patient'",), "table", {"metadata.csv": NAMED}, ("site",)),
    "Hospital: the same, where no column is called patient": Layout(
        FLAT, ("a column 'name'", "a column 'geburtsdatum'"), "table",
        {"metadata.csv": NAMED.replace(b"patient", b"nr")}, refused="has no column patient"),
    "Hospital: a table of names without folders": Layout(
        FOLDERS, ("no row is of a photo",), "table",
        {"metadata.csv": rows(FLAT, "file_name,patient", "{f},{p}")},
        refused="no row is of a photo"),
    "Hugging Face: metadata.jsonl": Layout(
        FLAT, ("a column 'patient'",), "table",
        {"metadata.jsonl": rows(FLAT, "", '{{"file_name": "{f}", "patient": {p}, "text": "x"}}')},
        ("text",)),
    "Hugging Face: boxes in metadata.jsonl": Layout(
        FLAT, (), "unknown",
        {"metadata.jsonl": rows(FLAT, "", '{{"file_name": "{f}", "objects": {{"bbox": [1]}}}}')}),
    "Hugging Face: train and test, one table": Layout(
        PARTS, ("a column 'patient'", "sub-folders"), "table",
        {"metadata.csv": rows(PARTS, "file_name,patient", "{f},{p}")}),
    "Hugging Face: train and test, a table in each": Layout(
        PARTS, ("lies in a sub-folder",), "table",
        {"train/metadata.csv": b"file_name\n", "test/metadata.csv": b"file_name\n"},
        refused="expected one table"),
    "Names at random": Layout(HEX, (), "unknown"),
    "All in one sub-folder": Layout(grid("images/lesion {n}.jpg"), (), "unknown"),
    "Numbers": Layout(grid("{n:04}.jpg"), (), "unknown"),
    "Copies": Layout(
        FLAT | {f"IMG_{n:04} (1).jpg": FLAT[f"IMG_{n:04}.jpg"] for n in (1, 2, 3, 30)},
        ("a part of their names",), "none"),
    "Mixed formats": Layout(
        {f"{5 * n + k}{suffix}": (n, k)
         for n in range(5) for k, suffix in enumerate((".jpg", ".JPEG", ".png", ".tif", ".webp"))},
        (), "unknown"),
}  # fmt: skip


# ---------------------------------------------------------------- what becomes of them


class Found(NamedTuple):
    said: list[str]  # what `unknown` is refused with
    refused: list[str]  # and the right choice
    counts: dict[str, float]
    manifest: list[dict[str, str]]
    files: list[str]  # every one of the folder
    apart: int  # patients, or photos where nobody knows them, in two sets


@cache
def found(what: str) -> Found:
    layout = LAYOUTS[what]
    with TemporaryDirectory() as folder:
        source = put(Path(folder), layout)
        files = [p.relative_to(source).as_posix() for p in source.rglob("*") if p.is_file()]
        said = refusal(source, "unknown") if layout.evidence else []
        if layout.refused:
            refused = refusal(source, layout.choice, columns=layout.columns)
            return Found(said, refused, {}, [], files, 0)
        counts = prepare(source, layout.choice, columns=layout.columns)
        split = apart(source, lambda name: together(layout, name))
        return Found(said, [], counts, manifest(source), files, split)


def together(layout: Layout, name: str) -> Shown:
    """Whose it is, or where nobody knows what it shows: what may not be in two sets."""
    return layout.photos[name][: 2 if layout.choice in ("unknown", "none") else 1]


def offered(said: list[str]) -> list[tuple[str, str]]:
    """The choices, and how many patients of how many photos each would give."""
    lines = [line.split("  # ") for line in said if line.startswith("  patients: ")]
    return [(yaml.safe_load(choice)["patients"], count) for choice, count in lines]


@pytest.mark.parametrize("what", LAYOUTS)
def test_unknown_is_accepted_or_names_the_right_choice(what):
    layout, said = LAYOUTS[what], found(what).said
    assert bool(layout.evidence) == (layout.choice != "unknown")
    for reason in layout.evidence:
        assert any(reason in line for line in said), said
    for choice, count in offered(said):
        test_preparation.settings(patients=choice)
        if choice not in ("table", "none") and " would have none" not in count:
            whose = patients.find(Path(), list(layout.photos), choice, None)
            assert count.startswith(f"{len(set(whose.values()))} patients of {len(whose)} photos")
    if said and not layout.refused:
        number = len({together(layout, name) for name in layout.photos})
        of = "" if layout.choice == "none" else f"{number} patients of "
        right = layout.choice, f"{of}{len(layout.photos)} photos"
        shown = [(choice, count[: len(right[1])]) for choice, count in offered(said)]
        assert (right in shown) == layout.offered


@pytest.mark.parametrize("form", ["{}pox {}.jpg", "{}pox{}.jpg", "p{}_{}.jpg"])
def test_few_names_of_many_photos_may_be_classes_or_patients(form, tmp_path):
    """Only a person can tell: `none` is the way out."""
    names = [form.format("abcdef"[c], k) for c in range(6) for k in range(30)]
    with pytest.raises(InputError, match="6 patients of 180 photos, 30 to 30 each"):
        patients.find(tmp_path, names, "unknown", None)


@pytest.mark.parametrize("what", [what for what in LAYOUTS if not LAYOUTS[what].refused])
def test_the_right_choice_keeps_together_what_belongs_together(what):
    layout, it = LAYOUTS[what], found(what)
    assert it.apart == 0
    assert Counter(row["source"] for row in it.manifest) == Counter(it.files)
    assert {row["source"] for row in it.manifest if row["sha256"]} == set(layout.photos)
    shown = {content(Path(name).suffix.lower(), *who) for name, who in layout.photos.items()}
    assert it.counts["pictures"] == len(shown)
    assert it.counts["exact_duplicates"] == len(layout.photos) - len(shown)
    assert it.counts["groups"] == len({together(layout, name) for name in layout.photos})
    assert it.counts["invalid"] == 0
    assert it.counts["other_files"] == len(it.files) - len(layout.photos)


@pytest.mark.parametrize("what", [what for what in LAYOUTS if LAYOUTS[what].refused])
def test_what_is_to_be_done_first_is_said(what):
    assert LAYOUTS[what].refused in found(what).refused[0]


def test_names_and_birth_dates_stay_behind(tmp_path, caplog):
    layout = LAYOUTS["Hospital: a table with names and birth dates"]
    with caplog.at_level("INFO"):
        prepare(put(tmp_path, layout), "table", columns=layout.columns)
    written = contents(tmp_path / "out")
    assert b"Doe12" in written.pop("manifest.csv")
    assert b"arm" in written["train/metadata.csv"]
    for name, data in written.items():
        assert "Doe" not in name and b"Doe" not in data and b"1980" not in data
    assert "2 columns left out: name, geburtsdatum" in caplog.text
    assert "Doe" not in caplog.text and "1980" not in caplog.text


# ---------------------------------------------------------------- before and now


def folder_a_patient(folder: Path) -> str:
    source = put(folder, Layout(grid("p{p:03}/IMG_{k:04}.JPG", 24, 4), (), ""))
    reason = refusal(source, "unknown")[1].strip()
    prepare(source, "folder")
    split = apart(source, lambda name: name[:4])
    return f"refused: {reason}; with `folder` {split} of 24 patients in two sets"


def table_beside(folder: Path) -> str:
    photos = grid("IMG_{n:04}.jpg", 24, 4)
    text = rows(photos, "file_name,patient_id,text", "{f},{p},a lesion")
    source = put(folder, Layout(photos, (), "", {"metadata.csv": text}))
    reason = refusal(source, "unknown")[1].strip()
    (source / "metadata.csv").write_bytes(text.replace(b"patient_id", b"patient"))
    counts = prepare(source, "table", columns=("text",))
    assert [row["reason"] for row in manifest(source)].count("the table") == counts["other_files"]
    split = apart(source, lambda name: photos[name][0])
    return f"refused: {reason}; renamed to patient: {split} of 24 patients in two sets"


def recycle_bins(folder: Path) -> str:
    photos = grid("IMG_{n:04}.jpg", 16, 4)
    bins = deleted(".Trash-1000/files", "$RECYCLE.BIN/S-1-5", count=1)
    source = put(folder, Layout(photos, (), "", bins))
    counts = prepare(source, "unknown")
    left = listing.summary(listing.find(source)[1])
    return f"{counts['pictures']} photos; left out: {'; '.join(left)}"


def heic(folder: Path) -> str:
    (folder / "IMG_1.HEIC").write_bytes(content(".heic"))
    (folder / "IMG_2.HIF").write_bytes(test_bad_pictures.HIF)
    sizes = [images.read(folder / name).shape for name in ("IMG_1.HEIC", "IMG_2.HIF")]
    assert listing.find(folder)[1] == {}
    return f"read: {' and '.join(f'{width} × {height}' for height, width, _ in sizes)} pixels"


def other_formats(folder: Path) -> str:
    for suffix in (".mpo", ".dcm", ".cr2", ".jp2", ".jxl"):
        (folder / f"a{suffix}").touch()
    return "; ".join(listing.summary(listing.find(folder)[1]))


def small_photos(folder: Path) -> str:
    photo = test_bad_pictures.skin(0, (224, 224))
    photo.save(folder / "a.jpg")
    return inspection.inspect(512, folder / "a.jpg", folder / "a.png").reason


def git_says(name: str, key: str = "data.source") -> str:
    """What the guard says of a folder, as far as the words are ours."""
    with pytest.raises(InputError) as error:
        repository.check(key, Path(name))
    assert "safe.directory" in str(error.value) or "fatal" not in str(error.value)
    return str(error.value).partition(": fatal")[0]


def repository_of(ignored: str) -> None:
    Path(".gitignore").write_text(ignored)
    for name in ("lesions/a.jpg", "lesions/metadata.csv", "mine/unet.bin", "models/mine/unet.bin"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    subprocess.run(["git", "init", "-q"], check=True)


def another_user(folder: Path) -> str:
    repository_of("")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
        return f"{git_says('lesions')}, with git's own remedy"


def nested(folder: Path) -> str:
    repository_of("")
    subprocess.run(["git", "init", "-q", "lesions"], check=True)
    return git_says("lesions")


def link(folder: Path) -> str:
    repository_of("/lesions\n")
    Path("link").symlink_to("lesions")
    return git_says("link")


def names_alone(folder: Path) -> str:
    repository_of("*.jpg\n")
    return git_says("lesions")


def base_of_ones_own(folder: Path) -> str:
    repository_of((ROOT / ".gitignore").read_text())
    repository.check("model.path", Path("models/mine"))
    return f"ignored under models/; elsewhere {git_says('mine', 'model.path')}"


def table_error(*patients: str, choice: str = "table") -> Callable[[Path], str]:
    """Of the photos 1_1.jpg to 3_2.jpg and a table with these `file,patient`."""

    def said(folder: Path) -> str:
        text = "\n".join(["file_name,patient", *patients]).encode()
        photos = grid("{p}_{k}.jpg", 3, 2)
        source = put(folder, Layout(photos, (), "", {"metadata.csv": text}))
        return "; ".join(refusal(source, choice)).replace("disagree:;", "disagree:")

    return said


RIGHT = [f"{p}_{k}.jpg,{p}" for p in (1, 2, 3) for k in (1, 2)]
AUGMENTED = "0 of 64 photos in two sets; 0 joined by mistake"  # the slow test below
NOT_READ = "the table was not read"
ROWS: list[tuple[str, str, Callable[[Path], str]]] = [
    ("24 patients with four photos, a folder each, and no pattern",
     "22 of 24 patients in more than one split, 18 in train and test", folder_a_patient),
    ("metadata.csv (file_name, patient_id, text) beside the photos",
     "counted as another file; 22 of 24 patients split apart", table_beside),
    ("A set with ready-made augmentations, names at random: 64 photos, eight variants of each",
     "63 of 64 photos had variants in train and test", lambda folder: AUGMENTED),
    (".Trash-1000/files, $RECYCLE.BIN: 64 photos, and six deleted ones",
     "taken as photos: 70 instead of 64", recycle_bins),
    ("HEIC of a phone, HIF of a camera", "refused, or left out in silence (.hif)", heic),
    ("A JPEG of 108 megapixels", "refused at 89 million pixels without a remedy",
     lambda folder: "read, at half its sides (tests/test_images.py)"),
    (".mpo, .dcm, raw, .jp2, .jxl", "counted as other files", other_formats),
    ("Photos of 224 pixels at resolution 512", "refused without a remedy", small_photos),
    ("A checkout of another user's",
     "the guard passed in silence; dvc exp run put 256 photos into refs/exps", another_user),
    ("A data set that is a git repository of its own", "256 photos in refs/exps", nested),
    ("data.source is a link that is not ignored", "DVC committed the photos behind it", link),
    ("Photos are ignored, the metadata.csv with names is not", "the names in refs/exps",
     names_alone),
    ("A base model of one's own under models/",
     "13 MB (of SD 1.5: 2.7 GB) in every experiment", base_of_ones_own),
    ("A photo without a row", NOT_READ, table_error(*RIGHT[:5])),
    ("A row without a photo", NOT_READ, table_error(*RIGHT, "9_1.jpg,9")),
    ("A file twice in the table", NOT_READ, table_error(*RIGHT, "1_1.jpg,2")),
    ("A photo whose patient is empty", NOT_READ, table_error(*RIGHT[:5], "3_2.jpg,")),
    ("A table that disagrees with the pattern", NOT_READ,
     table_error(*RIGHT[:5], "3_2.jpg,2", choice=r"^(\d)_")),
]  # fmt: skip

PREAMBLE = """# Layouts

How data sets and hospitals' folders are laid out, and what `prepare` makes of them. Each is made
small by `tests/photos/test_layouts.py`, which holds these tables (`make bad-input` writes them).
With the right choice of `data.patients` no patient is in two sets, nor are a photo and its
variants; no two are taken for one; and every file of the folder stands in the manifest once.

`unknown` is refused where something may say who the patients are, with the choices and the number
of patients that each would give; `none` is always among them. Look at the numbers: a class, a date
or a hospital is no patient.

`unknown` is accepted where nothing says who they are. Then copies and variants of one photo are
kept together, but two photos of one patient can be in training and in test. It looks at
`data.source` alone: a table that lies outside of that folder is not seen, so name the folder that
holds the table.

{}
## Before and now
"""


SHORT = {
    " lies beside the photos and is not read; metadata.csv would be": " is not read",
    "photos share a part of their names": "a part of the names",
    "photos lie in sub-folders": "sub-folders",
}


def cells(what: str) -> tuple[str, ...]:
    layout, it = LAYOUTS[what], found(what)
    reasons = "; ".join(line.strip() for line in it.said[1 : -2 - len(offered(it.said))])
    for long, short in SHORT.items():
        reasons = reasons.replace(long, short)
    unknown = f"refused: {reasons}".removesuffix(": ") if it.said else "accepted"
    choices = [(f"`{c}`", count.split(" patients")[0]) for c, count in offered(it.said)[:-1]]
    if layout.refused:
        then = f"refused: {it.refused[0]}"
    else:
        then = f"{it.counts['pictures']} pictures"
        if layout.choice not in ("unknown", "none"):
            then += f" of {it.counts['groups']} patients"
        for kind, said in {"exact_duplicates": "copies", "other_files": "left out"}.items():
            then += f", {said}: {it.counts[kind]}" if it.counts[kind] else ""
    example = f"`{next(iter(layout.photos))}`"
    return what, example, unknown, ", ".join(map(": ".join, choices)), f"`{layout.choice}`", then


def test_the_tables_are_what_was_found(tmp_path, monkeypatch):
    for name in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):
        monkeypatch.setenv(name, os.devnull)
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    now = []
    for number, (what, before, say) in enumerate(ROWS):
        folder = tmp_path / str(number)
        folder.mkdir()
        monkeypatch.chdir(folder)
        now.append((what, before, say(folder)))
    head = ("layout", "for example", "`unknown`", "offered, with the patients", "right", "then")
    first = [head, ("---",) * len(head), *map(cells, LAYOUTS)]
    escaped = [[cell.replace("|", r"\|") for cell in row] for row in first]
    text = "".join(f"| {' | '.join(row)} |\n" for row in escaped)
    same_table("layouts.md", PREAMBLE.format(text), ("what", "before", "now"), now)


@pytest.mark.slow
def test_variants_with_names_at_random_stay_with_their_photo(tmp_path):
    photos = {
        f"{random_hex(100 * p + v)}.jpg": (p, 1, v)
        for p in range(1, 65)
        for v in [0, *((p + j) % len(variants.KINDS) + 1 for j in range(8))]
    }
    source = put(tmp_path, Layout(photos, (), "unknown"))
    prepare(source, "unknown")
    groups: dict[str, set[int]] = {}
    for row in manifest(source):
        groups.setdefault(row["group"], set()).add(photos[row["source"]][0])
    false = [len(who) for who in groups.values() if len(who) > 1]
    split = apart(source, lambda name: photos[name][0])
    assert max(false, default=1) <= 3 and sum(false) <= 0.01 * 64
    assert f"{split} of 64 photos in two sets; {sum(false)} joined by mistake" == AUGMENTED
