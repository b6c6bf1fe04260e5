"""A stage whose dependencies change while it runs fails, and nothing is recorded."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from dvc.exceptions import ReproductionError
from dvc.repo import Repo
from ruamel.yaml import YAML
from test_pipeline import FILES

from mpox.core.errors import InputError
from stages import inputs

LISTED = ("dvc.yaml", "params.yaml", "params", *FILES)


@pytest.mark.parametrize("profile", ["params.yaml", "params/sd15.yaml"])
def test_the_compared_dependencies_are_those_that_dvc_records(profile, tmp_path, monkeypatch):
    """For every stage of every dvc.yaml, compared with DVC's own reading."""
    for name in LISTED:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tmp_path / name)
        else:
            shutil.copy(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / profile, tmp_path / "params.yaml")
    monkeypatch.chdir(tmp_path)
    with Repo.init(str(tmp_path), no_scm=True) as repo:
        stages = {stage.addressing: stage for stage in repo.index.stages}
    assert len(stages) == (12 if profile == "params.yaml" else 14)
    for name, stage in stages.items():
        declared = inputs.declared(name)
        params = [dep for dep in stage.deps if hasattr(dep, "params")]
        assert declared.params == {dep.def_path: dep.params for dep in params}, name
        assert declared.paths == [dep.def_path for dep in stage.deps if dep not in params], name


def test_a_stage_is_found_from_whatever_folder_dvc_was_called(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert inputs.declared("../dvc.yaml:prepare") == inputs.declared("prepare")
    assert "src/mpox/embedded/phantom.py" in inputs.declared("phantom").paths
    with pytest.raises(InputError, match="got 'nowhere', expected a stage of a dvc"):
        inputs.declared("nowhere")


STAGE = """
import os, subprocess
from stages import run

def main(params, out):
    out.write_text("made")
    subprocess.run(["sh", "-c", os.environ["MEANWHILE"]], check=True)

run(main)
"""


@pytest.fixture
def repository(tmp_path, monkeypatch) -> Path:
    """A git and DVC repository with one stage, which runs the command in MEANWHILE."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "test")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "test@example.org")
    git("init", "-q", "-b", "main")
    Repo.init(str(tmp_path)).close()
    for name in ("params.yaml", ".dvcignore", ".gitignore"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "data/photos").mkdir(parents=True)
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / "data/photos" / name).write_bytes(bytes(10))
    (tmp_path / "code.py").touch()
    (tmp_path / "stage.py").write_text(STAGE)
    stage = {"cmd": "python stage.py out", "deps": ["data/photos", "code.py", "stage.py"],
             "params": ["report.real", "seed"], "outs": ["out"]}  # fmt: skip
    YAML().dump({"stages": {"looks": stage}}, tmp_path / "dvc.yaml")
    (tmp_path / ".gitignore").open("a").write("/out\n")
    git("add", "-A")
    git("commit", "-qm", "state")
    git("switch", "-qc", "other")
    (tmp_path / "code.py").write_text("# another branch's\n")
    git("commit", "-qam", "other")
    git("switch", "-q", "main")
    return tmp_path


def git(*words: str) -> None:
    subprocess.run(["git", *words], check=True)


def reproduce() -> None:
    with Repo() as repo:
        repo.reproduce("looks")


CHANGES = {
    "a parameter": (
        "sed -i 's/^  real: true/  real: false/' params.yaml",
        "params.yaml: report.real: was True, is False",
    ),
    "a file edited": (
        "printf 0123456789 > data/photos/a.jpg",
        "data/photos/a.jpg: edited",
    ),
    "a file added": ("echo new > data/photos/c.jpg", "data/photos/c.jpg: added"),
    "a file removed": ("rm data/photos/b.jpg", "data/photos/b.jpg: removed"),
    "code": ("echo '# edited' >> stage.py", "stage.py: edited"),
    "git switch": ("git switch -q other", "code.py: edited"),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_a_change_during_a_stage_is_named(kind, repository, monkeypatch):
    monkeypatch.setenv("DVC_STAGE", "looks")
    command, change = CHANGES[kind]
    with pytest.raises(InputError) as error, inputs.unchanged():
        subprocess.run(["sh", "-c", command], check=True)
    assert str(error.value).startswith(
        f"looks: dependencies changed during the run:\n  {change}\nNothing is recorded"
    )


@pytest.mark.slow
def test_a_run_whose_inputs_changed_is_not_recorded(repository, monkeypatch, capfd):
    """Neither in dvc.lock nor in the run cache; with the change undone, the next run is."""
    monkeypatch.setenv("MEANWHILE", " && ".join(command for command, _ in CHANGES.values()))
    with pytest.raises(ReproductionError):
        reproduce()
    output = capfd.readouterr().err
    assert "Traceback" not in output
    assert "error: looks: dependencies changed during the run:\n" in output
    assert {f"  {change}" for _, change in CHANGES.values()} < {*output.splitlines()}
    assert (repository / "out").read_text() == "made"  # the comparison came last
    assert not (repository / "dvc.lock").exists()
    assert not list((repository / ".dvc/cache").glob("runs/*/*/*"))

    git("switch", "-q", "--discard-changes", "main")
    (repository / "data/photos/c.jpg").unlink()
    monkeypatch.setenv("MEANWHILE", "true")
    reproduce()
    with Repo() as repo:
        assert not repo.status(["looks"])


@pytest.mark.slow
def test_changes_that_dvc_does_not_record_are_accepted(repository, monkeypatch):
    """Another parameter, a file's time, a file in .dvcignore, and a change that is undone."""
    harmless = (
        "sed -i 's/^  rank: 8/  rank: 16/' params.yaml",
        "touch data/photos/a.jpg code.py",
        "touch data/photos/.DS_Store && mkdir data/photos/@eaDir && touch data/photos/@eaDir/a.jpg",
        "git switch -q --merge other && git switch -q --merge main",
    )
    monkeypatch.setenv("MEANWHILE", " && ".join(harmless))
    reproduce()
    with Repo() as repo:
        assert not repo.status(["looks"])


def test_only_the_first_process_of_a_stage_compares(repository, monkeypatch):
    def change() -> None:
        with inputs.unchanged():
            (repository / "data/photos/a.jpg").write_text(f"{os.urandom(4)}")

    change()  # by hand, outside DVC
    monkeypatch.setenv("DVC_STAGE", "looks")
    with pytest.raises(InputError, match=r"looks: dep.*\n  data/photos/a.jpg: edited\n"):
        change()
    monkeypatch.setenv("RANK", "1")
    change()


def test_of_many_changes_twenty_are_named_and_the_others_counted(repository, monkeypatch):
    monkeypatch.setenv("DVC_STAGE", "looks")
    refusal = pytest.raises(InputError, match="\n  … and 80 more\nNothing is recorded")
    with refusal as error, inputs.unchanged():
        for k in range(100):
            (repository / f"data/photos/{k}.png").touch()
    assert len(str(error.value).splitlines()) == inputs.MAX_CHANGES + 3
