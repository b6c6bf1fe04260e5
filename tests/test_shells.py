"""Paths, shells and environments that are not the ones it was written in.

The table in docs/surroundings.md is what these tests found; `make bad-input` writes it anew.
"""

import difflib
import getpass
import json
import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, same_table
from dvc.repo import Repo
from dvc.utils.hydra import apply_overrides

import stages
from mpox.core.errors import InputError
from mpox.params import Params, read

HARD = "Über Klinik (ä)/R&D; it's $HOME, mpox diffusion"
# What became of each folder when no quotes stood around it.
FOLDERS = {
    "data/my photos (2023)": "the shell's syntax error",
    "data/R&D": "`prepare data/R` in the background, and a program called `D`",
    "data/a;touch pwned": "the command was run",
    "data/$(touch pwned)": "the command was run",
    "data/`touch pwned`": "the command was run",
    'data/"a"': "another folder: `data/a`",
    "data/Über ä": "two words",
    "data/*,@#%{b}|<>?[c]": "a pipe, and an empty file called `?[c]`",
    "~/${seed}": "another folder, in your home",
    "data/Anna's photos": "the shell's syntax error",
    "data/new!": "csh: `Event not found`",
    r"data/C:\photos": "another folder: `C:photos`",
    "-photos": "worked: nothing took it for an option",
    "of=2023": "`of: no such key`",
    "data/two\nlines": "the shell's syntax error",
}
REFUSED = {
    "s3://photos": "DVC wants `dvc-s3`, and the stage finds no folder",
}
PROFILES = ("params.yaml", "params/sd15.yaml", "params/study.yaml")


@pytest.fixture(autouse=True)
def _called_by_nobody(monkeypatch):
    """Neither by a git hook nor by make, whose settings its children take."""
    for name in ("GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE", "MAKEFLAGS", "MAKEOVERRIDES"):
        monkeypatch.delenv(name, raising=False)


def stub(file: Path, script: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)


READS = """
from stages import run
def main(params, out):
    out.write_text(f"{params.data.source}")
run(main)
"""


def read_by_a_stage(folder: Path, name: str) -> str:
    """What a stage that DVC runs finds as data.source, which is its dependency as prepare's is."""
    (folder / name).mkdir(parents=True)
    (folder / name / "a.txt").write_text("a")
    content = yaml.safe_load((ROOT / "params.yaml").read_text())
    content["data"]["source"] = name
    (folder / "params.yaml").write_text(yaml.safe_dump(content))
    with Repo() as repo:
        repo.reproduce("reads")
        assert not repo.status(["reads"])
        (folder / name / "a.txt").write_text("another")
        assert repo.status(["reads"])
    assert not (folder / "pwned").exists()
    return (folder / "out").read_text()


@pytest.fixture
def reading(tmp_path, monkeypatch) -> Path:
    """A repository whose one stage depends on data.source."""
    monkeypatch.chdir(tmp_path)
    programs = Path(sys.executable).parent
    monkeypatch.setenv("PATH", str(programs), prepend=os.pathsep)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    Repo.init(str(tmp_path), no_scm=True).close()
    (tmp_path / "reads.py").write_text(READS)
    (tmp_path / "dvc.yaml").write_text(
        "stages: {reads: {cmd: python reads.py out, deps: ['${data.source}'], params: [data],"
        " outs: [out]}}"
    )
    return tmp_path


def test_a_folder_of_any_name_reaches_the_stage_whole(reading):
    for name in FOLDERS:
        assert read_by_a_stage(reading, name) == name


def refusal(name: str) -> str:
    with pytest.raises(InputError) as error:
        read(ROOT / "params.yaml", Params, {"data.source": json.dumps(name)})
    return str(error.value).removeprefix(f"{ROOT}/params.yaml: ")


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_folder_is_refused(name):
    assert "expected a folder on this machine" in refusal(name)


MAKES_AN_ENVIRONMENT = """
echo "python $*" >> "$CALLS"
case "$1" in -c) echo "$0" ;; esac
case "$2" in venv) mkdir -p .venv/bin; cp "$STUBS"/* .venv/bin ;; esac
"""


def make(folder: Path, target: str, **environment: str) -> list[str]:
    """What make calls, with programs that only say so, in a checkout of a hard name."""
    checkout, stubs, log = folder / HARD, folder / "stubs", folder / "calls"
    if not checkout.exists():
        checkout.mkdir(parents=True)
        for name in ("Makefile", "requirements.lock"):
            shutil.copy(ROOT / name, checkout)
    stub(folder / "python3", MAKES_AN_ENVIRONMENT)
    for name in ("python", "uv", "dvc", "pytest"):
        seen = '"${PYTHONPATH-}" "${PIP_USER-}" "${0#"$PWD/"}"'
        stub(stubs / name, f'echo {seen} "$@" >> "$CALLS"\n[ "$FAIL" != {name} ]')
    names = {"CALLS": log, "STUBS": stubs, "PYTHON": folder / "python3", "FAIL": "none"}
    log.write_text("")
    subprocess.run(
        ["make", "-s", target],
        cwd=checkout,
        env={**os.environ, **{name: str(path) for name, path in names.items()}, **environment},
        capture_output=True,
    )
    called = [line.strip() for line in log.read_text().splitlines()]
    asked = ("-c import dvc", "print(os.path.realpath(sys.executable))")
    return [line for line in called if not line.endswith(asked)]


def test_make_in_a_folder_of_any_name(tmp_path):
    """Nor does it take what is left in the shell of another environment."""
    left = {"PYTHONPATH": "/elsewhere", "PIP_USER": "1", "VIRTUAL_ENV": "/elsewhere"}
    check, venv, pip, uv, dvc = make(tmp_path, "repro", HOME=str(tmp_path), **left)
    assert check.startswith("python -c")
    assert venv == "python -m venv --clear .venv"
    assert pip == ".venv/bin/python -m pip install --quiet --disable-pip-version-check uv"
    assert uv == (
        ".venv/bin/uv pip sync --python .venv --quiet --compile-bytecode --require-hashes "
        "requirements.lock"
    )
    assert dvc == ".venv/bin/dvc repro"
    (tests,) = make(tmp_path, "test", HOME=str(tmp_path))
    assert tests.startswith(".venv/bin/pytest")


def test_a_home_that_cannot_be_written_needs_no_cache(tmp_path):
    *_, uv = make(tmp_path, "setup", HOME="/proc/no such home")
    assert uv.endswith("--no-cache requirements.lock")


def test_nor_does_a_home_whose_cache_is_anothers(tmp_path):
    """To root every folder can be written: so it is a file here."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home/.cache").touch()
    *_, uv = make(tmp_path, "setup", HOME=str(tmp_path / "home"))
    assert uv.endswith("--no-cache requirements.lock")


def test_a_cache_elsewhere_is_used(tmp_path):
    elsewhere = {"HOME": "/proc/no such home", "XDG_CACHE_HOME": str(tmp_path / "my cache")}
    *_, uv = make(tmp_path, "setup", **elsewhere)
    assert "--no-cache" not in uv


def test_a_failed_setup_starts_from_nothing(tmp_path):
    """A full disk leaves half a package, which pip takes for a whole one."""
    home = {"HOME": str(tmp_path)}
    assert make(tmp_path, "setup", FAIL="uv", **home)[1] == "python -m venv --clear .venv"
    assert make(tmp_path, "setup", **home)[1] == "python -m venv --clear .venv"
    assert make(tmp_path, "setup", **home) == []
    (tmp_path / HARD / "requirements.lock").touch()  # another one: what fits it is kept
    assert make(tmp_path, "setup", **home)[1] == "python -m venv .venv"


def test_an_environment_that_does_not_run_is_made_anew(tmp_path):
    """Its Python is gone, or the checkout was moved: its programs name the old place."""
    home = {"HOME": str(tmp_path)}
    make(tmp_path, "setup", **home)
    assert make(tmp_path, "setup", **home) == []
    (tmp_path / HARD / ".venv/bin/python").unlink()
    assert make(tmp_path, "setup", **home)[1] == "python -m venv --clear .venv"
    assert make(tmp_path, "setup", **home) == []
    moved = tmp_path / "moved"
    (moved / HARD).parent.mkdir(parents=True)
    (tmp_path / HARD).rename(moved / HARD)
    for name in ("stubs", "python3"):
        (tmp_path / name).rename(moved / name)
    assert make(moved, "setup", **home)[1] == "python -m venv --clear .venv"
    assert make(moved, "setup", **home) == []


def test_a_user_without_a_name_gets_one(tmp_path, monkeypatch):
    """As in containers; DVC stops without one, in make, and PyTorch in a stage by hand."""
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)

    def nameless(_: int) -> None:
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setattr(pwd, "getpwuid", nameless)
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    stages._name_user()
    assert getpass.getuser() == "12345"

    monkeypatch.delenv("LOGNAME")
    stub(tmp_path / "bin/id", '[ "$1" = -u ] && echo 12345')
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    done = subprocess.run(
        ["make", "-s", "-f", ROOT / "Makefile", "-f", "-", "name"],
        cwd=tmp_path, input="name:\n\techo $$LOGNAME\n", capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout == "12345\n"


def another_python() -> str:
    """What a stage says to a Python without the packages."""
    done = subprocess.run(
        [sys.executable, "-S", "-m", "stages.prepare", "out", "others", "out.json"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    return done.stderr.strip().replace(sys.executable, "/usr/bin/python")


def test_a_python_without_the_packages_says_what_to_type():
    assert another_python() == (
        "error: /usr/bin/python has no pydantic; first: . .venv/bin/activate"
    )


@pytest.fixture
def clones(tmp_path) -> Iterator[tuple[Path, Path]]:
    """What is committed, as git writes it with Git for Windows' settings, and without."""
    for name, crlf, end in (("plain", "false", "lf"), ("windows", "true", "crlf")):
        settings = ["-c", f"core.autocrlf={crlf}", "-c", f"core.eol={end}"]
        subprocess.run(["git", *settings, "clone", "-q", ROOT, tmp_path / name], check=True)
    return tmp_path / "plain", tmp_path / "windows"


def test_git_for_windows_changes_no_byte(clones):
    assert changed_files(*clones) == []


def changed_files(plain: Path, windows: Path) -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=plain, check=True, capture_output=True, text=True
    )
    names = listed.stdout.split("\0")[:-1]
    assert {"dvc.yaml", "params.yaml", "src/mpox/params.py"} < set(names)
    return [n for n in names if (plain / n).read_bytes() != (windows / n).read_bytes()]


def changed_lines(name: str, folder: Path) -> list[str]:
    """What `dvc exp run -S train.rank=16` makes of a parameter file."""
    file = Path(shutil.copy(ROOT / name, folder))
    before = file.read_text().splitlines()
    apply_overrides(file, ["train.rank=16"])
    lines = difflib.unified_diff(before, file.read_text().splitlines(), n=0, lineterm="")
    return [line for line in lines if not line.startswith(("---", "+++", "@@"))]


@pytest.mark.parametrize("name", PROFILES)
def test_an_experiment_changes_one_line_of_the_parameters(name, tmp_path):
    assert changed_lines(name, tmp_path) == ["-  rank: 8", "+  rank: 16"]


def test_experiments_elsewhere_under_a_path_that_is_not_ascii(tmp_path, monkeypatch):
    """DVC writes its cache's path into the copy's settings, and there takes ASCII alone."""
    folder = tmp_path / "Über Klinik (ä)"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name in ("GIT_AUTHOR_", "GIT_COMMITTER_"):
        monkeypatch.setenv(f"{name}NAME", "test")
        monkeypatch.setenv(f"{name}EMAIL", "test@example.org")
    (folder / "params.yaml").write_text("seed: 1\n")
    (folder / "dvc.yaml").write_text("stages: {s: {cmd: 'true', params: [seed]}}\n")

    def call(*words: str) -> str:
        done = subprocess.run(words, capture_output=True, text=True)
        return done.stdout + done.stderr

    dvc = (sys.executable, "-m", "dvc")
    call("git", "init", "-q")
    call(*dvc, "init", "-q")
    shutil.copy(ROOT / ".dvc/config", ".dvc")
    call("git", "add", "-A")
    call("git", "commit", "-qm", "state")
    assert "'ascii' codec can't encode" in call(*dvc, "exp", "run", "--temp", "-S", "seed=2")
    call("git", "checkout", "-q", ".")
    call(*dvc, "cache", "dir", "--local", str(tmp_path / "cache"))
    assert "Ran experiment" in call(*dvc, "exp", "run", "--temp", "-S", "seed=3")


PREAMBLE = """# Surroundings

Paths, shells, machines and left-overs, and what each led to before and leads to now. Written by
`make bad-input`, held by `tests/test_shells.py`.
"""
# What these tests cannot bring about, as it was tried by hand.
TRIED = [
    (
        "a `:` in the checkout's path; with an older Python (3.11.7) a quote, a backtick or a `$`",
        "Python refuses to make `.venv`; `activate` fails",
        "the same: choose another path",
    ),
    (
        "`dvc repro` with an apostrophe in `data.source`",
        "the shell's syntax error",
        "the same: the shell comes before the stage that would refuse it",
    ),
    (
        "`.venv/bin/dvc repro` without `. .venv/bin/activate`, no `python` in PATH",
        "`python: not found`",
        "the same: README says what to type first",
    ),
    (
        "`dvc exp run -S` below the checkout's root",
        "`Could not override`: DVC looks for params.yaml where you stand",
        "the same: README says where to stand",
    ),
    (
        "`dvc exp run --temp` and the queue under a path with an umlaut",
        "`'ascii' codec can't encode character`, whatever the locale: DVC's",
        "`dvc cache dir --local /a/path/in/ascii`, before the first run; then both work",
    ),
    (
        "`UV_SYSTEM_PYTHON=1`, as images for containers set it, and `make`",
        "removes the system's packages and installs there",
        "`uv pip sync --python .venv`",
    ),
    (
        "a user id without a name (`docker run --user 12345`), and `dvc` by hand",
        "`getpwuid(): uid not found: 12345`: DVC's; a traceback in stages by hand",
        "the same of DVC: `export LOGNAME=$(id -u)`, which `make` and stages set themselves",
    ),
    (
        "PYTHONPATH of other packages, PYTHONSAFEPATH, and `dvc` by hand",
        "their modules are taken; `No module named 'stages'`",
        "the same, but not through `make`: `unset` them",
    ),
    ("HOME that cannot be written, and `dvc`, the stages", "work; matplotlib warns", "the same"),
    (
        "VIRTUAL_ENV of another environment, PIP_REQUIRE_VIRTUALENV, LC_ALL=C, PYTHONOPTIMIZE",
        "work",
        "the same",
    ),
    (
        "umask 077",
        "works; nobody else can read cache and outputs",
        "the same; for a shared cache: `dvc config cache.shared group`",
    ),
    (
        "Python 3.11 to 3.14 on Linux (x86-64, ARM) or macOS 14 (Apple silicon)",
        "every pinned wheel is there, but antlr4-python3-runtime's, pure Python that pip builds",
        "the same; only 3.11 on Linux was run",
    ),
    (
        "Python 3.15, macOS before 14 or on Intel",
        "`make` stops: no wheels of orjson, of bitsandbytes, of PyTorch",
        "the same: `make PYTHON=python3.13`",
    ),
]


def test_the_table_is_what_was_found(tmp_path, reading, clones):
    rows = []
    repro = make(tmp_path / "1", "repro", HOME=str(tmp_path), PIP_USER="1", PYTHONPATH="/other")
    left = "PIP_USER=1 or PYTHONPATH of another environment, and `make`"
    rows += [
        (f"a checkout under `{HARD}`", "`syntax error near unexpected token`", calls(repro[3:])),
        (left, "`Can not perform a '--user' install`; its modules are taken", calls(repro[2:3])),
    ]
    no_home = make(tmp_path / "2", "setup", HOME="/proc/no such home")
    rows.append(
        ("HOME that cannot be written, and `make`", "uv stops: no cache", calls(no_home[3:]))
    )
    full = "no space left in the middle of `make`, then space, `make` again"
    make(tmp_path / "3", "setup", FAIL="uv", HOME=str(tmp_path))
    again = make(tmp_path / "3", "setup", HOME=str(tmp_path))
    rows.append((full, "half a package is taken for a whole one", calls(again[1:2])))
    (tmp_path / "2" / HARD / ".venv/bin/python").unlink()
    moved = "a checkout that was moved, or a Python that was removed, and `make`"
    anew = make(tmp_path / "2", "setup", HOME=str(tmp_path))
    rows.append((moved, "`cannot execute: required file not found`", calls(anew[1:2])))
    for name, before in FOLDERS.items():
        found = read_by_a_stage(reading, name)
        shown = code(f"data.source: {found}".replace("\n", "\\n"))
        rows.append((shown, before, "reaches the stage whole"))
    for name, before in REFUSED.items():
        rows.append((code(f"data.source: {name}"), before, refusal(name)))
    rows.append(
        ("`python` is not of `.venv`", "`ModuleNotFoundError`, a traceback", another_python())
    )
    wrote = "quotes lost, long lines wrapped, lists and null in another form"
    for name in PROFILES:
        lines = ", ".join(f"`{line}`" for line in changed_lines(name, tmp_path))
        rows.append(
            (f"`dvc exp run -S train.rank=16`, {name}", wrote, f"all that changes: {lines}")
        )
    number = len(changed_files(*clones))
    crlf = "`git clone` with Git for Windows' `core.autocrlf=true`"
    rows.append((crlf, "every text file has other bytes", f"{number} files have other bytes"))
    same_table("surroundings.md", PREAMBLE, ("what", "before", "now"), rows + TRIED)


def calls(lines: list[str]) -> str:
    return ", ".join(map(code, lines))


def code(text: str) -> str:
    return f"`` {text} ``" if "`" in text else f"`{text}`"
