"""dvc.yaml against the code: a stage's deps are its import closure, its params what it reads."""

import ast
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from dvc.repo import Repo

from mpox import listing
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


@pytest.mark.parametrize("name", STAGES)
def test_deps_are_the_closure_of_the_imports(name):
    file = code(name).with_suffix(".py")
    declared = {dep for dep in STAGES[name]["deps"] if dep.endswith(".py")}
    rooms = {dep for dep in STAGES[name]["deps"] if dep.startswith("src/") and dep not in declared}
    # Without default values the schema, as the checks, can refuse a run but never change one;
    # what stages/__init__.py sets before all else decides the bits of every stage.
    modules = closure(file) - {"src/mpox/params.py", "src/mpox/checks.py"} | {"src/mpox/pins.py"}
    inside = {module for module in modules if any(module.startswith(f"{r}/") for r in rooms)}
    assert all(any(module.startswith(f"{room}/") for module in inside) for room in rooms)
    assert declared == modules - inside | {file.relative_to(ROOT).as_posix()}


@pytest.mark.parametrize(
    ("params", "downloads"),
    [
        ("params.yaml", set()),
        (
            "params/sd15.yaml",
            {
                ("inception", "evaluate"),
                ("inception", "utility"),
                ("sd15", "draw_class"),
                ("sd15", "train_lora"),
                ("sd15", "generate"),
                ("sd15", "draw_base"),
                ("sd15", "utility"),
                ("sd15", "privacy"),
                ("sd15", "report"),
            },
        ),
    ],
)
def test_a_download_is_a_stage_only_where_params_name_it_and_who_needs_it_waits(
    params, downloads, tmp_path
):
    for file in FILES:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, tmp_path / file)
    shutil.copytree(ROOT / "params", tmp_path / "params")
    shutil.copy(ROOT / params, tmp_path / "params.yaml")
    with Repo.init(str(tmp_path), no_scm=True) as repo:
        waits = {
            (first.name.partition("@")[0], then.name) for then, first in repo.index.graph.edges
        }
    assert {pair for pair in waits if pair[0] in ("inception", "sd15")} == downloads


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


@pytest.mark.parametrize(("room", "other"), [("diffusion", "measures"), ("measures", "diffusion")])
def test_training_and_measuring_do_not_know_each_other(room, other):
    found = set().union(*(closure(file) for file in (ROOT / "src/mpox" / room).glob("*.py")))
    assert found and not {file for file in found if file.startswith(f"src/mpox/{other}/")}


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
