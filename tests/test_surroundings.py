"""A stage where something around it is missing, in the way or hostile."""

import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from mpox.errors import InputError


def prepare(folder: Path, *words: str) -> subprocess.CompletedProcess:
    """The first stage, of this checkout's code, in `folder`."""
    return subprocess.run(
        [sys.executable, "-m", "stages.prepare", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture
def copy(tmp_path) -> Path:
    """The code and its parameters alone, in no git repository; one photo, which is never read."""
    for name in ("src", "stages"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "params.yaml", tmp_path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "mpox_p000_0.jpg").touch()
    return tmp_path


def test_a_repository_without_a_commit_stops_the_first_stage(copy):
    """dvclive would otherwise end the third in a traceback."""
    subprocess.run(["git", "init", "-q"], cwd=copy, check=True)
    done = prepare(copy, "photos", "out", "out.json")
    assert done.returncode == 1
    assert done.stderr == (
        "error: this git repository has no commit yet; expected one: git commit\n"
    )


@pytest.mark.skipif("GIT_DIR" in os.environ, reason="the test would be in that repository")
def test_an_output_that_cannot_be_written_is_named(copy):
    (copy / "taken").touch()
    done = prepare(copy, "photos", "taken", "out.json")
    assert done.returncode == 1
    assert done.stderr == "error: taken: Not a directory\n"
    done = prepare(copy, "photos", "taken/out", "out.json")
    assert done.returncode == 1
    assert done.stderr == "error: taken/out.partial: Not a directory\n"


def test_a_file_in_the_photos_place_is_named(copy):
    done = prepare(copy, "params.yaml", "out", "out.json")
    assert (done.returncode, done.stderr) == (1, "error: params.yaml: no such folder\n")


@pytest.mark.slow
def test_weights_for_the_last_stage_that_are_not_there_stop_the_first(copy):
    """As under `dvc exp run --temp`, which copies no file that git ignores."""
    changes = ["evaluate.features=inception_v3", "evaluate.weights=models/inception/weights.pth"]
    done = prepare(copy, "photos", "out", "out.json", *changes)
    assert done.returncode == 1
    assert "error: evaluate.weights: models/inception/weights.pth: no such file" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (copy / "out").exists()


class Bomb:
    """Unpickled, it leaves a mark; a real one would do worse."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def test_a_hostile_resume_point_is_never_run(tmp_path):
    import torch

    from mpox import checkpoints

    mark, file = tmp_path / "executed", tmp_path / "state.pt"
    checkpoints.save({"now": Bomb(mark)}, file)
    with pytest.raises(InputError, match=f"{file}: Weights only load failed.*; remove the file"):
        checkpoints.load(file)
    assert not mark.exists()
    torch.load(io.BytesIO(file.read_bytes()[32:]), weights_only=False)
    assert mark.exists()
