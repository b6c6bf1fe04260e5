"""A stage's dependencies, compared before and after its work.

DVC hashes dependencies again once the command has ended, and records that hash. Without this check,
a file or parameter edited during a run would be recorded as if the outputs had been made from it.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from mpox.core.errors import InputError, line

MAX_CHANGES = 20  # in a message
DVC_FILES = ("dvc.yaml", "*/dvc.yaml", "*/*/dvc.yaml")
TEMPLATE = re.compile(r"\$\{([\w.]+)\}")


class Dependencies(NamedTuple):
    """The dependencies of a stage in dvc.yaml; paths are relative to the repository."""

    paths: list[str]  # of files and folders
    params: dict[str, list[str]]  # parameter file → dotted keys; no keys: the whole file


class State(NamedTuple):
    """The dependencies at one moment."""

    files: dict[str, os.stat_result]
    values: dict[str, Any]  # "params.yaml: train.rank" → value


@contextmanager
def unchanged() -> Iterator[None]:
    """InputError after the work if a dependency of the stage has changed meanwhile.

    Outside DVC nothing is recorded, so nothing is compared. Of several processes, only the first
    compares. By then the outputs and the resume point are written, so the next run takes seconds
    if the dependencies are as before.
    """
    stage = os.environ.get("DVC_STAGE")
    if stage is None or os.environ.get("RANK", "0") != "0":
        yield
        return
    dependencies = declared(stage)
    before = _look(dependencies)
    yield
    changes = _compare(before, _look(dependencies))
    if changes:
        more = len(changes) - MAX_CHANGES
        shown = changes[:MAX_CHANGES] + ([f"… and {more} more"] if more > 0 else [])
        raise InputError(
            "\n  ".join([f"{stage}: dependencies changed during the run:", *shown])
            + "\nNothing is recorded, because DVC would record them as used. Undo the change or "
            "keep it, then run `dvc repro` again"
        )


def declared(stage: str) -> Dependencies:
    """The dependencies of `stage`, named as in DVC_STAGE; InputError if no dvc.yaml has it."""
    # The path in DVC_STAGE is relative to where DVC was called, so only the stage's name counts.
    name = stage.rpartition(":")[2].partition("@")[0]
    for file in (file for pattern in DVC_FILES for file in Path().glob(pattern)):
        definition = _load(file).get("stages", {}).get(name)
        if definition is not None:
            break
    else:
        raise InputError(
            f"DVC_STAGE: got {stage!r}, expected a stage of a dvc.yaml below {Path.cwd()}; unset "
            "DVC_STAGE"
        )
    definition = definition.get("do", definition)
    values = _load(Path("params.yaml")) if TEMPLATE.search(str(definition["deps"])) else {}
    paths = [
        TEMPLATE.sub(lambda key: str(_at(values, key[1])), path) for path in definition["deps"]
    ]
    params: dict[str, list[str]] = {}
    for entry in definition.get("params", []):
        if isinstance(entry, str):
            params.setdefault("params.yaml", []).append(entry)
        else:
            params |= {file: keys or [] for file, keys in entry.items()}
    return Dependencies(paths, params)


def _look(dependencies: Dependencies) -> State:
    files: dict[str, os.stat_result] = {}
    for path in dependencies.paths:
        files |= _files(path)
    values: dict[str, Any] = {}
    for file, keys in dependencies.params.items():
        content = _load(Path(file))
        values |= {f"{file}: {key}": _at(content, key) for key in keys or content}
    return State(files, values)


def _files(path: str) -> dict[str, os.stat_result]:
    """A file, or every file below a folder; like DVC, only links to files are followed."""
    if not os.path.isdir(path):
        names = [path]
    else:
        names = [os.path.join(parent, name) for parent, _, files in os.walk(path) for name in files]
    states = {}
    for name in names:
        try:
            states[name] = os.stat(name)
        except OSError:  # a broken link, or a file removed meanwhile, counts as absent
            continue
    return states


def _compare(before: State, after: State) -> list[str]:
    """A line for every parameter and file that differs."""
    changes = [
        f"{key}: was {value!r}, is {after.values.get(key)!r}"
        for key, value in before.values.items()
        if after.values.get(key) != value
    ]
    changes += [f"{key}: added" for key in after.values if key not in before.values]
    differ = [
        name
        for name in sorted(before.files.keys() | after.files.keys())
        if _token(before.files.get(name)) != _token(after.files.get(name))
    ]
    if not differ:
        return changes
    from dvc.repo import Repo

    with Repo() as repo:
        for name in differ:
            if repo.dvcignore.is_ignored_file(name):
                continue
            if name not in after.files:
                changes.append(f"{line(name)}: removed")
            elif name not in before.files:
                changes.append(f"{line(name)}: added")
            elif not _has_same_content(repo, name, before.files[name]):
                changes.append(f"{line(name)}: edited")
    return changes


def _token(state: os.stat_result | None) -> tuple[int, int, int] | None:
    """Inode, size and time, which DVC also compares before it hashes a file again."""
    return state and (state.st_ino, state.st_size, state.st_mtime_ns)


def _has_same_content(repo: Any, name: str, before: os.stat_result) -> bool:
    """Whether the MD5 equals the one that DVC recorded for the state `before`; False if none."""
    from dvc.fs import localfs
    from dvc_data.hashfile.hash import hash_file

    path = os.path.abspath(name)
    state = {"ino": before.st_ino, "mtime": before.st_mtime, "size": before.st_size}
    known = repo.state.get(path, localfs, localfs.info(path) | state)[1]
    return known == hash_file(path, localfs, "md5", repo.state)[1]


def _load(file: Path) -> dict[str, Any]:
    try:
        content = yaml.load(file.read_bytes(), yaml.CSafeLoader)
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror})") from None
    except yaml.YAMLError as error:
        raise InputError(f"{file}: not readable as YAML: {error}") from None
    return content if isinstance(content, dict) else {}


def _at(content: Any, key: str) -> Any:
    """The value under a dotted key; None if there is none."""
    for part in key.split("."):
        content = content.get(part) if isinstance(content, dict) else None
    return content
