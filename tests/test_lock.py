"""dvc.lock is of the code and the parameters that are committed beside it."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

ELSEWHERE = {"deleted", "not in cache"}  # what DVC says of outputs and photos: git has none


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Path:
    """What is committed, so that an edit is no failure before it is committed without its run."""
    folder = tmp_path_factory.mktemp("clone")
    subprocess.run(["git", "clone", "-q", ROOT, folder], check=True, capture_output=True)
    return folder


def stale(folder: Path) -> list[str]:
    """The stages that `dvc repro` would run where their inputs and outputs are."""
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "status", "--json"],
        cwd=folder, check=True, capture_output=True, text=True,
    )  # fmt: skip
    status = json.loads(done.stdout)
    return [stage for stage, reasons in status.items() if {*leaves(reasons)} - ELSEWHERE]


def leaves(node: Any) -> Iterator[str]:
    if isinstance(node, str):
        yield node
    else:
        for inner in node.values() if isinstance(node, dict) else node:
            yield from leaves(inner)


def test_no_stage_is_stale(clone):
    assert stale(clone) == [], "run dvc repro and commit dvc.lock and metrics/"


@pytest.mark.parametrize(
    ("file", "old", "new", "stages"),
    [
        ("src/mpox/measures/ssim.py", "\n", "\n\n", {"evaluate"}),
        ("params.yaml", "copies: ", "copies: 1", {"augment"}),
        (
            "dvc.yaml",
            "data/prepared/train data/augmented ",
            "data/prepared/train ./data/augmented ",
            {"augment"},
        ),
        ("metrics/prepare.json", "{", "{ ", {"prepare"}),
    ],
)
def test_what_is_changed_without_a_run_is_noticed(file, old, new, stages, clone):
    content = (clone / file).read_text()
    (clone / file).write_text(content.replace(old, new, 1))
    found = stale(clone)
    (clone / file).write_text(content)
    assert {*found} >= stages


@pytest.mark.parametrize(
    "file", ["dvc.lock", "models/dvc.lock", "metrics/evaluation.json", "docs/report.html"]
)
def test_two_runs_are_never_merged_line_by_line(file, clone, tmp_path):
    """A line at each end, so that git would find nothing to ask: one side stays, as a conflict."""

    def git(*words: str) -> int:
        who = ("-c", "user.name=test", "-c", "user.email=test@example.org")
        return subprocess.run(["git", *who, *words], cwd=copy, capture_output=True).returncode

    copy = tmp_path / "copy"
    subprocess.run(["git", "clone", "-q", clone, copy], check=True, capture_output=True)
    lines = (copy / file).read_text().splitlines()
    for branch, place in (("mine", 0), ("theirs", -1)):
        git("switch", "-qc", branch, "origin/HEAD")
        edited = lines.copy()
        edited[place] += f" # {branch}"
        (copy / file).write_text("\n".join([*edited, ""]))
        assert git("commit", "-qam", branch) == 0
    assert git("merge", "mine") == 1
    assert (copy / file).read_text().splitlines() == edited
