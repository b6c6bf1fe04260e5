"""One folder for equal inputs, wherever they are, and another for any other inputs."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mpox.core.errors import InputError
from mpox.model import checkpoints, loss


@pytest.fixture
def inputs(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    for name in ("model/unet/weights", "model/index", "pictures/a.png", "pictures/b.png", "lora"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    return tmp_path


def key(small, root: Path, **changes) -> str:
    settings = {"train": small.train, "resolution": 64, "seed": 1} | changes
    stage = str(settings.pop("stage", "train_lora"))
    return checkpoints.folder(
        stage, settings, [root / "model", root / "pictures", root / "lora"]
    ).name


def test_equal_inputs_give_the_same_folder_in_any_place(small, inputs, tmp_path_factory):
    first = key(small, inputs)
    folder = inputs / ".checkpoints" / first
    assert first.startswith("train_lora-") and folder.is_dir()
    (folder / "state").touch()
    assert key(small, inputs) == first and (folder / "state").exists()
    copy = shutil.copytree(inputs, tmp_path_factory.mktemp("temp") / "workspace")
    assert key(small, copy) == first
    assert key(small, Path()) == first  # by relative paths
    for name in (".DS_Store", "Thumbs.db"):
        (inputs / "pictures" / name).touch()
    assert key(small, inputs) == first


def test_any_other_setting_gives_another_folder(small, inputs):
    """Changes each setting of the section and of its sub-sections in turn."""
    keys = {key(small, inputs)}
    number = 1
    for name, value in small.train.model_dump().items():
        inner = value if isinstance(value, dict) else {None: value}
        for sub, old in inner.items():
            changed = not old if isinstance(old, bool) else f"{old}x" if old == str(old) else 77
            new = getattr(small.train, name).model_copy(update={sub: changed}) if sub else changed
            keys.add(key(small, inputs, train=small.train.model_copy(update={name: new})))
            number += 1
    others = ({"seed": 2}, {"resolution": 128}, {"stage": "generate"}, {"generate": small.generate})
    keys |= {key(small, inputs, **other) for other in others}
    assert number > 20 and len(keys) == number + len(others)


def test_any_other_byte_or_name_of_an_input_gives_another_folder(small, inputs):
    keys = [key(small, inputs)]
    for file in ("model/unet/weights", "model/index", "pictures/b.png", "lora"):
        content = (inputs / file).read_bytes()
        (inputs / file).write_bytes(content[:-1] + b"!")
        keys.append(key(small, inputs))
        (inputs / file).write_bytes(content)
    assert key(small, inputs) == keys[0]
    (inputs / "pictures/b.png").rename(inputs / "pictures/c.png")
    keys.append(key(small, inputs))
    (inputs / "pictures/a.png").rename(inputs / "pictures/b.png")
    keys.append(key(small, inputs))
    (inputs / "pictures/new.png").touch()
    keys.append(key(small, inputs))
    assert len(set(keys)) == len(keys)


def test_other_code_gives_another_folder(small, inputs, monkeypatch):
    before = key(small, inputs)
    edited = inputs / "loss.py"
    edited.write_text(Path(str(loss.__file__)).read_text() + "\n")
    monkeypatch.setattr(sys.modules["mpox.model.loss"], "__file__", str(edited))
    assert key(small, inputs) != before


def test_the_folder_is_in_the_main_repository_that_dvc_names(small, inputs, tmp_path, monkeypatch):
    here = key(small, inputs)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "main"))
    assert key(small, inputs) == here
    assert (tmp_path / "main" / ".checkpoints" / here).is_dir()


STATE = {"step": 3, "loss": [0.5, 0.25], "weights": {"a": torch.arange(100.0)}}


def test_what_was_saved_is_loaded(tmp_path):
    checkpoints.save(STATE, tmp_path / "state")
    loaded = checkpoints.load(tmp_path / "state")
    assert loaded["step"] == 3 and loaded["loss"] == STATE["loss"]
    assert torch.equal(loaded["weights"]["a"], STATE["weights"]["a"])
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


@pytest.mark.parametrize("cut", [0, 10, 32, 500, -1])
def test_a_file_cut_short_is_refused(cut, tmp_path):
    file = tmp_path / "state"
    checkpoints.save(STATE, file)
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(InputError, match=f"{file}: is damaged; remove the file"):
        checkpoints.load(file)


def test_a_flipped_bit_is_noticed(tmp_path):
    """PyTorch itself would not notice."""
    file = tmp_path / "state"
    checkpoints.save(STATE, file)
    whole = file.read_bytes()
    at = whole.index(torch.tensor(7.0).numpy().tobytes(), 32)
    file.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    with pytest.raises(InputError, match="is damaged"):
        checkpoints.load(file)


def test_by_hand_nothing_is_swept_away(small, inputs, monkeypatch):
    monkeypatch.delenv("DVC_STAGE", raising=False)
    finished = inputs / ".checkpoints" / key(small, inputs)
    checkpoints.finish(finished)
    checkpoints.sweep("generate")
    assert finished.is_dir()


def test_only_a_later_stage_sweeps_finished_work(small, inputs, monkeypatch):
    monkeypatch.setenv("DVC_STAGE", "evaluate")  # as DVC does
    finished, other = (inputs / ".checkpoints" / key(small, inputs, seed=seed) for seed in (1, 2))
    checkpoints.finish(finished)
    checkpoints.sweep("draw_base")
    assert finished.is_dir()
    key(small, inputs)  # resumed, so no longer finished
    checkpoints.sweep("generate")
    assert finished.is_dir()
    checkpoints.finish(finished)
    checkpoints.sweep("generate")
    assert [*(inputs / ".checkpoints").iterdir()] == [other]
    (finished.with_suffix(".removed") / "of a killed sweep").mkdir(parents=True)
    checkpoints.finish(inputs / ".checkpoints" / key(small, inputs, seed=1))
    checkpoints.sweep("generate")
    assert [*(inputs / ".checkpoints").iterdir()] == [other]


def test_two_runs_never_share_a_folder_at_the_same_time(small, inputs):
    """Once the first has ended, even by a kill, the next one may use it."""
    folder = inputs / ".checkpoints" / key(small, inputs)
    code = (
        f"import sys; sys.path[:0] = {sys.path!r}; from pathlib import Path; "
        f"from mpox.model import checkpoints; checkpoints._lock(Path({str(folder)!r}))"
    )
    with pytest.raises(subprocess.CalledProcessError) as failed:
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert f"{folder.name}: another run with the same parameters" in failed.value.stderr
    ended = f"{code}; import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    (folder / "lock").unlink()  # this process's
    for _ in range(2):
        assert subprocess.run([sys.executable, "-c", ended]).returncode == -9
