"""Folders and files that are complete or absent, never partial."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mpox.core.errors import InputError, line

# First bytes of a placeholder for a file that was not fetched; the program, and how to fetch.
POINTERS = {
    b"version https://git-lfs.github.com/": ("Git LFS", "git lfs pull"),
    b"/annex/objects/": ("git-annex", "git annex get ."),
}
LORA = "pytorch_lora_weights.safetensors"  # diffusers' name for a LoRA's weights
CLUTTER = {".DS_Store", "Thumbs.db"}  # left by file managers; also in .dvcignore


def sha256(file: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest(folder: Path) -> str:
    """SHA-256 of what `sha256sum` prints for a folder's files in the order of their names."""
    names = (p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    files = sorted(name for name in names if Path(name).name not in CLUTTER)
    lines = "".join(f"{sha256(folder / name)}  {name}\n" for name in files)
    return hashlib.sha256(lines.encode("utf-8", "surrogateescape")).hexdigest()


def pointer(head: bytes) -> str:
    """The reason to refuse a file that is a placeholder of Git LFS or git-annex, or nothing."""
    for start, (program, command) in POINTERS.items():
        if head.startswith(start):
            return f"is a pointer of {program}, not the file itself; run: {command}"
    return ""


def check_fetched(*files: Path) -> None:
    """Refuse placeholders. Files that cannot be read are left for their reader to report."""
    pointers = []
    for file in files:
        if file.is_file() and os.access(file, os.R_OK):
            with file.open("rb") as stream:
                if reason := pointer(stream.read(64)):
                    pointers.append(f"{line(file)}: {reason}")
    if pointers:
        more = f" ({len(pointers)} such files)" if len(pointers) > 1 else ""
        raise InputError(f"{pointers[0]}{more}")


def check_vacant(*folders: Path) -> None:
    """Refuse folders that hold files, because nothing is ever overwritten."""
    for folder in folders:
        if folder.is_file():
            raise InputError(f"{folder}: is a file; expected a folder, or none yet")
        if any(not path.is_dir() for path in folder.rglob("*")):
            raise InputError(f"{folder}: holds files already; remove them or name another folder")


@contextmanager
def whole(folder: Path) -> Iterator[Path]:
    """A folder to write into. It gets the name `folder` only when it is complete.

    A killed run leaves `<folder>.partial`, which the next run removes.
    """
    check_vacant(folder)
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        check_vacant(folder)
        shutil.rmtree(folder, ignore_errors=True)
        partial.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def copy(source: Path, target: Path) -> None:
    """Copy a finished folder to the place of a stage's output."""
    with whole(target) as folder:
        try:
            shutil.copytree(source, folder, dirs_exist_ok=True)
        except shutil.Error as error:
            _, file, reason = error.args[0][0]  # the first of the files that could not be copied
            raise InputError(f"{file}: cannot be written: {reason}") from None


def write(file: Path, content: bytes) -> None:
    """Write a complete file (fsync, then rename), or none and raise InputError."""
    partial = file.with_name(f"{file.name}.partial")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(file)
    except OSError as error:
        raise InputError(f"{file}: cannot be written: {error.strerror}") from error
    finally:
        if partial.exists():
            partial.unlink()
