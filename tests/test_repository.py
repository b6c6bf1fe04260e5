"""Folders that `dvc exp run` would commit are refused, by every stage and whatever git says."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from test_stages import call, checkout, commit

from mpox.core.errors import InputError
from stages import repository

PIPELINE = list(yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"])
PHOTOS = Path("data/photos")  # ignored by git
LESIONS = Path("lesions")  # neither ignored nor held


def git(*words: str | Path, cwd: Path | None = None) -> None:
    who = ("-c", "user.name=test", "-c", "user.email=test@example.org")
    more = ("-c", "protocol.file.allow=always")
    subprocess.run(["git", *who, *more, *words], cwd=cwd, check=True, capture_output=True)


def fill(folder: Path) -> Path:
    (folder / "more").mkdir(parents=True)
    for name in ("more/a.JPG", "more/b.heic", "notes.txt"):
        (folder / name).touch()
    return folder


@pytest.fixture(autouse=True)
def _git_of_nobody(monkeypatch):
    """Neither the user's settings nor, in a git hook, another repository."""
    for name in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):
        monkeypatch.setenv(name, os.devnull)
    monkeypatch.setenv("LC_ALL", "C.UTF-8")  # git's words are compared
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
    """What is said about it, without the key and the folder that come first."""
    with pytest.raises(InputError) as error:
        repository.check(key, Path(folder))
    said = str(error.value)
    assert "\n" not in said
    return said.removeprefix(f"{key}: {folder}: ")


def test_what_git_neither_holds_nor_ignores_is_refused(root):
    with pytest.raises(InputError) as error:
        accept(LESIONS)
    assert str(error.value) == (
        "data.source: lesions: git neither holds nor ignores lesions/more/a.JPG (3 like it in all),"
        " so `dvc exp run` would commit it; move the photos to data/photos, or name its folder in "
        ".gitignore"
    )
    git("add", "lesions/more")
    assert "nor ignores lesions/notes.txt (1 like it in all)" in refusal(LESIONS)
    git("add", "lesions")
    accept(LESIONS)


def test_the_base_is_asked_about_as_the_photos_are(root):
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
def test_a_file_of_any_name_is_named_on_one_line(name, shown, root):
    git("add", "lesions")
    (root / LESIONS / os.fsdecode(name)).touch()
    assert f"git neither holds nor ignores {shown} (1 like it in all), so" in refusal(LESIONS)


@pytest.mark.parametrize("name", ["a*", ":(exclude)b", "[ab]", "!a", "-a", "#a", "a\nb", "ä ö"])
def test_a_folder_of_any_name_is_that_folder_alone(name, root):
    fill(root / name)
    fill(root / "ab")
    with pytest.raises(InputError, match="neither holds nor ignores"):
        accept(name)
    git("--literal-pathspecs", "add", "--", name)
    accept(name)
    assert "neither holds" in refusal(LESIONS)


def test_what_git_holds_or_ignores_is_accepted(root):
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
    assert "neither holds nor ignores lesions/more/a.JPG" in refusal(written.format(LESIONS))


def test_the_working_directory_may_be_below_the_root_or_behind_a_link(root, tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to(root)
    monkeypatch.chdir(tmp_path / "link/data")
    accept("photos")
    assert "neither holds nor ignores ../lesions/more/a.JPG" in refusal("../lesions")
    assert "neither holds nor ignores ../lesions/more/a.JPG" in refusal(root / LESIONS)


def test_the_root_itself_is_a_folder_like_any_other(root, outside):
    for folder in (".", root):
        assert "neither holds nor ignores lesions/more/a.JPG (3 like it" in refusal(folder)
    git("add", "lesions")
    accept(".")
    accept("..")
    (root / "data/photos/.git").mkdir()  # ignored
    accept(".")
    (root / ".git/a.jpg").touch()  # git lists none of its own
    assert refusal(".git").startswith(".git is a git repository of its own")


def test_a_link_that_git_does_not_ignore_is_refused(root, outside):
    """As git would list the link alone."""
    for number, target in enumerate((outside, root / PHOTOS, root / "none")):
        link = root / f"link{number}"
        link.symlink_to(target)
        said = (
            f"git does not ignore the link {link.name}, and `dvc exp run` would commit what is "
            "behind it; move the photos to data/photos, or "
        )
        assert refusal(link.name).startswith(said)
        assert refusal(link).startswith(said)
        git("add", link.name)
        assert refusal(link.name).startswith(said)  # git holds the link, and not what is behind it
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


def test_where_an_ignored_link_leads_is_asked_about_too(root, outside):
    (root / ".gitignore").write_text("/data/photos\n/link*\n")
    for number, target in enumerate((LESIONS, PHOTOS, outside, "none")):
        (root / f"link{number}").symlink_to(target)
    assert "neither holds nor ignores lesions/more/a.JPG" in refusal("link0")
    assert "neither holds nor ignores lesions/more/a.JPG" in refusal("link0/more")
    for number in (1, 2, 3):
        accept(f"link{number}")
    accept("link2/more")
    (outside / "back").symlink_to(root / LESIONS)
    (outside / "deep").symlink_to(root / LESIONS / "more")
    for folder in ("../outside/back", "../outside/deep/.."):
        with pytest.raises(InputError, match=r"neither holds nor ignores lesions/more/a\.JPG"):
            accept(folder)
    # The system goes two folders up from outside/more/.., DVC reads it as data/../lesions.
    (root / "data/link").symlink_to(outside / "more")
    (root / ".gitignore").write_text("/data\n")
    assert "neither holds nor ignores lesions/more/a.JPG" in refusal("data/link/../../lesions")


@pytest.mark.parametrize("kind", ["empty", "without a commit", "with a commit", "file"])
@pytest.mark.parametrize("folder", ["lesions", "lesions/more", "lesions/more/still"])
def test_a_repository_of_its_own_is_refused(kind, folder, root, outside):
    nested = root / folder
    nested.mkdir(exist_ok=True)
    git("add", ".")
    (nested / "new.jpg").touch()
    if kind == "empty":
        (nested / ".git").mkdir()
    elif kind == "file":
        (nested / ".git").write_text("gitdir: elsewhere\n")
    else:
        git("init", "-q", cwd=nested)
    if kind == "with a commit":
        git("add", ".", cwd=nested)
        git("commit", "-qm", "photos", cwd=nested)
    expected = (
        f"{folder} is a git repository of its own, and `dvc exp run` would commit its files to the "
        "one around it; move the photos to data/photos, or name its folder in .gitignore"
    )
    assert refusal(LESIONS) == expected
    if folder == "lesions/more":
        (root / "lesions/more/deep").mkdir()
        assert refusal("lesions/more/deep") == expected
    (root / ".gitignore").write_text(f"/{folder}/\n")
    git("rm", "-rq", "--cached", "--ignore-unmatch", folder)
    accept(LESIONS)
    accept(folder)


def test_a_submodule_is_a_repository_of_its_own(root, tmp_path):
    other = fill(tmp_path / "other")
    git("init", "-q", cwd=other)
    git("add", ".", cwd=other)
    git("commit", "-qm", "photos", cwd=other)
    shutil.rmtree(root / LESIONS)
    git("submodule", "add", "-q", other, LESIONS / "sub")
    git("commit", "-qm", "submodule")
    said = "lesions/sub is a git repository of its own"
    for folder in (LESIONS, LESIONS / "sub", LESIONS / "sub/more"):
        assert refusal(folder).startswith(said)
    git("submodule", "--quiet", "deinit", "-f", LESIONS / "sub")
    fill(root / LESIONS / "sub")  # where git looks for nothing
    for folder in (LESIONS, LESIONS / "sub"):
        assert refusal(folder).startswith(said)
    assert "is in submodule" in refusal(LESIONS / "sub/more")


def test_in_a_worktree_and_in_a_submodule_git_is_asked_as_elsewhere(root, tmp_path, monkeypatch):
    git("commit", "-qm", "state")
    git("worktree", "add", "-q", tmp_path / "tree")
    git("submodule", "add", "-q", root, "sub")
    for folder in (tmp_path / "tree", root / "sub"):
        assert (folder / ".git").is_file()
        fill(folder / PHOTOS)
        fill(folder / LESIONS)
        monkeypatch.chdir(folder)
        accept(PHOTOS)
        assert "neither holds nor ignores lesions/more/a.JPG" in refusal(LESIONS)


def test_in_a_copy_of_dvc_its_own_repository_is_asked(root, monkeypatch):
    """`dvc exp run --temp` works in a clone below the checkout, where the outer one ignores all."""
    (root / ".gitignore").write_text("/copy\n")
    git("init", "-q", "copy")
    monkeypatch.chdir("copy")
    fill(root / "copy/lesions")
    assert "neither holds nor ignores lesions/more/a.JPG" in refusal(LESIONS)
    git("add", "lesions")
    accept(LESIONS)


TOLD = "git cannot tell whether `dvc exp run` would commit it: "


@pytest.mark.parametrize("really", [False, True])
def test_a_repository_of_another_user_is_refused_with_gits_own_remedy(
    really, root, tmp_path, monkeypatch
):
    if not really:
        monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    elif os.geteuid():
        pytest.skip("only root can give it away")
    else:
        for path in (root, *root.rglob("*")):
            os.chown(path, 65534, 65534)
        monkeypatch.delenv("SUDO_UID", raising=False)
    said = refusal(PHOTOS)
    assert said.startswith(f"{TOLD}fatal: detected dubious ownership in repository at '")
    command = said.partition("call: ")[2]
    assert command.startswith("git config --global --add safe.directory ")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    subprocess.run(command, shell=True, check=True)
    accept(PHOTOS)


def test_a_broken_repository_is_refused(root):
    shutil.rmtree(root / ".git")
    (root / ".git").write_text("gitdir: nowhere\n")
    assert refusal(PHOTOS).startswith(f"{TOLD}fatal: not a git repository: ")


def test_without_a_git_program_a_repository_is_refused(root, outside, monkeypatch):
    monkeypatch.setenv("PATH", str(root / "data"))
    repository.check_commit()
    assert refusal(PHOTOS) == f"{TOLD}git cannot be run (No such file or directory)"
    accept("none")
    monkeypatch.chdir(outside)
    accept("more")


def test_a_git_that_dies_without_a_word_is_refused(root, tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/git").write_text("#!/bin/sh\nexit 7\n")
    (tmp_path / "bin/git").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert refusal(PHOTOS) == f"{TOLD}exit status 7"


@pytest.mark.parametrize(
    ("closed", "said"),
    [
        ("more", "lesions/more cannot be read (Permission denied)"),
        ("more/.gitignore", f"{TOLD}warning: unable to access 'lesions/more/.gitignore': Perm"),
    ],
)
def test_what_cannot_be_read_is_refused(closed, said, monkeypatch):
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
            assert refusal(LESIONS).startswith(said)
        finally:
            (LESIONS / closed).chmod(0o700)
            os.seteuid(before)


def test_a_repository_that_the_environment_names_is_asked_where_no_other_is_around(
    root, outside, monkeypatch
):
    monkeypatch.chdir(outside.parent)
    monkeypatch.setenv("GIT_DIR", str(root / ".git"))
    assert "neither holds nor ignores outside/more/a.JPG" in refusal("outside")
    (root / ".git/info/exclude").write_text("*\n")
    accept("outside")
    monkeypatch.setenv("GIT_DIR", "/none")
    assert refusal("outside").startswith(f"{TOLD}fatal: not a git repository: '/none'")


def test_the_repository_around_is_asked_whichever_the_environment_names(
    root, tmp_path, monkeypatch
):
    """DVC commits to the one around."""
    git("init", "-q", tmp_path / "other")
    (tmp_path / "other/.git/info/exclude").write_text("*\n")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other/.git"))
    assert "neither holds nor ignores lesions/more/a.JPG" in refusal(LESIONS)
    monkeypatch.delenv("GIT_DIR")
    monkeypatch.setenv("GIT_WORK_TREE", str(tmp_path / "other"))
    assert "neither holds nor ignores lesions/more/a.JPG" in refusal(LESIONS)
    monkeypatch.delenv("GIT_WORK_TREE")
    shutil.copy(root / ".git/index", tmp_path / "index")
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "index"))
    git("add", "lesions")
    assert "neither holds nor ignores lesions/more/a.JPG" in refusal(LESIONS)


@pytest.mark.parametrize(
    ("path", "ignored"),
    [
        ("models/mine", True),
        ("models/mine/unet/config.json", True),
        ("models/lora", True),
        ("models/features/weights.pth", True),
        ("models/sd15/unet", True),
        ("models/tiny-sd/unet/new.json", False),
        ("models/dvc.yaml", False),
        ("models/dvc.lock", False),
        ("models/mine.dvc", False),
        ("models", False),
        ("data/photos", True),
        ("data/photos.dvc", False),
    ],
)
def test_this_repository_ignores_photos_and_models_beforehand(path, ignored):
    command = ["git", "check-ignore", "-q", "--no-index", path]
    assert subprocess.run(command, cwd=ROOT).returncode == (0 if ignored else 1)


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    """A repository of this checkout's code and parameters, and folders that git would take."""
    folder = tmp_path_factory.mktemp("copy")
    for name in ("src", "stages"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "params.yaml", folder)
    git("init", "-q", cwd=folder)
    git("add", ".", cwd=folder)
    git("commit", "-qm", "state", cwd=folder)
    fill(folder / LESIONS)
    return folder


@pytest.mark.parametrize("key", ["data.source", "model.path"])
@pytest.mark.parametrize("stage", PIPELINE)
def test_every_stage_asks(stage, key, copy):
    command = [sys.executable, "-m", f"stages.{stage}", f"{key}=lesions"]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {key}: lesions: git neither holds nor ignores ")


@pytest.mark.slow
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


def test_an_experiment_that_is_refused_leaves_nothing_in_git(tmp_path):
    """No object, reachable or not, of a private file."""
    folder = checkout(tmp_path / "copy")
    phantoms = folder / "data/phantom/photos"

    def private(name: str, source: Path = phantoms) -> str:
        shutil.copytree(source, folder / name)
        (folder / name / "names.csv").write_text(f"the names in {name}\n")
        return name

    shutil.copytree(phantoms, folder / "held")
    commit(folder)
    (folder / "held/names.csv").write_text("new names\n")
    git("init", "-q", cwd=folder / private("nested"))
    (folder / "link").symlink_to(private("data/photos"))
    cases = {
        f"data.source={private('lesions')}": "nor ignores lesions/mpox_p000_0.jpg (257 like",
        "data.source=held": "held/names.csv (1 like",
        "data.source=nested": "nested is a git repository of its own",
        "data.source=link": "git does not ignore the link link",
        f"model.path={private('base', folder / 'models/tiny-sd')}": "base/",
    }
    for change, said in cases.items():
        with pytest.raises(AssertionError, match=re.escape(said)):
            call(folder, "dvc", "exp", "run", "-S", change, "prepare")
        call(folder, "git", "checkout", "-q", ".")
    for file in folder.glob("**/names.csv"):
        name = call(folder, "git", "hash-object", str(file)).strip()
        with pytest.raises(AssertionError, match="Not a valid object name"):
            call(folder, "git", "cat-file", "-p", name)
