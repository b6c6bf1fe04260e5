"""The kit: complete, blind, and its answers read back or refused."""

import base64
import csv
import io
import json
import re
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from runs import ROOT, picture
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict
from sklearn.preprocessing import StandardScaler

from mpox import params
from mpox.core import images, table
from mpox.core.errors import InputError
from mpox.params import Params, Reading
from mpox.reading import answers, kit, study

SIDE, EACH = 32, 24


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> tuple[Path, Path]:
    """Photos of twice the side as PNG, two a patient, and synthetic ones that say what they are."""
    root = tmp_path_factory.mktemp("pictures")
    rows = {}
    for k in range(EACH):
        images.write(_in(root / "test") / f"{k:02x}ab.png", picture(0, k, side=2 * SIDE))
        rows[f"{k:02x}ab.png"] = [k // 2]
        name = root / "synthetic" / f"{k:05d}.png"
        images.write(_in(name.parent) / name.name, picture(1, k, side=SIDE), {"seed": str(k)})
    table.write(root / "test", ["group"], rows)
    return root / "test", root / "synthetic"


def _in(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder


def settings(**changes) -> Reading:
    own = params.read(ROOT / "params.yaml", Params).reading
    return own.model_copy(update={"pictures": 12, "repeats": 4} | changes)


def build(folders, seed: int = 0, **changes) -> kit.Kit:
    return kit.build(*folders, settings(**changes), SIDE, seed)


def rows(made: kit.Kit) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(made.key)))


def test_it_holds_as_many_of_either_one_a_patient_first_and_some_twice(folders):
    made = build(folders)
    found = rows(made)
    once = [row for row in found if not row["repeat_of"]]
    assert sorted(row["class"] for row in once) == ["real"] * 12 + ["synthetic"] * 12
    patients = table.read(folders[0]).rows
    real = [patients[row["file"].split("/")[1]]["group"] for row in once if row["class"] == "real"]
    assert len(set(real)) == 12  # of 12 patients with two photos each
    again = [row for row in found if row["repeat_of"]]
    assert sorted(row["class"] for row in again) == ["real"] * 2 + ["synthetic"] * 2
    of = {row["id"]: row for row in found}
    assert all(of[row["repeat_of"]]["file"] == row["file"] for row in again)
    assert {each["id"] for each in made.content["pictures"]} == set(of)


def test_fewer_pictures_are_said_and_too_few_refused(folders):
    assert build(folders, pictures=50).counts["real"] == EACH
    with pytest.raises(InputError, match="24 real pictures, 23 of them for training"):
        build(folders, training=23)


def decoded(made: kit.Kit) -> list[bytes]:
    return [base64.b64decode(each["src"].split(",")[1]) for each in made.content["pictures"]]


def test_files_differ_in_their_pictures_alone(folders):
    each = decoded(build(folders))
    assert len({len(data) for data in each}) == 1
    opened = [Image.open(io.BytesIO(data)) for data in each]
    assert len({str(image.quantization) for image in opened}) == 1
    assert {image.size for image in opened} == {(SIDE, SIDE)}
    assert all("exif" not in image.info and "xmp" not in image.info for image in opened)
    # The same segments at the same places up to the compressed picture.
    heads = {data[: data.index(b"\xff\xda")] for data in each}
    assert len(heads) == 1


def test_many_large_pictures_are_compressed_more_all_alike(folders, monkeypatch):
    most = 4 / 3 * 28 * max(map(len, decoded(build(folders))))
    monkeypatch.setattr(kit, "MOST_BYTES", 0.85 * most)
    each = decoded(build(folders))
    assert 4 / 3 * sum(map(len, each)) <= 0.85 * most
    assert len({str(Image.open(io.BytesIO(data)).quantization) for data in each}) == 1


def test_nothing_but_the_picture_tells_the_classes(folders):
    """Identifiers, places and lengths: a classifier of them is at chance, over five kits."""
    said, truth = [], []
    for seed in range(5):
        made = build(folders, seed, pictures=EACH, repeats=0)
        of = {row["id"]: row["class"] == "synthetic" for row in rows(made)}
        entries, data = made.content["pictures"], decoded(made)
        features = np.array(
            [
                [k, *bytes.fromhex(entry["id"][1:]), len(data[k]), *data[k][-8:]]
                for k, entry in enumerate(entries)
            ],
            float,
        )
        truth.append([of[entry["id"]] for entry in entries])
        scaled = StandardScaler().fit_transform(features)
        said.append(
            cross_val_predict(LogisticRegression(), scaled, truth[-1], method="decision_function")
        )
    areas = [roc_auc_score(one, other) for one, other in zip(truth, said, strict=True)]
    assert 0.35 < np.mean(areas) < 0.65


def test_the_page_names_no_class_and_the_seed_gives_no_identifier(folders):
    made = build(folders)
    page = kit.page(made)
    content = json.loads(re.search(r'id="content">(.*?)</script>', page, re.DOTALL)[1])
    assert all(set(entry) == {"id", "src"} for entry in content["pictures"])
    ids = [entry["id"] for entry in content["pictures"]]
    assert ids == sorted(ids)
    for row in rows(made):
        assert row["file"] not in page and row["file"].split("/")[1] not in page
    assert {row["id"] for row in rows(build(folders))}.isdisjoint(ids)
    assert "Content-Security-Policy" in page and "default-src 'none'" in page
    assert "destroy this file after the study" in page


def test_lessons_are_of_no_other_pictures(folders):
    made = build(folders, training=3)
    assert [each["class"] for each in made.content["lessons"]].count("real") == 3
    shown = {each["src"] for each in made.content["pictures"]}
    assert not shown & {each["src"] for each in made.content["lessons"]}


def resaved(made: kit.Kit) -> list[list[str]]:
    """The key's cells after a spreadsheet: what reads as a number is one."""
    cells = list(csv.reader(io.StringIO(made.key)))
    for row in cells:
        for k, cell in enumerate(row):
            if re.fullmatch(r"\d+(\.\d*)?(e\d+)?", cell, re.IGNORECASE):
                row[k] = f"{float(cell):.6g}"
    return cells


def written(file: Path, cells: list[list[str]], mark: str, encoding: str) -> Path:
    with file.open("w", encoding=encoding, newline="") as stream:
        csv.writer(stream, delimiter=mark).writerows(cells)
    return file


@pytest.mark.parametrize("mark", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_key_that_a_spreadsheet_saved_is_the_key(folders, tmp_path, mark, encoding):
    made = build(folders)
    cells = resaved(made)
    key = answers.read_key(written(tmp_path / "key.csv", cells, mark, encoding))
    assert kit.fingerprint(list(key)) == made.content["kit"]
    assert {name: row["class"] for name, row in key.items()} == {
        row["id"]: row["class"] for row in rows(made)
    }


def test_no_identifier_reads_as_a_number(folders):
    for _ in range(20):
        for row in rows(build(folders, repeats=24)):
            for name in ("id", "repeat_of", "kit", "check"):
                with pytest.raises(ValueError):
                    float(row[name])


@pytest.mark.parametrize("column", range(6))
def test_a_changed_key_is_named_with_its_line(folders, tmp_path, column):
    cells = resaved(build(folders))
    cells[5][column] = {1: "real" if cells[5][1] == "synthetic" else "synthetic"}.get(column, "x")
    file = written(tmp_path / "key.csv", cells, ",", "utf-8")
    with pytest.raises(InputError, match=rf"key\.csv: was changed: line 6 \({cells[5][0]},"):
        answers.read_key(file)


def test_a_key_without_all_its_lines_or_with_another_kits_is_refused(folders, tmp_path):
    cells = resaved(build(folders))
    strange = cells + resaved(build(folders))[1:]
    for wrong in (cells[:-1], [*cells, cells[-1]], strange):
        with pytest.raises(InputError, match="was changed: lines are missing, or not of one kit"):
            answers.read_key(written(tmp_path / "key.csv", wrong, ";", "utf-8"))
    for wrong in (cells[:1], [row[:4] for row in cells]):
        with pytest.raises(InputError, match="expected a key, with the columns id, class,"):
            answers.read_key(written(tmp_path / "key.csv", wrong, ",", "utf-8"))


# ---------------------------------------------------------------- answers


def answered(
    made: kit.Kit, reader: str, right: float, as_json: bool = False, leave: int = 0
) -> str:
    """A file as the page saves it, of a reader who is right so often."""
    rng = np.random.default_rng(zlib.crc32(reader.encode()))
    asked = kit.questions(settings())
    given = []
    for row in rows(made)[leave:]:
        other = "real" if row["class"] == "synthetic" else "synthetic"
        answer: dict = {"id": row["id"]}
        for question in asked:
            options = question.get("options", [""])
            answer[question["name"]] = options[rng.integers(len(options))]
        answer["class"] = row["class"] if rng.uniform() < right else other
        given.append(answer | {"reason": 'odd, "smooth" & é', "seconds": 3.5})
    if as_json:
        said = {"kit": made.content["kit"], "reader": reader, "answers": given}
        text = json.dumps(said, separators=(",", ":"), ensure_ascii=False)
        return json.dumps(said | {"checksum": f"{zlib.crc32(text.encode()):08x}"})
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n", quoting=csv.QUOTE_ALL)
    names = ["position", "id", *(question["name"] for question in asked), "seconds"]
    buffer.write(f"kit,{made.content['kit']}\nreader,{reader}\n{','.join(names)}\n")
    writer.writerows([k, *(each[n] for n in names[1:])] for k, each in enumerate(given, 1))
    text = buffer.getvalue()
    return f"{text}checksum,{zlib.crc32(text.encode()):08x}\n"


@pytest.fixture
def saved(folders, tmp_path):
    made = build(folders)
    (tmp_path / "key.csv").write_text(made.key)
    files = []
    for reader, right, as_json in (("zoe", 0.9, False), ("ann", 0.6, True), ("bob", 0.7, False)):
        files.append(tmp_path / f"{reader}.{'json' if as_json else 'csv'}")
        files[-1].write_text(answered(made, reader, right, as_json))
    return made, files, answers.read_key(tmp_path / "key.csv")


def test_answers_are_scored_against_the_key(saved, folders):
    _made, files, key = saved
    read = answers.read(files, key, incomplete=False)
    assert [each.reader for each in read] == ["ann", "bob", "zoe"]
    pictures = {"test": folders[0], "synthetic": folders[1]}
    found = study.measure(key, read, settings(), pictures, SIDE)
    assert found.identity | {"kit": ""} == {
        "kit": "", "readers": 3, "n_real": 12, "n_synthetic": 12, "margin": 0.1,
    }  # fmt: skip
    once = [own for own, row in key.items() if not row["repeat_of"]]
    for k, reader in enumerate(read, 1):
        right = np.mean([reader.rows[own]["class"] == key[own]["class"] for own in once])
        assert found["accuracy", f"reader: R{k}"].value == pytest.approx(right)
    accuracy = found["accuracy"]
    assert accuracy.low < accuracy.value < accuracy.high
    assert found.headlines == {"reader_accuracy": accuracy.value}
    assert "zoe" not in found.to_json()
    assert 0 <= found["consistency"].value <= 1


def test_a_left_out_picture_is_refused_or_counted(saved, folders, tmp_path):
    made, files, key = saved
    files[0].write_text(answered(made, "zoe", 0.9, leave=3))
    with pytest.raises(InputError, match=r"zoe\.csv: 25 of 28 pictures are answered"):
        answers.read(files, key, incomplete=False)
    read = answers.read(files, key, incomplete=True)
    pictures = {"test": folders[0], "synthetic": folders[1]}
    found = study.measure(key, read, settings(), pictures, SIDE).identity
    assert found["n_real"] + found["n_synthetic"] in (21, 22, 23, 24)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda text: text.replace("real", "unreal", 1), r"zoe\.csv: is damaged"),
        (lambda text: text[: len(text) // 2], r"zoe\.csv: is damaged"),
        (lambda text: "", r"zoe\.csv: is damaged"),
        (lambda text: "{}", r"zoe\.csv: cannot be read as answers"),
    ],
)
def test_damage_is_noticed(saved, spoil, said):
    _, files, key = saved
    files[0].write_text(spoil(files[0].read_text()))
    with pytest.raises(InputError, match=said):
        answers.read(files, key, incomplete=False)


def test_another_kits_answers_and_a_reader_twice_are_refused_each_in_a_line(saved, folders):
    made, files, key = saved
    files[1].write_text(answered(build(folders), "ann", 0.6))
    files[2].write_text(answered(made, "zoe", 0.9))
    with pytest.raises(InputError) as refused:
        answers.read(files, key, incomplete=False)
    one, two = str(refused.value).splitlines()
    assert "ann.json: answers of another kit" in one and "zoe a second time" in two
