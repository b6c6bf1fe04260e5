"""The page of two runs, from a repository with its pictures in DVC."""

import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from dvc.repo import Repo
from runs import ROOT, evaluation, picture
from test_page import Page

from mpox.compare import page
from mpox.core import images, table
from mpox.core.errors import InputError
from mpox.statistics.estimate import Metrics
from stages.diff import PAGE, diff

PROMPT = "<script>window.hostile = 1</script>"


def git(folder: Path, *words: str) -> None:
    subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True)


def write(folder: Path, metrics: Metrics, params: str, seeds: list[int], tint: int) -> None:
    """A state of the repository: numbers and parameters in git, pictures in DVC's cache."""
    metrics.write(folder / "metrics/evaluation.json")
    (folder / "params.yaml").write_text(params)
    drawn = folder / "data/synthetic"
    shutil.rmtree(drawn, ignore_errors=True)
    drawn.mkdir(parents=True)
    rows = {}
    for i, seed in enumerate(seeds):
        tinted = picture(seed) // 2
        tinted[..., tint] += 100
        images.write(drawn / f"{i:05d}.png", tinted)
        rows[f"{i:05d}.png"] = [PROMPT, "", seed]
    table.write(drawn, ["text", "negative_prompt", "seed"], rows)
    with warnings.catch_warnings(action="ignore"), Repo(str(folder)) as repo:
        repo.add(str(drawn))


def commit(folder: Path, tag: str) -> None:
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", tag)
    git(folder, "tag", tag)


WORSE = {"precision": (0.5, 0.4, 0.6)}


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Path:
    """Tags first and second, and a working tree with another split."""
    folder = tmp_path_factory.mktemp("repository")
    git(folder, "init", "-q", "-b", "main")
    for name in ("user.email", "user.name"):
        git(folder, "config", name, "test@example.org")
    Repo.init(str(folder)).close()
    write(folder, evaluation(), "train: {rank: 8, gone: 1}\n", [7, 8, 9], 0)
    commit(folder, "first")
    write(folder, evaluation(**WORSE), "train: {rank: 16, new: <b>}\n", [9, 8, 5], 2)
    commit(folder, "second")
    write(folder, evaluation(identity={"split": "other"}), "train: [\n", [8], 1)
    return folder


@pytest.fixture
def inside(repository, monkeypatch) -> Path:
    monkeypatch.chdir(repository)
    return repository


def test_both_runs_side_by_side(inside):
    assert "**Beyond noise: precision.**" in diff("first", "second")
    parsed = Page((inside / PAGE).read_text())
    text = " ".join(parsed.text.split())
    assert "train.rank 8 16" in text
    assert "train.gone 1 no such parameter" in text and "train.new no such parameter <b>" in text
    assert (
        "0.8 → 0.5 (−0.3, noise ±0.071) worse, beyond noise; the new run differs from real photos "
        "(0.8) by more than chance" in text
    )
    assert text.count("beyond noise;") == 1 and text.count("within noise;") == 11
    # Seeds 9 and 8, in the order of the second run; red in the first, blue in the second.
    assert [each[..., 0].mean() > each[..., 2].mean() for each in parsed.pictures] == [
        True, False, True, False,
    ]  # fmt: skip
    assert "first, seed 9" in text and "second, seed 8" in text and "seed 7" not in text
    assert [tag for tag, _ in parsed.elements].count("script") == 1
    assert f"prompt: {PROMPT}" in text


def test_runs_that_cannot_be_compared_have_a_page_without_verdicts(inside):
    with pytest.raises(InputError, match="split: 89abcdef and other"):
        diff("second")
    text = " ".join(Page((inside / PAGE).read_text()).text.split())
    assert "These numbers cannot be compared" in text and "split: 89abcdef and other" in text
    assert "noise;" not in text and "precision 0.5 0.8" in text
    assert "second, seed 8" in text and "the working tree, seed 8" in text


def test_the_page_says_which_pictures_are_missing(repository, tmp_path, monkeypatch):
    copy = shutil.copytree(repository, tmp_path / "copy", symlinks=True)
    shutil.rmtree(copy / ".dvc/cache")
    git(copy, "checkout", "-q", "second", "params.yaml", "metrics", "data/synthetic.dvc")
    monkeypatch.chdir(copy)
    diff("first")
    parsed = Page((copy / PAGE).read_text())
    text = " ".join(parsed.text.split())
    assert "The pictures of first are neither in this machine's cache" in text
    assert "git switch --detach first && dvc repro" in text
    assert len(parsed.pictures) == 1 and "the working tree, seed 8" in text and "missing" in text


def test_without_pictures_no_package_for_pictures_is_needed(repository, tmp_path):
    """As in the review of a pull request, which installs dvc, pydantic, ruamel.yaml and jinja2."""
    copy = shutil.copytree(repository, tmp_path / "copy", symlinks=True)
    shutil.rmtree(copy / ".dvc/cache")
    shutil.rmtree(copy / "data/synthetic")
    blocked = (
        "import sys, runpy\n"
        "class Refuse:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name.split('.')[0] in ('cv2', 'numpy', 'PIL', 'torch', 'scipy'):\n"
        "            raise ImportError(name)\n"
        "sys.meta_path.insert(0, Refuse())\n"
        "sys.argv = ['diff', 'first', 'second']\n"
        "runpy.run_module('stages.diff', run_name='__main__', alter_sys=False)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", blocked],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "**Beyond noise: precision.**" in done.stdout
    assert "Open in a browser: data/report/diff.html" in done.stderr
    text = " ".join(Page((copy / PAGE).read_text()).text.split())
    assert "pictures of first are neither" in text and "pictures of second are neither" in text


def test_the_page_shows_each_replicate():
    def side(name: str, values: list[float]) -> page.Side:
        runs = [evaluation(precision=value) for value in values]
        return page.Side(name, {}, runs, None, {}, lambda seed: None)

    text = page.build(side("one", [0.78, 0.80, 0.82]), side("two", [0.58, 0.60]))
    parsed = Page(text)
    words = " ".join(parsed.text.split())
    assert "Means of trainings, by Welch's t: 3 with the old settings, 2 with the new." in words
    assert "0.8 → 0.59 (−0.21, noise ±0.05) worse, beyond noise" in words
    ticks = [each["d"] for tag, each in parsed.elements if each.get("class") == "tick"]
    assert sum(each.endswith("v7") for each in ticks) == 3 * 12
    assert sum(each.endswith("v-7") for each in ticks) == 2 * 12
    alone = " ".join(Page(page.build(side("one", [0.8]), side("two", [0.6]))).text.split())
    assert "Sampling noise only" in alone and "makes replicates" in alone and "Ticks" not in alone
