"""What each choice of `data.patients` gives, and what is refused."""

import re
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import yaml

from mpox.core.errors import InputError
from mpox.core.table import Table
from mpox.photos import patients

FOLDERS = [f"p{patient:03}/IMG_{picture:04}.JPG" for patient in range(24) for picture in range(4)]


def table_of(rows: dict[str, str], column: str = "patient") -> Table:
    return Table(
        Path("photos/metadata.csv"), [column], {name: {column: who} for name, who in rows.items()}
    )


def refusal(source: Path, names: list[str], choice: str, known: Table | None = None) -> list[str]:
    with pytest.raises(InputError) as error:
        patients.find(source, names, choice, known)
    return str(error.value).splitlines()


def test_the_path_names_the_patient(tmp_path):
    names = ["p1_a.jpg", "p2_in_folder/p3_b.jpg"]
    assert patients.find(tmp_path, names, r"(?:^|/)(p\d+)_[^/]*$", None) == {
        names[0]: "p1",
        names[1]: "p3",
    }
    assert patients.find(tmp_path, names, r"^(p\d+)_", None)[names[1]] == "p2"
    lines = refusal(tmp_path, [*names, "x/y.jpg", "P4_c\n.jpg"], r"(?:^|/)(p\d+)_")
    assert lines == [
        r"data.patients: '(?:^|/)(p\d+)_' matches no patient in these names:",
        "x/y.jpg",
        r"P4_c\n.jpg",
    ]
    assert refusal(tmp_path, ["a.jpg"], r"^(p\d+)?")[1:] == ["a.jpg"]


def test_the_first_folder_is_the_patient(tmp_path):
    patient = patients.find(tmp_path, [*FOLDERS, "p000/again/x.jpg"], "folder", None)
    assert patient == {name: name[:4] for name in [*FOLDERS, "p000/again/x.jpg"]}
    assert refusal(tmp_path, ["p1/a.jpg", "b.jpg"], "folder") == [
        "data.patients: these photos are in no patient's folder:",
        "b.jpg",
    ]


def test_the_table_names_the_patient(tmp_path):
    names = ["a.jpg", "b.jpg"]
    assert patients.find(tmp_path, names, "table", table_of({"a.jpg": "7", "b.jpg": "7"})) == {
        "a.jpg": "7",
        "b.jpg": "7",
    }
    assert "has no metadata.csv" in refusal(tmp_path, names, "table")[0]
    assert refusal(tmp_path, names, "table", table_of({"a.jpg": "7"}, "patient_id")) == [
        "data.patients: table, but photos/metadata.csv has no column patient; it has file_name, "
        "patient_id"
    ]
    assert refusal(tmp_path, names, "table", table_of({"a.jpg": "", "b.jpg": "unknown"})) == [
        "photos/metadata.csv: a.jpg: no patient",
        "photos/metadata.csv: b.jpg: no patient",
    ]


def test_a_table_that_disagrees_with_the_names_is_refused(tmp_path):
    names = ["p1_a.jpg", "p1_b.jpg", "p2_a.jpg", "p3_a.jpg"]
    agreed = table_of(dict(zip(names, ["x", "x", "y", ""], strict=True)))
    assert len(set(patients.find(tmp_path, names, "^(p.)_", agreed).values())) == 3
    lines = refusal(tmp_path, names, "^(p.)_", table_of(dict(zip(names, "xyyz", strict=True))))
    assert lines == [
        "data.patients: ^(p.)_ and the column patient of photos/metadata.csv disagree:",
        "p1_a.jpg and p1_b.jpg: one patient by data.patients ('p1'), two by the table ('x', 'y')",
        "p1_b.jpg and p2_a.jpg: one patient by the table ('y'), two by data.patients ('p1', 'p2')",
    ]


def test_rows_and_photos_must_fit(tmp_path):
    patients.check_rows(tmp_path, ["a.jpg"], {}, table_of({"a.jpg": ""}))
    with pytest.raises(InputError) as error:
        others = {tmp_path / "d.dcm": "DICOM is not supported"}
        rows = table_of(dict.fromkeys(["c.jpg", "a.jpg", "d.dcm"], ""))
        patients.check_rows(tmp_path, ["a.jpg", "b.jpg"], others, rows)
    assert str(error.value).splitlines() == [
        f"{tmp_path / 'b.jpg'}: no row in photos/metadata.csv",
        "photos/metadata.csv: c.jpg: no such photo",
        "photos/metadata.csv: d.dcm: DICOM is not supported",
    ]
    with pytest.raises(InputError, match=r"'ä\.jpg' and 'a\u0308\.jpg' differ only in spelling"):
        patients.check_rows(tmp_path, ["ä.jpg", "a\u0308.jpg"], {}, table_of({"ä.jpg": ""}))


@pytest.mark.parametrize(
    ("one", "other"),
    [("7", "07"), ("7", "7.0"), ("P1", "p1"), ("Jane Doe", "jane  doe"), ("ä", "a\u0308"),
     ("1", "1\u200b"), ("p1", "p1\u00a0")],
)  # fmt: skip
def test_one_patient_spelled_twice_is_refused(one, other, tmp_path):
    lines = refusal(tmp_path, ["a.jpg", "b.jpg"], "table", table_of({"a.jpg": one, "b.jpg": other}))
    assert lines == [
        f"data.patients: {one!r} and {other!r} would be two patients; spell them alike"
    ]
    folders = [f"{one}/a.jpg", f"{other}/b.jpg"]
    if not one.isascii() or other.isascii():  # umlauts of folders are composed beforehand
        refused = refusal if unicodedata.normalize("NFC", other) != one else patients.find
        refused(tmp_path, folders, "folder", None)


@pytest.mark.parametrize(("one", "other"), [("P1", "P01"), ("1", "10"), ("a", "ä"), ("1.5", "15")])
def test_others_stay_two_patients(one, other, tmp_path):
    rows = table_of({"a.jpg": one, "b.jpg": other})
    assert len(set(patients.find(tmp_path, ["a.jpg", "b.jpg"], "table", rows).values())) == 2


# Names, and the choices with the counts that `unknown` is refused with: none if it is accepted.
EVIDENCE: dict[str, tuple[list[str], list[str]]] = {
    "a folder a patient": (
        FOLDERS,
        ["patients: folder  # 24 patients of 96 photos, 4 to 4 each: p000, p001, p002, …"]),
    "a folder a hospital, one in it a patient": (
        [f"h{k % 2}/p{k // 4}/{k}.jpg" for k in range(40)],
        ["patients: folder  # 2 patients of 40 photos, 20 to 20 each: h0, h1",
         "patients: '^[^/]+/([^/]+)/'  # 10 patients of 40 photos, 4 to 4 each: p0, p1, p2, …"]),
    "some in folders": (
        ["p1/a.jpg", "p2/b.jpg", "c.jpg"],
        ["patients: folder  # 2 patients of 2 photos, 1 to 1 each: p1, p2; 1 other photos would"
         " have none"]),
    "a class, a patient and a number": (
        [f"{c}_{p:02}_{k:02}.jpg" for c in ("MKP", "CHP") for p in range(20) for k in (1, 2)],
        [r"patients: '(?:^|/)([^\W_]+_[^\W_]+)(?:_[^/]*)?\.[^/.]+$'  # 40 patients of 80 photos,"
         " 2 to 2 each: CHP_00, CHP_01, CHP_02, …"]),
    "a patient and a letter": (
        [f"{p}{k}.jpg" for p in range(10, 30) for k in "ab"],
        [r"patients: '(?:^|/)(\d+)[^\W\d_]+[^/]*$'  # 20 patients of 40 photos, 2 to 2 each: 10,"
         " 11, 12, …"]),
    "half of them with a patient": (
        [*(f"P{p}-{k}.jpg" for p in range(10) for k in (1, 2)), *(f"x{k}y.jpg" for k in range(9))],
        [r"patients: '(?:^|/)([^\W_]+)(?:\-[^/]*)?\.[^/.]+$'  # 19 patients of 29 photos, 1 to 2"
         " each: P0, P1, P2, …"]),
    "a camera's numbers": ([f"IMG_{k:04}.JPG" for k in range(200)], []),
    "numbers": ([f"{k}.jpg" for k in range(200)], []),
    "all in one folder": ([f"images/{k}.jpg" for k in range(200)], []),
    "one class": ([f"mpox{k}.png" for k in range(100)], []),
    "one folder, and photos beside it": (
        [*(f"{k}.jpg" for k in range(20)), *(f"patient7/x{k}.jpg" for k in range(5))],
        ["patients: folder  # 1 patients of 5 photos, 5 to 5 each: patient7; 20 other photos would"
         " have none"]),
    "a second photo has a number": (
        [*(f"{k:03}.jpg" for k in range(40)), *(f"{k:03} (2).jpg" for k in range(20))],
        [r"patients: '(?:^|/)([^\W_]+)(?:(?:[^\w/]|_)+[^/]*)?\.[^/.]+$'  # 40 patients of 60"
         " photos, 1 to 2 each: 000, 001, 002, …"]),
    "names of people": (
        [f"{who}{what}.jpg" for who in ("Doe Jane", "Roe Rick", "Doe Su") for what in
         (" left arm", " back", "")],
        [r"patients: '(?:^|/)([^\W_]+\ [^\W_]+)(?:\ [^/]*)?\.[^/.]+$'  # 3 patients of 9 photos,"
         " 3 to 3 each: Doe Jane, Doe Su, Roe Rick"]),
    "a place and a patient": (
        [f"{place}_p{p:02}.jpg" for p in range(12) for place in ("arm", "back", "leg")],
        [r"patients: '(?:^|/)[^\W_]+_([^\W_]+)(?:_[^/]*)?\.[^/.]+$'  # 12 patients of 36 photos,"
         " 3 to 3 each: p00, p01, p02, …"]),
    "at random": (
        [np.random.default_rng(k).bytes(8).hex() + ".jpg" for k in range(576)], []),
}  # fmt: skip


@pytest.mark.parametrize("what", EVIDENCE)
def test_unknown_is_refused_if_something_may_identify_patients(what, tmp_path):
    names, choices = EVIDENCE[what]
    if not choices:
        assert patients.find(tmp_path, names, "unknown", None) == {name: name for name in names}
        return
    lines = refusal(tmp_path, names, "unknown")
    assert lines[0] == "data.patients: unknown, but something may identify the patients:"
    offered = [
        re.sub(" +  #", "  #", line.strip()) for line in lines if line.startswith("  patients")
    ]
    assert offered[:-1] == [*choices] or set(choices) <= set(offered)
    assert offered[-1] == f"patients: none  # {len(names)} photos: I looked, nobody knows"
    assert patients.find(tmp_path, names, "none", None) == {name: name for name in names}


@pytest.mark.parametrize("what", EVIDENCE)
def test_the_offered_lines_are_yaml_and_give_what_they_count(what, tmp_path):

    names, choices = EVIDENCE[what]
    for line in refusal(tmp_path, names, "unknown") if choices else []:
        if not line.startswith("  patients: "):
            continue
        choice = yaml.safe_load(line)["patients"]
        counted = re.search(r"# (\d+) patients of (\d+) photos", line)
        if counted and int(counted[2]) == len(names):
            patient = patients.find(tmp_path, names, choice, None)
            assert len(set(patient.values())) == int(counted[1])


@pytest.mark.parametrize("column", ["patient", "patient_id", "Paciente", "lesion_id", "case no"])
def test_a_column_that_may_identify_patients_is_reported(column, tmp_path):
    names = [f"{k}.jpg" for k in range(6)]
    known = table_of({name: str(k // 2) for k, name in enumerate(names)}, column.lower())
    lines = refusal(tmp_path, names, "unknown", known)
    assert f"  photos/metadata.csv has a column {column.lower()!r}" in lines
    offered = next(line for line in lines if line.startswith("  patients: table"))
    assert "3 patients of 6 photos, 2 to 2 each" in offered
    assert ("to patient" in offered) == (column != "patient")
    patients.find(tmp_path, names, "none", known)


def test_other_columns_are_no_evidence(tmp_path):
    names = ["1.jpg", "2.jpg"]
    patients.find(tmp_path, names, "unknown", table_of(dict.fromkeys(names, "x"), "site"))


@pytest.mark.parametrize("name", ["HAM10000_metadata.csv", "list.XLSX", "metadata.parquet"])
def test_a_table_that_is_not_read_is_evidence(name, tmp_path):
    (tmp_path / name).touch()
    lines = refusal(tmp_path, ["1.jpg", "2.jpg"], "unknown")
    assert lines[1] == f"  {name} is beside the photos but not read; only metadata.csv is"
