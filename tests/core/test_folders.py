import errno
import inspect
import os
from pathlib import Path

import pytest
from conftest import full_disk

from mpox.core import folders
from mpox.core.errors import InputError
from stages import generate, train_lora


def test_whole_appears_only_when_complete(tmp_path):
    out = tmp_path / "deep" / "out"
    (tmp_path / "deep" / "out.partial").mkdir(parents=True)
    (tmp_path / "deep" / "out.partial" / "of a killed run").touch()
    with pytest.raises(KeyError), folders.whole(out) as folder:
        (folder / "a").touch()
        raise KeyError
    assert list((tmp_path / "deep").iterdir()) == []
    with folders.whole(out) as folder:
        (folder / "a").touch()
        assert not out.exists()
    assert [path.name for path in out.iterdir()] == ["a"]
    with pytest.raises(InputError, match="holds files already"), folders.whole(out):
        pass


def test_a_copy_goes_over_empty_folders_and_never_over_a_file(tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "deep").mkdir(parents=True)
    (source / "deep" / "new").touch()
    (target / "left").mkdir(parents=True)
    folders.copy(source, target)
    assert [path.name for path in target.rglob("*")] == ["deep", "new"]
    with pytest.raises(InputError, match="target: holds files already"):
        folders.copy(source, target)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source", "target"]


def test_a_copy_that_does_not_fit_is_no_result(tmp_path):
    """A full disk: copytree's own error has neither a number nor a name."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    (source / "large").write_bytes(bytes(2000))
    refused = "target.partial/large: cannot be written: .*too large"
    with full_disk(1000), pytest.raises(InputError, match=refused):
        folders.copy(source, target)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_a_file_is_written_whole_or_the_error_names_it(tmp_path, monkeypatch):
    file = tmp_path / "deep" / "file"
    folders.write(file, b"old")

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=f"{file}: cannot be written: No space left on device"):
        folders.write(file, b"new")
    assert file.read_bytes() == b"old" and [*file.parent.iterdir()] == [file]


@pytest.mark.parametrize("stage", [generate, train_lora])
def test_a_stage_called_by_hand_writes_over_nothing(stage, small, tmp_path):
    """It says so before any work, and before it looks for a model."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").touch()
    paths = [Path("nowhere")] * (len(inspect.signature(stage.main).parameters) - 2)
    with pytest.raises(InputError, match="holds files already"):
        stage.main(small, *paths, tmp_path)
