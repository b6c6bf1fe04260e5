"""Folders of photos or models that `dvc exp run` would commit are refused."""

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from conftest import ROOT

from mpox.core.errors import InputError
from mpox.params import Params, read
from stages import guards, repository

PHOTOS = Path("data/photos")  # ignored by git
LESIONS = Path("lesions")  # neither ignored nor tracked
PHOTO = "lesions/more/a.JPG"


def git(*words: str | Path, cwd: Path | None = None) -> None:
    who = ("-c", "user.name=test", "-c", "user.email=test@example.org")
    submodules = ("-c", "protocol.file.allow=always")
    subprocess.run(["git", *who, *submodules, *words], cwd=cwd, check=True, capture_output=True)


def fill(folder: Path) -> Path:
    (folder / "more").mkdir(parents=True)
    for name in ("more/a.JPG", "more/b.heic", "notes.txt"):
        (folder / name).touch()
    return folder


@pytest.fixture(autouse=True)
def _no_settings_of_git(monkeypatch):
    """Of the user, or of a git hook that runs the tests."""
    for name in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):
        monkeypatch.setenv(name, os.devnull)
    monkeypatch.setenv("LC_ALL", "C.UTF-8")  # git's messages are compared
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    """The working directory, a repository that ignores data/photos, as this one does."""
    folder = tmp_path / "the hospital's Übersicht [1]"
    folder.mkdir()
    monkeypatch.chdir(folder)
    git("init", "-q")
    (folder / ".gitignore").write_text("/data/photos\n.DS_Store\n")
    fill(folder / PHOTOS)
    fill(folder / LESIONS)
    git("add", ".gitignore")
    return folder


@pytest.fixture
def outside(tmp_path) -> Path:
    return fill(tmp_path / "outside")


def accept(folder: Path | str) -> None:
    repository.check("data.source", Path(folder))


def refusal(folder: Path | str, key: str = "data.source") -> str:
    """The message, without the key and the folder at its start."""
    with pytest.raises(InputError) as error:
        repository.check(key, Path(folder))
    message = str(error.value)
    assert "\n" not in message
    return message.removeprefix(f"{key}: {folder}: ")


def reject(folder: Path | str, file: str = PHOTO) -> None:
    assert f"git neither tracks nor ignores {file}" in refusal(folder)


def test_an_untracked_folder_that_git_does_not_ignore_is_refused(root):
    with pytest.raises(InputError) as error:
        accept(LESIONS)
    assert str(error.value) == (
        "data.source: lesions: git neither tracks nor ignores lesions/more/a.JPG and 2 more,"
        " so `dvc exp run` would commit it; move the photos to data/photos, or name its folder in "
        ".gitignore"
    )
    git("add", "lesions/more")
    assert "nor ignores lesions/notes.txt, so" in refusal(LESIONS)
    git("add", "lesions")
    accept(LESIONS)


def test_the_base_is_checked_as_the_photos_are(root):
    assert refusal(LESIONS, "model.path").endswith(
        "; move the model to a folder of its own in models/, or name its folder in .gitignore"
    )
    repository.check("model.path", PHOTOS)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"a\nb.jpg", r"'lesions/a\nb.jpg'"),
        (b"\xff.jpg", r"'lesions/\udcff.jpg'"),
        ("ä b*.jpg".encode(), "lesions/ä b*.jpg"),
        (b":(top)a.jpg", "lesions/:(top)a.jpg"),
    ],
)
def test_a_file_name_is_shown_on_one_line(name, shown, root):
    git("add", "lesions")
    (root / LESIONS / os.fsdecode(name)).touch()
    assert f"git neither tracks nor ignores {shown}, so" in refusal(LESIONS)


@pytest.mark.parametrize("name", ["a*", ":(exclude)b", "[ab]", "!a", "-a", "#a", "a\nb", "ä ö"])
def test_a_folder_of_any_name_is_that_folder_alone(name, root):
    fill(root / name)
    fill(root / "ab")
    assert "git neither tracks nor ignores" in refusal(name)
    git("--literal-pathspecs", "add", "--", name)
    accept(name)
    reject(LESIONS)


def test_a_tracked_or_ignored_folder_is_accepted(root):
    accept(PHOTOS)
    accept(PHOTOS / "more")
    accept(PHOTOS / "more/a.JPG")
    git("add", "lesions")
    (root / LESIONS / ".DS_Store").touch()
    accept(LESIONS)
    (root / "new").mkdir()
    accept("new")
    accept("none")
    (fill(root / "inner") / ".gitignore").write_text("*\n")
    accept("inner")


def test_a_name_that_no_folder_has_is_refused(root):
    with pytest.raises(InputError, match=r"^data\.source: 'a\\x00b': embedded null byte$"):
        accept("a\0b")


def test_what_is_outside_or_in_no_repository_is_accepted(root, outside, monkeypatch):
    accept(outside)
    accept("../outside")
    (outside / "broken").symlink_to("none")
    accept("../outside/broken")
    monkeypatch.chdir(outside)
    accept(outside)
    accept("more")
    accept(root / LESIONS)  # in a repository, but DVC is in none


WAYS = ("{}", "./{}", "none/../{}", "data/../{}", "{root}/{}", "{root}/data/.././{}", "{link}/{}")


@pytest.mark.parametrize("way", WAYS)
def test_a_folder_may_be_written_in_any_way(way, root, tmp_path):
    (tmp_path / "link").symlink_to(root)
    written = way.format("{}", root=root, link=tmp_path / "link")
    accept(written.format(PHOTOS))
    reject(written.format(LESIONS))


def test_the_working_directory_may_be_below_the_root_or_behind_a_link(root, tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to(root)
    monkeypatch.chdir(tmp_path / "link/data")
    accept("photos")
    reject("../lesions", "../lesions/more/a.JPG")
    reject(root / LESIONS, "../lesions/more/a.JPG")


def test_the_root_itself_is_a_folder_like_any_other(root, outside):
    for folder in (".", root):
        reject(folder, "lesions/more/a.JPG and 2 more")
    git("add", "lesions")
    accept(".")
    accept("..")
    (root / "data/photos/.git").mkdir()  # ignored
    accept(".")
    (root / ".git/a.jpg").touch()  # git never lists its own files
    assert refusal(".git").startswith(".git is a git repository of its own")


def test_a_link_that_git_does_not_ignore_is_refused(root, outside):
    """git would list only the link."""
    for number, target in enumerate((outside, root / PHOTOS, root / "none")):
        link = root / f"link{number}"
        link.symlink_to(target)
        message = (
            f"git does not ignore the link {link.name}, and `dvc exp run` would commit the files "
            "behind it; move the photos to data/photos, or "
        )
        assert refusal(link.name).startswith(message)
        assert refusal(link).startswith(message)
        git("add", link.name)
        assert refusal(link.name).startswith(message)  # git tracks only the link
    assert refusal("link0/more").startswith("git does not ignore the link link0,")
    (outside / "checkout").symlink_to(root)
    assert refusal(outside / "checkout/link0").startswith("git does not ignore the link link0,")
    (root / "loop").symlink_to(root)
    assert refusal("loop/data/photos").startswith("git does not ignore the link loop,")
    (root / ".gitignore").write_text("/data/photos\n/link3/\n")
    (root / "link3").symlink_to(outside)
    assert refusal("link3").endswith("the link, without a / at its end")
    (root / ".gitignore").write_text("/data/photos\n/link3\n")
    accept("link3")


def test_the_target_of_an_ignored_link_counts_too(root, outside):
    (root / ".gitignore").write_text("/data/photos\n/link*\n")
    for number, target in enumerate((LESIONS, PHOTOS, outside, "none")):
        (root / f"link{number}").symlink_to(target)
    reject("link0")
    reject("link0/more")
    for number in (1, 2, 3):
        accept(f"link{number}")
    accept("link2/more")
    (outside / "back").symlink_to(root / LESIONS)
    (outside / "deep").symlink_to(root / LESIONS / "more")
    for folder in ("../outside/back", "../outside/deep/.."):
        assert f"nor ignores {PHOTO}" in refusal(folder)
    # The system follows the link and goes up from outside/more; DVC reads data/../lesions.
    (root / "data/link").symlink_to(outside / "more")
    (root / ".gitignore").write_text("/data\n")
    reject("data/link/../../lesions")


@pytest.mark.parametrize("kind", ["empty", "file", "a commit"])
@pytest.mark.parametrize("folder", ["lesions", "lesions/more", "lesions/more/still"])
def test_a_repository_of_its_own_is_refused(kind, folder, root):
    nested = root / folder
    nested.mkdir(exist_ok=True)
    git("add", ".")
    (nested / "new.jpg").touch()
    if kind == "empty":
        (nested / ".git").mkdir()
    elif kind == "file":
        (nested / ".git").write_text("gitdir: elsewhere\n")
    else:
        commit_all(nested)
    expected = f"{folder} is a git repository of its own, and `dvc exp run` would commit its files"
    assert refusal(LESIONS).startswith(expected)
    (root / "lesions/more/deep").mkdir()
    if folder == "lesions/more":
        assert refusal("lesions/more/deep").startswith(expected)
    (root / ".gitignore").write_text(f"/{folder}/\n")
    git("rm", "-rq", "--cached", "--ignore-unmatch", folder)
    accept(LESIONS)
    accept(folder)


def commit_all(folder: Path) -> None:
    git("init", "-q", cwd=folder)
    git("add", ".", cwd=folder)
    git("commit", "-qm", "photos", cwd=folder)


def test_a_submodule_is_a_repository_of_its_own(root, tmp_path):
    other = fill(tmp_path / "other")
    commit_all(other)
    shutil.rmtree(root / LESIONS)
    git("submodule", "add", "-q", other, LESIONS / "sub")
    git("commit", "-qm", "submodule")
    message = "lesions/sub is a git repository of its own"
    for folder in (LESIONS, LESIONS / "sub", LESIONS / "sub/more"):
        assert refusal(folder).startswith(message)
    git("submodule", "--quiet", "deinit", "-f", LESIONS / "sub")
    fill(root / LESIONS / "sub")  # where git does not look
    for folder in (LESIONS, LESIONS / "sub"):
        assert refusal(folder).startswith(message)
    assert "is in submodule" in refusal(LESIONS / "sub/more")


def test_a_worktree_and_a_submodule_are_like_any_repository(root, tmp_path, monkeypatch):
    git("commit", "-qm", "state")
    git("worktree", "add", "-q", tmp_path / "tree")
    git("submodule", "add", "-q", root, "sub")
    for folder in (tmp_path / "tree", root / "sub"):
        assert (folder / ".git").is_file()
        fill(folder / PHOTOS)
        fill(folder / LESIONS)
        monkeypatch.chdir(folder)
        accept(PHOTOS)
        reject(LESIONS)


def test_in_a_copy_that_dvc_made_its_own_repository_counts(root, monkeypatch):
    """`dvc exp run --temp` works in a clone inside the checkout, which ignores the clone."""
    (root / ".gitignore").write_text("/copy\n")
    git("init", "-q", "copy")
    monkeypatch.chdir("copy")
    fill(root / "copy/lesions")
    reject(LESIONS)
    git("add", "lesions")
    accept(LESIONS)


UNKNOWN = "git cannot tell whether `dvc exp run` would commit it: "


def test_a_repository_of_another_user_is_refused_with_gits_own_remedy(root, tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    message = refusal(PHOTOS)
    assert message.startswith(f"{UNKNOWN}fatal: detected dubious ownership in repository at '")
    command = message.partition("call: ")[2]
    assert command.startswith("git config --global --add safe.directory ")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    subprocess.run(command, shell=True, check=True)
    accept(PHOTOS)


def test_a_broken_repository_is_refused(root):
    shutil.rmtree(root / ".git")
    (root / ".git").write_text("gitdir: nowhere\n")
    assert refusal(PHOTOS).startswith(f"{UNKNOWN}fatal: not a git repository: ")


def test_without_a_git_program_a_repository_is_refused(root, outside, monkeypatch):
    monkeypatch.setenv("PATH", str(root / "data"))
    repository.check_commit()
    assert refusal(PHOTOS) == f"{UNKNOWN}git cannot be run (No such file or directory)"
    accept("none")
    monkeypatch.chdir(outside)
    accept("more")


def test_a_git_that_fails_silently_is_refused(root, tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/git").write_text("#!/bin/sh\nexit 7\n")
    (tmp_path / "bin/git").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert refusal(PHOTOS) == f"{UNKNOWN}exit status 7"


@pytest.mark.parametrize(
    ("closed", "message"),
    [
        ("more", "lesions/more cannot be read (Permission denied)"),
        ("more/.gitignore", f"{UNKNOWN}warning: unable to access 'lesions/more/.gitignore': Perm"),
    ],
)
def test_what_cannot_be_read_is_refused(closed, message, monkeypatch):
    """By a user who is not root, in a folder that such a user can reach."""
    user = os.geteuid() or 65534
    with tempfile.TemporaryDirectory() as reached:
        monkeypatch.chdir(reached)
        fill(LESIONS)
        git("init", "-q")
        git("add", ".")
        for name in (".gitignore", "lesions/more/.gitignore"):
            Path(name).write_text(".gitignore\n")
        for path in (Path(reached), *Path(reached).rglob("*")):
            os.chown(path, user, -1)
        before = os.geteuid()
        os.seteuid(user)
        try:
            accept(LESIONS)
            (LESIONS / closed).chmod(0)
            assert refusal(LESIONS).startswith(message)
        finally:
            (LESIONS / closed).chmod(0o700)
            os.seteuid(before)


def test_git_dir_counts_where_no_repository_is_around(root, outside, monkeypatch):
    monkeypatch.chdir(outside.parent)
    monkeypatch.setenv("GIT_DIR", str(root / ".git"))
    reject("outside", "outside/more/a.JPG")
    (root / ".git/info/exclude").write_text("*\n")
    accept("outside")
    monkeypatch.setenv("GIT_DIR", "/none")
    assert refusal("outside").startswith(f"{UNKNOWN}fatal: not a git repository: '/none'")


def test_the_repository_around_counts_more_than_git_dir(root, tmp_path, monkeypatch):
    """DVC commits to the one around the working directory."""
    git("init", "-q", tmp_path / "other")
    (tmp_path / "other/.git/info/exclude").write_text("*\n")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other/.git"))
    reject(LESIONS)
    monkeypatch.delenv("GIT_DIR")
    monkeypatch.setenv("GIT_WORK_TREE", str(tmp_path / "other"))
    reject(LESIONS)
    monkeypatch.delenv("GIT_WORK_TREE")
    shutil.copy(root / ".git/index", tmp_path / "index")
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "index"))
    git("add", "lesions")
    reject(LESIONS)


IGNORED = (
    "data/photos", "data/photos/a.jpg", "data/prepared.partial/train/a.png", ".checkpoints/x/a.png",
    "models/mine", "models/mine/unet/config.json", "models/lora", "models/features/weights.pth",
    "models/features/w.pth.partial", "models/sd15/unet", "mpox.safetensors", "hub/README.md",
)  # fmt: skip
NOT_IGNORED = (
    "data/photos.dvc", "models", "models/mine.dvc", "models/dvc.yaml", "models/dvc.lock",
    "models/tiny-sd/unet/new.json", "models/features/.gitignore",
)  # fmt: skip


def test_this_repository_ignores_photos_and_models_beforehand():
    paths = [*IGNORED, *NOT_IGNORED]
    command = ["git", "check-ignore", "--no-index", *paths]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.splitlines() == [*IGNORED]


@pytest.mark.parametrize("key", ["data.source", "data.controls", "model.path"])
def test_the_guards_of_stages_ask_about_every_folder(key, root):
    git("commit", "-qm", "state")
    given = read(ROOT / "params.yaml", Params, {key: "lesions"})
    with pytest.raises(InputError, match=f"^{key}: lesions: git neither tracks nor ignores "):
        guards.check(given)


def test_pictures_are_written_only_where_git_ignores_them(root, outside, tmp_path):
    (root / ".gitignore").write_text("/data/photos\n/exports/\n")
    (root / "empty").mkdir()
    git("add", "lesions")
    (root / "link").symlink_to(root / "data")
    for folder in ("new", "empty", "lesions", ".", "data", "data/other", "link/new"):
        with pytest.raises(InputError, match=rf"^{re.escape(folder)}: git does not ignore it, "):
            repository.check_output(Path(folder))
    (root / "away").symlink_to(outside)
    with pytest.raises(InputError, match=r"^away/new: git does not ignore it"):
        repository.check_output(Path("away/new"))
    (root / "data/photos/away").symlink_to(outside)
    accepted = ("data/photos", "data/photos/new/one", "data/photos/away/new", "exports/new")
    for folder in accepted:
        repository.check_output(Path(folder))
    repository.check_output(tmp_path / "elsewhere")


def test_pictures_may_be_written_anywhere_without_a_repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    repository.check_output(Path("out"))
