"""The kit of a reading study: one offline file in which nothing tells real from synthetic.

The seed decides everything that is drawn, except the identifiers, which are random. Otherwise
anyone with the code and the seed could work out which picture is which.
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
from typing import Any, NamedTuple

import numpy as np

from mpox.core import images
from mpox.core.errors import InputError
from mpox.core.picture_set import PictureSet
from mpox.core.seeds import derive
from mpox.params import Reading

# Identifiers, the kit's hash and the check begin with a letter, because spreadsheets read digits
# such as 73928e030112 as a number.
KEY_COLUMNS = ("id", "class", "repeat_of", "file", "kit", "check")
REAL, SYNTHETIC = "real", "synthetic"
QUALITIES = (95, 90, 85, 80, 70, 60, 50)  # of all JPEGs, 4:4:4: the first that fits into …
MOST_BYTES = 14_500_000  # … a file that mail programs and browsers take
FEWEST = 2  # pictures of each class
TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Kit:
    """The two files of a reading study, and what they hold."""

    content: dict[str, Any]  # what the page holds: `kit` (its hash), `pictures`, the questions
    key: str  # key.csv
    counts: dict[str, int]  # of real, synthetic, repeated and training pictures


class Case(NamedTuple):
    """A picture with its class."""

    kind: str
    path: Path


class Cases(NamedTuple):
    """The pictures of a kit."""

    shown: list[Case]
    repeats: list[Case]  # some of `shown`, again
    training: list[Case]  # none of `shown`, with the answer


def build(real: PictureSet, synthetic: PictureSet, settings: Reading, side: int, seed: int) -> Kit:
    """A kit of `settings.pictures` test photos and as many synthetic pictures, drawn by `seed`.

    A second photo of a patient comes only after one of every patient. Both classes shrink alike
    where one has too few pictures. `settings.repeats` pictures, half of each class, appear twice.
    `settings.training` further cases of each class come first, with the answer: the page holds the
    class of these alone.
    """
    rng = np.random.default_rng(derive(seed, "reading"))
    cases = _draw(real, synthetic, settings, rng)
    judged = cases.shown + cases.repeats
    encoded = _encode([case.path for case in judged + cases.training], side)
    ids = [f"p{secrets.token_hex(6)}" for _ in judged]
    sources = dict(zip(ids, encoded, strict=False))
    lessons = [
        {"class": case.kind, "src": source}
        for case, source in zip(cases.training, encoded[len(judged) :], strict=True)
    ]
    content = {
        "kit": fingerprint(ids),
        "side": side,
        "pictures": [{"id": own, "src": sources[own]} for own in sorted(ids)],
        "lessons": [lessons[k] for k in rng.permutation(len(lessons))],
        "questions": questions(settings),
    }
    number = len(cases.shown) // 2
    counts = {REAL: number, SYNTHETIC: number, "repeats": len(cases.repeats)}
    return Kit(content, _key(judged, ids), counts | {"training": len(lessons)})


def _draw(
    real: PictureSet, synthetic: PictureSet, settings: Reading, rng: np.random.Generator
) -> Cases:
    pools = {REAL: _by_patient(real, rng), SYNTHETIC: _shuffled(synthetic, rng).paths}
    fewest = min(pools, key=lambda kind: len(pools[kind]))
    number = min(settings.pictures, len(pools[fewest]) - settings.training)
    if number < FEWEST:
        raise InputError(
            f"reading: {len(pools[fewest])} {fewest} pictures, {settings.training} of them for "
            f"training; expected at least {FEWEST} others to read"
        )
    repeats = min(settings.repeats, 2 * number)
    cases = Cases([], [], [])
    for k, (kind, paths) in enumerate(pools.items()):
        again = rng.permutation(number)[: (repeats + 1 - k) // 2]
        cases.shown.extend(Case(kind, path) for path in paths[:number])
        cases.repeats.extend(Case(kind, paths[i]) for i in again)
        lessons = paths[number : number + settings.training]
        cases.training.extend(Case(kind, path) for path in lessons)
    return cases


def _by_patient(pictures: PictureSet, rng: np.random.Generator) -> list[Path]:
    """In random order, a photo of every patient, then a second of those who have one, …"""
    shuffled = _shuffled(pictures, rng)
    earlier: dict[str, int] = {}
    turns = []
    for patient in shuffled.patients:
        turns.append(earlier.get(patient, 0))
        earlier[patient] = turns[-1] + 1
    return [shuffled.paths[i] for i in np.argsort(turns, kind="stable")]


def _shuffled(pictures: PictureSet, rng: np.random.Generator) -> PictureSet:
    return pictures.subset(rng.permutation(len(pictures)).tolist())


def _key(cases: Sequence[Case], ids: Sequence[str]) -> str:
    """key.csv, a line for each picture in the order of identifiers."""
    first: dict[Path, str] = {}
    entries = []
    for case, own in zip(cases, ids, strict=True):
        original = first.setdefault(case.path, own)
        file = f"{case.path.parent.name}/{case.path.name}"
        repeat_of = "" if original == own else original
        entries.append((own, case.kind, repeat_of, file, fingerprint(ids)))
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(KEY_COLUMNS)
    writer.writerows((*entry, check(entry)) for entry in sorted(entries))
    return text.getvalue()


def fingerprint(ids: Sequence[str]) -> str:
    """The kit's hash, made of its random identifiers; answers carry it."""
    return f"k{_digest(sorted(ids))}"


def check(values: Sequence[str]) -> str:
    """The hash at the end of a line of the key, which shows whether the line was changed."""
    return f"c{_digest(values)}"


def _digest(values: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(values).encode()).hexdigest()[:15]


def questions(settings: Reading) -> list[dict[str, Any]]:
    """The questions about every picture, in order; real or synthetic comes last."""
    sure = ("guessing", "unsure", "fairly sure", "sure", "certain")
    quality = ("unusable", "poor", "fair", "good", "excellent")
    realism = ("not at all", "slightly", "partly", "largely", "fully")
    asked = {
        "diagnosis": ("Which diagnosis?", settings.diagnoses),
        "diagnosis_confidence": ("How sure are you of the diagnosis?", sure),
        "quality": ("How good is the picture for a diagnosis?", quality),
        "features": ("Which of these do you see?", settings.features),
        "tone": ("Is the skin tone plausible?", ("no", "unsure", "yes")),
        "site": ("Which body site could it be?", settings.sites),
        "realism": ("How realistic is the picture?", realism),
        "class": ("Is it a real photo or synthetic?", (REAL, SYNTHETIC)),
        "class_confidence": ("How sure are you of that?", sure),
    }
    choices: list[dict[str, Any]] = [
        {"name": name, "ask": ask, "options": list(options), "many": name == "features"}
        for name, (ask, options) in asked.items()
    ]
    reason = {"name": "reason", "ask": "What gave it away? (optional)", "text": True}
    return [*choices, reason]


def _encode(paths: Sequence[Path], side: int) -> list[str]:
    """Every picture through one decoder, side and encoder, as data: addresses of one length.

    No metadata. The padding, zeros, follows the end of the picture, where no program looks.
    """
    pictures = [images.recode(images.square(images.read(path), side)) for path in paths]
    files: list[bytes] = []
    for quality in QUALITIES:
        files = [images.encode(picture, quality=quality) for picture in pictures]
        if len(files) * max(map(len, files)) * 4 / 3 <= MOST_BYTES:
            break
    longest = max(map(len, files))
    padded = [data.ljust(longest, b"\0") for data in files]
    return [f"data:image/jpeg;base64,{base64.b64encode(data).decode()}" for data in padded]


def page(kit: Kit) -> str:
    """kit.html: the template with the style, the script and the kit's content in it."""
    style, script, template = (
        (TEMPLATES / name).read_text() for name in ("kit.css", "kit.js", "kit.html")
    )
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    content = json.dumps(kit.content).replace("<", "\\u003c")
    parts = {"DIGEST": digest, "STYLE": style, "CONTENT": content, "SCRIPT": script}
    return re.sub(r"@([A-Z]+)@", lambda mark: parts[mark[1]], template)
