import json
import re
from dataclasses import replace
from math import nan
from pathlib import Path

import pandas
import pytest
import runs
from conftest import ROOT

from mpox.core.errors import InputError
from mpox.statistics.estimate import ALL, Estimate, Metrics


@pytest.mark.parametrize(
    ("null", "off"), [(0.5, 0.0), (0.7, -1.0), (0.9, -2.0), (0.4, 1.0), (0.1, 4.0)]
)
def test_off_counts_the_width_of_the_interval_towards_the_null(null, off):
    found = Estimate(value=0.5, low=0.4, high=0.7, null=null, noise=0.1)
    assert found.off == pytest.approx(off)
    assert found.like_real is (abs(off) < 1.001)


def test_the_nulls_own_chance_adds_in_squares():
    found = Estimate(0.0, 0.0, 0.03, null=0.05, null_margin=0.04)
    assert found.off == pytest.approx(-1.0)


def test_without_any_chance_only_the_null_itself_is_like_real():
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
            "asked": Estimate(nan),  # a correlation of what does not vary
        },
        "by tone": {"p": Estimate(0.5)},
        "tone: dark": {"n_real": Estimate(7), "precision": Estimate(0.5, 0.25, 0.75, 0.5, 0.125)},
    },
    {"features": 'a "network" of Müller\'s', "n_test": 9},
    {"train": 3, "tone_train": 14.5},
    {"fid": 83.88, "copy_rate": 0.0},
)


def test_all_is_read_back_as_it_was_written(tmp_path):
    METRICS.write(tmp_path / "new/metrics.json")
    assert Metrics.read(tmp_path / "new/metrics.json") == METRICS
    assert Metrics.parse(Metrics().to_json().encode(), "") == Metrics()
    assert METRICS.ran and not Metrics().ran


@pytest.mark.parametrize(
    "metrics", [runs.evaluation(), runs.utility(), runs.privacy(), Metrics(counts={"train": 3})]
)
def test_what_stages_write_is_read_back(metrics):
    assert Metrics.parse(metrics.to_json().encode(), "") == metrics


def test_the_file_is_headlines_above_tables_with_a_record_a_line():
    """Read by pandas and json alone."""
    text = METRICS.to_json()
    found = json.loads(text)
    assert [name for name, value in found.items() if not isinstance(value, list)] == [
        "fid", "copy_rate",
    ]  # fmt: skip
    table = pandas.DataFrame(found["estimates"])
    assert list(table.columns) == [
        "name", "group", "value", "low", "high", "null", "noise", "null_margin",
    ]  # fmt: skip
    excess = table.set_index(["group", "name"]).loc["all", "fid_excess"]
    assert excess.fillna(-1).tolist() == [3.0, 1.0, 5.0, 0.0, 2.0, -1]
    assert {"name": "n_test", "value": 9} in found["identity"]
    assert {"name": "train", "value": 3} in found["counts"]
    assert sum('"name"' in line for line in text.splitlines()) == 9 + 2 + 2


def test_headlines_have_four_digits_and_estimates_six():
    numbers = {"fid": Estimate(1234.56789, null=-2e-9 / 3), "n": Estimate(1234567)}
    found = json.loads(Metrics({ALL: numbers}, headlines={"fid": 1234.56789, "n": 12345}).to_json())
    assert (found["fid"], found["n"]) == (1235, 12345)
    assert [each["value"] for each in found["estimates"]] == [1234.57, 1234567]
    assert found["estimates"][0]["null"] == -6.66667e-10


def test_an_estimate_that_is_missing_is_named():
    assert METRICS.get("kid") is None and METRICS.get("p", "by site") is None
    assert METRICS["precision", "tone: dark"].value == 0.5
    assert set(METRICS.within("tone: ")) == {"dark"}
    with pytest.raises(InputError, match=r"^file: kid of all: missing$"):
        replace(METRICS, source="file")["kid"]
    with pytest.raises(InputError, match="recall of tone: dark: missing"):
        METRICS["recall", "tone: dark"]


OLD = {
    "an evaluation": {"identity": {"n_test": 9}, "fid": 3.0, "kid": 0.1},
    "a trial": {"ran": True, "identity": {}, "arms": {"real": {"auroc": 0.9}}},
    "counts": {"train": 3, "test": 4},
    "nothing": {},
    "no object": 3,
}


@pytest.mark.parametrize("content", OLD.values(), ids=OLD)
def test_an_earlier_layout_is_refused_in_one_line(content):
    with pytest.raises(InputError, match=r"^file: has the layout from before .*repro") as error:
        Metrics.parse(json.dumps(content).encode(), "file")
    assert len(str(error.value).splitlines()) == 1


def test_no_json_is_refused():
    with pytest.raises(InputError, match=r"^file: no JSON: "):
        Metrics.parse(b"<<<<<<< HEAD", "file")
    with pytest.raises(InputError, match=r"none\.json: not found; expected what dvc repro writes"):
        Metrics.read(Path("none.json"))


def test_no_key_of_metrics_has_a_suffix_for_its_interval_null_or_noise():
    """In the committed files, and in the code that writes and reads them."""
    glued = re.compile(r"_(lo|hi|null|noise)[\"'`]")
    for file in (ROOT / "metrics").rglob("*.json"):
        assert not glued.search(file.read_text()), file
    for folder in ("src", "stages", "benchmarks"):
        for file in (ROOT / folder).rglob("*.py"):
            assert not glued.search(file.read_text()), file
