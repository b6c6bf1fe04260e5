"""Words for pictures: prompts whose `{fields}` are columns of the pictures' table."""

import re
from collections.abc import Mapping

from mpox.core import table
from mpox.core.errors import InputError
from mpox.core.picture_set import PictureSet

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


def of(pictures: PictureSet, prompt: str, key: str) -> list[str]:
    """Each picture's caption: its table's `text`, or else `prompt` (parameter `key`), filled."""
    captions = []
    for name, row in zip(pictures.names, pictures.rows, strict=True):
        where = f"{pictures.table}: {name}" if pictures.table else ""
        if "text" not in row:
            captions.append(fill(prompt, row, f"{where}: {key}" if where else key))
        elif row["text"].lower() in table.NOTHING:
            raise InputError(f"{where}: no text")
        elif fields(row["text"]):
            raise InputError(f"{where}: text: expected no braces; a caption is trained as it is")
        else:
            captions.append(row["text"])
    return captions
