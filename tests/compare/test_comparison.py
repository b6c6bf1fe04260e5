import hashlib
import subprocess
import sys
from dataclasses import replace
from math import inf
from pathlib import Path

import pytest
from scipy.stats import t, ttest_ind

from mpox.compare import comparison, page
from mpox.core.errors import InputError
from mpox.statistics.estimate import ALL, Estimate, Metrics
from stages.diff import diff

ROOT = Path(__file__).parents[2]
IDENTITY = {"features": "tiny", "split": "0123", "n_test": 9, "n_training": 0, "n_synthetic": 9}


def metrics(identity: dict | None = None, **changes: float | Estimate) -> Metrics:
    """Metrics with `changes`: another value of a measure, or another estimate."""
    measures = {
        "fid": Estimate(50.0),
        "fid_excess": Estimate(10.0, 2.0, 18.0, 0.0, 3.0),
        "kid": Estimate(0.3, 0.1, 0.5, 0.05, 0.04),
        "ssim": Estimate(0.2),
    }
    for name, change in changes.items():
        whole = isinstance(change, Estimate)
        measures[name] = change if whole else replace(measures[name], value=change)
    return Metrics({ALL: measures}, IDENTITY | (identity or {}))


@pytest.mark.parametrize(
    ("change", "beyond"), [(4.9, False), (5.1, True), (-4.9, False), (-5.1, True)]
)
def test_a_change_must_exceed_the_noise_of_both_sides(change, beyond):
    """Noises of 3 and 4 are a noise of 5."""
    new = metrics(fid_excess=Estimate(10 + change, 2.0, 18.0, 0.0, 4.0))
    rows = {row.name: row for row in comparison.compare([metrics()], [new])}
    assert rows["fid_excess"].noise == pytest.approx(5)
    assert rows["fid_excess"].beyond_noise is beyond
    assert rows["kid"].beyond_noise is False


def test_a_new_value_is_like_real_if_its_interval_contains_the_null():
    rows = comparison.compare(
        [metrics()], [metrics(fid_excess=Estimate(1.0, -7.0, 18.0, 0.0, 3.0))]
    )
    assert {row.name: row.new.like_real for row in rows} == {"fid_excess": True, "kid": False}


def test_the_margin_of_a_null_widens_the_interval():
    for margin, like_real in ((0.0, False), (0.03, False), (0.045, True)):
        both = metrics(copy_rate=Estimate(0.0, 0.0, 0.03, 0.05, 0.015, margin))
        rows = {row.name: row for row in comparison.compare([both], [both])}
        assert rows["copy_rate"].new.like_real is like_real


def test_markdown_names_what_changed():
    old, new = metrics(ssim=0.2), metrics(fid_excess=16.0, kid=0.31, ssim=0.3)
    lines = comparison.markdown(old, new, comparison.compare([old], [new])).splitlines()
    assert lines[0] == (
        "**Sampling noise only: another training with the same settings may differ by more.** "
        "`dvc exp run --queue -S train.seed=1,2,3 && dvc queue start` makes replicates."
    )
    assert lines[2].startswith("**Beyond noise: fid_excess.** Features: tiny; pictures: 9 test")
    excess, kid = (
        next(each for each in lines if each.startswith(f"| {name} "))
        for name in ("fid_excess", "kid")
    )
    assert "| 10 | 16 | +6 | ±4.2 | **beyond noise** |" in excess
    assert "| 0.3 | 0.31 | +0.01 | ±0.057 | within noise |" in kid
    assert "| ssim | 0.2 | 0.3 | +0.1 | | | | |" in lines
    assert {line.count("|") for line in lines[4:]} == {9}
    unchanged = comparison.markdown(old, old, comparison.compare([old], [old]))
    assert "**Beyond noise: nothing.**" in unchanged


def test_means_of_replicates_by_welch():
    """By hand: means 10 and 14, variances 4 and 1 of three each, so 5/3 ± √(5/3) t(2.94)."""
    olds = [metrics(fid_excess=v) for v in (8.0, 10.0, 12.0)]
    news = [metrics(fid_excess=v) for v in (13.0, 14.0, 15.0)]
    row = {row.name: row for row in comparison.compare(olds, news)}["fid_excess"]
    freedom = (4 / 3 + 1 / 3) ** 2 / ((4 / 3) ** 2 / 2 + (1 / 3) ** 2 / 2)
    assert freedom == pytest.approx(50 / 17)
    assert row.change == pytest.approx(4)
    assert row.noise == pytest.approx(t.ppf(0.975, 50 / 17) * (5 / 3) ** 0.5)
    assert row.noise == pytest.approx(4.1554, abs=1e-3) and not row.beyond_noise
    peer = ttest_ind([13, 14, 15], [8, 10, 12], equal_var=False).confidence_interval()
    assert row.noise == pytest.approx((peer.high - peer.low) / 2)
    text = comparison.markdown(olds[0], news[0], [row])
    assert text.startswith(
        "**Means of trainings, by Welch's t: 3 with the old settings, 3 with the new.**"
    )
    assert "| 10 (SD 2, n 3) | 14 (SD 1, n 3) | +4 | ±4.2 | within noise |" in text


def test_a_single_run_is_assumed_to_vary_as_much_as_the_replicates():
    """Variance 4 of three and one: ± √(4/3 + 4) t(2)."""
    row, _ = comparison.compare([metrics(fid_excess=v) for v in (8.0, 10.0, 12.0)], [metrics()])
    assert row.noise == pytest.approx(t.ppf(0.975, 2) * (16 / 3) ** 0.5)
    assert "assumed to vary" in comparison.basis([row]).text


def test_the_noise_of_runs_with_equal_seeds_comes_from_each_pictures_influence():
    """Influences 3, −3, 1, −1 and 2, −2, 0, 0: their differences have a variance of 4/3 each."""

    def influences(pictures: list[float], seeds: tuple = ("1", "2", "3", "4")) -> dict:
        excess = {"pictures": pictures, "strata": [0] * 4, "draws": [], "chance": 0.0, "twice": 0.0}
        return {"seeds": list(seeds), "measures": {"fid_excess": excess}}

    one, other = influences([3.0, -3.0, 1.0, -1.0]), influences([2.0, -2.0, 0.0, 0.0])
    rows = comparison.compare([metrics()], [metrics()], (one, other))
    noise = {row.name: row.noise for row in rows}
    assert noise["fid_excess"] == pytest.approx(1.96 * (4 * 4 / 3) ** 0.5)
    assert noise["kid"] == pytest.approx(0.04 * 2**0.5)  # has no influences here
    assert "the same seeds" in comparison.basis(rows).text
    other_seed = influences([2.0, -2.0, 0.0, 0.0], ("1", "2", "3", "5"))
    for unlike in (other_seed, influences([2.0] * 4, ("",) * 4), None):
        row, _ = comparison.compare([metrics()], [metrics()], (one, unlike))
        assert row.noise == pytest.approx(3 * 2**0.5)
        assert "same seeds" not in comparison.basis([row]).text


def test_identical_replicates_have_no_noise():
    same = [metrics()] * 3
    for row in comparison.compare(same, same):
        assert (row.noise, row.change, row.beyond_noise) == (0, 0, False)
    moved = [metrics(kid=0.31)] * 3
    row = {row.name: row for row in comparison.compare(same, moved)}["kid"]
    assert row.noise == 0 and row.beyond_noise
    change = page.Change(row)
    assert change.off == inf and change.verdict == "worse, beyond noise" and change.beyond_edge


@pytest.mark.parametrize(
    ("name", "value"), [("features", "other"), ("split", "4567"), ("n_test", 8), ("n_synthetic", 8)]
)
def test_another_identity_is_refused(name, value):
    with pytest.raises(InputError, match=f"{name}: {IDENTITY[name]} and {value}$"):
        comparison.compare([metrics()], [metrics({name: value})])


def git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def commit(folder: Path, tag: str) -> None:
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", tag)
    git(folder, "tag", tag)


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A commit with an earlier layout, three with the current one, and a changed working tree."""
    (tmp_path / "metrics").mkdir()
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").touch()
    git(tmp_path, "init", "-q", "-b", "main")
    for name in ("user.email", "user.name"):
        git(tmp_path, "config", name, "test@example.org")
    (tmp_path / "metrics/evaluation.json").write_text('{"identity": {"n_test": 9}, "fid": 50.0}')
    states = [None, metrics(), metrics(kid=0.5), metrics({"split": "4567"})]
    for tag, content in zip(("earlier", "v0", "v1", "v2"), states, strict=True):
        if content:
            content.write(tmp_path / "metrics/evaluation.json")
        commit(tmp_path, tag)
    metrics({"split": "4567"}, fid_excess=30.0).write(tmp_path / "metrics/evaluation.json")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_revisions_and_the_working_tree(repository):
    assert "**Beyond noise: fid_excess.**" in diff()
    assert "**Beyond noise: kid.**" in diff("v0", "v1")
    with pytest.raises(InputError, match="split: 0123 and 4567"):
        diff("v1")
    with pytest.raises(InputError, match="nowhere"):
        diff("nowhere")
    (repository / "metrics/evaluation.json").write_text("<<<<<<< HEAD\n{}\n=======\n{}\n")
    with pytest.raises(InputError, match=r"the working tree: metrics/.*: invalid JSON"):
        diff("v0")
    (repository / "metrics/evaluation.json").unlink()
    with pytest.raises(InputError, match=r"the working tree: has no metrics/evaluation\.json"):
        diff("v0")


def test_a_run_in_another_layout_is_refused(repository):
    message = r"^earlier: metrics/evaluation\.json: is not in the layout .* since commit 58f367c"
    with pytest.raises(InputError, match=message):
        diff("earlier", "v1")


def test_the_command_exits_1_if_the_runs_cannot_be_compared(repository):
    done = subprocess.run(
        [sys.executable, "-m", "stages.diff", "v0", "v2"],
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and "split: 0123 and 4567" in done.stderr
    assert "Traceback" not in done.stderr and not done.stdout


LOCK = """\
schema: '2.0'
stages:
  generate:
    cmd: draw
    deps:
    - path: photos
      md5: {photos}
    - path: src/draw.py
      md5: 0a1b
    params:
      params.yaml:
        seed: 7
        train.seed: {train}
        generate: {{seed: {draw}, guidance: {guidance}}}
    outs:
    - path: data/synthetic
      md5: {drawn}
  evaluate:
    cmd: measure
    deps:
    - path: data/synthetic
      md5: {drawn}
    outs:
    - path: metrics/evaluation.json
      md5: {metrics}
  report:
    cmd: show
    deps:
    - path: src/page.py
      md5: {page}
"""


def record(folder: Path, kid: float, **changes) -> None:
    """dvc.lock and metrics of a run, which `kid` identifies."""
    content = metrics(kid=kid).to_json()
    (folder / "metrics/evaluation.json").write_text(content)
    fields = dict(photos="aa", train="null", draw="null", guidance=1.5, drawn="cc", page="dd")
    md5 = hashlib.md5(content.encode()).hexdigest()
    (folder / "dvc.lock").write_text(LOCK.format(**fields | {"metrics": md5} | changes))


@pytest.fixture
def replicated(repository):
    """Two settings, the second with three replicates: a commit, a branch, and an experiment."""
    runs = [
        ("old", {"kid": 0.30}),
        (
            "seven",
            {"kid": 0.31, "train": 7},
        ),  # the default seed: no replicate
        ("new", {"kid": 0.50, "guidance": 3}),
        ("page", {"kid": 0.52, "guidance": 3, "train": 2, "drawn": "ee", "page": "ff"}),
        ("draw", {"kid": 0.54, "guidance": 3, "draw": 3, "drawn": "ff"}),
        ("exp", {"kid": 0.56, "guidance": 3, "train": 4, "draw": 4}),
        ("photos", {"kid": 0.9, "guidance": 3, "train": 5, "photos": "bb"}),
        ("stale", {"kid": 0.9, "guidance": 3, "train": 6, "metrics": "00"}),
    ]
    for name, changes in runs:
        record(repository, **changes)
        commit(repository, name)
    # `dvc exp run` keeps an experiment as a commit on no branch.
    git(repository, "update-ref", "refs/exps/ab/cdef/named", "exp")
    git(repository, "checkout", "-q", "-b", "side", "draw")
    git(repository, "branch", "-qf", "main", "new")
    for name in ("exp", "photos", "stale"):
        git(repository, "tag", "-d", name)
    return repository


def test_replicates_are_found_in_commits_branches_and_experiments(replicated):
    text = diff("old", "new")
    assert text.startswith("**Means of trainings, by Welch's t: 1 with the old settings, 4 with")
    kid = next(line for line in text.splitlines() if line.startswith("| kid "))
    assert "| 0.3 | 0.53 (SD 0.026, n 4) | +0.23 |" in kid
    assert diff("seven", "old").startswith("**Sampling noise only")
    # Two replicates of one setting are compared as single runs.
    assert diff("new", "draw").startswith("**Sampling noise only")
