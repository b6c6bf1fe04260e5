"""Captions: prompts whose `{fields}` are columns of the pictures' table."""

import re
from collections.abc import Mapping

from mpox.core import table
from mpox.core.errors import InputError
from mpox.core.picture_set import PictureSet

FIELD = re.compile(r"\{([^{}]*)\}")  # equals params.FIELD; no stage depends on params


def fields(prompt: str) -> list[str]:
    """The columns that a prompt names, without repeats, in the prompt's order."""
    return list(dict.fromkeys(FIELD.findall(prompt)))


def fill(prompt: str, values: Mapping[str, object], key: str) -> str:
    """The prompt with its fields replaced by values.

    Raises InputError, with the parameter `key` and the field, if the table lacks the column or
    the value is empty or `unknown`: it would become part of the caption.
    """
    for name in fields(prompt):
        if name not in values:
            columns = ", ".join(map(str, values)) or "nothing"
            raise InputError(f"{key}: no {{{name}}}; expected one of {columns}")
        if str(values[name]).strip().lower() in table.NOTHING:
            raise InputError(f"{key}: {{{name}}}: no value")
    return FIELD.sub(lambda field: str(values[field[1]]), prompt)


def of(pictures: PictureSet, prompt: str, key: str) -> list[str]:
    """Captions: each picture's `text` in the table, or else `prompt` (parameter `key`) filled."""
    captions = []
    for name, row in zip(pictures.names, pictures.rows, strict=True):
        where = f"{pictures.table}: {name}" if pictures.table else ""
        if "text" not in row:
            captions.append(fill(prompt, row, f"{where}: {key}" if where else key))
        elif row["text"].lower() in table.NOTHING:
            raise InputError(f"{where}: no text")
        elif fields(row["text"]):
            raise InputError(f"{where}: text: expected no braces; captions are not filled in")
        else:
            captions.append(row["text"])
    return captions
