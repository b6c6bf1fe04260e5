"""dvc.yaml against the code: a stage's deps hold all it imports, its params are what it reads."""

import ast
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from dvc.repo import Repo

from mpox.core import listing
from mpox.params import Params
from stages import inputs

ROOT = Path(__file__).parents[1]
FILES = ("dvc.yaml", "data/phantom/dvc.yaml", "models/dvc.yaml")
STAGES = {
    name: stage.get("do", stage)
    for file in FILES
    for name, stage in yaml.safe_load((ROOT / file).read_text())["stages"].items()
}
PROFILES = [ROOT / "params.yaml", ROOT / "params/sd15.yaml"]
PIPELINE = list(yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"])


def imported(file: Path) -> set[str]:
    """The files in src/mpox that a file imports, at its top or inside its functions."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if not isinstance(node, ast.ImportFrom) or (node.module or "").split(".")[0] != "mpox":
            continue
        here = Path("src", *node.module.split("."))
        if (ROOT / here).is_dir():  # each name is a module in it
            names |= {(here / f"{alias.name}.py").as_posix() for alias in node.names}
        else:
            names.add(here.with_suffix(".py").as_posix())
    return names


def closure(file: Path) -> set[str]:
    found: set[str] = set()
    todo = imported(file)
    while todo:
        name = todo.pop()
        found.add(name)
        todo |= imported(ROOT / name) - found
    return found


def code(name: str) -> Path:
    return ROOT / STAGES[name]["cmd"].split("python -m ")[1].split()[0].replace(".", "/")


def room(module: str) -> str:
    """The folder of src/mpox that a module is in, or the module itself at the top level."""
    parts = Path(module).parts
    return "/".join(parts[:3]) if len(parts) > 3 else module


# Without default values the schema, as the checks, can reject a run but never change its result.
IN_NO_DEPS = {"src/mpox/params.py", "src/mpox/checks.py"}


def needed(name: str) -> set[str]:
    """What a stage imports inside src/mpox, and the pins that stages/__init__.py sets for it."""
    return closure(code(name).with_suffix(".py")) - IN_NO_DEPS | {"src/mpox/core/pins.py"}


@pytest.mark.parametrize("name", PIPELINE)
def test_the_folders_of_a_stage_are_those_it_imports_from(name):
    """The embedded and download stages name files: a word in images.py must not start those."""
    declared = {dep for dep in STAGES[name]["deps"] if dep.startswith("src/")}
    assert declared == {room(module) for module in needed(name)}
    assert f"stages/{code(name).name}.py" in STAGES[name]["deps"]


@pytest.mark.parametrize("name", [name for name in STAGES if name not in PIPELINE])
def test_single_files_are_the_closure_of_the_imports(name):
    file = code(name).with_suffix(".py").relative_to(ROOT).as_posix()
    declared = {dep for dep in STAGES[name]["deps"] if dep.endswith(".py")}
    assert declared == needed(name) | {file}


def test_training_runs_again_for_no_file_that_it_does_not_import():
    """It takes hours, so its folders hold what it imports and nothing else."""
    folders = {dep for dep in STAGES["train_lora"]["deps"] if dep.startswith("src/")}
    files = {
        file.relative_to(ROOT).as_posix()
        for folder in folders
        for file in (ROOT / folder).glob("*.py")
        if file.name != "__init__.py"
    }
    assert files == needed("train_lora")


def test_what_dvc_hashes_of_a_folder_of_code_is_code(tmp_path):
    """Not what a Mac, an editor or Python leaves there."""
    shutil.copy(ROOT / ".dvcignore", tmp_path)
    rooms = {dep for name in PIPELINE for dep in STAGES[name]["deps"] if dep.startswith("src/")}
    names = (
        "a.py",
        "__pycache__/a.cpython-311.pyc",
        ".DS_Store",
        "a.py.orig",
        "notes.md",
        ".a.py.swp",
    )
    with Repo.init(str(tmp_path), no_scm=True) as repo:
        for folder in (each for each in rooms if not each.endswith(".py")):
            for name in (*names, "templates/a.html"):
                (tmp_path / folder / name).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / folder / name).touch()
            kept = {
                file.relative_to(tmp_path / folder).as_posix()
                for file in (tmp_path / folder).rglob("*")
                if file.is_file() and not repo.dvcignore.is_ignored_file(str(file))
            }
            has_pages = folder == "src/mpox/report"
            assert kept == {"a.py"} | ({"templates/a.html"} if has_pages else set())


# The folders of src/mpox that a folder may import from, beside params and checks.
IMPORTS = {
    "core": "",
    "statistics": "core",
    "photos": "core statistics",
    "model": "core",
    "sampling": "core model",
    "training": "core model sampling",
    "pictures": "core statistics",
    "measures": "core statistics pictures",
    "compare": "core statistics report",
    "sharing": "core statistics model training report",
    "utility": "core statistics photos model pictures",
    "privacy": "core statistics model",
    "reading": "core statistics",
    "report": "core statistics",
    "embedded": "core model",
}


def test_no_folder_imports_upward():
    found = {
        folder.name: {
            room(module).rpartition("/")[2]
            for file in folder.glob("*.py")
            for module in imported(file) - IN_NO_DEPS
        }
        - {folder.name}
        for folder in (ROOT / "src/mpox").iterdir()
        if (folder / "__init__.py").is_file()
    }
    assert found.keys() == IMPORTS.keys()
    for name, names in found.items():
        assert names <= set(IMPORTS[name].split()), name


@pytest.mark.parametrize("name", PIPELINE)
def test_every_stage_starts_as_all_do(name):
    """Through stages.run, which reads the parameters, asks the guards and turns errors to lines."""
    called = [
        ast.unparse(node)
        for node in ast.walk(ast.parse(code(name).with_suffix(".py").read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "run"
    ]
    several = name in ("draw_class", "train_lora", "generate", "draw_base")
    assert called == ["run(main, launched=True)" if several else "run(main)"]


CLINICAL = {
    ("inception", "evaluate"),
    ("inception", "utility"),
    ("sd15", "draw_class"),
    ("sd15", "train_lora"),
    ("sd15", "generate"),
    ("sd15", "draw_base"),
    ("sd15", "utility"),
    ("sd15", "privacy"),
    ("sd15", "report"),
}


TRAINED = {("resnet18", "evaluate"), ("resnet18", "utility")}


@pytest.mark.parametrize(
    ("params", "changes", "downloads"),
    [
        ("params.yaml", {}, set()),
        ("params/sd15.yaml", {}, CLINICAL),
        ("params/study.yaml", {}, CLINICAL),
        (
            "params/sd15.yaml",
            {"classifier: linear": "classifier: cnn", "  download: []": "  download: [resnet18]"},
            CLINICAL | TRAINED,
        ),
    ],
)
def test_a_download_is_a_stage_only_where_params_name_it_and_who_needs_it_waits(
    params, changes, downloads, tmp_path
):
    for file in FILES:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, tmp_path / file)
    shutil.copytree(ROOT / "params", tmp_path / "params")
    text = (ROOT / params).read_text()
    for old, new in changes.items():
        assert text.count(old) == 1
        text = text.replace(old, new)
    (tmp_path / "params.yaml").write_text(text)
    with Repo.init(str(tmp_path), no_scm=True) as repo:
        waits = {
            (first.name.partition("@")[0], then.name) for then, first in repo.index.graph.edges
        }
    assert {pair for pair in waits if pair[0] in ("inception", "resnet18", "sd15")} == downloads


def test_git_takes_of_the_weights_folder_nothing():
    for name, ignored in (("w.pth", 0), ("w.pth.partial", 0), (".gitignore", 1)):
        path = f"models/features/{name}"
        asked = subprocess.run(["git", "check-ignore", "-q", "--no-index", path], cwd=ROOT)
        assert asked.returncode == ignored, name


def test_no_lock_lies_inside_a_dependency(monkeypatch):
    """`dvc commit` and experiments write locks again: a stage after them would be stale."""
    monkeypatch.chdir(ROOT)
    locks = {file for pattern in inputs.DVC_FILES for file in Path().glob(pattern)}
    assert {*map(str, locks)} == {*FILES}
    folders = {dep for stage in STAGES.values() for dep in stage["deps"]} - {"${model.path}"}
    folders |= {yaml.safe_load(file.read_text())["model"]["path"] for file in PROFILES}
    assert not {up for lock in locks for up in map(str, lock.parents)} & folders


@pytest.mark.parametrize("name", STAGES)
def test_every_stage_compares_its_dependencies_before_and_after(name):
    """As `stages.run` does, or by itself."""
    source = code(name).with_suffix(".py").read_text()
    assert re.search(r"^ +(run\(main|with .*\binputs\.unchanged\(\))", source, re.MULTILINE)


@pytest.mark.parametrize("name", PIPELINE)
def test_params_are_the_sections_read(name):
    tree = ast.parse(code(name).with_suffix(".py").read_text())
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    inner = {node.value for node in nodes}
    chains = {ast.unparse(node) for node in nodes if node not in inner}
    keys = {chain.removeprefix("params.") for chain in chains if chain.startswith("params.")}
    # A section is read as a whole, of another stage's one key alone.
    own = {each for each in STAGES[name]["params"] if "." not in each}
    read = {key if (section := key.split(".")[0]) not in own else section for key in keys}
    whole = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and any(isinstance(given, ast.Name) and given.id == "params" for given in node.args)
    ]
    if whole:  # handed on as it is
        read = set(Params.model_fields)
    assert set(STAGES[name]["params"]) == read


@pytest.mark.parametrize("name", STAGES)
def test_no_command_holds_a_value_of_params(name):
    """A shell would read it before the schema does, whatever quotes stand around it."""
    assert "${" not in STAGES[name]["cmd"]


@pytest.mark.parametrize("name", PIPELINE)
def test_every_path_of_a_command_is_declared(name):
    stage = STAGES[name]
    paths = [word for word in shlex.split(stage["cmd"]) if "/" in word]
    outs = [next(iter(out)) if isinstance(out, dict) else out
            for kind in ("outs", "metrics", "plots") for out in stage.get(kind, [])]  # fmt: skip
    for path in paths:
        near = [d for d in [*stage["deps"], *outs] if d == path or d.startswith(f"{path}/")]
        assert near, f"{path} is neither dep nor out"


@pytest.mark.parametrize("name", PIPELINE)
def test_pictures_are_never_in_git(name):
    """What DVC does not cache is in git: numbers only. What it caches is ignored beforehand."""
    stage = STAGES[name]
    for out in stage.get("outs", []):
        assert isinstance(out, str), f"{out} is not cached"
        ignored = subprocess.run(["git", "check-ignore", "-q", f"{out}/x.png"], cwd=ROOT)
        assert ignored.returncode == 0, f"{out} is not git-ignored"
    for kind in ("metrics", "plots"):
        for out in stage.get(kind, []):
            assert next(iter(out)).startswith("metrics/")


def test_photos_are_ignored_beforehand():
    for path in (
        "data/photos/a.jpg",
        "data/prepared.partial/train/a.png",
        ".checkpoints/x/a.png",
        "mpox.safetensors",
        "hub/README.md",
    ):
        subprocess.run(["git", "check-ignore", "-q", path], cwd=ROOT, check=True)


def test_git_holds_no_picture_but_phantoms_and_docs():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    pictures = {
        line
        for line in listed.stdout.splitlines()
        if line.lower().endswith(tuple(listing.SUFFIXES))
        and not line.startswith(("data/phantom/", "docs/", "tests/phantom.heic"))
    }
    assert not pictures


def test_no_remote_and_no_calls_home():
    config = (ROOT / ".dvc/config").read_text()
    assert "analytics = false" in config
    assert "check_update = false" in config
    assert "remote" not in config
