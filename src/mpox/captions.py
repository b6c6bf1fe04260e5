"""Words for pictures: prompts whose `{fields}` are columns of the pictures' table."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from mpox import table
from mpox.errors import InputError

FIELD = re.compile(r"\{([^{}]*)\}")  # as params.FIELD, which no stage depends on


def fields(prompt: str) -> list[str]:
    """The columns that a prompt names, each once, in its order."""
    return list(dict.fromkeys(FIELD.findall(prompt)))


def fill(prompt: str, values: Mapping[str, object], key: str) -> str:
    """The prompt with the fields' values; InputError that names the parameter `key` and the field.

    A value that a table has not got, empty or `unknown`, would end up in the words: it is refused.
    """
    for name in fields(prompt):
        if name not in values:
            there = ", ".join(map(str, values)) or "nothing"
            raise InputError(f"{key}: no {{{name}}}; expected one of {there}")
        if str(values[name]).strip().lower() in table.NOTHING:
            raise InputError(f"{key}: {{{name}}}: no value")
    return FIELD.sub(lambda field: str(values[field[1]]), prompt)


def read(folder: Path, names: Sequence[str], prompt: str, key: str) -> list[str]:
    """The caption of each of a folder's pictures: its table's `text`, or else `prompt`, filled."""
    known = table.read(folder)
    if known is None:
        return [fill(prompt, {}, key) for _ in names]
    said = []
    for name in names:
        row = known.row(name)
        where = f"{known.file}: {name}"
        if "text" not in known.columns:
            said.append(fill(prompt, row, f"{where}: {key}"))
        elif row["text"].lower() in table.NOTHING:
            raise InputError(f"{where}: no text")
        elif fields(row["text"]):
            raise InputError(f"{where}: text: expected no braces; a caption is trained as it is")
        else:
            said.append(row["text"])
    return said
