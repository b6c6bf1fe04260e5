"""Paths, shells and environments that differ from the author's."""

import difflib
import getpass
import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from dvc.repo import Repo
from dvc.utils.hydra import apply_overrides

import stages

CHECKOUT = "Über Klinik (ä)/R&D; it's $HOME, mpox diffusion"


@pytest.fixture(autouse=True)
def _no_callers_settings(monkeypatch):
    """Of a git hook or of make, which their children inherit."""
    for name in ("GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE", "MAKEFLAGS", "MAKEOVERRIDES"):
        monkeypatch.delenv(name, raising=False)


def stub(file: Path, script: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)


STAGE = """
from stages import run
def main(params, out):
    out.write_text(f"{params.data.source}")
run(main)
"""


@pytest.mark.parametrize(
    "name",
    [
        "data/R&D; touch pwned $(touch pwned) `touch pwned`",
        'data/*,@#%{b}|<>?[c] "a" Anna\'s new! C:\\photos (2023)',
        "~/${seed}",
        "-photos",
        "of=2023",
        "data/two\nlines",
    ],
)
def test_a_folder_of_any_name_reaches_the_stage_unchanged(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (tmp_path / "reads.py").write_text(STAGE)
    (tmp_path / "dvc.yaml").write_text(
        "stages: {reads: {cmd: python reads.py out, deps: ['${data.source}'], params: [data],"
        " outs: [out]}}"
    )
    content = yaml.safe_load((ROOT / "params.yaml").read_text())
    content["data"]["source"] = name
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(content))
    (tmp_path / name).mkdir(parents=True)
    (tmp_path / name / "a.txt").write_text("a")
    with Repo.init(str(tmp_path), no_scm=True) as repo:
        repo.reproduce("reads")
        assert not repo.status(["reads"])
        (tmp_path / name / "a.txt").write_text("another")
        assert repo.status(["reads"])
    assert not (tmp_path / "pwned").exists()
    assert (tmp_path / "out").read_text() == name


# Only logs its calls; the first argument pair `-m venv` makes an environment of stubs.
PYTHON = """
echo "python $*" >> "$CALLS"
case "$1" in -c) echo "$0" ;; esac
case "$2" in venv) mkdir -p .venv/bin; cp "$STUBS"/* .venv/bin ;; esac
"""
NEW, REUSED = "python -m venv --clear .venv", "python -m venv .venv"


def make(folder: Path, target: str, **environment: str) -> list[str]:
    """The calls of make, to stubs that only log them, in a checkout with a difficult name."""
    checkout, stubs, log = folder / CHECKOUT, folder / "stubs", folder / "calls"
    if not checkout.exists():
        checkout.mkdir(parents=True)
        for name in ("Makefile", "requirements.lock"):
            shutil.copy(ROOT / name, checkout)
    stub(folder / "python3", PYTHON)
    for name in ("python", "uv", "dvc", "pytest"):
        words = '"${PYTHONPATH-}" "${PIP_USER-}" "${0#"$PWD/"}"'
        stub(stubs / name, f'echo {words} "$@" >> "$CALLS"\n[ "$FAIL" != {name} ]')
    names = {"CALLS": log, "STUBS": stubs, "PYTHON": folder / "python3", "FAIL": "none"}
    names["HOME"] = folder
    log.write_text("")
    subprocess.run(
        ["make", "-s", target],
        cwd=checkout,
        env={**os.environ, **{name: str(path) for name, path in names.items()}, **environment},
        capture_output=True,
    )
    questions = ("-c import dvc", "print(os.path.realpath(sys.executable))")
    calls = [line.strip() for line in log.read_text().splitlines()]
    return [line for line in calls if not line.endswith(questions)]


def test_make_in_a_folder_of_any_name_and_beside_another_environment(tmp_path):
    variables = {"PYTHONPATH": "/elsewhere", "PIP_USER": "1", "VIRTUAL_ENV": "/elsewhere"}
    version, *calls = make(tmp_path, "repro", **variables)
    assert version.startswith("python -c")
    assert calls == [
        NEW,
        ".venv/bin/python -m pip install --quiet --disable-pip-version-check uv",
        ".venv/bin/uv pip sync --python .venv --quiet --compile-bytecode --require-hashes "
        "requirements.lock",
        ".venv/bin/dvc repro",
    ]
    (tests,) = make(tmp_path, "test")
    assert tests.startswith(".venv/bin/pytest")


@pytest.mark.parametrize(
    ("home", "cache", "without"),
    [("/proc/none", None, True), ("taken", None, True), ("/proc/none", "my cache", False)],
)
def test_make_does_without_a_cache_that_cannot_be_written(home, cache, without, tmp_path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/.cache").touch()  # a file, since root can write to every folder
    variables = {"XDG_CACHE_HOME": str(tmp_path / cache)} if cache else {}
    *_, uv = make(tmp_path, "setup", HOME=str(tmp_path / home), **variables)
    assert ("--no-cache" in uv) == without


def test_a_failed_setup_starts_from_nothing(tmp_path):
    """A full disk leaves half a package, which pip takes for a whole one."""
    assert make(tmp_path, "setup", FAIL="uv")[1] == NEW
    assert make(tmp_path, "setup")[1] == NEW
    assert make(tmp_path, "setup") == []
    (tmp_path / CHECKOUT / "requirements.lock").touch()  # another one: what fits it is kept
    assert make(tmp_path, "setup")[1] == REUSED


def test_an_environment_that_does_not_run_is_made_anew(tmp_path):
    """Its Python is gone, or the checkout was moved and its programs name the old place."""
    make(tmp_path, "setup")
    (tmp_path / CHECKOUT / ".venv/bin/python").unlink()
    assert make(tmp_path, "setup")[1] == NEW
    assert make(tmp_path, "setup") == []
    moved = tmp_path / "moved"
    (moved / CHECKOUT).parent.mkdir(parents=True)
    (tmp_path / CHECKOUT).rename(moved / CHECKOUT)
    assert make(moved, "setup")[1] == NEW
    assert make(moved, "setup") == []


def test_a_user_without_a_name_gets_one(tmp_path, monkeypatch):
    """As in containers. Without a name DVC stops, and so does PyTorch in a stage by hand."""
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


def test_a_python_without_the_packages_names_the_command_to_type():
    done = subprocess.run(
        [sys.executable, "-S", "-m", "stages.prepare"], cwd=ROOT, capture_output=True, text=True
    )
    remedy = f"{sys.executable} has no pydantic; first: . .venv/bin/activate"
    assert (done.returncode, done.stderr) == (1, f"error: {remedy}\n")


def test_git_for_windows_changes_no_line_ending():
    listed = subprocess.run(["git", "ls-files", "--eol"], cwd=ROOT, capture_output=True, text=True)
    assert {line.split()[2] for line in listed.stdout.splitlines()} == {"attr/-text"}


@pytest.mark.parametrize("name", ["params.yaml", "params/sd15.yaml", "params/study.yaml"])
def test_an_experiment_changes_one_line_of_the_parameters(name, tmp_path):
    """Quotes, comments, lists and null stay as they are."""
    file = Path(shutil.copy(ROOT / name, tmp_path))
    before = file.read_text().splitlines()
    apply_overrides(file, ["train.rank=16"])
    lines = difflib.unified_diff(before, file.read_text().splitlines(), n=0, lineterm="")
    changes = [line for line in lines if not line.startswith(("---", "+++", "@@"))]
    assert changes == ["-  rank: 8", "+  rank: 16"]
