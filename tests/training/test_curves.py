"""The curves as files, as a picture and as an offline run of Weights & Biases."""

import csv
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import RESOLUTION, contents
from PIL import Image

from mpox.core.errors import InputError
from mpox.core.picture_set import PictureSet
from mpox.training import dreambooth
from mpox.training.curves import Curves, check_tracker
from mpox.training.dreambooth import Recipe, Sets


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    """No Weights & Biases, and an empty working folder."""
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def table(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / "plots" / "metrics" / f"{name}.tsv").open(newline="") as stream:
        return list(csv.DictReader(stream, delimiter="\t"))


def log(folder: Path, settings, steps: range, history=()) -> list:
    with Curves(folder, settings, list(history), True) as curves:
        for step in steps:
            curves.log(step, {"loss": 1 / 3 + step, "learning_rate": 1e-4 * step})
            if step % 2 == 0:
                curves.log(step, {"val_loss": float(step)})
    return curves.history


def test_each_number_is_stored_in_full_at_its_step(here, small):
    log(here / "curves", small.train, range(0, 5))
    assert [path.name for path in here.iterdir()] == ["curves"]  # no dvc.yaml, for example
    loss = table(here / "curves", "loss")
    assert [(row["step"], float(row["loss"])) for row in loss] == [
        (str(step), 1 / 3 + step) for step in range(5)
    ]
    assert [row["step"] for row in table(here / "curves", "val_loss")] == ["0", "2", "4"]
    last = json.loads((here / "curves" / "metrics.json").read_text())
    assert last == {"step": 4, "loss": 1 / 3 + 4, "learning_rate": 4e-4, "val_loss": 4.0}


def test_a_name_with_a_slash_is_a_metric_without_a_curve(here, small):
    with Curves(here / "curves", small.train, [], True) as curves:
        curves.log(7, {"selected/step": 3})
    assert json.loads((here / "curves" / "metrics.json").read_text())["selected"] == {"step": 3}
    assert not list((here / "curves").rglob("*.tsv"))


def test_resumed_curves_have_the_bytes_of_undisturbed_ones(here, small):
    log(here / "whole", small.train, range(0, 6))
    history = log(here / "parts", small.train, range(0, 3))
    log(here / "parts", small.train, range(3, 5))  # lost, because after the resume point
    log(here / "parts", small.train, range(3, 6), history)
    assert contents(here / "parts") == contents(here / "whole")


def test_only_the_first_process_writes(here, small):
    with Curves(here / "curves", small.train, [], False) as curves:
        curves.log(1, {"loss": 1.0})
        curves.show(1, here)
        curves.draw(here / "curves.png")
    assert list(here.iterdir()) == []


def test_the_picture_shows_the_curves_and_is_reproducible(here, small):
    for name in ("a", "b"):
        with Curves(here / name, small.train, [], True) as curves:
            for step in range(1, 20):
                values = {"loss": step % 3, "val_loss": 1.0, "learning_rate": 1e-4}
                curves.log(step, values)
            curves.draw(here / name / "new" / "curves.png")
    first, second = ((here / name / "new" / "curves.png").read_bytes() for name in "ab")
    assert first == second
    picture = Image.open(here / "a" / "new" / "curves.png")
    assert picture.size == (800, 600)
    colours = np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)
    assert {(31, 119, 180), (255, 127, 14)} <= set(map(tuple, colours))  # matplotlib's C0, C1


def test_without_the_variable_wandb_is_never_imported(here, small, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)  # importing it now fails
    log(here / "curves", small.train, range(0, 2))
    monkeypatch.setenv("WANDB_PROJECT", "mpox")
    with (
        pytest.raises(InputError, match="WANDB_PROJECT: is set, but wandb is not installed"),
        Curves(here / "curves", small.train, [], True),
    ):
        pass


@pytest.fixture
def requested(here, monkeypatch):
    """Weights & Biases without a login, and with an unreachable server."""
    wandb = pytest.importorskip("wandb")
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(here))
    monkeypatch.setenv("WANDB_PROJECT", "mpox")
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:1")
    wandb.teardown()
    yield
    wandb.teardown()


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("WANDB_SILENT", "true", "there is no login"),
        ("WANDB_API_KEY", "short", "WANDB_API_KEY invalid: .* has 5"),
        ("WANDB_API_KEY", "0" * 40, "Failed to authenticate with http://127.0.0.1:1"),
        ("WANDB_MODE", "sometimes", "1 validation error for Settings mode"),
    ],
)
def test_without_login_or_server_no_training_starts(
    key, value, reason, requested, tiny_sd, augmented, held_out, small, tmp_path, monkeypatch
):
    """Otherwise it would end in a traceback, after the photos are encoded."""
    monkeypatch.setenv(key, value)
    monkeypatch.setenv("WANDB_HTTP_TIMEOUT", "2")
    monkeypatch.setattr(dreambooth.base, "load", None)  # the first step of the work
    message = (
        f"^WANDB_PROJECT: .* cannot be used: {reason}.*; run `wandb login`.*WANDB_MODE=offline"
    )
    with pytest.raises(InputError, match=message) as refused:
        sets = Sets(PictureSet.read(augmented), PictureSet.read(held_out), None)
        dreambooth.train(sets, Recipe(tiny_sd, small.train, RESOLUTION, 0), tmp_path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("mode", ["offline", "disabled", "dryrun"])
def test_the_login_is_not_checked_if_nothing_is_sent(mode, requested, monkeypatch):
    import wandb

    monkeypatch.setenv("WANDB_MODE", mode)
    monkeypatch.setattr(wandb, "login", None)
    check_tracker()
    monkeypatch.delenv("WANDB_PROJECT")
    monkeypatch.setenv("WANDB_MODE", "online")
    check_tracker()


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setenv("WANDB_PROJECT", "mpox")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")


@pytest.mark.slow
def test_weights_and_biases_gets_the_same_numbers_and_the_pictures(here, small, augmented, offline):
    folder = here / "train_lora-1f2e3d" / "result" / "curves"
    folder.mkdir(parents=True)
    with Curves(folder, small.train, [], True) as curves:
        curves.log(1, {"loss": 0.125})
        curves.log(2, {"val_loss": 0.25})
        curves.show(2, augmented)
    assert table(folder, "loss") == [{"step": "1", "loss": "0.125"}]
    import wandb

    wandb.teardown()  # its process writes the end of the file when it stops
    (run,) = here.rglob("run-*.wandb")
    record = run.read_bytes()  # protocol buffers, uncompressed
    for word in (b"mpox", b"val_loss", b"0.125", b"learning_rate", b"validation"):
        assert word in record
    assert len(list(here.rglob("*/validation_*.png"))) == 6
