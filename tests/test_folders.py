import pytest

from mpox import folders
from mpox.errors import InputError


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


def test_a_copy_replaces_what_was_there(tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    for folder, name in ((source, "new"), (target, "old")):
        folder.mkdir()
        (folder / name).write_text(name)
    folders.copy(source, target)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["new", "new", "source", "target"]
