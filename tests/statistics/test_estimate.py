import json
import re
from dataclasses import replace
from math import nan
from pathlib import Path

import pandas
import pytest
import runs
from runs import ROOT

from mpox.core.errors import InputError
from mpox.statistics.estimate import ALL, Estimate, Metrics


@pytest.mark.parametrize(
    ("null", "off"), [(0.5, 0.0), (0.7, -1.0), (0.9, -2.0), (0.4, 1.0), (0.1, 4.0)]
)
def test_off_is_in_widths_of_the_interval_towards_the_null(null, off):
    estimate = Estimate(value=0.5, low=0.4, high=0.7, null=null, noise=0.1)
    assert estimate.off == pytest.approx(off)
    assert estimate.like_real is (abs(off) < 1.001)


def test_the_margin_of_the_null_is_added_in_squares():
    assert Estimate(0.0, 0.0, 0.03, null=0.05, null_margin=0.04).off == pytest.approx(-1.0)


def test_without_an_interval_only_the_null_itself_is_like_real():
    assert Estimate(1.0, 1.0, 1.0, null=1.0, noise=0.0).off == 0
    assert Estimate(2.0, 2.0, 2.0, null=1.0, noise=0.0).off == float("inf")
    assert Estimate(0.0, 0.0, 0.0, null=1.0, noise=0.0).off == float("-inf")


METRICS = Metrics(
    {
        ALL: {
            "fid_half": Estimate(50.0),
            "fid_excess": Estimate(3.0, 1.0, 5.0, 0.0, 2.0),
            "copy_rate": Estimate(0.0, 0.0, 0.1, 0.01, 0.05, 0.02),
            "ssim_nearest": Estimate(0.4, null=0.3, noise=0.1),
            "hash_bits": Estimate(12, null=11),
            "asked": Estimate(nan),  # a correlation with a constant
        },
        "by tone": {"p": Estimate(0.5)},
        "tone: dark": {"n_real": Estimate(7), "precision": Estimate(0.5, 0.25, 0.75, 0.5, 0.125)},
    },
    {"features": 'a "network" of Müller\'s', "n_test": 9},
    {"train": 3, "tone_train": 14.5},
    {"fid": 83.88, "copy_rate": 0.0},
)


def test_everything_is_read_back_as_it_was_written(tmp_path):
    METRICS.write(tmp_path / "new/metrics.json")
    assert Metrics.read(tmp_path / "new/metrics.json") == METRICS
    assert Metrics.parse(Metrics().to_json().encode(), "") == Metrics()
    assert METRICS.ran and not Metrics().ran


@pytest.mark.parametrize(
    "metrics", [runs.evaluation(), runs.utility(), runs.privacy(), Metrics(counts={"train": 3})]
)
def test_the_numbers_of_stages_are_read_back(metrics):
    assert Metrics.parse(metrics.to_json().encode(), "") == metrics


def test_headlines_stand_above_tables_with_one_record_on_each_line():
    """Read with pandas and json only."""
    text = METRICS.to_json()
    parts = json.loads(text)
    headlines = [name for name, value in parts.items() if not isinstance(value, list)]
    assert headlines == ["fid", "copy_rate"]
    table = pandas.DataFrame(parts["estimates"])
    assert list(table.columns) == [
        "name", "group", "value", "low", "high", "null", "noise", "null_margin",
    ]  # fmt: skip
    excess = table.set_index(["group", "name"]).loc["all", "fid_excess"]
    assert excess.fillna(-1).tolist() == [3.0, 1.0, 5.0, 0.0, 2.0, -1]
    assert {"name": "n_test", "value": 9} in parts["identity"]
    assert {"name": "train", "value": 3} in parts["counts"]
    assert sum('"name"' in line for line in text.splitlines()) == 9 + 2 + 2


def test_headlines_have_four_digits_and_estimates_six():
    numbers = {"fid": Estimate(1234.56789, null=-2e-9 / 3), "n": Estimate(1234567)}
    parts = json.loads(Metrics({ALL: numbers}, headlines={"fid": 1234.56789, "n": 12345}).to_json())
    assert (parts["fid"], parts["n"]) == (1235, 12345)
    assert [each["value"] for each in parts["estimates"]] == [1234.57, 1234567]
    assert parts["estimates"][0]["null"] == -6.66667e-10


def test_a_missing_estimate_is_named():
    assert METRICS.get("kid") is None and METRICS.get("p", "by site") is None
    assert METRICS["precision", "tone: dark"].value == 0.5
    assert set(METRICS.within("tone: ")) == {"dark"}
    with pytest.raises(InputError, match=r"^file: kid of all: missing$"):
        replace(METRICS, source="file")["kid"]
    with pytest.raises(InputError, match="recall of tone: dark: missing"):
        METRICS["recall", "tone: dark"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            '{"identity": {"n_test": 9}, "fid": 3.0}',
            "is not in the layout that metrics have since commit 58f367c; .*repro",
        ),
        ("{}", "is not in the layout that metrics have since commit 58f367c"),
        ("3", "is not in the layout that metrics have since commit 58f367c"),
        ("<<<<<<< HEAD", "invalid JSON: "),
    ],
)
def test_another_content_is_refused_in_one_line(content, message):
    with pytest.raises(InputError, match=f"^file: {message}") as error:
        Metrics.parse(content.encode(), "file")
    assert len(str(error.value).splitlines()) == 1


def test_a_missing_file_is_named():
    with pytest.raises(InputError, match=r"none\.json: not found; dvc repro writes it"):
        Metrics.read(Path("none.json"))


def test_no_key_has_the_suffix_of_an_interval_null_or_noise():
    """They are fields of an estimate's record."""
    suffix = re.compile(r"""_(lo|hi|null|noise)["'`]""")
    files = [*(ROOT / "metrics").rglob("*.json"), *(ROOT / "src").rglob("*.py")]
    assert files and [file for file in files if suffix.search(file.read_text())] == []
