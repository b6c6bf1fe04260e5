"""The exported set, read by the loader that trainers use."""

import subprocess
from pathlib import Path

import pytest
from PIL import Image
from runs import picture
from torchvision.datasets import ImageFolder

from mpox.core import images, table
from mpox.core.errors import InputError
from mpox.params import Params, read
from stages import export_dataset

ROOT = Path(__file__).parents[2]
MARK = b"http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
EACH = {"train": 6, "val": 2, "test": 4}  # photos of mpox; half as many of each control
CONTROLS = ("acne", "eczema")


def fill(folder: Path, names: list[str], *key: int, mark: bool = False) -> None:
    folder.mkdir(parents=True)
    for k, name in enumerate(names):
        images.write(folder / name, picture(*key, k), {"seed": str(k)} if mark else None)


@pytest.fixture
def run(tmp_path, monkeypatch) -> Path:
    """The files of a run: photos, two per patient, and ten pictures each of LoRA and base."""
    monkeypatch.chdir(tmp_path)
    for p, (part, n) in enumerate(EACH.items()):
        mpox = [f"a{p}{k:014x}.png" for k in range(n)]
        fill(Path("data/prepared", part), mpox, 0, p)
        rows = {name: [f"{10 * p + k // 2}", f"{10 * p + k // 2}"] for k, name in enumerate(mpox)}
        table.write(Path("data/prepared", part), ["patient", "group"], rows)
        controls = [f"b{p}{k:014x}.png" for k in range(n)]
        fill(Path("data/prepared_controls", part), controls, 1, p)
        rows = {
            name: ["unknown", f"{100 + 10 * p + k}", CONTROLS[k % 2]]
            for k, name in enumerate(controls)
        }
        columns = ["patient", "group", "label"]
        table.write(Path("data/prepared_controls", part), columns, rows)
    for k, name in enumerate(("synthetic", "base")):
        fill(Path("data", name), [f"{i:05d}.png" for i in range(10)], 2 + k, mark=True)
    return tmp_path


@pytest.fixture(scope="module")
def params() -> Params:
    return read(ROOT / "params.yaml", Params)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_torchvision_reads_two_classes_in_every_split_of_exact_copies(run, params):
    export_dataset.main(params, Path("out"), None)
    for part, n in EACH.items():
        dataset = ImageFolder(f"out/{part}")
        assert dataset.class_to_idx == {"mpox": 0, "other": 1}
        assert [label for _, label in dataset.samples] == [0] * n + [1] * n
        for kind, source in (("mpox", "prepared"), ("other", "prepared_controls")):
            for path in Path("out", part, kind).iterdir():
                assert path.read_bytes() == Path("data", source, part, path.name).read_bytes()
    assert not list(run.glob("*.partial"))


def test_the_table_has_patient_and_origin_of_each_file(run, params):
    export_dataset.main(params, Path("out"), 0.4)
    known = table.read(Path("out"))
    files = {path.relative_to("out").as_posix() for path in Path("out").rglob("*.png")}
    assert set(known.rows) == files and len(files) == 2 * 12 + 4
    patients: dict[str, set[str]] = {}
    for name, row in known.rows.items():
        assert name.startswith(f"{row['split']}/")
        assert (row["label"] == "mpox") == ("/mpox/" in name)
        patients.setdefault(row["split"], set()).add(row["group"])
    assert patients["test"] == {"20", "21", "120", "121", "122", "123"}
    assert not patients["train"] & patients["test"] and not patients["val"] & patients["test"]
    row = known.rows["test/other/b200000000000000.png"]
    assert row == {"split": "test", "label": "acne", "origin": "photo", "patient": "unknown",
                   "group": "120"}  # fmt: skip


def test_synthetic_pictures_have_their_share_and_keep_their_mark(run, params):
    export_dataset.main(params, Path("out"), 0.4)
    rows = table.read(Path("out")).rows
    drawn = [name for name, row in rows.items() if row["origin"] == "synthetic"]
    assert len(drawn) == 4 and all(name.startswith("train/mpox/") for name in drawn)
    for name, row in rows.items():
        assert (MARK in Path("out", name).read_bytes()) == (row["origin"] != "photo")
    with Image.open(Path("out", drawn[0])) as image:
        assert MARK.decode() in image.info["xmp"].decode()


def test_shares_are_nested_and_the_placebo_has_as_many(run, params):
    added = {}
    for share in (0.25, 0.6, 1.0):
        export_dataset.main(params, Path(f"out {share}"), share)
        added[share] = names(Path(f"out {share}/train/mpox")) - names(Path("data/prepared/train"))
    assert [len(each) for each in added.values()] == [2, 9, 10]
    assert added[0.25] < added[0.6] < added[1.0] == names(Path("out 1.0/train/mpox"))
    export_dataset.main(params, Path("placebo"), 0.6, placebo=True)
    drawn = names(Path("placebo/train/mpox")) - names(Path("data/prepared/train"))
    assert len(drawn) == 9
    assert all(
        Path("placebo/train/mpox", name).read_bytes() == Path("data/base", name).read_bytes()
        for name in drawn
    )
    assert {row["origin"] for row in table.read(Path("placebo")).rows.values()} == {"photo", "base"}


def test_labels_are_classes_if_every_split_has_them(run, params):
    export_dataset.main(params, Path("out"), None, by_label=True)
    assert ImageFolder("out/val").classes == ["acne", "eczema", "mpox"]
    rows = table.read(Path("data/prepared_controls/val")).rows
    changed = {name: [row["patient"], row["group"], "acne"] for name, row in rows.items()}
    table.write(Path("data/prepared_controls/val"), ["patient", "group", "label"], changed)
    with pytest.raises(InputError, match=r"^val/eczema: no photos, .*; leave --labels out$"):
        export_dataset.main(params, Path("again"), None, by_label=True)
    export_dataset.main(params, Path("again"), None)


@pytest.mark.parametrize("label", ["acne/back", ".."])
def test_a_label_that_cannot_name_a_folder_is_refused(label, run, params):
    rows = table.read(Path("data/prepared_controls/val")).rows
    changed = {name: [row["patient"], row["group"], label] for name, row in rows.items()}
    table.write(Path("data/prepared_controls/val"), ["patient", "group", "label"], changed)
    with pytest.raises(InputError, match="cannot be the name of a folder"):
        export_dataset.main(params, Path("out"), None, by_label=True)
    assert not Path("out").exists()


@pytest.mark.parametrize("share", [0.0, 0.65, 1.5, float("nan")])
def test_an_unreachable_share_is_refused_with_the_largest_possible(share, run, params):
    with pytest.raises(InputError, match=rf"^--synthetic: got {share:g}, .* 1 to 10, .* 0\.625\)"):
        export_dataset.main(params, Path("out"), share)
    export_dataset.main(params, Path("out"), 0.625)
    assert len(names(Path("out/train/mpox"))) == 16


def test_missing_inputs_stop_the_export_before_a_file_is_written(run, params):
    with pytest.raises(InputError, match="--placebo: expected --synthetic SHARE"):
        export_dataset.main(params, Path("out"), None, placebo=True)
    for path in Path("data/prepared_controls").rglob("*.png"):
        path.unlink()
    for part in EACH:
        table.write(Path("data/prepared_controls", part), ["patient", "group", "label"], {})
    with pytest.raises(InputError, match="no photos of other conditions"):
        export_dataset.main(params, Path("out"), None)
    assert not Path("out").exists()


def test_a_folder_that_git_does_not_ignore_is_refused(run, params):
    subprocess.run(["git", "init", "-q"], check=True)
    Path(".gitignore").write_text("/data\n")
    with pytest.raises(InputError, match=r"^out: git does not ignore it"):
        export_dataset.main(params, Path("out"), None)
    assert not Path("out").exists()
    export_dataset.main(params, Path("data/out"), None)


def test_an_existing_folder_is_kept(run, params):
    export_dataset.main(params, Path("out"), None)
    with pytest.raises(InputError, match="holds files already"):
        export_dataset.main(params, Path("out"), None)
