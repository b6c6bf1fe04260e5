"""The kit: pictures without anything that says which are real, in one file that needs no network.

What is drawn is a function of the seed, but for identifiers, which are random: whoever has the code
and the seed could else work out which picture is which.
"""

import base64
import csv
import hashlib
import io
import json
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mpox.core import images, listing, table
from mpox.core.errors import InputError
from mpox.core.seeds import derive
from mpox.params import Reading

# Identifiers, the kit's and the check begin with a letter: spreadsheets take hexadecimal digits, as
# 73928e030112, for a number.
KEY_COLUMNS = ("id", "class", "repeat_of", "file", "kit", "check")
REAL, SYNTHETIC = "real", "synthetic"
QUALITIES = (95, 90, 85, 80, 70, 60, 50)  # of all JPEGs, 4:4:4: the first that fits in …
MOST_BYTES = 14_500_000  # … a file that is opened and mailed without trouble
FEWEST = 2  # pictures of either class
TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Kit:
    """A reading study's two files, and what is in them."""

    content: dict[str, Any]  # what the page holds: `kit` (its hash), `pictures`, the questions
    key: str  # key.csv
    counts: dict[str, int]  # of real, synthetic, repeated and training pictures


def build(real: Path, synthetic: Path, settings: Reading, side: int, seed: int) -> Kit:
    """A kit of `settings.pictures` test photos and as many synthetic pictures, drawn by `seed`.

    One photo a patient first; fewer of both where there are fewer of one. `settings.repeats` of
    them, half of either class, are shown twice. `settings.training` cases of either class, of none
    of the others, are shown first with the answer: of these alone the page holds the class.
    """
    rng = np.random.default_rng(derive(seed, "reading"))
    every = {REAL: _by_patient(real, rng), SYNTHETIC: _shuffled(synthetic, rng)}
    given = min(map(len, every.values()))
    number = min(settings.pictures, given - settings.training)
    if number < FEWEST:
        least = min(every, key=lambda kind: len(every[kind]))
        raise InputError(
            f"reading: {len(every[least])} {least} pictures, {settings.training} of them for "
            f"training; expected {FEWEST} or more to read"
        )
    chosen = [(kind, path) for kind, paths in every.items() for path in paths[:number]]
    repeats = [
        (kind, paths[i])
        for k, (kind, paths) in enumerate(every.items())
        for i in rng.permutation(number)[: (min(settings.repeats, 2 * number) + 1 - k) // 2]
    ]
    lessons = [
        (kind, path)
        for kind, paths in every.items()
        for path in paths[number : number + settings.training]
    ]
    encoded = _encode([path for _, path in [*chosen, *repeats, *lessons]], side)
    shown, taught = encoded[: len(chosen) + len(repeats)], encoded[len(chosen) + len(repeats) :]
    ids = [f"p{secrets.token_hex(6)}" for _ in shown]
    first = {path: own for (_, path), own in zip(chosen, ids, strict=False)}
    key = io.StringIO(newline="")
    rows = csv.writer(key, lineterminator="\n")
    rows.writerow(KEY_COLUMNS)
    entries = []
    for k, ((kind, path), own) in enumerate(zip([*chosen, *repeats], ids, strict=True)):
        again = first[path] if k >= len(chosen) else ""
        entries.append((own, kind, again, f"{path.parent.name}/{path.name}", fingerprint(ids)))
    rows.writerows((*entry, check(entry)) for entry in sorted(entries))
    order = rng.permutation(len(lessons))
    content = {
        "kit": fingerprint(ids),
        "side": side,
        "pictures": [
            {"id": own, "src": _uri(data)} for own, data in sorted(zip(ids, shown, strict=True))
        ],
        "lessons": [{"class": lessons[k][0], "src": _uri(taught[k])} for k in order],
        "questions": questions(settings),
    }
    counts = {REAL: number, SYNTHETIC: number, "repeats": len(repeats), "training": len(lessons)}
    return Kit(content, key.getvalue(), counts)


def fingerprint(ids: Sequence[str]) -> str:
    """The kit's hash, which ties answers to it: of its random identifiers."""
    return f"k{_digest(sorted(ids))}"


def check(values: Sequence[str]) -> str:
    """What a line of the key ends in, so that a changed one is noticed: a hash of the others."""
    return f"c{_digest(values)}"


def _digest(values: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(values).encode()).hexdigest()[:15]


def questions(settings: Reading) -> list[dict[str, Any]]:
    """Asked of every picture, in this order: nothing about real or synthetic before the last."""
    sure = ("guessing", "unsure", "fairly sure", "sure", "certain")
    quality = ("unusable", "poor", "fair", "good", "excellent")
    realism = ("not at all", "hardly", "in part", "largely", "fully")
    asked = {
        "diagnosis": ("Which diagnosis?", settings.diagnoses),
        "diagnosis_confidence": ("How sure are you of it?", sure),
        "quality": ("How good is the picture, to judge by?", quality),
        "features": ("Which of these do you see?", settings.features),
        "tone": ("Is the skin's tone plausible?", ("no", "unsure", "yes")),
        "site": ("Which site of the body could it be?", settings.sites),
        "realism": ("How realistic is it?", realism),
        "class": ("Is it a real photo, or synthetic?", (REAL, SYNTHETIC)),
        "class_confidence": ("How sure are you of that?", sure),
    }
    found: list[dict[str, Any]] = [
        {"name": name, "ask": ask, "options": list(options), "many": name == "features"}
        for name, (ask, options) in asked.items()
    ]
    reason = {"name": "reason", "ask": "What gave it away? (may be left empty)", "text": True}
    return [*found, reason]


def _by_patient(folder: Path, rng: np.random.Generator) -> list[Path]:
    """The photos in random order: one of each patient, then a second of each that has one, …"""
    paths = _shuffled(folder, rng)
    names = [path.relative_to(folder).as_posix() for path in paths]
    groups, _ = table.groups(folder, names)
    seen: dict[str, int] = {}
    turn = []
    for group in groups:
        turn.append(seen.get(group, 0))
        seen[group] = turn[-1] + 1
    return [paths[i] for i in np.argsort(turn, kind="stable")]


def _shuffled(folder: Path, rng: np.random.Generator) -> list[Path]:
    paths = listing.find(folder)[0]
    return [paths[i] for i in rng.permutation(len(paths))]


def _encode(paths: Sequence[Path], side: int) -> list[bytes]:
    """One decoder, side and encoder, no metadata, whatever the files were; of one length.

    Padded by zeros behind the end of the picture, where no program looks.
    """
    pictures = [images.recode(images.square(images.read(path), side)) for path in paths]
    each: list[bytes] = []
    for quality in QUALITIES:
        each = [images.encode(picture, quality=quality) for picture in pictures]
        if len(each) * max(map(len, each)) * 4 / 3 <= MOST_BYTES:
            break
    longest = max(map(len, each))
    return [data.ljust(longest, b"\0") for data in each]


def _uri(data: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"


def page(kit: Kit) -> str:
    """kit.html: the template with the style, the script and the kit's content in it."""
    style, script, template = (
        (TEMPLATES / name).read_text() for name in ("kit.css", "kit.js", "kit.html")
    )
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    content = json.dumps(kit.content).replace("<", "\\u003c")
    parts = {"DIGEST": digest, "STYLE": style, "CONTENT": content, "SCRIPT": script}
    return re.sub(r"@([A-Z]+)@", lambda mark: parts[mark[1]], template)
