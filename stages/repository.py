"""The git repository around the working directory: it has a commit, and takes nothing private."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import NoReturn

from mpox.core.errors import InputError

MOVE = {
    "data.source": "move the photos to data/photos",
    "data.controls": "move the photos to data/controls",
    "model.path": "move the model to a folder of its own in models/",
}


def check_commit() -> None:
    """Stops the first stage, not the third: dvclive cannot log in a repository without a commit."""
    if not shutil.which("git") or _call("rev-parse", "--git-dir").returncode:
        return
    if _call("rev-parse", "--verify", "HEAD").returncode:
        raise InputError("this git repository has no commit yet; expected one: git commit")


def check(key: str, folder: Path) -> None:
    """InputError for a folder that `dvc exp run` would commit, as it does all git does not ignore.

    Below the repository's root, as the folder is written and where its links lead, git must ignore
    it or a folder above it, or hold or ignore every file in it. What git cannot tell is refused.
    A folder elsewhere, or not there yet, is accepted, and each where there is no repository.
    """
    try:
        for path in dict.fromkeys((os.path.abspath(folder), os.path.realpath(folder))):
            if os.path.lexists(path):
                _check(Path(path), f"{MOVE[key]}, or name its folder in .gitignore")
    except ValueError as error:  # an InputError, or of a name with a zero byte
        raise InputError(f"{key}: {_shown(folder)}: {error}") from None


def check_output(folder: Path) -> None:
    """InputError for a folder of pictures, yet to be written, that `dvc exp run` would commit.

    Below the repository's root git must ignore it or a folder above it. A folder elsewhere is
    accepted, and each where there is no repository.
    """
    try:
        for path in dict.fromkeys((os.path.abspath(folder), os.path.realpath(folder))):
            if _is_taken(_below_root(Path(path))):
                raise InputError(
                    "git does not ignore it, and `dvc exp run` would commit the pictures in it; "
                    "name a folder in data/, or name this one in .gitignore"
                )
    except ValueError as error:
        raise InputError(f"{_shown(folder)}: {error}") from None


def _is_taken(below: list[Path]) -> bool:
    """Whether git ignores none of these folders, each inside the one before; none need exist."""
    for folder in below:
        is_link = folder.is_symlink()
        # A pattern such as `exports/` matches folders alone. The slash marks one that is yet to be.
        if _is_ignored(folder if is_link else f"{folder}/"):
            return False
        if is_link:  # git does not look behind it
            return True
    return bool(below)


def _below_root(path: Path) -> list[Path]:
    """The repository's root and every folder down to `path`; none where `path` is elsewhere."""
    if not _is_around() and "GIT_DIR" not in os.environ:
        return []
    root = Path(_git("rev-parse", "--show-toplevel").removesuffix("\n"))
    # A link may lead to the checkout: the root then has another name among the folders above.
    ups = reversed((path, *path.parents))
    top = next((up for up in ups if os.path.exists(up) and os.path.samefile(up, root)), None)
    if top is None:
        return []
    within = path.relative_to(top)
    return [root / up for up in reversed((within, *within.parents))]


def _check(path: Path, remedy: str) -> None:
    below = _below_root(path)
    if not below:
        return
    for folder in below[1:]:
        if _is_ignored(folder):
            return
        if folder.is_symlink():
            raise InputError(
                f"git does not ignore the link {_near(folder)}, and `dvc exp run` would commit "
                f"what is behind it; {remedy}, or the link, without a / at its end"
            )
        if folder.name == ".git" or os.path.lexists(folder / ".git"):
            _refuse_nested(folder, remedy)
    folder = below[-1]
    # What is in a repository of its own, or in a submodule's folder, git does not list.
    for parent, folders, files in os.walk(folder, onerror=_refuse_unread):
        within = Path(parent)
        if ".git" in (*folders, *files) and within != folder and not _is_ignored(within):
            _refuse_nested(within, remedy)
    for entry in _list(folder, "--stage"):
        if entry.startswith("160000 "):
            _refuse_nested(Path(entry.partition("\t")[2]), remedy)
    others = _list(folder, "--others", "--exclude-standard")
    if others:
        raise InputError(
            f"git neither holds nor ignores {_shown(others[0])} ({len(others)} like it in all), so "
            f"`dvc exp run` would commit it; {remedy}"
        )


def _refuse_nested(folder: Path, remedy: str) -> NoReturn:
    raise InputError(
        f"{_near(folder)} is a git repository of its own, and `dvc exp run` would commit its files "
        f"to the one around it; {remedy}"
    )


def _refuse_unread(error: OSError) -> NoReturn:
    raise InputError(f"{_near(error.filename)} cannot be read ({error.strerror})")


def _near(path: str | Path) -> str:
    return _shown(os.path.relpath(path))


def _shown(name: str | Path) -> str:
    """On one line."""
    return str(name) if str(name).isprintable() else repr(str(name))


def _is_ignored(path: str | Path) -> bool:
    return bool(_git("check-ignore", "--", str(path), fine=(0, 1)))


def _list(folder: Path, *options: str) -> list[str]:
    command = ("--literal-pathspecs", "ls-files", "-z", *options, "--", str(folder))
    return _git(*command).split("\0")[:-1]


def _git(*words: str, fine: tuple[int, ...] = (0,)) -> str:
    """What git says; InputError if it fails or warns, as of a folder that it could not open."""
    unknown = "git cannot tell whether `dvc exp run` would commit it"
    try:
        done = _call(*words)
    except OSError as error:
        raise InputError(f"{unknown}: git cannot be run ({error.strerror})") from None
    if done.returncode not in fine or done.stderr:
        lines = [line.strip() for line in os.fsdecode(done.stderr).splitlines() if line.strip()]
        raise InputError(f"{unknown}: {' '.join(lines[:4]) or f'exit status {done.returncode}'}")
    return os.fsdecode(done.stdout)


def _call(*words: str) -> subprocess.CompletedProcess[bytes]:
    environment = dict(os.environ)
    if _is_around():  # DVC takes this repository, whichever the environment names
        for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
            environment.pop(name, None)
    return subprocess.run(["git", *words], env=environment, capture_output=True)


def _is_around() -> bool:
    here = Path.cwd()
    return any(os.path.lexists(up / ".git") for up in (here, *here.parents))
