"""Checks that the surrounding git repository has a commit and would commit no private file."""

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
    """InputError in a repository without a commit, in which DVCLive could not log the training."""
    if not shutil.which("git") or _call("rev-parse", "--git-dir").returncode:
        return
    if _call("rev-parse", "--verify", "HEAD").returncode:
        raise InputError("this git repository has no commit yet; make one: git commit")


def check(key: str, folder: Path) -> None:
    """InputError for a folder that `dvc exp run` would commit: it commits all git does not ignore.

    Inside the repository, git must ignore the folder or a parent, or track or ignore every file
    in it; the same holds for the target of a link. If git cannot tell, the folder is refused. A
    folder outside the repository, or one that does not exist yet, is accepted.
    """
    try:
        for path in dict.fromkeys((os.path.abspath(folder), os.path.realpath(folder))):
            if os.path.lexists(path):
                _check(Path(path), f"{MOVE[key]}, or name its folder in .gitignore")
    except ValueError as error:  # an InputError, or a name with a zero byte
        raise InputError(f"{key}: {_printable(folder)}: {error}") from None


def check_output(folder: Path) -> None:
    """InputError for a folder of pictures, still to be written, that `dvc exp run` would commit.

    Inside the repository, git must ignore the folder or a parent.
    """
    try:
        for path in dict.fromkeys((os.path.abspath(folder), os.path.realpath(folder))):
            if _would_be_committed(_from_root(Path(path))):
                raise InputError(
                    "git does not ignore it, and `dvc exp run` would commit the pictures in it; "
                    "name a folder in data/, or name this one in .gitignore"
                )
    except ValueError as error:
        raise InputError(f"{_printable(folder)}: {error}") from None


def _would_be_committed(folders: list[Path]) -> bool:
    """Whether git ignores none of these folders, each inside the one before; none need exist."""
    for folder in folders:
        is_link = folder.is_symlink()
        # A pattern such as `exports/` matches only folders; the slash marks one yet to be made.
        if _is_ignored(folder if is_link else f"{folder}/"):
            return False
        if is_link:  # git does not follow it
            return True
    return bool(folders)


def _from_root(path: Path) -> list[Path]:
    """The repository's root and every folder down to `path`; none if `path` is elsewhere."""
    if not _is_around() and "GIT_DIR" not in os.environ:
        return []
    root = Path(_git("rev-parse", "--show-toplevel").removesuffix("\n"))
    # Through a link to the checkout, the root has another name among the parents.
    parents = reversed((path, *path.parents))
    top = next((p for p in parents if os.path.exists(p) and os.path.samefile(p, root)), None)
    if top is None:
        return []
    relative = path.relative_to(top)
    return [root / parent for parent in reversed((relative, *relative.parents))]


def _check(path: Path, remedy: str) -> None:
    folders = _from_root(path)
    if not folders:
        return
    for folder in folders[1:]:
        if _is_ignored(folder):
            return
        if folder.is_symlink():
            raise InputError(
                f"git does not ignore the link {_relative(folder)}, and `dvc exp run` would commit "
                f"the files behind it; {remedy}, or the link, without a / at its end"
            )
        if folder.name == ".git" or os.path.lexists(folder / ".git"):
            _refuse_nested(folder, remedy)
    folder = folders[-1]
    # git does not list the files of a nested repository or of a submodule.
    for parent, names, files in os.walk(folder, onerror=_refuse_unread):
        nested = Path(parent)
        if ".git" in (*names, *files) and nested != folder and not _is_ignored(nested):
            _refuse_nested(nested, remedy)
    for entry in _list(folder, "--stage"):
        if entry.startswith("160000 "):
            _refuse_nested(Path(entry.partition("\t")[2]), remedy)
    others = _list(folder, "--others", "--exclude-standard")
    if others:
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        raise InputError(
            f"git neither tracks nor ignores {_printable(others[0])}{more}, so `dvc exp run` would "
            f"commit it; {remedy}"
        )


def _refuse_nested(folder: Path, remedy: str) -> NoReturn:
    raise InputError(
        f"{_relative(folder)} is a git repository of its own, and `dvc exp run` would commit its "
        f"files to the one around it; {remedy}"
    )


def _refuse_unread(error: OSError) -> NoReturn:
    raise InputError(f"{_relative(error.filename)} cannot be read ({error.strerror})")


def _relative(path: str | Path) -> str:
    return _printable(os.path.relpath(path))


def _printable(name: str | Path) -> str:
    """The name on one line."""
    return str(name) if str(name).isprintable() else repr(str(name))


def _is_ignored(path: str | Path) -> bool:
    return bool(_git("check-ignore", "--", str(path), accepted=(0, 1)))


def _list(folder: Path, *options: str) -> list[str]:
    command = ("--literal-pathspecs", "ls-files", "-z", *options, "--", str(folder))
    return _git(*command).split("\0")[:-1]


def _git(*words: str, accepted: tuple[int, ...] = (0,)) -> str:
    """git's output; InputError if git fails or warns, as about a folder that it cannot open."""
    unknown = "git cannot tell whether `dvc exp run` would commit it"
    try:
        done = _call(*words)
    except OSError as error:
        raise InputError(f"{unknown}: git cannot be run ({error.strerror})") from None
    if done.returncode not in accepted or done.stderr:
        lines = [line.strip() for line in os.fsdecode(done.stderr).splitlines() if line.strip()]
        raise InputError(f"{unknown}: {' '.join(lines[:4]) or f'exit status {done.returncode}'}")
    return os.fsdecode(done.stdout)


def _call(*words: str) -> subprocess.CompletedProcess[bytes]:
    environment = dict(os.environ)
    if _is_around():  # DVC uses this repository, whichever the environment names
        for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
            environment.pop(name, None)
    return subprocess.run(["git", *words], env=environment, capture_output=True)


def _is_around() -> bool:
    here = Path.cwd()
    return any(os.path.lexists(parent / ".git") for parent in (here, *here.parents))
