"""Measured sets with a known fault: each gets the sentence that names the fault."""

import re
from functools import cache, partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from mpox.core import images, table
from mpox.core.picture_set import PictureSet
from mpox.embedded import phantom
from mpox.measures import evaluation
from mpox.pictures import feature_set, features
from mpox.pictures.feature_set import FeatureSet, Sets
from mpox.report import words

SIDE = 48  # pixels
PATIENTS = {"test": 16, "training": 16}  # of four pictures each
NUMBER = 64  # synthetic pictures

pytestmark = pytest.mark.slow


def draw(seed: int, patients: int, each: int) -> list[np.ndarray]:
    return [
        images.square(phantom.draw("mpox", i, j, seed=seed, size=2 * SIDE).picture, SIDE)
        for i in range(patients)
        for j in range(each)
    ]


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """A function from a set of pictures to its sentences, by rule."""
    folder = tmp_path_factory.mktemp("sets")
    extractor = features.load("efficientnet_lite0", None, torch.device("cpu"))

    def collect(name: str, pictures: list[np.ndarray]) -> FeatureSet:
        paths = [folder / name / f"{i:03d}.png" for i in range(len(pictures))]
        each = 4 if name in PATIENTS else 1
        table.write(folder / name, ["patient"], {p.name: [i // each] for i, p in enumerate(paths)})
        for path, picture in zip(paths, pictures, strict=True):
            images.write(Path(path), np.ascontiguousarray(picture))
        shown = PictureSet.read(folder / name)
        return feature_set.collect(shown, SIDE, extractor, name == "training")

    test, train = (collect(name, draw(1000 * n, PATIENTS[name], 4)) for n, name in
                   enumerate(PATIENTS, 1))  # fmt: skip
    counts = {f"groups_{name}": n for name, n in zip(("test", "train"), (16, 16), strict=True)}

    def sentences(name: str, pictures: list[np.ndarray]) -> dict[str, words.Sentence]:
        sets = Sets(test, collect(name, pictures), train)
        measured = evaluation.measure_sets(sets, extractor, 0).metrics
        found = words.sentences(measured, counts)
        return {sentence.rule: sentence for sentence in found}

    return sentences


FRESH = cache(partial(draw, 3000, NUMBER, 1))


def off(found: dict[str, words.Sentence]) -> set[str]:
    return {rule for rule, sentence in found.items() if sentence.state == "off"}


def test_fresh_phantoms_have_no_fault(said):
    assert off(said("fresh", FRESH())) == set()


def test_a_blurred_set_is_told_apart_and_implausible(said):
    found = said("blurred", [cv2.GaussianBlur(each, (0, 0), 2) for each in FRESH()])
    assert {"told apart", "implausible", "missing"} <= off(found)
    assert "copies" not in off(found)


def test_a_copying_set_holds_copies(said):
    training, fresh = draw(2000, PATIENTS["training"], 4), FRESH()
    turned = [np.rot90(training[i]) if i % 8 == 0 else each for i, each in enumerate(fresh)]
    found = said("copying", turned)
    assert off(found) == {"copies"}
    counted = re.search(r"(\d+) of \d+ are as close to a training", found["copies"].text)
    assert counted and 8 <= int(counted[1]) <= 16  # false alarms included
