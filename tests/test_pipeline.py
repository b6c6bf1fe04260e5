"""dvc.yaml and the code: deps are the folders a stage imports from, params the keys it reads."""

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
    """The files of src/mpox that a file imports, at its top or inside its functions."""
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
    """The files of src/mpox that a file imports, directly or through others."""
    files: set[str] = set()
    queue = imported(file)
    while queue:
        name = queue.pop()
        files.add(name)
        queue |= imported(ROOT / name) - files
    return files


def code(name: str) -> Path:
    return ROOT / STAGES[name]["cmd"].split("python -m ")[1].split()[0].replace(".", "/")


def package(module: str) -> str:
    """The folder of src/mpox that a module is in, or the module itself at the top level."""
    parts = Path(module).parts
    return "/".join(parts[:3]) if len(parts) > 3 else module


# The schema, which has no defaults, and the checks can reject a run but not change its result.
IN_NO_DEPS = {"src/mpox/params.py", "src/mpox/checks.py"}


def needed(name: str) -> set[str]:
    """The files of src/mpox that a stage imports, and the pins that stages/__init__.py sets."""
    return closure(code(name).with_suffix(".py")) - IN_NO_DEPS | {"src/mpox/core/pins.py"}


@pytest.mark.parametrize("name", PIPELINE)
def test_the_folders_of_a_stage_are_those_it_imports_from(name):
    """The embedded and download stages list files: an edit of images.py must not start them."""
    declared = {dep for dep in STAGES[name]["deps"] if dep.startswith("src/")}
    assert declared == {package(module) for module in needed(name)}
    assert f"stages/{code(name).name}.py" in STAGES[name]["deps"]


@pytest.mark.parametrize("name", [name for name in STAGES if name not in PIPELINE])
def test_single_files_are_the_closure_of_the_imports(name):
    file = code(name).with_suffix(".py").relative_to(ROOT).as_posix()
    declared = {dep for dep in STAGES[name]["deps"] if dep.endswith(".py")}
    assert declared == needed(name) | {file}


def test_the_folders_of_training_hold_only_files_that_it_imports():
    """A training takes hours, so no other file may repeat it."""
    folders = {dep for dep in STAGES["train_lora"]["deps"] if dep.startswith("src/")}
    files = {
        file.relative_to(ROOT).as_posix()
        for folder in folders
        for file in (ROOT / folder).glob("*.py")
        if file.name != "__init__.py"
    }
    assert files == needed("train_lora")


def test_dvc_hashes_only_the_code_of_a_folder(tmp_path):
    """And no file that a Mac, an editor or Python leaves there."""
    shutil.copy(ROOT / ".dvcignore", tmp_path)
    packages = {dep for name in PIPELINE for dep in STAGES[name]["deps"] if dep.startswith("src/")}
    names = ("a.py", "__pycache__/a.pyc", ".DS_Store", "a.py.orig", "notes.md", ".a.py.swp")
    with Repo.init(str(tmp_path), no_scm=True) as repo:
        for folder in (each for each in packages if not each.endswith(".py")):
            for name in (*names, "templates/a.html"):
                (tmp_path / folder / name).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / folder / name).touch()
            hashed = {
                file.relative_to(tmp_path / folder).as_posix()
                for file in (tmp_path / folder).rglob("*")
                if file.is_file() and not repo.dvcignore.is_ignored_file(str(file))
            }
            has_templates = folder == "src/mpox/report"
            assert hashed == {"a.py"} | ({"templates/a.html"} if has_templates else set())


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
    "sharing": "core statistics model training report utility",
    "utility": "core statistics photos model pictures",
    "privacy": "core statistics model",
    "reading": "core statistics",
    "report": "core statistics",
    "embedded": "core model",
}


def test_no_folder_imports_upward():
    imports = {
        folder.name: {
            package(module).rpartition("/")[2]
            for file in folder.glob("*.py")
            for module in imported(file) - IN_NO_DEPS
        }
        - {folder.name}
        for folder in (ROOT / "src/mpox").iterdir()
        if (folder / "__init__.py").is_file()
    }
    assert imports.keys() == IMPORTS.keys()
    for name, names in imports.items():
        assert names <= set(IMPORTS[name].split()), name


@pytest.mark.parametrize("name", PIPELINE)
def test_every_stage_starts_as_all_do(name):
    """Through stages.run, which reads the parameters, calls the guards and words the errors."""
    calls = [
        ast.unparse(node)
        for node in ast.walk(ast.parse(code(name).with_suffix(".py").read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "run"
    ]
    several = name in ("draw_class", "train_lora", "generate", "draw_base")
    assert calls == ["run(main, launched=True)" if several else "run(main)"]


BASE = ("draw_class", "train_lora", "generate", "draw_base", "utility", "privacy", "report")
CLINICAL = {("inception", "evaluate"), ("inception", "utility"), *(("sd15", name) for name in BASE)}
TRAINED = {("resnet18", "evaluate"), ("resnet18", "utility")}


@pytest.mark.parametrize(
    ("params", "changes", "downloads"),
    [
        ("params.yaml", {}, set()),
        ("params/sd15.yaml", {}, CLINICAL),
        ("params/study.yaml", {}, CLINICAL),
        ("params/sd15.yaml", {"classifier": "cnn", "download": ["resnet18"]}, CLINICAL | TRAINED),
    ],
)
def test_downloads_are_stages_only_if_params_name_them_and_come_first(
    params, changes, downloads, tmp_path
):
    for file in FILES:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, tmp_path / file)
    shutil.copytree(ROOT / "params", tmp_path / "params")
    content = yaml.safe_load((ROOT / params).read_text())
    content["utility"] |= changes
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(content))
    with Repo.init(str(tmp_path), no_scm=True) as repo:
        order = {
            (first.name.partition("@")[0], then.name) for then, first in repo.index.graph.edges
        }
    assert {pair for pair in order if pair[0] in ("inception", "resnet18", "sd15")} == downloads


def test_no_dependency_contains_a_lock(monkeypatch):
    """`dvc commit` and experiments rewrite locks, which would make a stage stale."""
    monkeypatch.chdir(ROOT)
    locks = {file for pattern in inputs.DVC_FILES for file in Path().glob(pattern)}
    assert {*map(str, locks)} == {*FILES}
    folders = {dep for stage in STAGES.values() for dep in stage["deps"]} - {"${model.path}"}
    folders |= {yaml.safe_load(file.read_text())["model"]["path"] for file in PROFILES}
    assert not {parent for lock in locks for parent in map(str, lock.parents)} & folders


@pytest.mark.parametrize("name", STAGES)
def test_every_stage_compares_its_dependencies_before_and_after(name):
    """Through `stages.run`, or by itself."""
    source = code(name).with_suffix(".py").read_text()
    assert re.search(r"^ +(run\(main|with .*\binputs\.unchanged\(\))", source, re.MULTILINE)


@pytest.mark.parametrize("name", PIPELINE)
def test_params_are_the_sections_read(name):
    tree = ast.parse(code(name).with_suffix(".py").read_text())
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    inner = {node.value for node in nodes}
    chains = {ast.unparse(node) for node in nodes if node not in inner}
    keys = {chain.removeprefix("params.") for chain in chains if chain.startswith("params.")}
    # A stage reads its sections as a whole, and single keys of other stages' sections.
    sections = {key for key in STAGES[name]["params"] if "." not in key}
    read = {key if (section := key.split(".")[0]) not in sections else section for key in keys}
    if any(
        isinstance(argument, ast.Name) and argument.id == "params"
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        for argument in node.args
    ):  # all parameters are passed on
        read = set(Params.model_fields)
    assert set(STAGES[name]["params"]) == read


@pytest.mark.parametrize("name", STAGES)
def test_no_command_holds_a_value_of_params(name):
    """The shell would interpret it before the schema can reject it, even in quotes."""
    assert "${" not in STAGES[name]["cmd"]


@pytest.mark.parametrize("name", PIPELINE)
def test_every_path_of_a_command_is_declared(name):
    stage = STAGES[name]
    paths = [word for word in shlex.split(stage["cmd"]) if "/" in word]
    outs = [next(iter(out)) if isinstance(out, dict) else out
            for kind in ("outs", "metrics", "plots") for out in stage.get(kind, [])]  # fmt: skip
    for path in paths:
        declared = [*stage["deps"], *outs]
        assert any(d == path or d.startswith(f"{path}/") for d in declared), path


@pytest.mark.parametrize("name", PIPELINE)
def test_pictures_are_never_in_git(name):
    """DVC caches them, and git ignores them beforehand; what is not cached are numbers."""
    stage = STAGES[name]
    for out in stage.get("outs", []):
        assert isinstance(out, str), f"{out} is not cached"
        ignored = subprocess.run(["git", "check-ignore", "-q", f"{out}/x.png"], cwd=ROOT)
        assert ignored.returncode == 0, f"{out} is not git-ignored"
    for kind in ("metrics", "plots"):
        for out in stage.get(kind, []):
            assert next(iter(out)).startswith("metrics/")


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
