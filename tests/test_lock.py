"""The committed locks belong to the code and the parameters committed with them."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT

ABSENT = {"deleted", "not in cache"}  # DVC's words for outputs and photos, which git lacks


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Path:
    """The committed files: an edit fails only once it is committed without its run."""
    folder = tmp_path_factory.mktemp("clone")
    subprocess.run(["git", "clone", "-q", ROOT, folder], check=True, capture_output=True)
    return folder


def stale(folder: Path) -> list[str]:
    """The stages that `dvc repro` would run if their inputs and outputs were present."""
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "status", "--json"],
        cwd=folder, check=True, capture_output=True, text=True,
    )  # fmt: skip
    status = json.loads(done.stdout)
    return [stage for stage, reasons in status.items() if {*leaves(reasons)} - ABSENT]


def leaves(node: Any) -> Iterator[str]:
    if isinstance(node, str):
        yield node
    else:
        for inner in node.values() if isinstance(node, dict) else node:
            yield from leaves(inner)


def test_no_stage_is_stale(clone):
    assert stale(clone) == [], "run dvc repro and commit dvc.lock and metrics/"


@pytest.mark.parametrize("file", ["models/dvc.lock", "data/phantom/dvc.lock"])
def test_the_locks_of_frozen_stages_name_the_committed_code(file, clone):
    """`dvc status` passes over frozen stages."""
    stages = yaml.safe_load((clone / file).read_text())["stages"].values()
    recorded = {dep["path"]: dep["md5"] for stage in stages for dep in stage["deps"]}
    code = {path: hashlib.md5((clone / path).read_bytes()).hexdigest() for path in recorded}
    assert code == recorded, "run dvc commit and commit the lock"


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
def test_a_change_without_a_run_makes_its_stage_stale(file, old, new, stages, clone):
    content = (clone / file).read_text()
    (clone / file).write_text(content.replace(old, new, 1))
    names = stale(clone)
    (clone / file).write_text(content)
    assert {*names} >= stages


@pytest.mark.parametrize(
    "file", ["dvc.lock", "models/dvc.lock", "metrics/evaluation.json", "docs/report.html"]
)
def test_two_runs_are_never_merged_line_by_line(file, clone, tmp_path):
    """git would merge an edit at either end silently; instead it reports a conflict."""

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
