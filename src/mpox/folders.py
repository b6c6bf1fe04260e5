"""Folders and files that are there whole or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mpox.errors import InputError


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
