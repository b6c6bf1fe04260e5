"""Folders and files that are there whole or not at all."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mpox.core.errors import InputError, line

# What stands in the place of a file that was not fetched: its first bytes, and who put them there.
POINTERS = {
    b"version https://git-lfs.github.com/": ("Git LFS", "git lfs pull"),
    b"/annex/objects/": ("git-annex", "git annex get ."),
}
LORA = "pytorch_lora_weights.safetensors"  # diffusers' name for the file of a LoRA's folder
CLUTTER = {".DS_Store", "Thumbs.db"}  # what looking at a folder leaves there, as in .dvcignore


def sha256(file: Path) -> str:
    """Of a file's bytes, in hexadecimal digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest(folder: Path) -> str:
    """SHA-256 of a folder: of what `sha256sum` prints of its files, in the order of their names."""
    names = (p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    kept = sorted(name for name in names if Path(name).name not in CLUTTER)
    lines = "".join(f"{sha256(folder / name)}  {name}\n" for name in kept)
    return hashlib.sha256(lines.encode("utf-8", "surrogateescape")).hexdigest()


def pointer(head: bytes) -> str:
    """What a file is by its first bytes, if Git LFS or git-annex left it in another's place."""
    for start, (program, command) in POINTERS.items():
        if head.startswith(start):
            return f"is a pointer of {program}, not the file itself; run: {command}"
    return ""


def check_fetched(*files: Path) -> None:
    """InputError where a file is a pointer; what cannot be read is left to its reader."""
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
    """InputError where a file is, or a folder that holds one: nothing is ever written over."""
    for folder in folders:
        if folder.is_file():
            raise InputError(f"{folder}: is a file; expected a folder, or none yet")
        if any(not path.is_dir() for path in folder.rglob("*")):
            raise InputError(f"{folder}: holds files already; remove them or name another folder")


@contextmanager
def whole(folder: Path) -> Iterator[Path]:
    """A folder to write into that takes the name `folder` only once it is complete.

    A killed run leaves `<folder>.partial`, never taken for a result; the next run removes it.
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
    """Copies a finished folder to where a stage's output belongs."""
    with whole(target) as folder:
        try:
            shutil.copytree(source, folder, dirs_exist_ok=True)
        except shutil.Error as error:
            _, file, reason = error.args[0][0]  # of all files that could not be copied
            raise InputError(f"{file}: cannot be written: {reason}") from None


def write(file: Path, content: bytes) -> None:
    """The whole file, on the disk itself (fsync, then rename), or none and an InputError."""
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
